"""External tests of the runs, as `beitmed validate` wrote them, beside their own test splits."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beitmed.errors import UserError
from beitmed.external import folder as external_folder
from beitmed.external import image_statistics, recalibration, sentences
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Figure, Interval, Section, Table
from beitmed.runs import external_tests, reader
from beitmed.runs.reader import FinishedRun

_SAID = 4  # tests whose sentences and figures are shown; the tables hold all
_FIGURES = {
    "roc": ("ROC curves", "ROC curves of the run's own test split and of the external images."),
    "differences": (
        "external less internal",
        "The difference of each headline metric between external and internal test.",
    ),
    "reliability": (
        "reliability",
        "Observed shares by predicted probability, of the internal and the external test.",
    ),
    "classes": ("class shares", "The share of each class in the internal and the external test."),
}


@dataclass(frozen=True)
class ExternalTest:
    """One external test: its folder and the values of its external.json."""

    path: Path
    values: Mapping[str, Any]


Found = Mapping[Path, Sequence[ExternalTest]]  # by the run's folder


def find(runs: Sequence[FinishedRun], folders: Iterable[Path]) -> tuple[Found, list[str]]:
    """The external tests of these runs, beside them or in the given folders; what was left out."""
    places = dict.fromkeys([*(run.path.parent for run in runs), *folders])
    paths = {path.resolve(): path for place in places for path in external_tests.folders_in(place)}
    named = {run.path.resolve().name: run for run in runs}
    found: dict[Path, list[ExternalTest]] = {}
    problems = []
    for path in sorted(paths.values()):
        try:
            values = external_folder.read(path)
        except UserError as e:
            problems.append(str(e))
            continue
        if (run := named.get(str(values["run"]))) is None:
            continue
        if values["run_predictions_sha256"] != _digest(run.path / reader.PREDICTIONS):
            problems.append(
                f"{path}: is of other predictions than {run.path.name} has now; give `beitmed "
                "validate` again."
            )
            continue
        found.setdefault(run.path, []).append(ExternalTest(path, values))
    return found, problems


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def section(test_set: TestSet, found: Found, folder: Path) -> Section | None:
    """The external tests of a test set's runs, or None where there are none."""
    tests = [
        (f"{variant.name}, seed {run.seed}", test)
        for variant in test_set.variants
        for run in variant.runs
        for test in found.get(run.path, ())
    ]
    if not tests:
        return None
    said = [line for _, test in tests[:_SAID] for line in sentences.summary(test.values)]
    if len(tests) > _SAID:
        said.append(f"The first {_SAID} of {len(tests)} external tests; the tables hold all.")
    made = (_metrics, _calibration, _thresholds, _recalibration, _images, _overlap, _subgroups)
    tables = [make(test_set, tests) for make in made]
    return Section(
        id=f"external-{test_set.id}",
        title=f"{test_set.name}: external testing",
        paragraphs=[_INTRODUCTION, *said],
        tables=[table for table in tables if table is not None],
        figures=[
            figure
            for i, (name, test) in enumerate(tests[:_SAID])
            for figure in _figures(test_set, name, test, i, folder)
        ],
    )


_INTRODUCTION = (
    "The same trained models on data that had no part in making them. Internal is a run's own test "
    "split. The two sets hold different images, so the interval of a difference is made of both "
    "intervals (MOVER; of proportions it is Newcombe's)."
)


def headlines(found: Found) -> list[str]:
    """A sentence each for the first tests; the sections hold all."""
    tests = [test for of_run in found.values() for test in of_run]
    said = [f"external test of {sentences.headline(test.values)}" for test in tests[:_SAID]]
    if len(tests) > _SAID:
        said.append(f"{len(tests) - _SAID:,} more external tests stand in the sections.")
    return said


def claimed(found: Found) -> str:
    """What a checklist's item on external testing is answered with."""
    tests = [test for of_run in found.values() for test in of_run]
    if not tests:
        return "None: all test images are of the source of the training images (internal testing)."
    data = ", ".join(
        dict.fromkeys(f"{_data(test)} ({test.values['images']:,} images)" for test in tests)
    )
    return f"{len(tests):,} {'test' if len(tests) == 1 else 'tests'}: {data}."


def doubts(found: Found) -> list[str]:
    """External tests that are none: with images that the run was made from."""
    said = []
    for tests in found.values():
        for test in tests:
            seen = test.values["overlap"]
            count = 0 if isinstance(seen, str) else seen["in_train_or_val"]
            if count:
                said.append(
                    f"{count:,} of {test.values['images']:,} images of the external test "
                    f"{_data(test)} were in the train or val split of {test.values['run']}."
                )
    return said


Tests = Sequence[tuple[str, ExternalTest]]


def _data(test: ExternalTest) -> str:
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
                who, _data(test), values["images"], title, _cell(values["internal"].get(name)),
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
            who, _data(test), one["name"], _cell(one["internal"]["slope"]),
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
            who, _data(test), one["name"], one["rule"], one["source"], one["probability"],
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
            who, _data(test), recalibration.TITLES[one["kind"]], _cell(one["log_loss"]),
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
            who, _data(test), image_statistics.TITLES[one["name"]], _quartiles(one["internal"]),
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
        [who, _data(test), kind, one["images"], _cell(one["auc"]), _cell(one["accuracy"])]
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
        [who, _data(test), f"{column}: {value}", one["images"], _cell(one["auc"]),
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


def _figures(
    test_set: TestSet, who: str, test: ExternalTest, number: int, folder: Path
) -> list[Figure]:
    made = []
    for name, (title, alternative) in _FIGURES.items():
        stem = folder / f"external-{test_set.id}-{number + 1}-{name}"
        sources = [*test.path.glob(f"{name}.*"), *test.path.glob(f"{name}-column.*")]
        if not (test.path / f"{name}.png").is_file() or not (test.path / f"{name}.svg").is_file():
            continue
        for source in sources:
            ending = source.name.removeprefix(name)
            shutil.copyfile(source, stem.with_name(f"{stem.name}{ending}"))
        made.append(Figure(stem.name, f"{who} on {_data(test)}: {title}", alternative, stem))
    return made
