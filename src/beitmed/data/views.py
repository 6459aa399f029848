"""Views of an image at test time: its mirror image, or parts of it enlarged to its size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
#: Images uint8 [n, h, w] or [n, h, w, 3] -> as many of the same form.
View = Callable[[Bytes], Bytes]
_CROP = 0.875  # of the side


def _mirrored(images: Bytes) -> Bytes:
    return np.ascontiguousarray(images[:, :, ::-1])


def _cropped(images: Bytes, top: float, left: float) -> Bytes:
    """A window whose corner lies at these shares of the room that it leaves."""
    h, w = images.shape[1:3]
    y, x = top * (1 - _CROP) * h, left * (1 - _CROP) * w
    box = (x, y, x + _CROP * w, y + _CROP * h)
    size, how = (w, h), Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(i).resize(size, how, box=box)) for i in images])


_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))
#: The views beside the image itself, by the name that `evaluate.tta` has.
VIEWS: Mapping[str, Sequence[View]] = {
    "flip": (_mirrored,),
    "crops": tuple(partial(_cropped, top=top, left=left) for top, left in _CORNERS),
}
