"""Metrics of a binary classifier on a test set, with 95 % intervals.

What looks at what: `argmax` metrics read the test set alone. Thresholds and the temperature are
fitted on the validation set; their intervals take them as fixed, that of the operating point counts
its choice. The prior correction reads the validation set and test scores, never test labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beitmed.statistics import areas, calibration, decisions, shift
from beitmed.statistics.clusters import Groups
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks import estimates
from beitmed.tasks.binary_metrics import METRICS
from beitmed.tasks.scored import Scored, estimate_all
from beitmed.tasks.task import UNSTATED, Curves, Inputs, Labels, Task, Use
from beitmed.tasks.two_classes import accuracy, auc, binary_labels, margin


def evaluate(
    *,
    val_logits: ArrayLike,
    val_labels: ArrayLike,
    test_logits: ArrayLike,
    test_labels: ArrayLike,
    positive: int,
    seed: int,
    n_resamples: int = 2000,
    val_groups: NDArray | None = None,
    test_groups: NDArray | None = None,
    use: Use = UNSTATED,
) -> dict[str, Estimate]:
    """Return every metric of `METRICS` on the test set, each with a 95 % interval or a reason.

    Logits are floating point [n, 2], labels are 0 or 1 [n], groups the patients [n] where they are
    known; `positive` is the class that sensitivity, scores and probabilities belong to. The
    validation set may lack a class or be empty.
    A tie at a threshold, 0 for argmax, is called class 0, whichever class is positive.
    The result depends on the data, `use`, `seed` (from 0) and `n_resamples` only.
    ValueError: malformed or non-finite input, or an empty test set.
    """
    if n_resamples < 1 or seed < 0:
        raise ValueError(f"n_resamples: {n_resamples}, seed: {seed}, but at least 1 and 0 needed")
    val, test = margin(val_logits, positive), margin(test_logits, positive)
    if not test.size:
        raise ValueError("test_logits: no rows, but a test set is needed")
    val_y = binary_labels(val_labels, val.size, "val_labels") == positive
    y = binary_labels(test_labels, test.size, "test_labels") == positive
    known = estimates.grouped(val_groups, val.size, "val_groups")
    groups = estimates.grouped(test_groups, test.size, "test_groups")
    rules = _Rules(val, val_y, known, test, y, groups, positive)
    found = rules.thresholds() | rules.calibrated() | rules.used(use, seed)
    return estimate_all(METRICS, found, y, groups, seed=seed, n_resamples=n_resamples)


@dataclass(frozen=True)
class _Rules:
    """The test cases under each decision rule, or the reason for which there is none.

    val and test are log odds of the positive class, val_y and y whether a case is of it, known and
    groups the patients.
    """

    val: Floats
    val_y: Bools
    known: Groups
    test: Floats
    y: Bools
    groups: Groups
    positive: int

    def at(self, cut: float | str) -> Scored | str:
        if isinstance(cut, str):
            return cut
        decided = calibration.decide(self.test, cut, self.positive)
        return self._scored(self.test, decided, cut)

    def thresholds(self) -> dict[str, Scored | str]:
        fitted = self.val, self.val_y, self.positive
        return {
            "argmax": self.at(0.0),
            "val accuracy": self.at(calibration.accuracy_threshold(*fitted)),
            "val specificity": self.at(calibration.specificity_threshold(*fitted)),
            "val sensitivity": self.at(calibration.sensitivity_threshold(*fitted)),
        }

    def calibrated(self) -> dict[str, Scored | str]:
        argmax = calibration.decide(self.test, 0.0, self.positive)
        temperature = calibration.fit_temperature(self.val, self.val_y)
        cool: Scored | str = temperature if isinstance(temperature, str) else (
            self._scored(self.test / temperature, argmax, temperature)
        )  # fmt: skip
        found = shift.detect(
            _columns(self.val), self.val_y.astype(np.int64), _columns(self.test),
            estimates.clustered(self.known), estimates.clustered(self.groups),
        )  # fmt: skip
        if isinstance(found, str):
            return {"temperature": cool, "prior corrected": found}
        moved = found.corrected[:, 1] - found.corrected[:, 0]
        decided = calibration.decide(moved, 0.0, self.positive)
        return {"temperature": cool, "prior corrected": self._scored(moved, decided, found)}

    def used(self, use: Use, seed: int) -> dict[str, Scored | str]:
        result: dict[str, Scored | str] = {
            "prevalence": "no prevalence was stated (evaluate.prevalence)",
            "operating point": "none was asked for (evaluate.operating_point)",
        }
        if use.prevalence is not None:
            decided = calibration.decide(self.test, 0.0, self.positive)
            result["prevalence"] = self._scored(self.test, decided, use.prevalence)
        if use.operating_point is not None:
            point = decisions.operating_point(
                *use.operating_point,
                (self.val, self.val_y, estimates.clustered(self.known)),
                (self.test, self.y, estimates.clustered(self.groups)),
                seed=seed,
            )
            result["operating point"] = point if isinstance(point, str) else (
                self._scored(self.test, self.test >= point.threshold, point)
            )  # fmt: skip
        return result

    def _scored(self, score: Floats, decided: Bools, fitted: Any) -> Scored:
        on = self.val.size, estimates.patients(self.known)
        return Scored(self.y, score, decided, self.groups, fitted, *on)


def _columns(margins: Floats) -> Floats:
    """Logits [n, 2] of these log odds of the second class."""
    return np.column_stack([np.zeros(margins.size), margins])


class Binary(Task):
    """Two exclusive classes, one of which is the positive one."""

    name = "binary"
    official_name = "binary-class"
    has_positive = True
    most_classes = 2
    classes_needed = "a binary task needs 2"
    metrics = METRICS
    headlines = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")

    def log_odds(self, logits: Floats) -> Floats:
        ranked = areas.restore_ties(margin(logits, 1))
        return np.column_stack([-ranked, ranked])

    def score(
        self, logits: Floats, labels: Labels, positive: int | None
    ) -> dict[str, float | None]:
        assert positive is not None
        return {
            "auc": auc(labels == positive, margin(logits, positive)),
            "accuracy": accuracy(labels, logits),
        }

    def evaluate(self, inputs: Inputs) -> dict[str, Estimate]:
        assert inputs.positive is not None
        return evaluate(
            val_logits=inputs.logits["val"],
            val_labels=inputs.labels["val"],
            val_groups=inputs.groups["val"],
            test_logits=inputs.logits["test"],
            test_labels=inputs.labels["test"],
            test_groups=inputs.groups["test"],
            positive=inputs.positive,
            seed=inputs.seed,
            n_resamples=inputs.n_resamples,
            use=inputs.use,
        )

    def no_skill(self, labels: Labels, classes: int, positive: int | None) -> dict[str, float]:
        """A score that says nothing, and the best constant: F1 of calling every image positive."""
        counts = np.bincount(labels == positive, minlength=2)
        found = decisions.no_skill(counts, counts)
        found["brier"] /= 2  # of the positive class, not of both
        del found["log_loss"]
        return {"auc": 0.5, "balanced_accuracy": 0.5, "mcc": 0.0, **found}

    def curves(
        self, logits: Floats, labels: Labels, class_names: Sequence[str], positive: int | None
    ) -> Curves:
        assert positive is not None
        member, score = labels == positive, self.log_odds(logits)[:, positive]
        names = [class_names[positive]]
        return Curves(member[:, None], score[:, None], names, ["auc"], None, "ROC curve")

    def title(self, name: str, class_names: Sequence[str], positive: int | None) -> str:
        """Both rates are sensitivities: the specificity is that of the other class."""
        assert positive is not None
        of = {"sensitivity": positive, "specificity": 1 - positive}
        if name in of:
            return f"Sensitivity, {class_names[of[name]]}"
        return super().title(name, class_names, positive)

    def whose(self, class_names: Sequence[str], positive: int | None) -> str:
        assert positive is not None
        return f'positive class "{class_names[positive]}"'


TASK = Binary()
