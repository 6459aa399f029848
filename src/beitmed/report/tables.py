"""The report's tables of measured results; no number is made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from beitmed.evaluation.seeds import Summary
from beitmed.report.document import Cell, Column, Interval, Table, p_value
from beitmed.report.evidence import Evidence, interval
from beitmed.report.variants import TestSet

#: metrics.json's names as headings, in a table's order; those of the decision at argmax first.
_AT_ARGMAX = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
_MORE = {
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "mcc": "MCC",
    "average_precision": "Average precision",
    "brier": "Brier",
    "ece": "ECE (15 bins)",
}
_OTHER_RULES = {
    "accuracy": "Accuracy at 0.5",
    "accuracy_val_threshold": "Accuracy, threshold from val",
    "val_threshold": "That threshold (log odds)",
    "accuracy_prior_corrected": "Accuracy, prior corrected",
    "estimated_prior": "Prior estimated on test",
    "sensitivity_at_val_specificity_95": "Sensitivity, 95 % specificity on val",
    "specificity_at_val_specificity_95": "Specificity there",
    "specificity_at_val_sensitivity_95": "Specificity, 95 % sensitivity on val",
    "sensitivity_at_val_sensitivity_95": "Sensitivity there",
    "temperature": "Temperature from val",
    "brier_temperature": "Brier, with temperature",
    "ece_temperature": "ECE, with temperature",
}


def variants(evidence: Evidence) -> Table:
    """One row a variant: means over seeds with intervals, and what varies between seeds."""
    test_set = evidence.test_set
    measures = [(name, of) for name, of in _measures(evidence) if of is not None]
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
            Column(name, 3, "0 to 1; mean over seeds with its 95 % interval"),
            Column(f"{name}, SD of seeds", 4, "standard deviation between seeds"),
            Column(f"{name}, SE of test", 4, "standard error of the mean from the choice of test "
                   "images alone, the models as trained"),
        ]  # fmt: skip
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
        ]
        for variant in test_set.variants
    ]
    methods = sorted({s.interval for _, of in measures for s in of.values() if s.interval})
    return Table(
        id=f"variants-{test_set.id}",
        title=f"{test_set.name}: variants on {test_set.n:,} test images",
        columns=columns,
        rows=rows,
        notes=[
            *_positive_class(test_set),
            f"Intervals: {', '.join(methods)}. With one seed they cover the choice of test images "
            "only, with several also that of the seeds.",
            "The order of rows is that of the settings, not of merit.",
        ],
    )


def _measures(evidence: Evidence) -> list[tuple[str, dict[str, Summary] | None]]:
    return [("AUC", evidence.auc), ("Accuracy", evidence.accuracy)]


def _spread(summary: Summary) -> tuple[Cell, Cell]:
    return summary.sd, summary.test_se


def _positive_class(test_set: TestSet) -> list[str]:
    if not test_set.first.binary:
        return []
    y = test_set.first.actual
    return [
        f'Positive class: "{test_set.positive}" ({int(y.sum()):,} test images); the other: '
        f'"{test_set.negative}" ({int((~y).sum()):,}).'
    ]


def every_run(evidence: Evidence) -> list[Table]:
    """One row a run, its metrics with 95 % intervals, in tables that a page holds."""
    test_set = evidence.test_set
    found = dict.fromkeys(name for run in test_set.runs for name in run.metrics["test"])
    own = _own(test_set)
    outside = [f"From outside the package: {', '.join(f'{n} is {f}' for n, f in own)}."][: len(own)]
    sampling = "95 % intervals of single runs cover the choice of test images only. Methods and n "
    sampling += "of each are in the runs' metrics.json."
    if not test_set.first.binary:  # those by class are in metrics.json
        names = {n: _AT_ARGMAX.get(n, n.replace("_", " ")) for n in found if "/" not in n}
        return [_runs(test_set, "runs", "every run", names, [sampling, *outside])]
    kinds = [
        ("runs", "every run, AUC and the decision at argmax", _AT_ARGMAX, sampling),
        (
            "more", "every run, further metrics at argmax", _MORE | {n: n for n, _ in own},
            sampling + " ECE has no interval: it is biased upwards, so metrics.json gives the "
            "range that perfect calibration would show.",
        ),
        (
            "rules", "every run, other decision rules and calibration", _OTHER_RULES,
            "Thresholds and temperature are fitted on the validation split; the prior is "
            "estimated from the test scores without their labels. Fitted numbers count as fixed.",
        ),
    ]  # fmt: skip
    return [
        _runs(test_set, kind, what, {n: label for n, label in known.items() if n in found},
              [note, *(outside if kind == "more" else [])])
        for kind, what, known, note in kinds
        if known.keys() & found.keys()
    ]  # fmt: skip


def _own(test_set: TestSet) -> list[tuple[str, str]]:
    """Metrics from outside the package, each with its function; of one name there may be two."""
    configured = (run.config.get("evaluate") or {} for run in test_set.runs)
    return list(dict.fromkeys(
        (name, function)
        for values in configured
        for name, function in (values.get("metrics") or {}).items()
    ))  # fmt: skip


def _runs(
    test_set: TestSet, kind: str, what: str, names: Mapping[str, str], notes: Sequence[str]
) -> Table:
    rows: list[Sequence[Cell]] = [
        [variant.name, run.seed, *(_estimate(run.metrics["test"].get(name)) for name in names)]
        for variant in test_set.variants
        for run in variant.runs
    ]
    return Table(
        id=f"{kind}-{test_set.id}",
        title=f"{test_set.name}: {what}",
        columns=[Column("Variant"), Column("Seed", 0), *map(Column, names.values())],
        rows=rows,
        notes=[*_positive_class(test_set), *notes],
    )


def _estimate(values: dict[str, Cell] | None) -> Interval | None:
    if values is None:
        return None
    numbers = [values.get(key) for key in ("value", "ci_low", "ci_high")]
    value, low, high = (x if isinstance(x, float | int) else None for x in numbers)
    reason = values.get("reason")
    return Interval(value, low, high, str(reason) if value is None else None)


def pairs(evidence: Evidence) -> list[Table]:
    """Every pair of variants, a table a measure: differences, p, and p adjusted after Holm."""
    if not evidence.pairs:
        return []
    return [
        *([_auc_pairs(evidence)] if evidence.auc is not None else []),
        _accuracy_pairs(evidence),
    ]


def _auc_pairs(evidence: Evidence) -> Table:
    rows: list[Sequence[Cell]] = [
        [pair.first, pair.second, interval(pair.auc), _p(pair.auc.p), _p(pair.auc_p)]
        for pair in evidence.pairs
        if pair.auc is not None
    ]
    note = "Paired DeLong test, with the variance between seeds where there are several."
    return _pairs(evidence.test_set, "AUC", rows, [], [note])


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
    return p_value(p) if p is not None and p < 1e-3 else p
