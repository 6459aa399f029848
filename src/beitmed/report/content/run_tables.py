"""The report's tables with a row a run, or a row a class; no number is made here."""

from __future__ import annotations

from collections.abc import Sequence

from beitmed.report.content.comparison_tables import no_accuracy, positive_class
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Interval, Table

_SAMPLING = (
    "95 % intervals of single runs cover the choice of test images only. Methods and n of each are "
    "in the runs' metrics.json."
)
_FITTED = (
    "Thresholds and temperature are fitted on the validation split; the prior is estimated from "
    "the test scores without their labels. Fit numbers count as fixed."
)


def every_run(test_set: TestSet) -> list[Table]:
    """One row a run, every metric with its 95 % interval, in tables that a page holds.

    A metric that the task does not know is one from outside the package: it stands under its name.
    """
    task = test_set.task
    found = dict.fromkeys(name for run in test_set.runs for name in run.metrics["test"])
    whole = [n for n in task.metrics if n in found]
    own = [n for n in found if task.metric(n) is None and task.part_of(n) is None]
    rules = [n for n in whole if task.metrics[n].rule != "argmax"]
    headlines = [n for n in whole if n in task.headlines]
    more = [n for n in whole if n not in rules + headlines]
    kinds = [
        ("runs", "every run", headlines, [_SAMPLING, *no_accuracy(test_set)]),
        ("more", "every run, further metrics", more + own, [_SAMPLING, *_outside(test_set)]),
        ("rules", "every run, other decision rules and calibration", rules, [_FITTED]),
    ]
    made = [_runs(test_set, kind, what, of, notes) for kind, what, of, notes in kinds if of]
    return [*made, *([by_part(test_set)] if task.parts else [])]


def _outside(test_set: TestSet) -> list[str]:
    said = ", ".join(f"{name} is {function}" for name, function in _own(test_set))
    return [f"From outside the package: {said}."] if said else []


def _own(test_set: TestSet) -> list[tuple[str, str]]:
    """Metrics from outside the package, each with its function; of one name there may be two."""
    found = (item for run in test_set.runs for item in run.config.evaluate.metrics.items())
    return list(dict.fromkeys(found))


def by_part(test_set: TestSet) -> Table:
    """A row a class or label and variant, so that variants stand below one another."""
    task, found = test_set.task, test_set.first.metrics["test"]
    unit, member = task.unit, test_set.first.one_against_others[0]
    measures = [name for name in task.parts if task.part_name(name, 0) in found]
    rows: list[Sequence[Cell]] = [
        [
            class_name,
            variant.name,
            int(member[:, i].sum()),
            *(
                estimate(variant.first.metrics["test"].get(task.part_name(name, i)))
                for name in measures
            ),
        ]
        for i, class_name in enumerate(test_set.class_names)
        for variant in test_set.variants
    ]
    return Table(
        id=f"by-{unit}-{test_set.id}",
        title=f"{test_set.name}: each {unit} against the others, first seeds",
        columns=[
            Column(unit.capitalize()),
            Column("Variant"),
            Column("Images", 0, f"test images of the {unit}, of {test_set.n:,}"),
            *(Column(task.parts[name].label, 3, task.parts[name].meaning) for name in measures),
        ],
        rows=rows,
        notes=[
            "95 % intervals cover the choice of test images only, and are not adjusted for their "
            "number. Other seeds are in the runs' metrics.json.",
        ],
    )


def _runs(
    test_set: TestSet, kind: str, what: str, names: Sequence[str], notes: Sequence[str]
) -> Table:
    rows: list[Sequence[Cell]] = [
        [variant.name, run.seed, *(estimate(run.metrics["test"].get(name)) for name in names)]
        for variant in test_set.variants
        for run in variant.runs
    ]
    return Table(
        id=f"{kind}-{test_set.id}",
        title=f"{test_set.name}: {what}",
        columns=[Column("Variant"), Column("Seed", 0), *(_column(test_set, n) for n in names)],
        rows=rows,
        notes=[*positive_class(test_set), *notes],
    )


def _column(test_set: TestSet, name: str) -> Column:
    metric = test_set.task.metric(name)
    if metric is None:
        return Column(name.replace("_", " "), meaning="from outside the package")
    positive = test_set.first.config.dataset.positive_label
    title = test_set.task.title(name, test_set.class_names, positive)
    return Column(title, meaning=metric.meaning)


def estimate(values: dict[str, Cell] | None) -> Interval | None:
    if values is None:
        return None
    numbers = [values.get(key) for key in ("value", "ci_low", "ci_high")]
    value, low, high = (x if isinstance(x, float | int) else None for x in numbers)
    reason = values.get("reason")
    return Interval(value, low, high, str(reason) if value is None else None)
