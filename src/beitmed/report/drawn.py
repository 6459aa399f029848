"""Which figures a report has, and of which runs; how they look is `figures` and its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beitmed.data import Data
from beitmed.report import bars, figures, pictures, published, reliability
from beitmed.report.document import ErrorImage, Figure
from beitmed.report.evidence import Evidence, interval
from beitmed.report.variants import TestSet, Variant
from beitmed.runs.finished import FinishedRun
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.seeds import Summary

_VARIANTS = 8  # in one figure
_ROWS = 40  # of a figure with a row a variant
_EXAMPLES = 6  # images of a class
_ERRORS = 8


def comparisons(evidence: Evidence, folder: Path) -> list[Figure]:
    """Variants beside one another: intervals, ROC curves, learning curves."""
    test_set = evidence.test_set
    made = [
        _forest(evidence, name, summaries, folder)
        for name, summaries in (("AUC", evidence.auc), ("accuracy", evidence.accuracy))
        if summaries is not None
    ]
    shown, note = _first(test_set)
    if test_set.first.binary:
        stem = folder / f"roc-{test_set.id}"
        figures.roc_comparison(
            stem,
            [
                figures.RocCurve(v.name, run.actual, run.score, _estimate(run, "auc"))
                for v in shown
                for run in v.runs[:1]
            ],
            title=f"{test_set.name}: ROC curves, each variant's first seed{note}",
            positive_name=test_set.positive,
        )
        made.append(
            _figure(
                stem,
                f"{test_set.name}: ROC curves of the variants' first seeds",
                f"ROC curves of {len(shown)} variants with pointwise 95 % bands.",
            )
        )
    shown = [v for v in shown if any(run.history for run in v.runs)]  # others know no epochs
    if not shown:
        return made
    stem = folder / f"learning-{test_set.id}"
    figures.learning_curves(
        stem,
        [figures.Histories(v.name, [run.history for run in v.runs]) for v in shown],
        title=f"{test_set.name}: learning curves{note}",
    )
    made.append(
        _figure(
            stem,
            f"{test_set.name}: learning curves",
            "Loss and validation metrics by epoch; thin lines are single seeds.",
        )
    )
    return made


def _figure(stem: Path, title: str, alternative: str, notes: Sequence[str] = ()) -> Figure:
    return Figure(id=stem.name, title=title, alternative=alternative, stem=stem, notes=notes)


def _first(test_set: TestSet) -> tuple[Sequence[Variant], str]:
    shown = test_set.variants[:_VARIANTS]
    if len(shown) == len(test_set.variants):
        return shown, ""
    return shown, f" (the first {len(shown)} of {len(test_set.variants)} variants)"


def _forest(evidence: Evidence, name: str, summaries: dict[str, Summary], folder: Path) -> Figure:
    test_set = evidence.test_set
    which = 0 if name == "AUC" else 1
    rows = []
    for variant in test_set.variants[:_ROWS]:
        summary = summaries[variant.name]
        paper = published.paper_run(variant.first)
        rows.append(
            bars.Row(
                variant.name,
                interval(summary),
                summary.values if len(summary.values) > 1 else (),
                None if paper is None else paper[which],
            )
        )
    stem = folder / f"{name.lower()}-{test_set.id}"
    left_out = len(test_set.variants) - len(rows)
    some = f" (the first {_ROWS} of {len(test_set.variants):,} variants)" if left_out else ""
    bars.intervals(
        stem,
        rows,
        title=f"{test_set.name}: {name} on {test_set.n:,} test images, with 95 % intervals{some}",
        xlabel=f"Test {name}",
    )
    return _figure(
        stem,
        f"{test_set.name}: {name} of each variant with its 95 % interval{some}",
        f"{name} with intervals, a row a variant, in the order of the settings.",
        ["Diamonds: the paper's own figures."] if any(r.published for r in rows) else [],
    )


def single_runs(evidence: Evidence, folder: Path) -> list[Figure]:
    """Confusion matrices, and reliability diagrams where there is a positive class."""
    test_set = evidence.test_set
    if not test_set.first.single_label:
        return []
    shown, note = _first(test_set)
    k = len(test_set.class_names)
    stem = folder / f"confusion-{test_set.id}"
    bars.confusion(
        stem,
        [bars.Confusion(v.name, _confusion(v.first, k)) for v in shown],
        title=f"{test_set.name}: confusion matrices, each variant's first seed{note}",
        class_names=test_set.class_names,
    )
    made = [
        _figure(
            stem,
            f"{test_set.name}: confusion matrices of the variants' first seeds",
            "Counts of test images by actual and predicted class.",
        )
    ]
    if test_set.first.binary:
        stem = folder / f"reliability-{test_set.id}"
        reliability.reliability(
            stem,
            [_reliability(v) for v in shown],
            title=f"{test_set.name}: reliability, each variant's first seed{note}",
            positive_name=test_set.positive,
        )
        made.append(
            _figure(
                stem,
                f"{test_set.name}: reliability diagrams of the variants' first seeds",
                "Observed share of the positive class by predicted probability.",
            )
        )
    return made


def _confusion(run: FinishedRun, k: int) -> Any:
    predicted = run.test.logits.argmax(axis=1)
    return np.bincount(k * run.test.labels + predicted, minlength=k * k).reshape(k, k)


def _reliability(variant: Variant) -> reliability.Reliability:
    run = variant.first
    temperature = _estimate(run, "temperature").value
    return reliability.Reliability(
        variant.name,
        run.actual,
        run.score,
        _estimate(run, "ece"),
        temperature,
        None if temperature is None else _estimate(run, "ece_temperature"),
    )


def _estimate(run: FinishedRun, name: str) -> Estimate:
    values = run.metrics["test"].get(name)
    return Estimate.undefined("not in metrics.json") if values is None else Estimate(**values)


def images(test_set: TestSet, loaded: Data, folder: Path) -> list[Figure]:
    """Examples of each class and the shares of the classes, from the data file."""
    if not test_set.first.single_label:
        return []
    size, train = test_set.first.metrics["size"], loaded.train
    rows = []
    for label, name in enumerate(loaded.class_names):
        chosen = np.flatnonzero(train.labels == label)[:_EXAMPLES]
        rows.append(pictures.ClassRow(name, np.asarray(train.images[chosen]), chosen.tolist()))
    stem = folder / f"samples-{test_set.id}"
    what = f"the first {_EXAMPLES} training images of each class, {size} px"
    pictures.samples(stem, rows, title=f"{test_set.name}: {what}")
    made = [
        _figure(
            stem, f"{test_set.name}: {what}", f"Example images of {', '.join(loaded.class_names)}."
        )
    ]
    stem = folder / f"classes-{test_set.id}"
    counts = [
        bars.ClassCounts(
            split,
            {
                name: int(n)
                for name, n in zip(
                    loaded.class_names,
                    np.bincount(s.labels, minlength=len(loaded.class_names)),
                    strict=True,
                )
            },
        )
        for split, s in loaded.splits.items()
    ]
    bars.class_counts(stem, counts, title=f"{test_set.name}: classes by split")
    made.append(
        _figure(
            stem,
            f"{test_set.name}: classes by split",
            "Share of each class in train, val and test.",
        )
    )
    return made


def errors(test_set: TestSet, loaded: Data) -> list[ErrorImage]:
    """The test images that the first seed of the first variant got wrong with most confidence."""
    if not test_set.first.single_label:
        return []
    run, names = test_set.first, loaded.class_names
    logits = run.test.logits - run.test.logits.max(axis=1, keepdims=True)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = run.test.logits.argmax(axis=1)
    wrong = np.flatnonzero(~run.correct)
    confidence = probability[wrong, predicted[wrong]]
    worst = wrong[np.argsort(-confidence, kind="stable")[:_ERRORS]]
    return [
        ErrorImage(
            run=f"{test_set.variants[0].name}, seed {run.seed}",
            index=int(i),
            actual=names[run.test.labels[i]],
            predicted=names[predicted[i]],
            confidence=float(probability[i, predicted[i]]),
            png=pictures.png_bytes(np.asarray(loaded.test.images[i])),
        )
        for i in worst
    ]
