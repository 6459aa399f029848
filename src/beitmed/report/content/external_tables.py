"""The tables of external tests: numbers from their external.json, none made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beitmed.external import image_statistics, recalibration
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Interval, Table


@dataclass(frozen=True)
class ExternalTest:
    """One external test: its folder and the values of its external.json."""

    path: Path
    values: Mapping[str, Any]


Tests = Sequence[tuple[str, ExternalTest]]  # each with the name of its run


def data_of(test: ExternalTest) -> str:
    """The dataset, and its split where it is not the whole."""
    part = test.values["split"]
    return test.values["dataset"] + ("" if part == "all" else f", {part}")


def _cell(found: Mapping[str, Any] | None) -> Interval:
    if found is None:
        return Interval(None, reason="not in metrics.json")
    return Interval(
        found.get("value"), found.get("ci_low"), found.get("ci_high"), found.get("reason")
    )


_WHO = [Column("Run"), Column("External data")]


def _metrics(test_set: TestSet, tests: Tests) -> Table:
    task, first = test_set.task, test_set.first
    rows: list[Sequence[Cell]] = []
    for name in task.headlines:
        title = task.title(name, test_set.class_names, first.config.dataset.positive_label)
        for who, test in tests:
            values = test.values
            rows.append([
                who, data_of(test), values["images"], title, _cell(values["internal"].get(name)),
                _cell(values["external"].get(name)), _cell(values["differences"].get(name)),
            ])  # fmt: skip
    return Table(
        id=f"external-metrics-{test_set.id}",
        title=f"{test_set.name}: internal and external test",
        columns=[
            *_WHO,
            Column("Images", 0, "external ones"),
            Column("Metric"),
            Column("Internal", 3, "the run's own test split, with its 95 % interval"),
            Column("External", 3, "with its 95 % interval"),
            Column("Difference", 3, "external less internal, with its 95 % interval"),
        ],
        rows=rows,
        notes=[
            "Every interval is of one trained model and of the draw of images. Every other metric "
            "stands in the external.json of the test's folder."
        ],
    )


def _calibration(test_set: TestSet, tests: Tests) -> Table:
    rows: list[Sequence[Cell]] = [
        [
            who, data_of(test), one["name"], _cell(one["internal"]["slope"]),
            _cell(one["external"]["slope"]), _cell(one["internal"]["intercept"]),
            _cell(one["external"]["intercept"]),
            _cell(one["internal"]["large"]), _cell(one["external"]["large"]),
        ]
        for who, test in tests
        for one in test.values["calibration"]
    ]  # fmt: skip
    return Table(
        id=f"external-calibration-{test_set.id}",
        title=f"{test_set.name}: calibration of the probabilities as they are",
        columns=[
            *_WHO,
            Column("Of", meaning="the class or label whose probability it is"),
            Column("Slope, internal", 2, "1 is calibrated; below 1: too extreme"),
            Column("Slope, external", 2),
            Column("Intercept, internal", 2, "beside that slope; 0 is calibrated"),
            Column("Intercept, external", 2),
            Column("In the large, internal", 2, "intercept at slope 1; 0 is calibrated"),
            Column("In the large, external", 2),
        ],
        rows=rows,
    )


def _thresholds(test_set: TestSet, tests: Tests) -> Table | None:
    rows: list[Sequence[Cell]] = [
        [
            who, data_of(test), one["name"], one["rule"], one["source"], one["probability"],
            _cell(one["sensitivity"]), _cell(one["specificity"]),
            one["sensitivity"].get("apparent"), one["specificity"].get("apparent"),
        ]
        for who, test in tests
        for one in test.values["thresholds"]
    ]  # fmt: skip
    if not rows:
        return None
    return Table(
        id=f"external-thresholds-{test_set.id}",
        title=f"{test_set.name}: thresholds carried over, and chosen anew on the external images",
        columns=[
            *_WHO,
            Column("Of", meaning="the class or label that is called"),
            Column("Rule", meaning="what the threshold was chosen to reach"),
            Column("Threshold", meaning="where it comes from"),
            Column("Probability", 3, "the threshold; above it an image is called"),
            Column("Sensitivity", 3, "on the external images, with its 95 % interval"),
            Column("Specificity", 3, "on the external images, with its 95 % interval"),
            Column("Sensitivity, apparent", 3, "before the correction"),
            Column("Specificity, apparent", 3, "before the correction"),
        ],
        rows=rows,
        notes=[
            "A threshold that was chosen on the external images looks better on them than on the "
            "next ones; its rates are corrected for that by a bootstrap (Harrell et al. 1996)."
        ],
    )


def _recalibration(test_set: TestSet, tests: Tests) -> Table:
    rows: list[Sequence[Cell]] = [
        [
            who, data_of(test), recalibration.TITLES[one["kind"]], _cell(one["log_loss"]),
            one["log_loss"].get("apparent"), _cell(one["brier"]),
            None if one["gain"] is None else _cell(one["gain"]),
        ]
        for who, test in tests
        for one in test.values["recalibration"]
    ]  # fmt: skip
    return Table(
        id=f"external-recalibration-{test_set.id}",
        title=f"{test_set.name}: recalibration on the external images",
        columns=[
            *_WHO,
            Column("Log odds"),
            Column("Log loss", 3, "nats; lower is better; of what was fitted anew it is corrected "
                   "for optimism"),
            Column("Log loss, apparent", 3, "before the correction"),
            Column("Brier", 3, "lower is better, corrected likewise"),
            Column("Gain", 3, "less log loss than the probabilities as they are, corrected "
                   "likewise"),
        ],
        rows=rows,
        notes=["A recalibration moves no image past another: the AUC stays as it is, but for a "
               "shift between more than two classes."],
    )  # fmt: skip


def _images(test_set: TestSet, tests: Tests) -> Table | None:
    rows: list[Sequence[Cell]] = [
        [
            who, data_of(test), image_statistics.TITLES[one["name"]], _quartiles(one["internal"]),
            _quartiles(one["external"]), Interval(one["higher"], one["ci_low"], one["ci_high"]),
        ]
        for who, test in tests
        if not isinstance(test.values["data_shift"]["images"], str)
        for one in test.values["data_shift"]["images"]
    ]  # fmt: skip
    if not rows:
        return None
    return Table(
        id=f"external-images-{test_set.id}",
        title=f"{test_set.name}: how the images differ",
        columns=[
            *_WHO,
            Column("Property"),
            Column("Internal", meaning="median and quartiles of the run's own test images"),
            Column("External", meaning="median and quartiles"),
            Column("Higher outside", 3, "probability that an external image has more of it than an "
                   "internal one, with its 95 % interval; 0.5: no difference"),
        ],
        rows=rows,
    )  # fmt: skip


def _quartiles(found: Sequence[float]) -> str:
    low, middle, high = (f"{x:.3g}" for x in found)
    return f"{middle} ({low} to {high})"


def _overlap(test_set: TestSet, tests: Tests) -> Table | None:
    rows: list[Sequence[Cell]] = [
        [who, data_of(test), kind, one["images"], _cell(one["auc"]), _cell(one["accuracy"])]
        for who, test in tests
        if not isinstance(test.values["overlap"], str)
        for kind, one in test.values["overlap"]["metrics"].items()
    ]
    return _by_value(
        rows, f"external-overlap-{test_set.id}",
        f"{test_set.name}: external images that the run was made from, and the others", "Images",
    )  # fmt: skip


def _subgroups(test_set: TestSet, tests: Tests) -> Table | None:
    rows: list[Sequence[Cell]] = [
        [who, data_of(test), f"{column}: {value}", one["images"], _cell(one["auc"]),
         _cell(one["accuracy"])]
        for who, test in tests
        for column, values in test.values["subgroups"].items()
        for value, one in values.items()
    ]  # fmt: skip
    return _by_value(
        rows, f"external-subgroups-{test_set.id}",
        f"{test_set.name}: subgroups of the external images", "Subgroup",
    )  # fmt: skip


def _by_value(rows: Sequence[Sequence[Cell]], name: str, title: str, what: str) -> Table | None:
    if not rows:
        return None
    columns = [*_WHO, Column(what), Column("Number", 0), Column("AUC"), Column("Accuracy")]
    return Table(id=name, title=title, columns=columns, rows=rows)


def tables(test_set: TestSet, tests: Tests) -> list[Table]:
    """Those that have rows, in their order."""
    made = (_metrics, _calibration, _thresholds, _recalibration, _images, _overlap, _subgroups)
    return [table for make in made if (table := make(test_set, tests)) is not None]
