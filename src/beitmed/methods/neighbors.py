"""Nearest neighbours among a frozen backbone's features, by scikit-learn."""

from __future__ import annotations

import logging

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from beitmed.config import Config
from beitmed.config.method import KnnMethod
from beitmed.data import Data
from beitmed.methods import pooled, selection
from beitmed.model import Fit
from beitmed.runs.folder import Run

log = logging.getLogger(__name__)


def on_features(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """Cosine distance of features standardised by the training images; every neighbour counts 1.

    With Laplace's smoothing, as a share of 0 or 1 has no finite logit: of k neighbours n_c are of
    class c, which has probability (n_c + 1) / (k + classes); of several labels each is one of two
    classes. That changes neither a ranking nor an argmax (of equals the first class).
    """
    assert isinstance(cfg.method, KnnMethod)
    found = pooled.features(cfg, data, indices)
    labels, n = data.train.labels[indices], len(indices)
    ks = [k for k in cfg.method.k if k <= n] or [n]
    scaler = StandardScaler().fit(found.rows["train"])
    index = NearestNeighbors(n_neighbors=max(ks), metric="cosine", algorithm="brute")
    index.fit(scaler.transform(found.rows["train"]))
    nearest = {
        name: index.kneighbors(scaler.transform(found.rows[name]), return_distance=False)
        for name in ("val", "test")
    }

    def logits(k: int, split: str) -> np.ndarray:
        return from_neighbors(labels[nearest[split][:, :k]], len(data.class_names))

    k, tried = selection.choose(cfg, data, "k", ks, lambda k: logits(k, "val"))
    return Fit(
        {name: logits(k, name) for name in nearest}, description={**found.description, **tried}
    )


def from_neighbors(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels of the neighbours, int [n, k] or [n, k, labels] -> logits, float64 [n, classes]."""
    k = labels.shape[1]
    if labels.ndim == 3:
        having = labels.sum(axis=1).astype(np.float64)
        return np.log(having + 1) - np.log(k - having + 1)
    counts = (labels[:, :, None] == np.arange(classes)).sum(axis=1)
    return np.log((counts + 1) / (k + classes))
