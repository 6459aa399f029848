"""The report's tables of variants and their differences; no number is made here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beitmed.report.content.evidence import Evidence, Pair, interval
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Interval, Table, in_sentence, p_value
from beitmed.statistics.seeds import Summary


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
        columns += _columns(test_set, name)
        for row, variant in zip(rows, test_set.variants, strict=True):
            summary = evidence.summaries[name][variant.name]
            row += [interval(summary), summary.sd, summary.test_se]
    found = [s for of in evidence.summaries.values() for s in of.values()]
    return Table(
        id=f"variants-{test_set.id}",
        title=f"{test_set.name}: variants on {test_set.images}",
        columns=columns,
        rows=rows,
        notes=[
            *positive_class(test_set),
            *_intervals(found),
            *_not_available("interval", [s.reason for s in found if s.mean is not None]),
            *no_accuracy(test_set),
            *_constant(test_set),
            "The order of rows is that of the settings, not of merit.",
        ],
    )


def every_metric(evidence: Evidence) -> Table | None:
    """One row a variant: every other metric, mean over seeds with its interval."""
    test_set = evidence.test_set
    task = test_set.task
    there = {n for v in test_set.variants for run in v.runs for n in run.metrics["test"]}
    names = [n for n in task.metrics if n not in task.compared and n in there
             and task.metrics[n].better is not None]  # fmt: skip
    if not names or all(len(v.runs) == 1 for v in test_set.variants):
        return None  # the table of every run has them
    found = {n: [evidence.summary(v, n) for v in test_set.variants] for n in names}
    names = [n for n in names if any(s.mean is not None for s in found[n])]
    return Table(
        id=f"metrics-{test_set.id}",
        title=f"{test_set.name}: further metrics over seeds, on {test_set.images}",
        columns=[
            Column("Variant"),
            Column("Seeds", 0),
            *(Column(title(test_set, n), 3, f"{task.metrics[n].meaning}; mean over seeds")
              for n in names),
        ],
        rows=[
            [v.name, len(v.runs), *(interval(found[n][i]) for n in names)]
            for i, v in enumerate(test_set.variants)
        ],
        notes=[
            *positive_class(test_set),
            *_intervals([s for n in names for s in found[n]]),
            "Intervals of the seeds' intervals take the seeds' errors on the same images to go "
            "together wholly, so they are rather too wide than too narrow.",
        ],
    )  # fmt: skip


def _intervals(found: Sequence[Summary]) -> list[str]:
    methods = sorted({s.interval for s in found if s.interval})
    return [
        f"95 % intervals: {', '.join(methods) or 'none'}. With one seed they cover the choice of "
        "test images only, so they are of that one trained model; with several also that of the "
        "seeds."
    ]


def _constant(test_set: TestSet) -> list[str]:
    known = [
        f"{in_sentence(test_set.task.metrics[name].label)} {value:.3f}"
        for name in test_set.task.compared
        if (value := no_skill(test_set, name)) is not None
    ]
    if not known:
        return []
    return [
        "The best constant prediction, such as always the most frequent class, reaches on these "
        f"images: {', '.join(known)}."
    ]


def no_skill(test_set: TestSet, name: str) -> float | None:
    """What a constant prediction reaches, where the runs say it."""
    found = test_set.first.metrics["test"].get(name) or {}
    value = found.get("no_skill")
    return float(value) if isinstance(value, float | int) else None


def title(test_set: TestSet, name: str) -> str:
    """A metric's heading, the classes by their names."""
    positive = test_set.first.positive if test_set.task.has_positive else None
    return test_set.task.title(name, test_set.class_names, positive)


def _columns(test_set: TestSet, name: str) -> list[Column]:
    metric = test_set.task.metrics[name]
    said = "standard error of the mean from the choice of test images alone, the models as "
    return [
        Column(metric.label, 3, f"{metric.meaning}; mean over seeds with its 95 % interval"),
        Column(f"{metric.label}, SD of seeds", 4, "standard deviation between seeds"),
        Column(f"{metric.label}, SE of test", 4, f"{said}trained"),
    ]


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
    "auc": "Paired DeLong test, with the variance between seeds where there are several.",
    "accuracy": "The exact p takes the models as trained. Where there are several seeds it says "
    "nothing about what another training would give, and no conclusion is drawn from it.",
}
_OF = {
    (True, True): "procedures",
    (False, False): "trained models",
    (True, False): "procedure, trained model",
    (False, True): "trained model, procedure",
}


def pairs(evidence: Evidence) -> list[Table]:
    """The pairs of variants, a table a measure: differences, p, and both adjusted for number."""
    return [_pairs(evidence, name, found) for name, found in evidence.pairs.items()]


def _pairs(evidence: Evidence, name: str, found: Sequence[Pair]) -> Table:
    test_set, margin = evidence.test_set, evidence.question.margin
    metric = test_set.task.metrics[name]
    models = any(pair.difference.p_models is not None for pair in found)
    several = {v.name: len(v.runs) > 1 for v in test_set.variants}
    rows: list[Sequence[Cell]] = []
    for pair in found:
        d = pair.difference
        row: list[Cell] = [
            pair.first, pair.second, _OF[several[pair.first], several[pair.second]], interval(d),
            _together(pair), _p(d.p), _p(pair.p),
        ]  # fmt: skip
        if models:
            row.append(_p(d.p_models))
        if margin is not None:
            verdict = evidence.equivalence(name, d)
            row += ["n/a", None] if verdict is None else [
                verdict.verdict, Interval(d.value, verdict.low, verdict.high),
            ]  # fmt: skip
        rows.append(row)
    count = f"{len(rows):,} pair{'' if len(rows) == 1 else 's'}"
    last = "exact, for these models as trained: McNemar's test, over several seeds its extension "
    against = "" if evidence.reference is None else f", each with {evidence.reference}"
    return Table(
        id=f"pairs-{name}-{test_set.id}".replace("_", "-"),
        title=f"{test_set.name}: differences of {in_sentence(metric.label)} on the same "
        f"{test_set.images}{against}",
        columns=[
            Column("First"),
            Column("Second"),
            Column("Says something of", meaning="one seed speaks of that trained model alone"),
            Column(f"{metric.label} difference", 3, "first minus second, with its 95 % interval"),
            Column("Together", 3, f"intervals that hold all {count} at once in 95 % (Bonferroni)"),
            Column("p", 3, "two-sided, not adjusted"),
            Column("Adjusted p", 3, f"after Holm, for {count}"),
            *([Column("p, these models", 3, f"{last}by sign flips")] if models else []),
            *([] if margin is None else [
                Column(f"Margin {margin:g}", meaning="of first against second, at 5 %"),
                Column("90 % interval", 3, "by which the margin's two one-sided tests are read"),
            ]),
        ],
        rows=rows,
        notes=_pair_notes(evidence, name, found),
    )  # fmt: skip


def _pair_notes(evidence: Evidence, name: str, found: Sequence[Pair]) -> list[str]:
    metric, margin = evidence.test_set.task.metrics[name], evidence.question.margin
    tests = sorted({pair.difference.test or "none" for pair in found})
    lacking = {pair.difference.reason for pair in found if pair.difference.p is None}
    return [
        f"Test: {' and '.join(tests)}."
        + (f" {metric.label}: {metric.better} is better." if metric.better == "lower" else ""),
        *([_TESTED[name]] if name in _TESTED else []),
        *_not_available("p", lacking),
        "Conclusions rest on the adjusted p and the intervals together.",
        *([] if evidence.reference is None else [
            "Planned comparisons with one reference: adjusted for these alone, which holds "
            "only if the reference was chosen before the results were seen."
        ]),
        *([] if margin is None else [
            f"Equivalent: the difference lies within {margin:g} to either side; non-inferior: "
            f"the first is not worse by {margin:g} (two one-sided tests, 5 %, not adjusted "
            "for their number)."
        ]),
    ]  # fmt: skip


def _together(pair: Pair) -> Interval:
    low, high = pair.together or (None, None)
    return Interval(pair.difference.value, low, high, pair.difference.reason)


def _p(p: float | None) -> Cell:
    """A p as a cell: below 0.001 a bound, as approximate tests say no more than that."""
    if p is None:
        return "n/a"
    return p_value(p) if p < 1e-3 else p


def _not_available(what: str, reasons: Iterable[str | None]) -> list[str]:
    """Why something is lacking in a table, if it is."""
    known = sorted({reason for reason in reasons if reason is not None})
    return [f"No {what}: {'; '.join(known)}."] if known else []
