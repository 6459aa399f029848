"""Which figures a report has, and of which runs; how they look is `plots`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beitmed.data import Data
from beitmed.plots import pictures
from beitmed.plots.class_shares import ClassCounts, class_shares
from beitmed.plots.confusion import Confusion, confusion
from beitmed.plots.forest import Row, forest
from beitmed.plots.learning_curves import Histories, learning_curves
from beitmed.plots.page import write_both
from beitmed.plots.reliability import Reliability, reliability
from beitmed.plots.roc import RocCurve, roc
from beitmed.report.content import published
from beitmed.report.content.comparison_tables import no_skill
from beitmed.report.content.evidence import Evidence, interval
from beitmed.report.content.variants import TestSet, Variant
from beitmed.report.document import Figure, in_sentence, text
from beitmed.runs.reader import FinishedRun
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.seeds import Summary

_VARIANTS = 8  # in one figure
_ROWS = 40  # of a figure with a row a variant
_FIRST = 20  # of that on the first screen
_EXAMPLES = 6  # images of a class


def figure(
    stem: Path,
    title: str,
    alternative: str,
    draw: Callable[..., Any],
    *,
    notes: Sequence[str] = (),
    **content: Any,
) -> Figure:
    """Draw a figure of this title at both widths, and return what the report says of it."""
    write_both(partial(draw, title=title, **content), stem)
    return Figure(stem.name, title, alternative, stem, notes)


def comparisons(evidence: Evidence, folder: Path) -> list[Figure]:
    """Variants beside one another: intervals, ROC curves, learning curves."""
    test_set = evidence.test_set
    made = [
        _forest(evidence, measure, summaries, folder)
        for measure, summaries in evidence.summaries.items()
    ]
    shown, note = _first(test_set)
    if test_set.task.has_positive:
        made.append(
            figure(
                folder / f"roc-{test_set.id}",
                f"{test_set.heading}: ROC curves, each variant's first seed{note}",
                f"ROC curves of {len(shown)} variants with pointwise 95 % bands.",
                roc,
                curves=[
                    RocCurve(v.name, v.first.actual, v.first.score, _estimate(v.first, "auc"))
                    for v in shown
                ],
                positive_name=test_set.positive,
            )
        )
    shown = [v for v in shown if any(run.history for run in v.runs)]  # others know no epochs
    if shown:
        made.append(
            figure(
                folder / f"learning-{test_set.id}",
                f"{test_set.heading}: learning curves{note}",
                "Loss and validation metrics by epoch; thin lines are single seeds.",
                learning_curves,
                groups=[Histories(v.name, [run.history for run in v.runs]) for v in shown],
            )
        )
    return made


def _first(test_set: TestSet) -> tuple[Sequence[Variant], str]:
    shown = test_set.variants[:_VARIANTS]
    if len(shown) == len(test_set.variants):
        return shown, ""
    return shown, f" (the first {len(shown)} of {len(test_set.variants)} variants)"


def _forest(
    evidence: Evidence, measure: str, summaries: dict[str, Summary], folder: Path
) -> Figure:
    test_set = evidence.test_set
    label = test_set.task.metrics[measure].label
    name = in_sentence(label)
    rows = _rows(evidence, measure, summaries)
    left_out = len(test_set.variants) - len(rows)
    some = f" (the first {_ROWS} of {len(test_set.variants):,} variants)" if left_out else ""
    return figure(
        folder / f"{measure}-{test_set.id}".replace("_", "-"),
        f"{test_set.heading}: {name} on {test_set.images}, with 95 % intervals{some}",
        f"{label} with intervals, a row a variant, in the order of the settings.",
        forest,
        rows=rows,
        xlabel=f"Test {name}",
        no_skill=no_skill(test_set, measure),
        notes=[
            *(["Diamonds: the paper's own figures."] if any(r.published for r in rows) else []),
            *(["Intervals of one seed are of that trained model alone."]
              if any(len(v.runs) == 1 for v in test_set.variants) else []),
        ],
    )  # fmt: skip


def _rows(evidence: Evidence, measure: str, summaries: dict[str, Summary]) -> list[Row]:
    rows = []
    for variant in evidence.test_set.variants[:_ROWS]:
        summary = summaries[variant.name]
        cell, paper = interval(summary), published.paper_run(variant.first)
        rows.append(
            Row(
                variant.name, cell.value, cell.low, cell.high, _unbroken(text(cell)),
                seeds=summary.values if len(summary.values) > 1 else (),
                published=(paper or {}).get(measure),
            )
        )  # fmt: skip
    return rows


def first(all_evidence: Sequence[Evidence], folder: Path) -> Figure:
    """The figure of the first screen: the measure that each task is compared by, of all test sets.

    What does not fit is named, and stands in the figures below.
    """
    shown: list[Row] = []
    whole, labels = 0, []
    for evidence in all_evidence:
        test_set = evidence.test_set
        measure = test_set.task.compared[0]
        labels.append(test_set.task.metrics[measure].label)
        rows = _rows(evidence, measure, evidence.summaries[measure])
        whole += len(test_set.variants)
        own = rows[: max(_FIRST // len(all_evidence), 3)]
        if len(all_evidence) > 1:
            shown.append(Row(f"{test_set.heading}:", None, None, None, f"n = {test_set.n:,}"))
        shown += own
    count = sum(row.value is not None or row.written[:1] != "n" for row in shown)
    label = " and ".join(dict.fromkeys(labels))
    some = f" ({count} of {whole:,} variants)" if count < whole else ""
    return figure(
        folder / "first",
        f"{label} on the test images{_of_one(all_evidence)}, with 95 % intervals{some}",
        f"{label} with intervals, a row a variant, in the order of the settings.",
        forest,
        rows=shown,
        xlabel=f"Test {in_sentence(label)}",
        no_skill=0.5 if set(labels) == {"AUC"} else None,
        notes=["Rows of one test set can be compared, in the tables below; of two, they cannot."]
        if len(all_evidence) > 1
        else [],
    )


def _of_one(all_evidence: Sequence[Evidence]) -> str:
    return f" of {all_evidence[0].test_set.heading}" if len(all_evidence) == 1 else ""


def _unbroken(written: str) -> str:
    """Limits that stay on one line where value and limits need two."""
    return re.sub(r"\[(\S+), (\S+)\]", "[\\1,\u00a0\\2]", written)


def single_runs(evidence: Evidence, folder: Path) -> list[Figure]:
    """Confusion matrices, and reliability diagrams where there is a positive class."""
    test_set = evidence.test_set
    if test_set.task.several_labels:
        return []
    shown, note = _first(test_set)
    made = [
        figure(
            folder / f"confusion-{test_set.id}",
            f"{test_set.heading}: confusion matrices, each variant's first seed{note}",
            "Counts of test images by actual and predicted class.",
            confusion,
            panels=[Confusion(v.name, _confusion(v.first)) for v in shown],
            class_names=test_set.class_names,
        )
    ]
    if test_set.task.has_positive:
        made.append(
            figure(
                folder / f"reliability-{test_set.id}",
                f"{test_set.heading}: reliability, each variant's first seed{note}",
                "Observed share of the positive class by predicted probability.",
                reliability,
                panels=[_reliability(v) for v in shown],
                positive_name=test_set.positive,
            )
        )
    return made


def _confusion(run: FinishedRun) -> NDArray[np.int64]:
    return run.task.confusion(run.test.labels, run.test.logits)


def _reliability(variant: Variant) -> Reliability:
    run = variant.first
    temperature = _estimate(run, "temperature").value
    return Reliability(
        variant.name,
        run.actual,
        run.score,
        _estimate(run, "calibration_error"),
        temperature,
        None if temperature is None else _estimate(run, "calibration_error_temperature"),
    )


def _estimate(run: FinishedRun, name: str) -> Estimate:
    values = run.metrics["test"].get(name)
    return Estimate.undefined("not in metrics.json") if values is None else Estimate(**values)


def images(test_set: TestSet, loaded: Data, folder: Path) -> list[Figure]:
    """Examples of each class and the shares of the classes, from the data file."""
    if test_set.task.several_labels:
        return []
    train, names = loaded.train, loaded.class_names
    rows = []
    for label, name in enumerate(names):
        chosen = np.flatnonzero(train.labels == label)[:_EXAMPLES]
        rows.append(pictures.ClassRow(name, np.asarray(train.images[chosen]), chosen.tolist()))
    counts = {
        split: np.bincount(s.labels, minlength=len(names)).tolist()
        for split, s in loaded.splits.items()
    }
    size = test_set.first.config.size
    return [
        figure(
            folder / f"samples-{test_set.id}",
            f"{test_set.name}: the first {_EXAMPLES} training images of each class, {size} px",
            f"Example images of {', '.join(names)}.",
            pictures.samples,
            rows=rows,
        ),
        figure(
            folder / f"classes-{test_set.id}",
            f"{test_set.name}: classes by split",
            "Share of each class in train, val and test.",
            class_shares,
            splits=[ClassCounts(s, dict(zip(names, n, strict=True))) for s, n in counts.items()],
        ),
    ]
