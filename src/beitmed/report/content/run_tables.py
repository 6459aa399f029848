"""The report's tables with a row a run, or a row a class; no number is made here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from beitmed.report.content.comparison_tables import no_accuracy, positive_class
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Interval, Table

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


#: Of the other tasks, those of all classes or labels together.
_OF_ALL_CLASSES = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1_macro": "F1, mean over classes",
    "mcc": "MCC",
    "kappa": "Kappa",
    "kappa_quadratic": "Quadratic-weighted kappa",
    "mean_absolute_error": "Mean absolute error (grades)",
    "log_loss": "Log loss (nats)",
    "brier": "Brier (sum over classes)",
    "ece": "ECE (15 bins)",
    "ece_if_calibrated": "ECE if calibrated",
}
_OF_ALL_LABELS = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "brier": "Brier",
    "accuracy": "Accuracy (labels)",
    "accuracy_all_negative": "Accuracy of never calling any",
}
_OF_ONE = {
    "auc": "AUC",
    "sensitivity": "Sensitivity",
    "average_precision": "Average precision",
}
#: Of one class or label, or given by a threshold: in another table, or in metrics.json only.
_PART = re.compile(r"_(class|label)_\d+$|/")


def every_run(test_set: TestSet) -> list[Table]:
    """One row a run, its metrics with 95 % intervals, in tables that a page holds."""
    found = dict.fromkeys(name for run in test_set.runs for name in run.metrics["test"])
    own = _own(test_set)
    outside = [f"From outside the package: {', '.join(f'{n} is {f}' for n, f in own)}."][: len(own)]
    sampling = "95 % intervals of single runs cover the choice of test images only. Methods and n "
    sampling += "of each are in the runs' metrics.json."
    if not test_set.first.binary:
        known = _OF_ALL_CLASSES if test_set.first.single_label else _OF_ALL_LABELS
        names = {n: label for n, label in known.items() if n in found}
        names |= {n: n.replace("_", " ") for n in found if n not in known and not _PART.search(n)}
        notes = [sampling, *no_accuracy(test_set), *outside]
        return [_runs(test_set, "runs", "every run", names, notes), _by_class(test_set)]
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
            "estimated from the test scores without their labels. Fit numbers count as fixed.",
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


def _by_class(test_set: TestSet) -> Table:
    """A row a class or label and variant, so that variants stand below one another."""
    kind = "class" if test_set.first.single_label else "label"
    member = test_set.first.one_against_others[0]
    measures = [
        (name, label)
        for name, label in _OF_ONE.items()
        if f"{name}_{kind}_0" in test_set.first.metrics["test"]
    ]
    rows: list[Sequence[Cell]] = [
        [
            class_name,
            variant.name,
            int(member[:, i].sum()),
            *(_estimate(variant.first.metrics["test"].get(f"{m}_{kind}_{i}")) for m, _ in measures),
        ]
        for i, class_name in enumerate(test_set.class_names)
        for variant in test_set.variants
    ]
    return Table(
        id=f"by-{kind}-{test_set.id}",
        title=f"{test_set.name}: each {kind} against the others, first seeds",
        columns=[
            Column(kind.capitalize()),
            Column("Variant"),
            Column("Images", 0, f"test images of the {kind}, of {test_set.n:,}"),
            *(Column(label) for _, label in measures),
        ],
        rows=rows,
        notes=[
            "95 % intervals cover the choice of test images only, and are not adjusted for their "
            "number. Other seeds are in the runs' metrics.json.",
        ],
    )


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
        notes=[*positive_class(test_set), *notes],
    )


def _estimate(values: dict[str, Cell] | None) -> Interval | None:
    if values is None:
        return None
    numbers = [values.get(key) for key in ("value", "ci_low", "ci_high")]
    value, low, high = (x if isinstance(x, float | int) else None for x in numbers)
    reason = values.get("reason")
    return Interval(value, low, high, str(reason) if value is None else None)
