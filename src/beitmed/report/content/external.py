"""External tests of the runs, as `beitmed validate` wrote them, beside their own test splits."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from beitmed.errors import UserError
from beitmed.external import folder as external_folder
from beitmed.external import sentences
from beitmed.report.content import external_tables
from beitmed.report.content.external_tables import ExternalTest, data_of
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Figure, Section
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


Found = Mapping[Path, Sequence[ExternalTest]]  # by the run's folder


def find(runs: Sequence[FinishedRun], folders: Iterable[Path]) -> tuple[Found, list[str]]:
    """The external tests of these runs, beside them or in the given folders; what was left out."""
    places = dict.fromkeys([*(run.path.parent for run in runs), *folders])
    paths = {path.resolve(): path for place in places for path in external_tests.folders_in(place)}
    named: dict[str, list[FinishedRun]] = {}
    for run in runs:
        named.setdefault(run.path.resolve().name, []).append(run)
    found: dict[Path, list[ExternalTest]] = {}
    problems = []
    for path in sorted(paths.values()):
        try:
            values = external_folder.read(path)
        except UserError as e:
            problems.append(str(e))
            continue
        of_name = named.get(str(values["run"]), [])
        said = values["run_predictions_sha256"]
        same = [run for run in of_name if _digest(run.path / reader.PREDICTIONS) == said]
        for run in same:
            found.setdefault(run.path, []).append(ExternalTest(path, values))
        if of_name and not same:
            problems.append(
                f"{path}: is of other predictions than {values['run']} has now; give `beitmed "
                "validate` again."
            )
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
    said = [
        line for _, test in tests[:_SAID] for line in sentences.summary(test.values, metrics=False)
    ]
    if len(tests) > _SAID:
        said.append(f"The first {_SAID} of {len(tests)} external tests; the tables hold all.")
    return Section(
        id=f"external-{test_set.id}",
        title=f"{test_set.name}: external testing",
        paragraphs=[_INTRODUCTION, *said],
        tables=external_tables.tables(test_set, tests),
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
        dict.fromkeys(f"{data_of(test)} ({test.values['images']:,} images)" for test in tests)
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
                    f"{data_of(test)} were in the train or val split of {test.values['run']}."
                )
    return said


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
        made.append(Figure(stem.name, f"{who} on {data_of(test)}: {title}", alternative, stem))
    return made
