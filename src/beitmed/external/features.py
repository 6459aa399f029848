"""What a run sees in images: features in whose space two sets of images lie near or far."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from beitmed.audit import near_duplicates
from beitmed.storage.rows import Rows
from beitmed.trained import Trained

MOST = 250  # images of a set: a pass through a large network each; more would say the same
Read = Callable[[np.ndarray | Rows], np.ndarray]


def reader(found: Trained) -> tuple[Read, str]:
    """Return a function of images -> float [n, features], and what these are.

    Of a backbone its pooled output before any training, of a ResNet what its last layer reads, of
    other methods the pixels.
    """
    from beitmed.methods import feature_rows  # torch: seconds, so where it is needed only
    from beitmed.methods.resnet_network import ResNet

    cfg = found.cfg
    if cfg.reads_backbone:
        read = feature_rows.Reader.build(cfg, found.class_names)
        return read, f"pooled output of {cfg.backbone.name} as it was before training"
    if isinstance(found.model, ResNet):
        asked = found.model.with_features
        what = f"what the last layer of the {cfg.method.name} reads"
        return (lambda images: asked(images)[1].astype(np.float64)), what
    return _pixels, f"pixels at {near_duplicates.SIDE} px"


def chosen(n: int, seed: int) -> np.ndarray:
    """Indices of the images that are compared: all, or `MOST` at random, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:MOST])


def _pixels(images: np.ndarray | Rows) -> np.ndarray:
    small = near_duplicates.reduced(images)
    return small.reshape(len(small), -1).astype(np.float64) / 255
