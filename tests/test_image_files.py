"""One file to one picture: the pixels that Pillow, NumPy and pydicom give when asked by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import apply_windowing
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from beitmed.data import image_files
from beitmed.data.image_files import ImageProblem
from beitmed.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 40), np.uint8)
COLOUR = RNG.integers(0, 256, (40, 40, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (40, 40), np.uint16)


def read(path: Path, size=40, fit="pad", intensity="dtype", min_side=28) -> np.ndarray:
    image = image_files.read(path, size, fit, intensity, min_side)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    return image


def grey(path: Path, **options) -> np.ndarray:
    image = read(path, **options)
    assert (image == image[..., :1]).all()
    return image[..., 0]


def save(path: Path, pixels: np.ndarray | Image.Image, **options) -> Path:
    (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).save(path, **options)
    return path


def dicom(path: Path, pixels: np.ndarray, **changes) -> Path:
    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    bits = 8 * pixels.dtype.itemsize
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.PixelData = pixels.tobytes()
    for key, value in changes.items():
        setattr(ds, key, value)
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "webp"])
def test_lossless_files_keep_their_pixels(ending, tmp_path):
    lossless = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"a.{ending}", COLOUR, **lossless)
    assert np.array_equal(read(path), COLOUR)
    if ending != "webp":
        assert np.array_equal(grey(save(tmp_path / f"b.{ending}", GREY)), GREY)


def test_a_jpeg_is_what_pillow_decodes(tmp_path):
    path = save(tmp_path / "a.JPG", COLOUR, format="JPEG", quality=90)
    assert np.array_equal(read(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize(("shape", "inner"), [((80, 50), (40, 25)), ((50, 80), (25, 40))])
def test_each_fit_against_pillow_and_numpy(shape, inner, tmp_path):
    pixels = RNG.integers(0, 256, shape, np.uint8)
    path, picture = save(tmp_path / "a.png", pixels), Image.fromarray(pixels)

    def resized(height: int, width: int) -> np.ndarray:
        return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))

    assert np.array_equal(grey(path, fit="squash"), resized(40, 40))
    padded = np.zeros((40, 40), np.uint8)
    top, left = (
        (40 - inner[0]) // 2 + (40 - inner[0]) % 2,
        (40 - inner[1]) // 2 + (40 - inner[1]) % 2,
    )
    padded[top : top + inner[0], left : left + inner[1]] = resized(*inner)
    assert np.array_equal(grey(path, fit="pad"), padded)
    large = resized(64, 40) if shape[0] > shape[1] else resized(40, 64)
    centre = large[12:52] if shape[0] > shape[1] else large[:, 12:52]
    assert np.array_equal(grey(path, fit="crop"), centre)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_is_scaled_by_its_depth(ending, tmp_path):
    path = save(tmp_path / f"a.{ending}", DEEP)
    assert np.array_equal(grey(path), (DEEP.astype(np.int64) + 128) // 257)


def test_minmax_takes_an_images_own_range(tmp_path):
    dark = DEEP // 16 + 1000
    span = int(dark.max()) - int(dark.min())
    expected = ((dark.astype(np.int64) - dark.min()) * 510 + span) // (2 * span)
    assert np.array_equal(grey(save(tmp_path / "a.png", dark), intensity="minmax"), expected)
    half = GREY // 2
    stretched = grey(save(tmp_path / "b.png", half), intensity="minmax")
    assert (stretched.min(), stretched.max()) == (0, 255)
    constant = save(tmp_path / "c.png", np.full((40, 40), 77, np.uint8))
    assert not grey(constant, intensity="minmax").any()


def test_a_tiff_of_white_as_zero_is_turned_round(tmp_path):
    path = save(tmp_path / "a.tif", DEEP, tiffinfo={262: 0})
    assert np.array_equal(grey(path), 255 - (DEEP.astype(np.int64) + 128) // 257)


def test_a_file_without_a_stated_range_needs_minmax(tmp_path):
    path = save(tmp_path / "a.tif", RNG.normal(size=(40, 40)).astype(np.float32))
    with pytest.raises(ImageProblem, match=r"float32.*intensity=minmax"):
        read(path)
    assert grey(path, intensity="minmax").max() == 255


def test_transparency_is_shown_on_black(tmp_path):
    rgba = np.dstack([COLOUR, np.full((40, 40), 255, np.uint8)])
    rgba[:20, :, 3] = 0
    expected = COLOUR.copy()
    expected[:20] = 0
    assert np.array_equal(read(save(tmp_path / "a.png", rgba)), expected)


def test_palettes_bits_and_cmyk_become_rgb(tmp_path):
    palette = Image.fromarray(COLOUR).quantize(16)
    path = save(tmp_path / "p.png", palette)
    assert np.array_equal(read(path), np.asarray(palette.convert("RGB")))
    bits = Image.fromarray(GREY).convert("1")
    assert np.array_equal(grey(save(tmp_path / "b.png", bits)), np.asarray(bits) * np.uint8(255))
    path = save(tmp_path / "c.jpg", Image.fromarray(COLOUR).convert("CMYK"))
    assert np.array_equal(read(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
@pytest.mark.parametrize("pixels", [GREY, DEEP], ids=["8 bits", "16 bits"])
def test_the_orientation_of_exif_is_applied_once(ending, pixels, tmp_path):
    if ending == "jpg":
        pixels = (pixels // 2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    plain = grey(save(tmp_path / f"a.{ending}", pixels))
    turned = grey(save(tmp_path / f"b.{ending}", pixels, exif=exif))
    assert np.array_equal(turned, np.rot90(plain, -1))


def test_files_of_several_pictures_are_refused(tmp_path):
    others = [Image.fromarray(255 - GREY)]
    for ending in ("tif", "gif", "webp", "png"):
        path = save(tmp_path / f"a.{ending}", GREY, save_all=True, append_images=others)
        with pytest.raises(ImageProblem, match="has 2 frames or pages"):
            read(path)
    path = dicom(tmp_path / "a.dcm", np.concatenate([GREY, GREY]), Rows=40, NumberOfFrames=2)
    with pytest.raises(ImageProblem, match="has 2 frames"):
        read(path)


def test_what_cannot_be_used_says_why(tmp_path):
    whole = save(tmp_path / "whole.png", COLOUR).read_bytes()
    cases = {
        "empty.png": (b"", "is empty"),
        "text.png": (b"not an image", "no supported format"),
        "cut.png": (whole[: len(whole) // 2], "cannot be read"),
        "flipped.png": (whole[:60] + bytes([whole[60] ^ 255]) + whole[61:], "cannot be read"),
        "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n", "no supported format"),
        "a.dcm": (b"no preamble", "is not a DICOM file"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageProblem, match=said):
            read(tmp_path / name)
    with pytest.raises(ImageProblem, match="does not exist"):
        read(tmp_path / "missing.png")
    with pytest.raises(ImageProblem, match=r"40 x 40 px, smaller than dataset.min_side=41"):
        read(tmp_path / "whole.png", min_side=41)
    tmp_path.joinpath("folder.png").mkdir()
    with pytest.raises(ImageProblem, match="cannot be read"):
        read(tmp_path / "folder.png")


def test_dicom_by_its_window(tmp_path):
    stored = RNG.integers(-1000, 1000, (40, 40), np.int16)
    window = {"WindowCenter": 40, "WindowWidth": 400}
    rescale = {"RescaleSlope": 2, "RescaleIntercept": -24}
    path = dicom(tmp_path / "a.dcm", stored, **window, **rescale)
    x = stored * 2.0 - 24
    share = np.clip((x - 39.5) / 399 + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1
    assert np.array_equal(grey(path), np.floor(share * 255 + 0.5))
    # pydicom maps to the range of the stored bits after the rescale.
    theirs = apply_windowing(x, pydicom.dcmread(path))
    low, high = -32768 * 2 - 24, 32767 * 2 - 24
    assert np.abs((theirs - low) / (high - low) * 255 - grey(path)).max() <= 0.5 + 1e-6
    inverted = dicom(
        tmp_path / "b.dcm", stored, PhotometricInterpretation="MONOCHROME1", **window, **rescale
    )
    assert np.array_equal(grey(inverted), 255 - grey(path))
    exact = dicom(tmp_path / "c.dcm", stored, VOILUTFunction="LINEAR_EXACT", **window, **rescale)
    assert np.array_equal(grey(exact), np.floor(np.clip((x + 160) / 400, 0, 1) * 255 + 0.5))
    several = dicom(
        tmp_path / "d.dcm", stored, WindowCenter=[40, 0], WindowWidth=[400, 9], **rescale
    )
    assert np.array_equal(grey(several), grey(path))
    sigmoid = dicom(tmp_path / "e.dcm", stored, VOILUTFunction="SIGMOID", **window, **rescale)
    expected = 255 / (1 + np.exp(-4 * (x - 40) / 400))
    assert np.array_equal(grey(sigmoid), np.floor(expected + 0.5))


def test_dicom_without_a_window_by_its_stored_bits(tmp_path):
    stored = (DEEP // 16).astype(np.uint16)
    path = dicom(tmp_path / "a.dcm", stored, BitsStored=12, HighBit=11)
    assert np.array_equal(grey(path), np.floor(stored / 4095 * 255 + 0.5))
    signed = dicom(tmp_path / "b.dcm", stored.astype(np.int16) - 2048, BitsStored=12, HighBit=11)
    assert np.array_equal(grey(signed), grey(path))
    plain = dicom(tmp_path / "no_ending", GREY)
    assert np.array_equal(grey(plain), GREY)
    assert np.array_equal(read(dicom(tmp_path / "c.dcm", COLOUR)), COLOUR)
    dark = dicom(tmp_path / "d.dcm", stored // 64 + 7, WindowCenter=9, WindowWidth=3)
    own = grey(dark, intensity="minmax")
    assert (own.min(), own.max(), len(np.unique(own))) == (0, 255, 64)


def test_dicom_lookup_tables(tmp_path):
    lut = np.sort(RNG.integers(0, 65536, 256, np.uint16))[::-1]
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [256, 0, 16], lut.tobytes()
    path = dicom(tmp_path / "a.dcm", GREY, VOILUTSequence=[item], WindowCenter=1, WindowWidth=2)
    assert np.array_equal(grey(path), (lut[GREY].astype(np.int64) + 128) // 257)
    names = ("Red", "Green", "Blue")
    tables = RNG.integers(0, 65536, (3, 256), np.uint16)
    palette = {f"{n}PaletteColorLookupTableDescriptor": [256, 0, 16] for n in names} | {
        f"{n}PaletteColorLookupTableData": t.tobytes() for n, t in zip(names, tables, strict=True)
    }
    path = dicom(tmp_path / "b.dcm", GREY, PhotometricInterpretation="PALETTE COLOR", **palette)
    assert np.array_equal(read(path), np.moveaxis(tables[:, GREY] >> 8, 0, -1))


def test_dicom_without_pydicom_says_what_to_install(tmp_path, monkeypatch):
    path = dicom(tmp_path / "a.dcm", GREY)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"a\.dcm.*pip install '\.\[dicom\]'"):
        read(path)
