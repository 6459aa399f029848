"""Logits of a trained network: one computation in its run and whenever it is asked again."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from beitmed.backbones import compute
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.training.trainer import chunks


@torch.inference_mode()
def logits(cfg: Config, network: FreezableBackbone, dataset: Dataset) -> np.ndarray:
    """Logits of a dataset of pixels or of features, float64 [n, classes], in eval mode.

    Passed in batches of `train.eval_batch_size`, in parts where training passes parts; on the
    device that the configuration says.
    """
    device = compute.device(cfg)
    network.eval().to(device)
    parts = []
    for batch in DataLoader(dataset, batch_size=cfg.train.eval_batch_size):
        whole = [(1.0, batch)]
        for _, part in whole if network.whole else chunks(batch, network):
            inputs = {name: x.to(device) for name, x in part.items() if name != "labels"}
            with compute.autocast(cfg, device):
                found = network(**inputs)["logits"]
            parts.append(found.float().cpu().numpy().astype(np.float64))
    return np.concatenate(parts)
