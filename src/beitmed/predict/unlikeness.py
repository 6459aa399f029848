"""How unlike its training images an image is, as a percentile of the validation images.

The Mahalanobis distance to the training images in the features that the run's model makes, its
covariance shrunk: no label is used, and none of the classes is assumed. Fitted at the first use and
kept in the run's folder, so that it takes the training images once.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy.stats import beta

from beitmed.errors import UserError
from beitmed.model import Describing, Model
from beitmed.runs import reader
from beitmed.statistics import distance
from beitmed.statistics.distance import Centre
from beitmed.statistics.level import Bools, Floats
from beitmed.storage import files
from beitmed.storage.rows import Rows
from beitmed.trained import Trained

log = logging.getLogger(__name__)
FILE = "unlikeness.safetensors"
FORMAT = 1
MOST = 5000  # images of a split that are looked at
_GRID = 16  # cells a side
_PIXELS = f"the pixels, averaged over {_GRID} x {_GRID} cells"
_WITHIN = 0.90
_AT_ONCE = 512  # images, for the grid


@dataclass(frozen=True)
class Unlikeness:
    """Where the training images lie, and how far from them the validation images do, ascending.

    features: what they are, in words. trained_on: how many training images were looked at, of
    `of` that the run has trained on. units: how many patients the validation images are of; where
    that is not known, how many images.
    """

    centre: Centre
    val: Floats
    features: str
    trained_on: int
    of: int
    units: int

    def percentiles(self, features: np.ndarray) -> Floats:
        """Features [n, d] -> how many of 100 validation images lie as near or nearer, [n]."""
        found = np.searchsorted(self.val, self.centre.distances(features), side="right")
        result: Floats = 100.0 * found / len(self.val)
        return result

    def beyond(self, features: np.ndarray, percentile: float) -> Bools:
        """Which lie farther than nearly all validation images."""
        limit = self.val[-_beyond(len(self.val), percentile)]
        result: Bools = self.centre.distances(features) > limit
        return result

    def expected(self, percentile: float) -> tuple[float, float]:
        """The share of images like the validation images that is flagged, in 90 % of draws."""
        k, n = _beyond(self.units, percentile), self.units
        low, high = (float(beta.ppf(end, k, n + 1 - k)) for end in ((1 - _WITHIN) / 2,
                                                                   (1 + _WITHIN) / 2))  # fmt: skip
        return low, high

    def described(self, percentile: float) -> dict[str, Any]:
        """JSON values."""
        low, high = self.expected(percentile)
        return {
            "score": "Mahalanobis distance, Ledoit-Wolf covariance",
            "features": self.features,
            "training_images": self.trained_on,
            "of_training_images": self.of,
            "validation_images": len(self.val),
            "validation_patients_or_images": self.units,
            "shrinkage": self.centre.shrinkage,
            "flagged_beyond_percentile": percentile,
            "expected_flagged_share": [low, high],
        }


def _beyond(n: int, percentile: float) -> int:
    """Flagged is what lies beyond the k-th farthest of n, at least the first."""
    return max(1, int(np.floor((n + 1) * (1 - percentile / 100) + 1e-9)))


def ask(model: Model, images: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
    """Logits of images, and features that unlikeness is measured in."""
    if isinstance(model, Describing):
        return model.with_features(images)
    return model.logits(images), _grid(images)


def of_run(found: Trained) -> Unlikeness | str:
    """What a run's folder keeps, or fitted anew and kept; or the reason for which there is none.

    Takes the training images only where nothing is kept. Raises UserError for a model that cannot
    be loaded.
    """
    path = found.run.path / FILE
    if (kept := _read(path)) is not None:
        return kept
    model = found.model
    try:
        data = found.data
    except UserError as e:
        return f"the run's training images are needed once: {e}"
    train, of = _chosen(np.unique(reader.read_trained(found.run.path)[0]))
    val, _ = _chosen(np.arange(len(data.val.labels)))
    if len(train) < 2 or not len(val):
        return "the run has no validation images, or too few training images"
    log.info("%s: looking at %d training images, once, to know what is unlike them.",
             found.run.path.name, len(train))  # fmt: skip
    if isinstance(model, Describing):
        what = model.features_are
        rows = {name: model.features_of(data, name, chosen)
                for name, chosen in (("train", train), ("val", val))}  # fmt: skip
    else:
        what = _PIXELS
        rows = {"train": _grid(data.train.images[train]), "val": _grid(data.val.images[val])}
    centre, groups = distance.fit(rows["train"]), data.val.groups
    units = len(val) if groups is None else len({groups[i] for i in val})
    result = Unlikeness(centre, np.sort(centre.distances(rows["val"])), what, len(train), of, units)
    _keep(result, path)
    return result


def _chosen(rows: np.ndarray) -> tuple[np.ndarray, int]:
    """At most `MOST` of them, ascending, always the same; and how many there are."""
    if len(rows) <= MOST:
        return rows, len(rows)
    return np.sort(np.random.default_rng(0).choice(rows, MOST, replace=False)), len(rows)


def _grid(images: np.ndarray | Rows) -> np.ndarray:
    """uint8 [n, h, w] or [n, h, w, 3] -> float32 [n, cells], 0 to 1: means of the cells."""
    down, across = (_cells(side) for side in images.shape[1:3])
    parts = []
    for start in range(0, len(images), _AT_ONCE):
        part = np.asarray(images[start : start + _AT_ONCE], np.float32) / 255
        means = np.einsum("ih,nhw...,jw->nij...", down, part, across, optimize=True)
        parts.append(means.reshape(len(part), -1))
    return np.concatenate(parts)


def _cells(side: int) -> np.ndarray:
    """float32 [cells, side]: by how much each pixel counts for a cell's mean."""
    count = min(_GRID, side)
    edges = np.linspace(0, side, count + 1)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(side)[None]
    inside = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)


def _keep(found: Unlikeness, path: Path) -> None:
    centre = found.centre
    tensors = {"mean": centre.mean, "scale": centre.scale, "whitening": centre.whitening,
               "val": found.val}  # fmt: skip
    said = {"format": FORMAT, "shrinkage": centre.shrinkage, "features": found.features,
            "trained_on": found.trained_on, "of": found.of, "units": found.units}  # fmt: skip
    try:
        files.write_atomic(path, save(tensors, {"said": json.dumps(said)}))
    except OSError as e:  # a folder of someone else's: it is fitted each time then
        log.info("%s: cannot be kept (%s).", path, e.strerror)


def _read(path: Path) -> Unlikeness | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as f:
            said = json.loads(f.metadata()["said"])
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
        if said.pop("format") != FORMAT:
            return None
        shrinkage, val = said.pop("shrinkage"), tensors.pop("val")
        return Unlikeness(Centre(**tensors, shrinkage=shrinkage), val, **said)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as e:
        log.warning("%s: cannot be read (%s); it is fitted again.", path, e)
        return None
