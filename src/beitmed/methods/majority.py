"""The class frequencies of the training images, whatever the image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beitmed import model
from beitmed.config import Config
from beitmed.data import Data, counts
from beitmed.model import Fit
from beitmed.runs.folder import Run
from beitmed.storage.rows import Rows


@dataclass(frozen=True)
class Majority:
    """The same logits for every image: float64 [classes]."""

    row: np.ndarray

    def logits(self, images: np.ndarray | Rows) -> np.ndarray:
        return np.tile(self.row, (len(images), 1))


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """Log frequencies, or log odds of each of several labels.

    So argmax is the most frequent class of the images that were trained on (with balanced=true the
    largest after balancing; of equals the first), and every AUC is 0.5. A class or label that
    none or all of them have counts half an image, to stay finite.
    """
    labels, n = data.train.labels[indices], len(indices)
    frequent = np.array(counts(labels, len(data.class_names)), np.float64)
    several = labels.ndim == 2
    share = np.clip(frequent, 0.5, n - 0.5 if several else None) / n
    row = np.log(share) - np.log1p(-share) if several else np.log(share)
    return Fit(
        {k: Majority(row).logits(data.splits[k].images) for k in ("val", "test")},
        description={"frequencies": (frequent / n).tolist()},
        tensors={"logits": row},
    )


def load(cfg: Config, folder: Path, class_names: tuple[str, ...]) -> Majority:
    """The model of a finished run."""
    return Majority(model.read_tensors(folder)["logits"])
