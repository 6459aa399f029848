"""Logits of a trained network: one computation in its run and whenever it is asked again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from beitmed.backbones import compute
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.data.ahead import ahead
from beitmed.ranks import together
from beitmed.training import shares
from beitmed.training.parts import chunks


def logits(cfg: Config, network: FreezableBackbone, dataset: Dataset) -> np.ndarray:
    """Logits of a dataset of pixels or of features, float64 [n, classes], in eval mode.

    Passed in batches of `train.eval_batch_size`, in parts where training passes parts; on the
    device that the configuration says. Of several ranks each passes some of the batches.
    """
    n, size = len(dataset), cfg.train.eval_batch_size  # type: ignore[arg-type]
    mine = dataset if together.count() == 1 else shares.part(dataset, size)
    found = [logits for logits, _ in _passes(cfg, network, mine)]
    return shares.joined(np.concatenate(found) if found else None, n, size)


def with_features(
    cfg: Config, network: FreezableBackbone, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """The same logits, to the bit, and the features of the same pass, float32 [n, features].

    Those are the trunk's output, pooled; of a network that has no frozen trunk what its classifier
    reads.
    """
    found, features = zip(*_passes(cfg, network, dataset), strict=True)
    return np.concatenate(found), np.concatenate(features)


@torch.inference_mode()
def _passes(
    cfg: Config, network: FreezableBackbone, dataset: Dataset
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Logits and features of one part after another."""
    device = compute.device(cfg)
    network.eval().to(device)
    for batch in ahead(DataLoader(dataset, batch_size=cfg.train.eval_batch_size)):
        whole = [(1.0, batch)]
        for _, part in whole if network.whole else chunks(batch, network):
            inputs = {name: x.to(device) for name, x in part.items() if name != "labels"}
            with compute.autocast(cfg, device):
                found, features = _pass(network, **inputs)
            yield found.float().cpu().numpy().astype(np.float64), features.float().cpu().numpy()


def _pass(
    network: FreezableBackbone,
    pixel_values: torch.Tensor | None = None,
    features: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits as `network` gives them, and features."""
    if not network.whole:
        if features is None:
            assert pixel_values is not None
            features = network.trunk(pixel_values)
        return network.top(features), network.pooled(features)
    read: list[torch.Tensor] = []
    hook = network.model.classifier.register_forward_pre_hook(
        lambda _, given: read.append(given[0])
    )
    try:
        return network(pixel_values=pixel_values)["logits"], read[0]
    finally:
        hook.remove()
