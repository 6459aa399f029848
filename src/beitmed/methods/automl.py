"""FLAML's search on pixels: a stand-in where MedMNIST's authors, and the paper, cite auto-sklearn.

Another program than auto-sklearn, whose figures it does not reproduce. The search is limited by
time: the same command on another machine, or again, may end in another model.
Source: C. Wang et al., FLAML: A Fast and Lightweight AutoML Library, MLSys 2021.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from beitmed import model
from beitmed.config import Config
from beitmed.config.method import AutomlMethod
from beitmed.data import Data
from beitmed.errors import UserError, install
from beitmed.methods import estimators, pixel_rows
from beitmed.model import Fit
from beitmed.runs.folder import Run
from beitmed.storage.rows import Rows

log = logging.getLogger(__name__)
_FILES = "estimator_"
_SMALLEST = 1e-7  # probability: forests say 0 and 1, which have no finite logit


@dataclass(frozen=True)
class AutomlModel:
    """What the search found: a model of all classes, or one of each of several labels.

    parts: a fitted estimator and, of all classes, those that it knows (int64, in the order of its
    probabilities); or the log odds of a label that all training images share.
    """

    parts: list[tuple[Any, np.ndarray] | float]
    classes: int

    def logits(self, images: np.ndarray | Rows) -> np.ndarray:
        return self.of_rows(pixel_rows.of_images(images))

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """float32 [n, pixels] -> float64 [n, classes]."""
        if len(self.parts) == self.classes:
            return np.column_stack([_odds(part, rows) for part in self.parts])
        estimator, known = self.parts[0]  # type: ignore[misc]
        result = np.full((len(rows), self.classes), np.log(_SMALLEST))
        result[:, known] = np.log(_probabilities(estimator, rows))
        return result


def _odds(part: tuple[Any, np.ndarray] | float, rows: np.ndarray) -> np.ndarray:
    if isinstance(part, float):
        return np.full(len(rows), part)
    p = _probabilities(part[0], rows)
    return np.log(p[:, 1]) - np.log(p[:, 0])


def _probabilities(estimator: Any, rows: np.ndarray) -> np.ndarray:
    p = np.asarray(estimator.predict_proba(rows), np.float64)
    return np.clip(p, _SMALLEST, 1 - _SMALLEST)


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """The model of the highest validation AUC that was found in `method.time_budget_s` seconds.

    Fit on the training images only: the validation split chooses and is not trained on. Of
    several labels each gets a search of its own, and its share of the time.
    """
    assert isinstance(cfg.method, AutomlMethod)
    rows, train, val = pixel_rows.of_splits(data, indices), data.train.labels[indices], data.val
    several = train.ndim == 2
    budget = cfg.method.time_budget_s / (train.shape[1] if several else 1)
    log.info("automl: FLAML searches for %g s.", cfg.method.time_budget_s)
    for left in folder.path.glob(f"{_FILES}*"):  # by a process that was stopped
        left.unlink()
    columns = zip(train.T, val.labels.T, strict=True) if several else [(train, val.labels)]
    found = [
        _search(cfg, folder.path / f"{_FILES}{i}", rows, y, y_val, budget)
        for i, (y, y_val) in enumerate(columns)
    ]
    description = {
        "program": "FLAML, a stand-in for auto-sklearn",
        "version": version("flaml"),
        "time_budget_s": cfg.method.time_budget_s,
        "reproducible": "no: the search is limited by time",
        "found": found,
    }
    fitted = _load(description, folder.path, len(data.class_names))
    return Fit(
        {name: fitted.of_rows(rows[name]) for name in ("val", "test")}, description=description
    )


def load(cfg: Config, folder: Path, class_names: tuple[str, ...]) -> AutomlModel:
    """The model of a finished run."""
    return _load(model.read_description(folder), folder, len(class_names))


def _load(said: dict[str, Any], folder: Path, classes: int) -> AutomlModel:
    return AutomlModel(
        [
            one["log_odds"] if one["model"] is None
            else (estimators.load(folder / one["file"]), np.array(one["classes"]))
            for one in said["found"]
        ],
        classes,
    )  # fmt: skip


def _search(
    cfg: Config,
    stem: Path,
    rows: dict[str, np.ndarray],
    y: np.ndarray,
    y_val: np.ndarray,
    budget: float,
) -> dict[str, Any]:
    """Search for a model of one column of labels, and write it to `stem`; what was found."""
    if y.min() == y.max():  # nothing to learn from
        odds = float(np.log(2 * len(y) + 1) * (1 if y[0] else -1))
        reason = "all training images have the same label"
        return {"model": None, "reason": reason, "log_odds": odds}
    search = _flaml()()
    search.fit(
        rows["train"], y, X_val=rows["val"], y_val=y_val, task="classification",
        metric="roc_auc" if len(np.unique(y)) == 2 else "roc_auc_ovr", time_budget=budget,
        estimator_list=list(estimators.SEARCHED), eval_method="holdout", retrain_full=False,
        seed=cfg.seed, n_jobs=-1, verbose=0, log_file_name="",
    )  # fmt: skip
    if search.model is None:
        raise UserError(
            f"method.time_budget_s: {budget:g} s were too few to fit a single model; give more."
        )
    return {
        "model": search.best_estimator,
        "settings": dict(search.best_config),
        "file": estimators.save(search.model.estimator, stem).name,
        "classes": np.asarray(search.classes_, int).tolist(),
    }


def _flaml() -> Any:
    try:
        from flaml import AutoML
    except ImportError as e:  # also where flaml is there and what it searches over is not
        raise UserError(
            f"method: found automl, which needs FLAML: {install('automl')}; or choose another "
            "method"
        ) from e
    return AutoML
