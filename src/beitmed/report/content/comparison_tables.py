"""The report's tables of variants and their differences; no number is made here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beitmed.report.content.evidence import Evidence, interval, of_runs
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Table, p_value
from beitmed.statistics.seeds import Summary

#: What a task has besides AUC and accuracy in the table of variants.
_BESIDES = {
    "ordinal": ("kappa_quadratic", "Quadratic-weighted kappa"),
    "multilabel": ("average_precision", "Average precision"),
}


def variants(evidence: Evidence) -> Table:
    """One row a variant: means over seeds with intervals, and what varies between seeds."""
    test_set = evidence.test_set
    measures = [(name, of) for name, of in _measures(evidence) if of is not None]
    besides = _BESIDES.get(test_set.first.task.name)
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
    for name, _ in measures:
        columns += [
            Column(name, 3, _meaning(test_set, name)),
            Column(f"{name}, SD of seeds", 4, "standard deviation between seeds"),
            Column(f"{name}, SE of test", 4, "standard error of the mean from the choice of test "
                   "images alone, the models as trained"),
        ]  # fmt: skip
    if besides is not None:
        _, name = besides
        columns += [
            Column(name, 3, "mean over seeds; of one seed with its 95 % interval"),
            Column(f"{name}, SD of seeds", 4, "standard deviation between seeds"),
        ]
    rows = [
        [
            variant.name,
            variant.first.metrics["n"]["train"],
            len(variant.runs),
            *(
                cell
                for _, of in measures
                for cell in (interval(of[variant.name]), *_spread(of[variant.name]))
            ),
            *(of_runs(variant, besides[0]) if besides is not None else ()),
        ]
        for variant in test_set.variants
    ]
    lacking = [s.reason for _, of in measures for s in of.values() if s.mean is not None]
    methods = sorted({s.interval for _, of in measures for s in of.values() if s.interval})
    return Table(
        id=f"variants-{test_set.id}",
        title=f"{test_set.name}: variants on {test_set.n:,} test images",
        columns=columns,
        rows=rows,
        notes=[
            *positive_class(test_set),
            f"Intervals: {', '.join(methods) or 'none'}. With one seed they cover the choice of "
            "test images only, with several also that of the seeds.",
            *_not_available("interval", lacking),
            *no_accuracy(test_set),
            "The order of rows is that of the settings, not of merit.",
        ],
    )


def _meaning(test_set: TestSet, name: str) -> str:
    of = "; mean over seeds with its 95 % interval"
    if name != "AUC" or test_set.first.binary:
        return f"0 to 1{of}"
    which = "class" if test_set.first.single_label else "label"
    return f"0 to 1; of each {which} against the others, mean over the {which}s{of}"


def no_accuracy(test_set: TestSet) -> list[str]:
    """What accuracy says of several labels an image: next to nothing, where findings are rare."""
    if test_set.first.single_label:
        return []
    share = test_set.first.metrics["test"]["accuracy_all_negative"]["value"]
    return [
        f"Accuracy is no headline here: never calling any label is right for {share:.1%} of the "
        "labels of these images.".replace("%", " %", 1)
    ]


def _measures(evidence: Evidence) -> list[tuple[str, dict[str, Summary] | None]]:
    return [("AUC", evidence.auc), ("Accuracy", evidence.accuracy)]


def _spread(summary: Summary) -> tuple[Cell, Cell]:
    return summary.sd, summary.test_se


def positive_class(test_set: TestSet) -> list[str]:
    """The note that says which class is positive, where one is."""
    if not test_set.first.binary:
        return []
    y = test_set.first.actual
    return [
        f'Positive class: "{test_set.positive}" ({int(y.sum()):,} test images); the other: '
        f'"{test_set.negative}" ({int((~y).sum()):,}).'
    ]


def pairs(evidence: Evidence) -> list[Table]:
    """Every pair of variants, a table a measure: differences, p, and p adjusted after Holm."""
    if not evidence.pairs:
        return []
    return [
        *([_auc_pairs(evidence)] if evidence.test_set.first.binary else []),
        _accuracy_pairs(evidence),
    ]


def _auc_pairs(evidence: Evidence) -> Table:
    rows: list[Sequence[Cell]] = [
        [pair.first, pair.second, interval(pair.auc), _p(pair.auc.p), _p(pair.auc_p)]
        for pair in evidence.pairs
        if pair.auc is not None
    ]
    note = "Paired DeLong test, with the variance between seeds where there are several."
    lacking = {p.auc.reason for p in evidence.pairs if p.auc is not None and p.auc.p is None}
    return _pairs(evidence.test_set, "AUC", rows, [], [note, *_not_available("p", lacking)])


def _accuracy_pairs(evidence: Evidence) -> Table:
    rows: list[Sequence[Cell]] = []
    for pair in evidence.pairs:
        of = pair.accuracy
        cells = [interval(of), _p(of.p), _p(pair.accuracy_p), _p(of.p_models)]
        rows.append([pair.first, pair.second, *cells])
    tests = sorted({pair.accuracy.test or "none" for pair in evidence.pairs})
    models = Column(
        "p, these models",
        3,
        "exact, for these models as trained: McNemar's test, over several seeds its extension by "
        "sign flips",
    )
    notes = [
        f"Test: {' and '.join(tests)}.",
        "The last column takes the models as trained. Where there are several seeds it says "
        "nothing about what another training would give, and no conclusion is drawn from it.",
    ]
    return _pairs(evidence.test_set, "accuracy", rows, [models], notes)


def _pairs(
    test_set: TestSet,
    what: str,
    rows: Sequence[Sequence[Cell]],
    more: Sequence[Column],
    notes: Sequence[str],
) -> Table:
    count = f"{len(rows):,} pair{'' if len(rows) == 1 else 's'}"
    return Table(
        id=f"pairs-{what.lower()}-{test_set.id}",
        title=f"{test_set.name}: differences of {what} on the same {test_set.n:,} test images",
        columns=[
            Column("First"),
            Column("Second"),
            Column(f"{what[0].upper()}{what[1:]} difference", 3, "first minus second, with its "
                   "95 % interval"),
            Column("p", 3, "two-sided, not adjusted"),
            Column("Adjusted p", 3, f"after Holm, for {count}"),
            *more,
        ],
        rows=rows,
        notes=[
            *notes,
            "Intervals are not adjusted. Conclusions rest on the adjusted p.",
        ],
    )  # fmt: skip


def _p(p: float | None) -> Cell:
    """A p as a cell: below 0.001 a bound, as approximate tests say no more than that."""
    if p is None:
        return "n/a"
    return p_value(p) if p < 1e-3 else p


def _not_available(what: str, reasons: Iterable[str | None]) -> list[str]:
    """Why something is lacking in a table, if it is."""
    known = sorted({reason for reason in reasons if reason is not None})
    return [f"No {what}: {'; '.join(known)}."] if known else []
