"""Other grey levels, colours or pixels: uint8 [h, w, c] and a parameter -> uint8 [h, w, c]."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

Bytes = NDArray[np.uint8]


def brightness(image: Bytes, factor: float, rng: np.random.Generator) -> Bytes:
    """Grey levels times this factor."""
    return _array(ImageEnhance.Brightness(_picture(image)).enhance(factor))


def contrast(image: Bytes, factor: float, rng: np.random.Generator) -> Bytes:
    """Distances from the image's mean grey level times this factor."""
    return _array(ImageEnhance.Contrast(_picture(image)).enhance(factor))


def gamma(image: Bytes, exponent: float, rng: np.random.Generator) -> Bytes:
    """Grey levels, white as 1, to this power: above 1 darker, below 1 brighter."""
    table = ((255 + 1 - 1e-3) * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    result: Bytes = table[image]
    return result


def saturate(image: Bytes, added: float, rng: np.random.Generator) -> Bytes:
    """The saturation raised by this, at most to 1; grey becomes reddish, of hue 0."""
    levels = image / 255
    value, low = levels.max(axis=2, keepdims=True), levels.min(axis=2, keepdims=True)
    spread = value - low
    saturation = np.divide(spread, value, out=np.zeros_like(spread), where=value > 0)
    more = np.clip(saturation + added, 0, 1)
    # Of each channel, how far it lies from the largest to the smallest; a grey one as red would.
    grey = np.broadcast_to([0.0, 1.0, 1.0], levels.shape)
    depth = np.divide(value - levels, spread, out=grey.copy(), where=spread > 0)
    return (np.clip(value * (1 - depth * more) + 1e-9, 0, 1) * 255).astype(np.uint8)


def pixelate(image: Bytes, share: float, rng: np.random.Generator) -> Bytes:
    """Reduced to this share of its side and enlarged again, both by a box filter."""
    return _resampled(image, share, Image.Resampling.BOX, Image.Resampling.BOX)


def resolution(image: Bytes, share: float, rng: np.random.Generator) -> Bytes:
    """As from a coarser device: reduced by area to this share of its side, enlarged smoothly."""
    return _resampled(image, share, Image.Resampling.BOX, Image.Resampling.BICUBIC)


def jpeg(image: Bytes, quality: float, rng: np.random.Generator) -> Bytes:
    """Compressed and read again, by Pillow's encoder."""
    file = BytesIO()
    _picture(image).save(file, "JPEG", quality=int(quality))
    with Image.open(file) as read:
        return _array(read)


def crop(image: Bytes, share: float, rng: np.random.Generator) -> Bytes:
    """A window of this share of the side, anywhere, enlarged to the image's size."""
    h, w, _ = image.shape
    top, left = rng.random(2) * (1 - share)
    box = (left * w, top * h, (left + share) * w, (top + share) * h)
    return _array(_picture(image).resize((w, h), Image.Resampling.BICUBIC, box=box))


def rotation(image: Bytes, degrees: float, rng: np.random.Generator) -> Bytes:
    """Turned by this angle to a random side; what was outside is black."""
    side = 1 if rng.random() < 0.5 else -1
    return _array(_picture(image).rotate(side * degrees, Image.Resampling.BICUBIC))


def _resampled(image: Bytes, share: float, down: Image.Resampling, up: Image.Resampling) -> Bytes:
    h, w, _ = image.shape
    small = _picture(image).resize((max(1, int(w * share)), max(1, int(h * share))), down)
    return _array(small.resize((w, h), up))


def _picture(image: Bytes) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image))


def _array(picture: Image.Image) -> Bytes:
    found = np.asarray(picture)
    return found if found.ndim == 3 else found[:, :, None]
