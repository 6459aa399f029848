"""What corrupted images do to runs: curves, drops paired on images, and pairs of variants.

A drop is how much worse: clean less corrupted, of the calibration error corrupted less clean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from beitmed.data import corruptions
from beitmed.data.corruptions import Corruption
from beitmed.report.content.variants import TestSet
from beitmed.robustness.answers import Answers
from beitmed.robustness.choice import SEVERITIES
from beitmed.statistics import changes, comparisons, seeds
from beitmed.statistics.jackknife import Scale
from beitmed.statistics.level import Floats
from beitmed.statistics.spread import Measure
from beitmed.tasks.changes import MEASURES, measures

Found = Mapping[str, Measure | str]
#: A balanced error relative to AlexNet's has a denominator of at least so many standard errors.
_SOUND = 2.0


def evaluate(
    test_set: TestSet, chosen: Mapping[str, Corruption], severities: Sequence[int], answers: Answers
) -> dict[str, Any]:
    """All results as JSON values; see `docs/experiments.md` for their meaning."""
    rows: list[dict[str, Any]] = []
    benchmark: list[dict[str, Any]] = []
    means: dict[str, dict[str, dict[str, Measure]]] = {"value": {}, "drop": {}}
    reference = _Reference.of(test_set, severities)
    for variant in test_set.variants:
        clean = _measured(test_set, [run.test.logits for run in variant.runs])
        rows += _rows(variant.name, None, 0, clean, {})
        by_corruption: list[tuple[Found, Found]] = []
        for name, corruption in chosen.items():
            found = []
            for severity in severities:
                logits = [answers.of(run.path, name, severity) for run in variant.runs]
                worse = _measured(test_set, logits)
                found.append((worse, _drops(clean, worse)))
                rows += _rows(variant.name, name, severity, *found[-1])
            by_corruption.append(_means(found))
            rows += _rows(variant.name, name, None, *by_corruption[-1])
            if reference is not None and corruption.alexnet_error is not None:
                benchmark.append(reference.row(variant.name, corruption, *by_corruption[-1]))
        overall = _means(by_corruption)
        rows += _rows(variant.name, None, None, *overall)
        for kind, of in zip(means, overall, strict=True):
            for measure, one in of.items():
                if isinstance(one, Measure):
                    means[kind].setdefault(measure, {})[variant.name] = one
    return {
        "variants": [
            {"name": v.name, "runs": [run.path.name for run in v.runs],
             "seeds": [run.seed for run in v.runs]}
            for v in test_set.variants
        ],
        "rows": rows,
        "pairs": list(_pairs(test_set, means)),
        "benchmark": benchmark,
    }  # fmt: skip


def _measured(test_set: TestSet, logits: Sequence[Floats]) -> dict[str, Measure | str]:
    first = test_set.first
    positive = first.positive if test_set.task.has_positive else None
    return measures(test_set.task, first.test.labels, np.stack(logits), positive, test_set.groups)


def _drops(clean: Found, worse: Found) -> dict[str, Measure | str]:
    found: dict[str, Measure | str] = {}
    for name, of in MEASURES.items():
        before, after = clean[name], worse[name]
        if isinstance(before, str) or isinstance(after, str):
            found[name] = before if isinstance(before, str) else str(after)
            continue
        pair = (before, after) if of.better == "higher" else (after, before)
        found[name] = changes.less(*pair)
    return found


def _means(found: Sequence[tuple[Found, Found]]) -> tuple[Found, Found]:
    """The means over severities or corruptions, of values and of drops."""
    return tuple({name: _mean([of[i][name] for of in found]) for name in MEASURES} for i in (0, 1))  # type: ignore[return-value]


def _mean(found: Sequence[Measure | str]) -> Measure | str:
    reason = next((one for one in found if isinstance(one, str)), None)
    return reason or changes.mean([one for one in found if isinstance(one, Measure)])


def _rows(
    variant: str, corruption: str | None, severity: int | None, values: Found, drops: Found
) -> list[dict[str, Any]]:
    """A row a measure. Without a corruption: of the clean images (severity 0), or of all
    corruptions; without a severity: the mean over severities.
    """
    return [
        {
            "variant": variant, "corruption": corruption, "severity": severity, "measure": name,
            "value": _cell(values[name], "plain" if of.better == "lower" else "share", 0.0),
            "drop": _cell(drops[name], "plain") if drops else None,
        }
        for name, of in MEASURES.items()
    ]  # fmt: skip


def _cell(found: Measure | str, scale: Scale, least: float = -np.inf) -> dict[str, Any]:
    """least: the smallest value that there can be."""
    if isinstance(found, str):
        return {"value": None, "low": None, "high": None, "reason": found}
    told = seeds.summary(found, scale)
    reason = told.reason
    if reason is not None and not np.any(found.contributions):
        reason = "no test image tells the two apart" if scale == "plain" else reason
    low = None if told.low is None else max(told.low, least)
    return {"value": told.mean, "low": low, "high": told.high, "reason": reason}


def _pairs(
    test_set: TestSet, means: Mapping[str, Mapping[str, Mapping[str, Measure]]]
) -> Iterator[dict[str, Any]]:
    """Every pair of variants by the mean over all corruptions; Holm's p within a measure."""
    of_seeds = {v.name: [run.seed for run in v.runs] for v in test_set.variants}
    for kind, by_measure in means.items():
        for measure, found in by_measure.items():
            own = {name: of_seeds[name] for name in found}
            differences = comparisons.differences(found, own, "jackknife")
            adjusted = comparisons.holm([d.p for d in differences.values()])
            for ((first, second), d), p in zip(differences.items(), adjusted, strict=True):
                yield {
                    "of": kind, "measure": measure, "first": first, "second": second,
                    "difference": d.value, "low": d.low, "high": d.high, "p": d.p, "p_holm": p,
                    "reason": d.reason, "covers": d.covers,
                }  # fmt: skip


class _Reference:
    """The benchmark's AlexNet: what balanced errors are relative to."""

    def __init__(self, clean_error: float, noise: float) -> None:
        self.clean_error, self.noise = clean_error, noise

    @classmethod
    def of(cls, test_set: TestSet, severities: Sequence[int]) -> _Reference | None:
        """None where the benchmark lacks the data set, or not all severities were asked for.

        The noise is the standard error of AlexNet's clean balanced error on this test set.
        """
        first = test_set.first
        entry = corruptions.published().get(first.config.dataset.flag or "")
        if entry is None or tuple(severities) != SEVERITIES:
            return None
        error = entry["alexnet_clean_error"]
        member = test_set.task.members(first.test.labels, len(test_set.class_names))
        sizes = member.sum(axis=0)
        if test_set.task.several_labels:
            sizes = np.concatenate([sizes, len(member) - sizes])
        if not sizes.all():
            return None
        noise = float(np.sqrt((error * (1 - error) / sizes).sum())) / sizes.size
        return cls(error, noise)

    def row(
        self, variant: str, corruption: Corruption, values: Found, drops: Found
    ) -> dict[str, Any]:
        """BE and rBE of a corruption, over its five severities; AlexNet's errors count as known."""
        assert corruption.alexnet_error is not None
        value, drop = values["balanced_accuracy"], drops["balanced_accuracy"]
        gap = corruption.alexnet_error - self.clean_error
        if isinstance(value, str) or isinstance(drop, str):
            lack = {"value": None, "low": None, "high": None, "reason": str(value)}
            be, rbe = lack, lack
        else:
            error = Measure(1 - value.values, -value.contributions, value.few)
            be = _cell(_over(error, corruption.alexnet_error), "plain", 0.0)
            rbe = _cell(_over(drop, gap), "plain") if gap >= _SOUND * self.noise else {
                "value": None, "low": None, "high": None,
                "reason": f"noise: AlexNet itself loses {gap:.3f}, and the standard error of one "
                f"balanced error on these images is {self.noise:.3f}",
            }  # fmt: skip
        return {
            "variant": variant, "corruption": corruption.name,
            "alexnet_error": corruption.alexnet_error, "alexnet_gap": round(gap, 6),
            "be": be, "rbe": rbe,
        }  # fmt: skip


def _over(found: Measure, divisor: float) -> Measure:
    return Measure(found.values / divisor, found.contributions / divisor, found.few)
