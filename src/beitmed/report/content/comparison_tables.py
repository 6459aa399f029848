"""The report's tables of variants and their differences; no number is made here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beitmed.report.content.evidence import Evidence, Pair, interval, of_runs
from beitmed.report.content.variants import TestSet, Variant
from beitmed.report.document import Cell, Column, Table, in_sentence, p_value


def variants(evidence: Evidence) -> Table:
    """One row a variant: means over seeds with intervals, and what varies between seeds."""
    test_set = evidence.test_set
    columns = [
        Column("Variant"),
        Column(
            "Train images",
            0,
            "of the train split, after balancing; of the first seed; one that balancing repeats "
            "counts as often",
        ),
        Column("Seeds", 0),
    ]
    rows: list[list[Cell]] = [
        [v.name, v.first.metrics["n"]["train"], len(v.runs)] for v in test_set.variants
    ]
    for name in test_set.task.compared:
        columns += _columns(test_set, name, name in evidence.summaries)
        for row, variant in zip(rows, test_set.variants, strict=True):
            row += _cells(evidence, variant, name)
    found = [s for of in evidence.summaries.values() for s in of.values()]
    methods = sorted({s.interval for s in found if s.interval})
    return Table(
        id=f"variants-{test_set.id}",
        title=f"{test_set.name}: variants on {test_set.n:,} test images",
        columns=columns,
        rows=rows,
        notes=[
            *positive_class(test_set),
            f"Intervals: {', '.join(methods) or 'none'}. With one seed they cover the choice of "
            "test images only, with several also that of the seeds.",
            *_not_available("interval", [s.reason for s in found if s.mean is not None]),
            *no_accuracy(test_set),
            "The order of rows is that of the settings, not of merit.",
        ],
    )


def _columns(test_set: TestSet, name: str, summarised: bool) -> list[Column]:
    metric = test_set.task.metrics[name]
    over = "with its 95 % interval" if summarised else "of one seed with its 95 % interval"
    found = [
        Column(metric.label, 3, f"{metric.meaning}; mean over seeds {over}"),
        Column(f"{metric.label}, SD of seeds", 4, "standard deviation between seeds"),
    ]
    if summarised:
        said = "standard error of the mean from the choice of test images alone, the models as "
        found.append(Column(f"{metric.label}, SE of test", 4, f"{said}trained"))
    return found


def _cells(evidence: Evidence, variant: Variant, name: str) -> list[Cell]:
    if name not in evidence.summaries:
        return list(of_runs(variant, name))
    summary = evidence.summaries[name][variant.name]
    return [interval(summary), summary.sd, summary.test_se]


def no_accuracy(test_set: TestSet) -> list[str]:
    """What accuracy says where a constant prediction scores high: next to nothing."""
    if test_set.task.floor is None:
        return []
    share = test_set.first.metrics["test"][test_set.task.floor]["value"]
    return [
        f"Accuracy is no headline here: never calling any label is right for {share:.1%} of the "
        "labels of these images.".replace("%", " %", 1)
    ]


def positive_class(test_set: TestSet) -> list[str]:
    """The note that says which class is positive, where one is."""
    if not test_set.task.has_positive:
        return []
    y = test_set.first.actual
    return [
        f'Positive class: "{test_set.positive}" ({int(y.sum()):,} test images); the other: '
        f'"{test_set.negative}" ({int((~y).sum()):,}).'
    ]


_TESTED = {
    "auc": ["Paired DeLong test, with the variance between seeds where there are several."],
    "accuracy": [
        "The last column takes the models as trained. Where there are several seeds it says "
        "nothing about what another training would give, and no conclusion is drawn from it."
    ],
}


def pairs(evidence: Evidence) -> list[Table]:
    """Every pair of variants, a table a measure: differences, p, and p adjusted after Holm."""
    return [_pairs(evidence.test_set, name, found) for name, found in evidence.pairs.items()]


def _pairs(test_set: TestSet, name: str, found: Sequence[Pair]) -> Table:
    metric = test_set.task.metrics[name]
    models = any(pair.difference.p_models is not None for pair in found)
    rows: list[Sequence[Cell]] = [
        [
            pair.first, pair.second, interval(pair.difference), _p(pair.difference.p), _p(pair.p),
            *([_p(pair.difference.p_models)] if models else []),
        ]
        for pair in found
    ]  # fmt: skip
    tests = sorted({pair.difference.test or "none" for pair in found})
    lacking = {pair.difference.reason for pair in found if pair.difference.p is None}
    count = f"{len(rows):,} pair{'' if len(rows) == 1 else 's'}"
    last = "exact, for these models as trained: McNemar's test, over several seeds its extension "
    return Table(
        id=f"pairs-{name}-{test_set.id}".replace("_", "-"),
        title=f"{test_set.name}: differences of {in_sentence(metric.label)} on the same "
        f"{test_set.n:,} test images",
        columns=[
            Column("First"),
            Column("Second"),
            Column(f"{metric.label} difference", 3, "first minus second, with its 95 % interval"),
            Column("p", 3, "two-sided, not adjusted"),
            Column("Adjusted p", 3, f"after Holm, for {count}"),
            *([Column("p, these models", 3, f"{last}by sign flips")] if models else []),
        ],
        rows=rows,
        notes=[
            f"Test: {' and '.join(tests)}.",
            *_TESTED.get(name, []),
            *_not_available("p", lacking),
            "Intervals are not adjusted. Conclusions rest on the adjusted p.",
        ],
    )


def _p(p: float | None) -> Cell:
    """A p as a cell: below 0.001 a bound, as approximate tests say no more than that."""
    if p is None:
        return "n/a"
    return p_value(p) if p < 1e-3 else p


def _not_available(what: str, reasons: Iterable[str | None]) -> list[str]:
    """Why something is lacking in a table, if it is."""
    known = sorted({reason for reason in reasons if reason is not None})
    return [f"No {what}: {'; '.join(known)}."] if known else []
