"""Cross-validations among the runs, each joined into one result."""

from __future__ import annotations

from collections.abc import Sequence

from beitmed.cross_validation import Joined
from beitmed.report.document import Cell, Column, Interval, Section, Table
from beitmed.statistics.estimates import Estimate

_INTRODUCTION = (
    "Every image is held out once, and judged by the model of its fold. The values are of the mean "
    "performance of the folds' models; the intervals count images (of patients, where these are "
    "known) and the differences between the models. A model of all images has a few more to learn "
    "from than each of these."
)


def section(joined: Sequence[Joined]) -> Section:
    """The results of whole cross-validations, a row each."""
    columns = [
        Column("Cross-validation"), Column("Folds"), Column("Images"), Column("Patients"),
        Column("AUC", meaning="mean of the folds' AUCs"),
        Column("Accuracy", meaning="share of all held-out images that are right"),
        Column("AUC by fold"),
    ]  # fmt: skip
    return Section(
        id="cross-validation",
        title="Cross-validation",
        paragraphs=[_INTRODUCTION],
        tables=[Table("folds", "Cross-validation", columns, [_row(one) for one in joined])],
    )


def _row(one: Joined) -> list[Cell]:
    each = ", ".join("-" if v is None else f"{v:.3f}" for v in one.by_fold["auc"])
    values = [_cell(one.estimates[name]) for name in ("auc", "accuracy")]
    return [one.name, len(one.runs), one.images, one.patients, *values, each]


def _cell(estimate: Estimate) -> Interval:
    return Interval(estimate.value, estimate.ci_low, estimate.ci_high, estimate.reason)
