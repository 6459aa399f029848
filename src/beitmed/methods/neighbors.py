"""Nearest neighbours among a frozen backbone's features, by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from beitmed import model
from beitmed.config import Config
from beitmed.config.method import KnnMethod
from beitmed.data import Data
from beitmed.methods import feature_rows, selection
from beitmed.methods.feature_rows import Reader
from beitmed.model import Fit
from beitmed.runs.folder import Run
from beitmed.storage.rows import Rows


class Neighbors:
    """The training images by cosine distance of features standardised by them.

    mean, scale: float64 [features]. features: float32 [n, features], not standardised. labels:
    int64 [n], or [n, labels]. asked: how many neighbours are looked for, of which more may be
    counted; another number would sort equal distances otherwise.
    """

    def __init__(
        self, features: np.ndarray, labels: np.ndarray, mean: np.ndarray, scale: np.ndarray,
        asked: int,
    ) -> None:  # fmt: skip
        self.labels, self.mean, self.scale = labels, mean, scale
        self.index = NearestNeighbors(n_neighbors=asked, metric="cosine", algorithm="brute")
        self.index.fit(self._standardise(features))

    def nearest(self, features: np.ndarray) -> np.ndarray:
        """Labels of the nearest training images, nearest first: int64 [n, asked(, labels)]."""
        rows = self.index.kneighbors(self._standardise(features), return_distance=False)
        return self.labels[rows]

    def _standardise(self, features: np.ndarray) -> np.ndarray:
        return ((features - self.mean) / self.scale).astype(np.float32)


@dataclass(frozen=True)
class NeighborsModel:
    """Votes of the `k` nearest training images, for images."""

    neighbors: Neighbors
    read: Reader
    k: int
    classes: int

    @property
    def features_are(self) -> str:
        return feature_rows.POOLED

    def logits(self, images: np.ndarray | Rows) -> np.ndarray:
        return self.with_features(images)[0]

    def with_features(self, images: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
        rows = self.read(images)
        nearest = self.neighbors.nearest(rows)
        return from_neighbors(nearest[:, : self.k], self.classes), rows

    def features_of(self, data: Data, split: str, rows: np.ndarray) -> np.ndarray:
        return self.read.features_of(data, split, rows)


fill = feature_rows.fill


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """Cosine distance of features standardised by the training images; every neighbour counts 1.

    With Laplace's smoothing, as a share of 0 or 1 has no finite logit: of k neighbours n_c are of
    class c, which has probability (n_c + 1) / (k + classes); of several labels each is one of two
    classes. That changes neither a ranking nor an argmax (of equals the first class).
    """
    assert isinstance(cfg.method, KnnMethod)
    found = feature_rows.of_splits(cfg, data, indices)
    labels, n = data.train.labels[indices], len(indices)
    ks = [k for k in cfg.method.k if k <= n] or [n]
    scaler = StandardScaler().fit(found.rows["train"])
    kept = {
        "features": found.rows["train"], "labels": labels,
        "mean": scaler.mean_, "scale": scaler.scale_,
    }  # fmt: skip
    neighbors = Neighbors(**kept, asked=max(ks))
    nearest = {name: neighbors.nearest(found.rows[name]) for name in ("val", "test")}

    def logits(k: int, split: str) -> np.ndarray:
        return from_neighbors(nearest[split][:, :k], len(data.class_names))

    k, tried = selection.choose(cfg, data, "k", ks, lambda k: logits(k, "val"))
    return Fit(
        {name: logits(k, name) for name in nearest},
        description={**found.description, **tried, "asked": max(ks)},
        tensors=kept,
    )


def load(cfg: Config, folder: Path, class_names: tuple[str, ...]) -> NeighborsModel:
    """The model of a finished run."""
    said = model.read_description(folder)
    neighbors = Neighbors(**model.read_tensors(folder), asked=said["asked"])
    reader = feature_rows.of_run(cfg, folder, class_names)
    return NeighborsModel(neighbors, reader, said["k"], len(class_names))


def probe(
    train: np.ndarray, labels: np.ndarray, images: np.ndarray, classes: int, k: int
) -> np.ndarray:
    """Logits, float64 [n, classes], of `images` from the k nearest of `train`, both of features."""
    scaler, k = StandardScaler().fit(train), min(k, len(train))
    found = Neighbors(train, labels, scaler.mean_, scaler.scale_, k).nearest(images)
    return from_neighbors(found, classes)


def from_neighbors(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels of the neighbours, int [n, k] or [n, k, labels] -> logits, float64 [n, classes]."""
    k = labels.shape[1]
    if labels.ndim == 3:
        having = labels.sum(axis=1).astype(np.float64)
        return np.log(having + 1) - np.log(k - having + 1)
    counts = (labels[:, :, None] == np.arange(classes)).sum(axis=1)
    return np.log((counts + 1) / (k + classes))
