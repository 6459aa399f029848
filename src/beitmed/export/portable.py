"""A run's network as one plain module of RGB pixel values, whichever method has trained it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import BaseImageProcessor, ResNetConfig, ResNetForImageClassification
from transformers import ViTImageProcessorPil as WholeImages

from beitmed.backbones import adapters
from beitmed.data.pixels import PixelDataset
from beitmed.methods.backbone import BackboneModel
from beitmed.methods.resnet_network import ResNet
from beitmed.trained import Trained

_BATCH = 8  # images in a pass: little memory beside a large network
_LUMINANCE = (0.299, 0.587, 0.114)  # of ITU-R 601, as Pillow makes a colour image grey
# torchvision's name of a tensor -> transformers'.
_RENAMED = (
    (r"^layer(\d)\.(\d+)\.", lambda m: f"resnet.encoder.stages.{int(m[1]) - 1}.layers.{m[2]}."),
    (r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution."),
    (r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization."),
    (r"\.downsample\.0\.", lambda m: ".shortcut.convolution."),
    (r"\.downsample\.1\.", lambda m: ".shortcut.normalization."),
    (r"^conv1\.", lambda m: "resnet.embedder.embedder.convolution."),
    (r"^bn1\.", lambda m: "resnet.embedder.embedder.normalization."),
    (r"^fc\.", lambda m: "classifier.1."),
)


@dataclass(frozen=True)
class Portable:
    """A run's network on the CPU, in eval mode, float32, with nothing beside it.

    network: RGB pixel values [n, 3, h, w] -> logits [n, classes], or an output that has `logits`.
    It is transformers' own image classifier wherever `forms` says that there is one.
    processor: a picture -> pixel values. expected: the logits, float64 [n, classes], that the run's
    network gave, before it was put into this form, for the images that were asked of it.
    """

    network: Any
    processor: BaseImageProcessor
    expected: np.ndarray


def of(trained: Trained, images: np.ndarray) -> Portable:
    """Make one of a run that has such a form (`forms.refuse`). The run's model is used up by it.

    images: as the dataset stores them, for `expected`. Adapters are merged; a ResNet's first
    convolution, where it reads grey images, reads the luminance of RGB.
    """
    model = trained.model
    if isinstance(model, BackboneModel):
        return _of_backbone(model, trained, images)
    assert isinstance(model, ResNet), type(model)
    return _of_resnet(model, trained, images)


@torch.no_grad()
def _of_backbone(model: BackboneModel, trained: Trained, images: np.ndarray) -> Portable:
    network = model.network.cpu().eval()
    pixels = PixelDataset(images, np.zeros(len(images), np.int64), model.processor)
    expected = [
        network(pixel_values=pixels.batch(i, i + _BATCH))["logits"]
        for i in range(0, len(images), _BATCH)
    ]
    adapters.merge(network)
    network.model.config.problem_type = trained.task.problem_type
    return Portable(network.model, model.processor, _float64(expected))


@torch.no_grad()
def _of_resnet(model: ResNet, trained: Trained, images: np.ndarray) -> Portable:
    network: Any = model.network.cpu().float().eval()
    expected = [
        network(model.pixels(images[i : i + _BATCH])) for i in range(0, len(images), _BATCH)
    ]
    grey = network.conv1
    if grey.in_channels == 1:
        network.conv1 = nn.Conv2d(3, grey.out_channels, grey.kernel_size, grey.stride, grey.padding,
                                  bias=False)  # fmt: skip
        network.conv1.weight.copy_(grey.weight * torch.tensor(_LUMINANCE).view(1, 3, 1, 1))
    size = trained.cfg.size
    processor = WholeImages(
        size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    if not isinstance(network.maxpool, nn.Identity):
        network = _in_transformers(network, trained)
    return Portable(network, processor, _float64(expected))


def _in_transformers(network: Any, trained: Trained) -> ResNetForImageClassification:
    """torchvision's network as transformers has it; at 28 px there is no such one."""
    names = trained.class_names
    bottleneck = hasattr(network.layer1[0], "conv3")
    last = "bn3" if bottleneck else "bn2"
    stages = [network.layer1, network.layer2, network.layer3, network.layer4]
    settings: dict[str, Any] = {
        "hidden_sizes": [getattr(stage[-1], last).num_features for stage in stages],
        "depths": [len(stage) for stage in stages],
        "layer_type": "bottleneck" if bottleneck else "basic",
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
        "problem_type": trained.task.problem_type,
    }
    made = ResNetForImageClassification(ResNetConfig(**settings)).eval()
    made.load_state_dict({_renamed(k): v for k, v in network.state_dict().items()})
    return made


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _float64(parts: list[torch.Tensor]) -> np.ndarray:
    return torch.cat(parts).double().numpy()
