"""A run's network as a function of the pixels that it reads, through which gradients pass.

One interface for the vision transformers of every family, with an adapter or without, and for
ResNets. Everything is computed in fp32 and in eval mode. What is explained of a class is its log
odds, which no constant that a softmax does not see can move; of several labels the log odds of one.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from beitmed.backbones import families
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.data import pixels
from beitmed.methods.backbone import BackboneModel
from beitmed.methods.resnet_network import ResNet

AT_ONCE = 64  # images in a pass without gradients
_STAGES = 4  # of a transformer's layers, beside the head and the embeddings
_MOST_CELLS, _SMALLEST_CELL = 14, 4  # a side, and px: of a network without patches
Stage = tuple[str, Sequence[nn.Module]]


@dataclass(frozen=True)
class Network(ABC):
    """What a method of explaining may ask.

    module: all of the network. several: whether an image has several labels.
    """

    module: Any
    several: bool

    @abstractmethod
    def pixels(self, images: np.ndarray) -> torch.Tensor:
        """Images as stored, uint8 [n, h, w(, 3)] -> what the network reads, [n, c, h, w]."""

    @abstractmethod
    def logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[n, c, h, w] -> [n, classes]; gradients reach the pixels."""

    @abstractmethod
    def cells(self, pixel_values: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of the cells that maps are compared on: patches, where there are."""

    @abstractmethod
    def covered(self, shape: Sequence[int]) -> tuple[float, float]:
        """Which shares of an image's height and width reach the network, from its centre."""

    @abstractmethod
    def seen(self) -> nn.Module:
        """The module whose output is what the last part of the network with places reads."""

    @abstractmethod
    def placed(self, output: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        """What `seen` gives, as [n, channels, rows, columns]."""

    @abstractmethod
    def stages(self) -> list[Stage]:
        """The network's parts with their names, from the head down to the pixels."""

    def score(self, pixel_values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The log odds of each image's target class, int [n] -> [n]."""
        logits = self.logits(pixel_values)
        own = logits.gather(1, target[:, None]).squeeze(1)
        if self.several:
            return own
        others = logits.scatter(1, target[:, None], -torch.inf)
        return own - others.logsumexp(1)

    @torch.no_grad()
    def probabilities(self, parts: Iterable[torch.Tensor], target: torch.Tensor) -> np.ndarray:
        """Of each image's target class, for each variant of the images [n, c, h, w]: [variants, n].

        parts: the variants, one after the other; several pass together.
        """
        found, waiting = [], []
        for variant in parts:
            waiting.append(variant)
            if len(waiting) * len(target) >= AT_ONCE:
                found.append(self._probabilities(waiting, target))
                waiting = []
        if waiting:
            found.append(self._probabilities(waiting, target))
        return np.concatenate(found)

    def _probabilities(self, variants: list[torch.Tensor], target: torch.Tensor) -> np.ndarray:
        whole, targets = torch.cat(variants), target.repeat(len(variants))
        parts = zip(whole.split(AT_ONCE), targets.split(AT_ONCE), strict=True)
        scores = torch.cat([self.score(*part) for part in parts])
        return scores.double().sigmoid().reshape(len(variants), -1).cpu().numpy()

    @torch.no_grad()
    def answer(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The logits of any number of images, without gradients."""
        return torch.cat([self.logits(part) for part in pixel_values.split(AT_ONCE)])

    def redrawn(self, pixel_values: torch.Tensor, seed: int) -> Iterator[tuple[str, Network]]:
        """Yield the network with ever more of its parts re-drawn, from the head down.

        A part is re-drawn by shuffling the values within each of its tensors: their distribution
        stays and nothing that was learnt does. Batch norms are then given the statistics of these
        pixels. The same network is yielded each time; use it before the next.
        """
        twin = replace(self, module=copy.deepcopy(self.module))
        generator = torch.Generator().manual_seed(seed)
        for name, modules in twin.stages():
            for parameter in (p for module in modules for p in module.parameters()):
                values = parameter.detach().flatten()
                order = torch.randperm(values.numel(), generator=generator).to(values.device)
                parameter.data.copy_(values[order].view_as(parameter))
            twin.settle(pixel_values)
            yield name, twin

    @torch.no_grad()
    def settle(self, pixel_values: torch.Tensor) -> None:
        """Give batch norms the statistics of these pixels."""
        norms = [m for m in self.module.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.train().reset_running_stats()
            norm.momentum = None  # the mean over passes, of which there is one
        if norms:
            self.logits(pixel_values)
        for norm in norms:
            norm.eval()


@dataclass(frozen=True)
class Transformer(Network):
    """A vision transformer of any family in `families.FAMILIES`, a FreezableBackbone."""

    module: FreezableBackbone
    processor: Any

    def pixels(self, images: np.ndarray) -> torch.Tensor:
        found = pixels.PixelDataset(images, np.zeros(len(images), np.int64), self.processor)
        return found.batch(0, len(images)).to(next(self.module.parameters()).device)

    def logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        # Not the network's own forward, whose frozen trunk lets no gradient pass.
        model, family = self.module.model, self.module.family
        side, shared = families.side(model.config.image_size), family.shared(model)
        tokens = family.embed(model, pixel_values)
        for layer in family.layer_list(model):
            tokens = family.layer(layer, tokens, shared, side)
        return family.finish(model, tokens)

    def cells(self, pixel_values: torch.Tensor) -> tuple[int, int]:
        patch = families.side(self.module.model.config.patch_size)
        return pixel_values.shape[2] // patch, pixel_values.shape[3] // patch

    def covered(self, shape: Sequence[int]) -> tuple[float, float]:
        return pixels.covered(self.processor, shape)

    def seen(self) -> nn.Module:
        """The norm before the last layer's attention.

        Behind that layer a network that reads CLS alone has no gradient at its patches.
        """
        last = self.module.family.layer_list(self.module.model)[-1]
        for name in ("layernorm_before", "norm1"):
            if (norm := getattr(last, name, None)) is not None:
                return norm
        raise AssertionError(f"{type(last).__name__} has no norm before its attention")

    def placed(self, output: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        start = self.module.family.prefix(self.module.model.config)
        return output[:, start:].transpose(1, 2).unflatten(2, self.cells(pixel_values))

    def stages(self) -> list[Stage]:
        model, family = self.module.model, self.module.family
        layers = list(family.layer_list(model))
        found: list[Stage] = [("head", family.modules_above(model))]
        for part in reversed(np.array_split(np.arange(len(layers)), min(_STAGES, len(layers)))):
            first, last = part[0] + 1, part[-1] + 1
            name = f"layer {last}" if first == last else f"layers {last} to {first}"
            found.append((name, [layers[i] for i in part]))
        return [*found, ("embeddings", family.modules_below(model))]


@dataclass(frozen=True)
class Convolutional(Network):
    """A ResNet of torchvision; `model` knows how it reads images."""

    model: ResNet

    def pixels(self, images: np.ndarray) -> torch.Tensor:
        return self.model.pixels(images)

    def logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.module(pixel_values)

    def cells(self, pixel_values: torch.Tensor) -> tuple[int, int]:
        height, width = pixel_values.shape[2:]
        return _cells(height), _cells(width)

    def covered(self, shape: Sequence[int]) -> tuple[float, float]:
        return 1.0, 1.0

    def seen(self) -> nn.Module:
        return self.module.layer4

    def placed(self, output: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        return output

    def stages(self) -> list[Stage]:
        net = self.module
        blocks: list[Stage] = [(f"block {k}", [getattr(net, f"layer{k}")]) for k in (4, 3, 2, 1)]
        return [("head", [net.fc]), *blocks, ("stem", [net.conv1, net.bn1])]


def _cells(side: int) -> int:
    """Along a side: as many as may be, of whole pixels where that leaves half as many."""
    most = min(_MOST_CELLS, max(side // _SMALLEST_CELL, 1))
    whole = [n for n in range(most, most // 2, -1) if side % n == 0]
    return whole[0] if whole else most


def of_model(model: Any, several: bool) -> Network:
    """The network of a run's model, for methods `backbone` and `resnet...`, ready to be asked."""
    assert isinstance(model, BackboneModel | ResNet), type(model)
    module = model.network.eval().requires_grad_(False)
    if isinstance(model, ResNet):
        return Convolutional(module, several, model)
    assert isinstance(module, FreezableBackbone)
    return Transformer(module, several, model.processor)
