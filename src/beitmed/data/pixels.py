"""From stored images to what a backbone reads: RGB, then the checkpoint's own image processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import BaseImageProcessor

from beitmed.data import resampling
from beitmed.storage.rows import Rows


def to_rgb(image: np.ndarray) -> Image.Image:
    """uint8 [h, w] (grey, repeated three times) or [h, w, 3] as an RGB picture."""
    return Image.fromarray(image).convert("RGB")


def target(labels: np.ndarray, row: int) -> int | torch.Tensor:
    """What a loss reads for one image: its class, or float32 [labels] of 0 and 1 for several."""
    return int(labels[row]) if labels.ndim == 1 else torch.from_numpy(labels[row]).float()


class PixelDataset(Dataset):
    """Images of a split, processed at access: {"pixel_values": float32 [3, h, w], "labels": ...}.

    "labels" is what `target` gives. `indices` picks and orders the images; None takes all.
    """

    def __init__(
        self,
        images: np.ndarray | Rows,
        labels: np.ndarray,
        processor: BaseImageProcessor,
        indices: np.ndarray | None = None,
    ) -> None:
        self.images = images
        self.labels = labels
        self.processor = processor
        self.indices = np.arange(len(labels)) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.__getitems__([i])[0]

    def __getitems__(self, batch: Sequence[int]) -> list[dict[str, Any]]:
        # One call for a whole batch: torch's DataLoader asks for it by this name.
        rows = self.indices[np.asarray(batch)]
        return [
            {"pixel_values": p, "labels": target(self.labels, row)}
            for p, row in zip(self._pixels(rows, torch.device("cpu")), rows, strict=True)
        ]

    def batch(self, start: int, stop: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """Pixel values of consecutive images [n, 3, h, w], made on the device that they are for."""
        return self._pixels(self.indices[start : min(stop, len(self))], torch.device(device))

    def _pixels(self, rows: np.ndarray, device: torch.device) -> torch.Tensor:
        images = self.images[rows]
        if device.type != "cpu":  # where Pillow's own is as fast
            arithmetic = resampling.of(self.processor, *images.shape[1:3])
            if arithmetic is not None:
                return arithmetic(torch.from_numpy(images).to(device))
        pixels: torch.Tensor = self.processor(
            [to_rgb(image) for image in images], return_tensors="pt"
        )["pixel_values"]
        return pixels.to(device)


def covered(processor: Any, shape: Sequence[int]) -> tuple[float, float]:
    """Which shares of the height and width of an image [h, w] reach the network, from its centre.

    All of it, unless the checkpoint's processor crops; more than 1 where it pads.
    """
    if not processor.do_center_crop:
        return 1.0, 1.0
    size, crop = processor.size, processor.crop_size
    height, width = (size["height"], size["width"]) if processor.do_resize else shape
    return crop["height"] / height, crop["width"] / width
