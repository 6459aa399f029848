"""method=resnet18 and resnet50: a ResNet from random weights by MedMNIST's published protocol."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from beitmed import model
from beitmed.backbones import compute
from beitmed.config import Config
from beitmed.config.method import ResNetMethod
from beitmed.data import Data
from beitmed.methods import resnet_network
from beitmed.methods.resnet_network import ResNet
from beitmed.methods.resnet_training import Training
from beitmed.model import Fit
from beitmed.runs.folder import Run
from beitmed.storage import files
from beitmed.training import checkpoints

log = logging.getLogger(__name__)
_CHECKPOINT = "epoch.pt"
_COPIES = 5  # a checkpoint: weights, the best epoch's, Adam's two moments; and the final file


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """Train all epochs, going on from a checkpoint if there is one; scores are the best epoch's.

    Images in 0 to 1 are normalised by mean 0.5 and standard deviation 0.5, grey ones in one
    channel; nothing is augmented. Raises UserError at a loss that is not finite.
    """
    training = Training(cfg, data, indices)
    network = training.model.network
    count = sum(p.numel() for p in network.parameters())
    size = _COPIES * 4 * count
    files.require_space(folder.path, size)
    log.info("%s: training all %s parameters.", cfg.method.name, f"{count:,}")
    training.resume(folder.checkpoints / _CHECKPOINT)
    saved = time.monotonic()
    while training.epoch < training.method.epochs:
        training.next_epoch()
        if checkpoints.due(time.monotonic() - saved, size):
            training.save(folder.checkpoints / _CHECKPOINT)
            saved = time.monotonic()
        folder.tick()
    last = training.model.logits(data.test.images)
    network.load_state_dict(training.best_state)
    return Fit(
        {name: training.model.logits(data.splits[name].images) for name in ("val", "test")},
        training.history,
        {
            "weights": "random",
            "best_epoch": training.best_epoch,
            "best_epoch_by": "validation AUC, the first of equals",
            # An early version of the benchmark's code kept a reference to the best network
            # instead of a copy, and so tested the last epoch. Shown, and chosen by nobody.
            "last_epoch_test": training.score(last, data.test.labels),
            "images": "mean 0.5, standard deviation 0.5",
            "stem": f"3x3, stride {training.method.stride or 1}"
            if isinstance(network.maxpool, nn.Identity)
            else "7x7, stride 2, max pooling",
        },
        parameters=count,
        trained_parameters=count,
        tensors={k: v.numpy() for k, v in training.best_state.items()},
    )  # fmt: skip


def load(cfg: Config, folder: Path, class_names: tuple[str, ...]) -> ResNet:
    """The network of a finished run: that of the best epoch."""
    assert isinstance(cfg.method, ResNetMethod)
    tensors = {k: torch.from_numpy(v) for k, v in model.read_tensors(folder).items()}
    channels = tensors["conv1.weight"].shape[1]
    network = resnet_network.build(
        cfg.method.network, cfg.size, channels, len(class_names), cfg.method.stride
    )
    network.load_state_dict(tensors)
    return ResNet(cfg, network.to(compute.device(cfg)), cfg.method.batch_size)
