"""Logistic regression by scikit-learn, on pixels or on a frozen backbone's features."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import log_expit, log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from beitmed import model
from beitmed.config import Config
from beitmed.config.method import LogisticMethod
from beitmed.data import Data
from beitmed.methods import feature_rows, pixel_rows, selection
from beitmed.methods.feature_rows import Reader
from beitmed.model import Fit
from beitmed.runs.folder import Run
from beitmed.storage.rows import Rows


@dataclass(frozen=True)
class Linear:
    """Logits from rows that are standardised by the training images.

    mean, scale: float64 [features]. coefficients, intercepts: float64 [decisions, features] and
    [decisions]. known: int64, the classes that had training images, of which each image has one;
    empty where an image has several labels, each with a decision of its own.
    """

    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    known: np.ndarray

    def standardise(self, rows: np.ndarray) -> np.ndarray:
        # float64: the solver's last digits do not depend on the machine's float32 then.
        return (rows.astype(np.float64) - self.mean) / self.scale

    def scores(self, standard: np.ndarray, classes: int) -> np.ndarray:
        """Standardised rows -> logits, float64 [n, classes]."""
        decisions = standard @ self.coefficients.T + self.intercepts
        return log_probabilities(decisions, classes, self.known) if len(self.known) else decisions


@dataclass(frozen=True)
class LinearModel:
    """Logistic regression that is asked for images."""

    linear: Linear
    read: Callable[[np.ndarray | Rows], np.ndarray]
    classes: int

    def logits(self, images: np.ndarray | Rows) -> np.ndarray:
        return self._scores(self.read(images))

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        return self.linear.scores(self.linear.standardise(rows), self.classes)


@dataclass(frozen=True)
class LinearOnFeatures(LinearModel):
    """The same on a frozen backbone's features."""

    read: Reader

    @property
    def features_are(self) -> str:
        return feature_rows.POOLED

    def with_features(self, images: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
        rows = self.read(images)
        return self._scores(rows), rows

    def features_of(self, data: Data, split: str, rows: np.ndarray) -> np.ndarray:
        return self.read.features_of(data, split, rows)


fill = feature_rows.fill


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """L2-penalised, by L-BFGS; multinomial for more than two classes, also where they are ordered.

    Of several labels each has a model of its own, all with the same C.
    """
    method, classes = cfg.method, len(data.class_names)
    assert isinstance(method, LogisticMethod)
    if cfg.reads_backbone:
        found = feature_rows.of_splits(cfg, data, indices)
        rows, description = found.rows, found.description
    else:
        rows, description = pixel_rows.of_splits(data, indices), {}
    labels = data.train.labels[indices]
    scaler = StandardScaler().fit(rows["train"].astype(np.float64))
    unfitted = Linear(scaler.mean_, scaler.scale_, *(np.empty(0),) * 3)
    standard = {name: unfitted.standardise(of_split) for name, of_split in rows.items()}
    fits: dict[float, tuple[Linear, bool]] = {}

    def logits(c: float, split: str) -> np.ndarray:
        if c not in fits:
            fits[c] = _fit(unfitted, standard["train"], labels, c, method.max_iter)
        return fits[c][0].scores(standard[split], classes)

    chosen, tried = selection.choose(cfg, data, "C", method.C, lambda c: logits(c, "val"))
    linear, converged = fits[chosen]
    return Fit(
        {name: logits(chosen, name) for name in ("val", "test")},
        description={**description, **tried, "converged": converged},
        tensors=vars(linear),
    )


def load(cfg: Config, folder: Path, class_names: tuple[str, ...]) -> LinearModel:
    """The model of a finished run."""
    linear = Linear(**model.read_tensors(folder))
    if not cfg.reads_backbone:
        return LinearModel(linear, pixel_rows.of_images, len(class_names))
    read = feature_rows.of_run(cfg, folder, class_names)
    return LinearOnFeatures(linear, read, len(class_names))


def probe(train: np.ndarray, labels: np.ndarray, images: np.ndarray, classes: int) -> np.ndarray:
    """Logits, float64 [n, classes], of `images` by a regression on `train` with C = 1."""
    scaler = StandardScaler().fit(train.astype(np.float64))
    unfitted = Linear(scaler.mean_, scaler.scale_, *(np.empty(0),) * 3)
    fitted, _ = _fit(unfitted, unfitted.standardise(train), labels, c=1.0, max_iter=1000)
    return fitted.scores(fitted.standardise(images), classes)


def _fit(
    unfitted: Linear, rows: np.ndarray, labels: np.ndarray, c: float, max_iter: int
) -> tuple[Linear, bool]:
    """A model of standardised rows, and whether the solver has converged."""
    columns = labels.T if labels.ndim == 2 else [labels]
    fitted = [_decisions(rows, column, c, max_iter) for column in columns]
    coefficients, intercepts, converged = zip(*fitted, strict=True)
    known = np.unique(labels) if labels.ndim == 1 else np.empty(0, np.int64)
    linear = Linear(
        unfitted.mean, unfitted.scale, np.concatenate(coefficients), np.concatenate(intercepts),
        known,
    )  # fmt: skip
    return linear, all(converged)


def _decisions(
    rows: np.ndarray, labels: np.ndarray, c: float, max_iter: int
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Coefficients and intercepts of one column of labels, and whether the solver converged.

    Where all are the same: log odds as after n + 1 images.
    """
    if labels.min() == labels.max():
        odds = np.log(2 * len(labels) + 1) * (1 if labels[0] else -1)
        return np.zeros((1, rows.shape[1])), np.array([odds]), True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # recorded as `converged`
        found = LogisticRegression(C=c, max_iter=max_iter).fit(rows, labels)
    return np.ascontiguousarray(found.coef_), found.intercept_, found.n_iter_.max() < max_iter


def log_probabilities(decisions: np.ndarray, classes: int, known: np.ndarray) -> np.ndarray:
    """Decisions of scikit-learn's classifiers -> log probabilities, float64 [n, classes].

    decisions: log odds of the second class [n, 1], or [n, known classes] of the multinomial model.
    Not the log of probabilities: those round to 0 or 1 where scores still differ.
    """
    if decisions.shape[1] == 1:
        known_log = np.column_stack([log_expit(-decisions[:, 0]), log_expit(decisions[:, 0])])
    else:
        known_log = log_softmax(decisions, axis=1)
    if len(known) == classes:
        return known_log
    # A class that no training image has: less likely than every other, and finite.
    result = np.full((len(decisions), classes), known_log.min() - 1.0)
    result[:, known] = known_log
    return result
