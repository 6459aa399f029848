"""Views of images: what of an image the network sees, and how it is changed, without a diagnosis
being lost: a part of it, its mirror image where that is allowed, a mild change of gain and offset.

What is drawn is plain numbers; what is done with them runs where the network does. Of a whole and
unchanged image the pixels are those of the image processor, but for its rounding to grey levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import affine_grid, grid_sample, interpolate

from beitmed.data.pixels import covered

View = Mapping[str, torch.Tensor]
_ASPECT = 4 / 3  # of a part's shape, either way


def draw(
    rng: np.random.Generator, flip: np.ndarray, crop: float, intensity: float
) -> dict[str, torch.Tensor]:
    """A view of each image; flip [n]: whether its mirror image is allowed.

    boxes: centre x and y, half width and half height of the part, in halves of the image, [n, 4],
    the width negative where it is mirrored. gains, offsets: [n], of grey levels from 0 to 1.
    """
    n = len(flip)
    area = rng.uniform(crop, 1, n)
    shape = np.exp(rng.uniform(-math.log(_ASPECT), math.log(_ASPECT), n)) if crop < 1 else 1.0
    width = np.minimum(1, np.sqrt(area * shape))
    height = np.minimum(1, np.sqrt(area / shape))
    x, y = ((1 - size) * rng.uniform(-1, 1, n) for size in (width, height))
    width = np.where(flip & (rng.random(n) < 0.5), -width, width)
    gains = 1 + intensity * rng.uniform(-1, 1, n)
    offsets = intensity * rng.uniform(-1, 1, n)
    drawn = {"boxes": np.stack([x, y, width, height], 1), "gains": gains, "offsets": offsets}
    return {name: torch.from_numpy(values.astype(np.float32)) for name, values in drawn.items()}


class Pixels(nn.Module):
    """From stored images to pixel values, as the image processor of a backbone makes them.

    size: the side that the network reads.
    """

    def __init__(self, processor: Any, size: int, stored: int) -> None:
        super().__init__()
        self.size = size
        self.mode = {2: "bilinear", 3: "bicubic"}.get(int(processor.resample), "bicubic")
        self.shares = covered(processor, (stored, stored))
        for name, values in (("mean", processor.image_mean), ("std", processor.image_std)):
            tensor = torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, images: torch.Tensor, view: View | None = None) -> torch.Tensor:
        """uint8 [n, 1 or 3, h, w] -> float32 [n, 3, size, size]; without a view, the whole."""
        grey = self.levels(images, view, self.size)
        return (grey.expand(-1, 3, -1, -1) - self.mean) / self.std  # type: ignore[operator]

    def levels(self, images: torch.Tensor, view: View | None, size: int) -> torch.Tensor:
        """The same before it is standardised: grey levels from 0 to 1, [n, 1 or 3, size, size]."""
        found = self._centre(images).float() / 255
        if view is None:
            return _resized(found, size, self.mode).clamp(0, 1)
        if found.shape[-1] > size:  # averaged first: a sample of a grid reads single pixels
            found = _resized(found, size, self.mode)
        x, y, width, height = view["boxes"].unbind(1)
        zero = torch.zeros_like(x)
        at = torch.stack([width, zero, x, zero, height, y], 1).view(-1, 2, 3)
        grid = affine_grid(at, [len(found), found.shape[1], size, size], align_corners=False)
        found = grid_sample(found, grid, mode=self.mode, padding_mode="border", align_corners=False)
        gains, offsets = (view[name].view(-1, 1, 1, 1) for name in ("gains", "offsets"))
        return ((found - 0.5) * gains + 0.5 + offsets).clamp(0, 1)

    def _centre(self, images: torch.Tensor) -> torch.Tensor:
        """The part that a processor leaves which crops."""
        height, width = images.shape[-2:]
        kept = [min(n, round(n * share)) for n, share in zip((height, width), self.shares,
                                                             strict=True)]  # fmt: skip
        top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
        return images[..., top : top + kept[0], left : left + kept[1]]


def _resized(images: torch.Tensor, size: int, mode: str) -> torch.Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return interpolate(images, (size, size), mode=mode, antialias=True, align_corners=False)
