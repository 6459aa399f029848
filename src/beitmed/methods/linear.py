"""Logistic regression by scikit-learn, on pixels or on a frozen backbone's features."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import log_expit, log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from beitmed.config import Config
from beitmed.config.method import FeaturesLogisticMethod, LogisticMethod
from beitmed.data import Data
from beitmed.methods import arrays, pooled, selection
from beitmed.model import Fit
from beitmed.runs.folder import Run


def on_pixels(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """Pixels, each standardised by the training images, then `_fit`."""
    return _fit(cfg, data, arrays.pixels(data, indices), data.train.labels[indices], {})


def on_features(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """The frozen backbone's pooled features, standardised by the training images, then `_fit`."""
    found = pooled.features(cfg, data, indices)
    return _fit(cfg, data, found.rows, data.train.labels[indices], found.description)


def _fit(
    cfg: Config,
    data: Data,
    rows: Mapping[str, np.ndarray],
    labels: np.ndarray,
    description: Mapping[str, Any],
) -> Fit:
    """L2-penalised, by L-BFGS; multinomial for more than two classes, also where they are ordered.

    Of several labels each has a model of its own, all with the same C. Features are float64 here:
    the solver's last digits do not depend on the machine's float32 then.
    """
    method = cfg.method
    assert isinstance(method, LogisticMethod | FeaturesLogisticMethod)
    scaler = StandardScaler().fit(rows["train"].astype(np.float64))
    standard = {k: scaler.transform(r.astype(np.float64)) for k, r in rows.items()}
    fits: dict[float, list[LogisticRegression | float]] = {}

    def logits(c: float, split: str) -> np.ndarray:
        if c not in fits:
            columns = labels.T if labels.ndim == 2 else [labels]
            fits[c] = [_model(standard["train"], column, c, method.max_iter) for column in columns]
        scores = [_decision(model, standard[split]) for model in fits[c]]
        if labels.ndim == 2:
            return np.column_stack(scores)
        known = np.unique(labels)
        return log_probabilities(scores[0], len(data.class_names), known)

    chosen, tried = selection.choose(cfg, data, "C", method.C, lambda c: logits(c, "val"))
    models = [m for m in fits[chosen] if isinstance(m, LogisticRegression)]
    return Fit(
        {name: logits(chosen, name) for name in ("val", "test")},
        description={
            **description, **tried,
            "converged": all(m.n_iter_.max() < method.max_iter for m in models),
        },
        tensors={
            "mean": scaler.mean_, "scale": scaler.scale_,
            "coefficients": np.concatenate([m.coef_ for m in models]),
            "intercepts": np.concatenate([m.intercept_ for m in models]),
        },
    )  # fmt: skip


def _model(
    rows: np.ndarray, labels: np.ndarray, c: float, max_iter: int
) -> LogisticRegression | float:
    """A model of one column of labels; where all are the same, log odds as after n + 1 images."""
    if labels.min() == labels.max():
        return float(np.log(2 * len(labels) + 1) * (1 if labels[0] else -1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # recorded as `converged`
        return LogisticRegression(C=c, max_iter=max_iter).fit(rows, labels)


def _decision(model: LogisticRegression | float, rows: np.ndarray) -> np.ndarray:
    if isinstance(model, LogisticRegression):
        return model.decision_function(rows)
    return np.full(len(rows), model)


def log_probabilities(decision: np.ndarray, classes: int, known: np.ndarray) -> np.ndarray:
    """Scores of scikit-learn's classifiers -> log probabilities, float64 [n, classes].

    decision: log odds of the second class [n], or [n, known classes] of the multinomial model.
    Not the log of probabilities: those round to 0 or 1 where scores still differ.
    """
    if decision.ndim == 1:
        known_log = np.column_stack([log_expit(-decision), log_expit(decision)])
    else:
        known_log = log_softmax(decision, axis=1)
    if len(known) == classes:
        return known_log
    # A class that no training image has: less likely than every other, and finite.
    result = np.full((len(decision), classes), known_log.min() - 1.0)
    result[:, known] = known_log
    return result
