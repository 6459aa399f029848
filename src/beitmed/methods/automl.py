"""FLAML's search on pixels: a stand-in where MedMNIST's authors, and the paper, cite auto-sklearn.

Another program than auto-sklearn, whose figures it does not reproduce. The search is limited by
time: the same command on another machine, or again, may end in another model.
Source: C. Wang et al., FLAML: A Fast and Lightweight AutoML Library, MLSys 2021.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from beitmed.config import Config
from beitmed.config.method import AutomlMethod
from beitmed.data import Data
from beitmed.errors import UserError
from beitmed.methods import arrays
from beitmed.model import Fit
from beitmed.runs.folder import Run

log = logging.getLogger(__name__)
_SMALLEST = 1e-7  # probability: forests say 0 and 1, which have no finite logit


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """The model of the highest validation AUC that was found in `method.time_budget_s` seconds.

    Fit on the training images only: the validation split chooses and is not trained on. Of
    several labels each gets a search of its own, and its share of the time.
    """
    assert isinstance(cfg.method, AutomlMethod)
    automl = _flaml()
    rows, train, val = arrays.pixels(data, indices), data.train.labels[indices], data.val.labels
    several = train.ndim == 2
    budget = cfg.method.time_budget_s / (train.shape[1] if several else 1)
    log.info("automl: FLAML searches for %g s.", cfg.method.time_budget_s)
    found: list[dict[str, Any]] = []
    scores: dict[str, list[np.ndarray]] = {"val": [], "test": []}
    for y, y_val in zip(train.T, val.T, strict=True) if several else [(train, val)]:
        if y.min() == y.max():  # nothing to learn from
            for name, parts in scores.items():
                odds = np.log(2 * len(y) + 1) * (1 if y[0] else -1)
                parts.append(np.full((len(rows[name]), 1), odds))
            found.append({"model": None, "reason": "all training images have the same label"})
            continue
        search = automl()
        search.fit(
            rows["train"], y, X_val=rows["val"], y_val=y_val, task="classification",
            metric="roc_auc" if len(np.unique(y)) == 2 else "roc_auc_ovr", time_budget=budget,
            eval_method="holdout", retrain_full=False, seed=cfg.seed, n_jobs=-1, verbose=0,
            log_file_name="",
        )  # fmt: skip
        if search.model is None:
            raise UserError(
                f"method.time_budget_s: {budget:g} s were too few to fit a single model; give more."
            )
        found.append({"model": search.best_estimator, "settings": dict(search.best_config)})
        for name, parts in scores.items():
            parts.append(_logits(search, rows[name], len(data.class_names), several))
    return Fit(
        {name: np.column_stack(parts) for name, parts in scores.items()},
        description={
            "program": "FLAML, a stand-in for auto-sklearn",
            "version": _version(),
            "time_budget_s": cfg.method.time_budget_s,
            "reproducible": "no: the search is limited by time",
            "found": found,
        },
    )


def _logits(search: Any, rows: np.ndarray, classes: int, several: bool) -> np.ndarray:
    p = np.clip(np.asarray(search.predict_proba(rows), np.float64), _SMALLEST, 1 - _SMALLEST)
    if several:
        return np.log(p[:, 1:]) - np.log(p[:, :1])
    result = np.full((len(p), classes), np.log(_SMALLEST))
    result[:, np.asarray(search.classes_, int)] = np.log(p)
    return result


def _flaml() -> Any:
    try:
        from flaml import AutoML
    except ImportError as e:  # also where flaml is there and what it searches over is not
        raise UserError(
            "method: found automl, which needs FLAML: pip install 'beitmed[automl]', or choose "
            "another method"
        ) from e
    return AutoML


def _version() -> str:
    from importlib.metadata import version

    return version("flaml")
