"""One image file as an 8-bit picture of a given size.

To 8 bits by what the file declares, so that two images stay comparable: 16-bit greyscale by its
bit depth, v * 255 / (2**bits - 1) rounded half up; DICOM by its first window (PS3.3 C.11.2.1.2)
after the rescale, else by its stored bits. `minmax` maps each image's own darkest pixel to 0 and
brightest to 255 instead. Colour of 16 bits a channel keeps the upper 8, as Pillow reads it.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from beitmed.errors import UserError, install

Fit = Literal["pad", "crop", "squash"]
Intensity = Literal["dtype", "minmax"]
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")  # Pillow's others run programs
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF tags
_RESAMPLING = Image.Resampling.BICUBIC


class ImageProblem(ValueError):
    """Why a file cannot be used; the message is of one line."""


def read(path: Path, size: int, fit: Fit, intensity: Intensity, min_side: int) -> np.ndarray:
    """uint8 [size, size, 3]; grey is repeated. ImageProblem for what is no usable image.

    UserError where pydicom is needed and missing.
    """
    try:
        if path.stat().st_size == 0:
            raise ImageProblem("is empty")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = _dicom(path, intensity) if _is_dicom(path) else _picture(path, intensity)
        return _sized(picture, size, fit, min_side)
    except (ImageProblem, UserError):
        raise
    except UnidentifiedImageError as e:
        raise ImageProblem("is of no supported format, or damaged at its start") from e
    except FileNotFoundError as e:
        raise ImageProblem("does not exist") from e
    # What decoders raise for a damaged file is of any kind, down to struct.error and IndexError.
    except (
        OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, TypeError,
        AttributeError, RuntimeError, MemoryError, struct.error, Image.DecompressionBombError,
    ) as e:  # fmt: skip
        text = getattr(e, "strerror", None) or str(e).partition("\n")[0]
        raise ImageProblem(f"cannot be read ({text or type(e).__name__})") from e


def of_array(
    pixels: np.ndarray, size: int, fit: Fit, intensity: Intensity, min_side: int
) -> np.ndarray:
    """The same for pixels that are decoded already, uint8 [h, w] or [h, w, 3].

    What is square and of the asked size already stays as it is.
    """
    picture = Image.fromarray(pixels)
    picture = _stretched(picture) if intensity == "minmax" else picture
    return _sized(picture, size, fit, min_side)


def _sized(picture: Image.Image, size: int, fit: Fit, min_side: int) -> np.ndarray:
    if min(picture.size) < min_side:
        raise ImageProblem(
            f"is of {picture.width} x {picture.height} px, smaller than dataset.min_side={min_side}"
        )
    return np.asarray(_fitted(picture, size, fit).convert("RGB"))


def _fitted(picture: Image.Image, size: int, fit: Fit) -> Image.Image:
    if fit == "squash":
        return picture.resize((size, size), _RESAMPLING)
    short, long = min(picture.size), max(picture.size)
    other = round(long * size / short) if fit == "crop" else max(1, round(short * size / long))
    tall = picture.height > picture.width
    same = size if fit == "crop" else other
    shape = (same, other + size - same) if tall else (other + size - same, same)
    resized = picture.resize(shape, _RESAMPLING)
    # Both by the same box: outside of the picture it is black.
    left, top = (shape[0] - size) // 2, (shape[1] - size) // 2
    return resized.crop((left, top, left + size, top + size))


def _picture(path: Path, intensity: Intensity) -> Image.Image:
    with Image.open(path, formats=_FORMATS) as image:
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise ImageProblem(f"has {frames} frames or pages; allowed: one")
        image.load()
        if image.mode.startswith("I") or image.mode == "F":
            levels, low, high = _levels(image)
            grey = Image.fromarray(_to_8_bits(levels, *_range(levels, low, high, intensity)))
            orientation = image.getexif().get(0x0112)
            grey.getexif()[0x0112] = orientation or 1
            return ImageOps.exif_transpose(grey)
        upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:  # shown on black; what transparency hides stays hidden
        upright = upright.convert("RGBA")
        black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
        upright = Image.alpha_composite(black, upright)
    picture = upright.convert("L" if upright.mode in ("1", "L") else "RGB")
    return _stretched(picture) if intensity == "minmax" else picture


def _stretched(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture)
    return Image.fromarray(_to_8_bits(values, *_range(values, 0, 255, "minmax")))


def _levels(image: Image.Image) -> tuple[np.ndarray, float | None, float | None]:
    """The grey levels of more than 8 bits, and the range that the file declares, if any."""
    levels = np.asarray(image)
    if image.format != "TIFF":
        return (levels, 0, 65535) if image.format == "PNG" else (levels, None, None)
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(_BITS, (32,))[0]
    low, high = (None, None)
    if bits <= 16 and image.mode != "F":
        signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == 2
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero; Pillow turns 8 bits round only
        levels = levels.astype(np.float64)
        levels = (low + high - levels) if low is not None and high is not None else -levels
    return levels, low, high


def _range(
    levels: np.ndarray, low: float | None, high: float | None, intensity: Intensity
) -> tuple[float, float]:
    if not np.isfinite(levels).all():
        raise ImageProblem("has pixels that are no number")
    if intensity == "minmax":
        return float(levels.min()), float(levels.max())
    if low is None or high is None:
        raise ImageProblem(
            f"has {levels.dtype} pixels, whose range the file does not say; "
            "a run with dataset.intensity=minmax takes each image's own"
        )
    return low, high


def _to_8_bits(levels: np.ndarray, low: float, high: float) -> np.ndarray:
    """`low` to 0 and `high` to 255, rounded half up; of one value only: all of it 0."""
    if high <= low:
        return np.where(levels > low, 255, 0).astype(np.uint8)
    scaled = (levels.astype(np.float64) - low) * 255 / (high - low)
    return np.floor(np.clip(scaled, 0, 255) + 0.5).astype(np.uint8)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as f:
        start = f.read(132)
    return start[128:] == b"DICM" or path.suffix.lower() in (".dcm", ".dicom")


def _dicom(path: Path, intensity: Intensity) -> Image.Image:
    try:
        import pydicom
    except ImportError as e:
        raise UserError(
            f"{path.name}: is a DICOM file, which needs pydicom: {install('dicom')}"
        ) from e
    from pydicom.errors import InvalidDicomError
    from pydicom.pixels import apply_color_lut

    try:
        ds = pydicom.dcmread(path)
    except InvalidDicomError as e:
        raise ImageProblem("is not a DICOM file") from e
    if int(ds.get("NumberOfFrames") or 1) > 1:
        raise ImageProblem(f"has {ds.NumberOfFrames} frames; allowed: one")
    if "PixelData" not in ds:
        raise ImageProblem("is a DICOM file without pixels")
    pixels, kind = ds.pixel_array, ds.PhotometricInterpretation  # YBR comes as RGB
    if kind in ("MONOCHROME1", "MONOCHROME2"):
        grey = _of_window(ds, pixels, intensity)
        return Image.fromarray(255 - grey if kind == "MONOCHROME1" else grey)
    if kind == "PALETTE COLOR":
        colour = apply_color_lut(pixels, ds)
        pixels = (colour >> 8).astype(np.uint8) if colour.dtype == np.uint16 else colour
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise ImageProblem(f"is {kind} of {pixels.dtype}; allowed: colour of 8 bits")
    picture = Image.fromarray(pixels)
    return _stretched(picture) if intensity == "minmax" else picture


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, list | tuple) or _is_multi(value) else value)


def _is_multi(value: Any) -> bool:
    return type(value).__name__ == "MultiValue"


def _of_window(ds: Any, stored: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Grey levels uint8 before MONOCHROME1 is turned round."""
    from pydicom.pixels import apply_modality_lut, apply_voi

    values = apply_modality_lut(stored, ds)
    if intensity == "minmax":
        return _to_8_bits(values, *_range(values, None, None, "minmax"))
    if ds.get("VOILUTSequence"):
        bits = ds.VOILUTSequence[0].LUTDescriptor[2]
        return _to_8_bits(apply_voi(values, ds), 0, 2**bits - 1)
    if ds.get("WindowWidth") is None or ds.get("WindowCenter") is None:
        return _to_8_bits(values, *_stored_range(ds))
    centre, width = _first(ds.WindowCenter), _first(ds.WindowWidth)
    function = ds.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        return _to_8_bits(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    if function == "LINEAR_EXACT":
        return _to_8_bits(values, centre - width / 2, centre + width / 2)
    low = centre - 0.5 - (width - 1) / 2
    return _to_8_bits(values, low, low + width - 1)


def _stored_range(ds: Any) -> tuple[float, float]:
    """What the stored bits can hold, after the rescale."""
    if ds.get("ModalityLUTSequence"):
        return 0, 2 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    bits = int(ds.BitsStored)
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if ds.PixelRepresentation else (0, 2**bits - 1)
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    low, high = sorted(slope * end + intercept for end in ends)
    return low, high
