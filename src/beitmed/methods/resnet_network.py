"""ResNet-18 and ResNet-50 from random weights, as MedMNIST's benchmark trains them.

Source: J. Yang et al., MedMNIST v2, Scientific Data 10, 41 (2023), and its benchmark code; K. He et
al., Deep Residual Learning for Image Recognition, CVPR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision import models

from beitmed.backbones import compute
from beitmed.config import Config
from beitmed.data import Data
from beitmed.storage.rows import Rows

_SMALL = 28  # px: up to here the stem for small images


def build(
    name: str, size: int, channels: int, classes: int, stride: int | None = None
) -> nn.Module:
    """torchvision's ResNet for images of `channels` channels and `size` px.

    At 28 px the stem of MedMNIST's benchmark code: a 3x3 convolution of stride 1 without max
    pooling, so that the first stage sees 28 x 28; at larger sizes the ordinary 7x7 of stride 2.
    First weights as there, too: at 28 px PyTorch's own, at larger sizes torchvision's, which are
    more than twice as large, and so move half as far by a step of Adam.
    As `resnet50` torchvision has v1.5, which strides in the 3x3 convolution, as that code does.
    stride: of the first convolution, where it is not to be this protocol's.
    """
    network: models.ResNet = {"resnet18": models.resnet18, "resnet50": models.resnet50}[name](
        weights=None, num_classes=classes
    )
    small = size <= _SMALL
    network.conv1 = nn.Conv2d(
        channels, 64, kernel_size=3 if small else 7, stride=stride or (1 if small else 2),
        padding=1 if small else 3, bias=False,
    )  # fmt: skip
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if small:
        network.maxpool = nn.Identity()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    return network.to(memory_format=torch.channels_last)  # a tenth faster, on a CPU in bf16


@dataclass(frozen=True)
class ResNet:
    """A network with what it reads and how it computes; its device is the network's.

    batch_size: images in a pass.
    """

    cfg: Config
    network: nn.Module
    batch_size: int

    @property
    def features_are(self) -> str:
        return "what the last layer reads"

    def logits(self, images: np.ndarray | Rows) -> np.ndarray:
        """uint8 [n, h, w] or [n, h, w, 3] -> float64 [n, classes], in eval mode."""
        return self.with_features(images)[0]

    @torch.inference_mode()
    def with_features(self, images: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
        """The same, and float32 [n, features] of the same pass."""
        self.network.eval()
        logits, features = [], []
        last: Any = self.network.fc
        hook = last.register_forward_pre_hook(
            lambda _, given: features.append(given[0].float().cpu().numpy())
        )
        try:
            for start in range(0, len(images), self.batch_size):
                scores = self.scores(self.pixels(images[start : start + self.batch_size]))
                logits.append(scores.cpu().numpy().astype(np.float64))
        finally:
            hook.remove()
        return np.concatenate(logits), np.concatenate(features)

    def features_of(self, data: Data, split: str, rows: np.ndarray) -> np.ndarray:
        return self.with_features(data.splits[split].images[rows])[1]

    def scores(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits float32 [n, classes]; the loss is always of these, so bf16 needs no scaling."""
        with compute.autocast(self.cfg, pixels.device):
            return self.network(pixels).float()

    def pixels(self, images: np.ndarray) -> torch.Tensor:
        """float32 [n, channels, h, w], 0 to 255 normalised to -1 to 1."""
        device = next(self.network.parameters()).device
        tensor = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        tensor = tensor.unsqueeze(1) if tensor.dim() == 3 else tensor.permute(0, 3, 1, 2)
        return (tensor.float() / 255 - 0.5) / 0.5
