"""Files that `medmnist.Evaluator.parse_and_evaluate` reads: a split's scores under its own name.

Format of medmnist 3.0.2, evaluator.py: no header, a row an image, its index and a score a column;
`{flag}{_size}_{split}_[AUC]{auc:.3f}_[ACC]{accuracy:.3f}@{run}.csv`, the size left out at 28 px.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import expit

from beitmed import tasks
from beitmed.config import Config
from beitmed.runs.folder import Run
from beitmed.runs.predictions import Predictions
from beitmed.statistics.level import Floats
from beitmed.tasks import Task


def write(cfg: Config, folder: Run, splits: Mapping[str, Predictions]) -> None:
    """Write the file of each split that has an AUC, for a dataset that `medmnist` knows.

    Not for a run of fewer images (`data.limit`), which the Evaluator has no labels for. The run in
    a file's name is its seed, and says where the weights were RANDOM.
    """
    if cfg.dataset.flag is None or cfg.dataset.classes is not None or cfg.data.limit is not None:
        return
    task = tasks.of(cfg.dataset.task)
    size = "" if cfg.size == 28 else f"_{cfg.size}"
    random = cfg.reads_backbone and cfg.backbone.random_weights
    run = ("RANDOM-weights-seed" if random else "seed") + str(cfg.seed)
    for name, split in splits.items():
        # Of two classes both name the same ranking; the Evaluator reads that of label 1.
        found = task.score(split.logits, split.labels, 1 if task.has_positive else None)
        auc, accuracy = found["auc"], found["accuracy"]
        if auc is None or accuracy is None:
            continue
        file = f"{cfg.dataset.flag}{size}_{name}_[AUC]{auc:.3f}_[ACC]{accuracy:.3f}@{run}.csv"
        rows = [[i, *row] for i, row in enumerate(scores(task, split.logits).tolist())]
        folder.write_csv(file, rows[0], rows[1:])  # without a header


def scores(task: Task, logits: Floats) -> Floats:
    """The probabilities [n, classes] of logits, or what ranks and decides as these do.

    Float64 probabilities near 1 are equal where log odds still differ. Where that ties images that
    the AUC tells apart, a column holds (1 + x / (1 + |x|)) / 2 of the log odds x instead.
    """
    odds = task.log_odds(logits)
    found = np.round(expit(odds), 12)  # classes that are equally likely are so but for rounding
    for column, own in zip(found.T, odds.T, strict=True):
        if np.unique(column).size < np.unique(own).size:
            column[:] = (1 + own / (1 + np.abs(own))) / 2
    if not task.several_labels:
        chosen = logits.argmax(axis=1)
        other = np.flatnonzero(found.argmax(axis=1) != chosen)
        found[other, chosen[other]] = np.nextafter(found[other].max(axis=1), 2)
    return found
