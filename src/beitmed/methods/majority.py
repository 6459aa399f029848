"""The class frequencies of the training images, whatever the image."""

from __future__ import annotations

import numpy as np

from beitmed.config import Config
from beitmed.data import Data, counts
from beitmed.model import Fit
from beitmed.runs.folder import Run


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """The same logits for every image: log frequencies, or log odds of each of several labels.

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
        {k: np.tile(row, (len(s.labels), 1)) for k, s in data.splits.items() if k != "train"},
        description={"frequencies": (frequent / n).tolist()},
    )
