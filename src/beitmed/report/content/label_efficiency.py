"""The report's section on label efficiency: curves, paired tests, and the labels needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from beitmed.plots.curves import Line, Panel
from beitmed.plots.label_curves import label_curves
from beitmed.report.content import figures
from beitmed.report.content import label_curves as curves_of
from beitmed.report.content.comparison_tables import no_skill
from beitmed.report.content.evidence import LEVEL, Evidence, interval
from beitmed.report.content.label_curves import Curve, Point, Reached
from beitmed.report.document import (
    Cell,
    Column,
    Figure,
    Section,
    Table,
    in_sentence,
    p_value,
)
from beitmed.statistics import comparisons, label_efficiency
from beitmed.statistics.comparisons import Difference


def section(evidence: Evidence, folder: Path) -> tuple[Section | None, list[str]]:
    """The section and its findings by the first measure; None where all have the same labels."""
    curves, measures = curves_of.of(evidence.test_set), _measures(evidence)
    if not curves or not measures:
        return None, []
    test_set = evidence.test_set
    found = {m: curves_of.reached(evidence, m, curves) for m in measures}
    reference = curves_of.reference(evidence, curves)
    tested = {m: _pairs(evidence, m, curves, reference) for m in measures}
    said = [s for m in measures for s in _sentences(evidence, m, found[m], reference)]
    said += [s for m in measures if tested[m] for s in [_paired(evidence, m, tested[m])]]
    name = f"{test_set.name}, label efficiency, "
    return Section(
        id=f"label-efficiency-{test_set.id}",
        title=f"{test_set.name}: label efficiency",
        paragraphs=[*_introduction(curves), *said],
        tables=[
            _points(evidence, curves, measures),
            *([_needed(evidence, found)] if any(found.values()) else []),
            *(_pair_table(evidence, m, rows) for m, rows in tested.items() if rows),
        ],
        figures=[_figure(evidence, curves, measures, folder)],
    ), [name + s for s in said if s.startswith(_label(evidence, measures[0]))]


def _measures(evidence: Evidence) -> list[str]:
    """What the task is compared by and tests, a higher value the better."""
    task = evidence.test_set.task
    return [m for m in task.compared
            if m in evidence.measures and task.metrics[m].better == "higher"]  # fmt: skip


def _label(evidence: Evidence, measure: str) -> str:
    return in_sentence(evidence.test_set.task.metrics[measure].label)


def _introduction(curves: Sequence[Curve]) -> list[str]:
    said = [
        "Each seed draws its own part of the train split, of each class alike, and a smaller part "
        "lies within a larger one. Validation and test images are the same at every point. All "
        "validation labels are used for what is chosen by them (neighbours, penalty, the epoch of "
        "a ResNet), and are not counted here: who has few labels would have fewer of these too."
    ]
    if any(point.steps is not None for curve in curves for point in curve.points):
        said.append(
            "The recipe is the same at every point, and so are the epochs: fewer labels are fewer "
            "steps, as the table says. A low point may be a short training, not a lack of labels."
        )
    return said


# --- How many labels are needed


def _sentences(
    evidence: Evidence, measure: str, found: Sequence[Reached], reference: Curve | None
) -> list[str]:
    """Of each method: when it reaches its own full-data result, and that of the reference."""
    return [
        _sentence(evidence, measure, one)
        for one in found
        if one.of.full is one.curve.full
        or (reference is not None and one.of.full is reference.full)
    ]


def _sentence(evidence: Evidence, measure: str, one: Reached) -> str:
    own, within = one.of.full is one.curve.full, f"{evidence.question.within:g}"
    whose = "its own full-data result" if own else f'the full-data result of "{one.of.method}"'
    what = f'{_label(evidence, measure)}: "{one.curve.method}"'
    target = f"({one.target:.3f}) within {within}"
    if one.found is None:
        return f"{what}: a variance is not defined, so nothing can be told of {whose}."
    most = one.curve.points[-1].labels
    if one.found.low > most:
        return f"{what} does not reach {whose} {target} with all {most:,.0f} labels."
    if one.told:
        return f"{what} reaches {whose} {target} at {one.text()} of the labels."
    which = "at which share of the labels" if own else "whether"
    return f"{what}: {which} it reaches {whose} {target} cannot be told (estimate {one.text()})."


def _needed(evidence: Evidence, found: dict[str, list[Reached]]) -> Table:
    metrics = evidence.test_set.task.metrics
    columns = [Column("Method"), Column("Reaches the full-data result of")]
    for measure in found:
        columns += [
            Column(f"{metrics[measure].label} there", 3, "mean over seeds, with all labels"),
            Column(f"Labels, by {_label(evidence, measure)}",
                   meaning="share of all labels, with its 95 % limits"),
        ]  # fmt: skip
    rows: list[Sequence[Cell]] = []
    for all_measures in zip(*found.values(), strict=True):
        first = all_measures[0]
        own = first.of.full is first.curve.full
        row: list[Cell] = [first.curve.method, "itself" if own else first.of.method]
        for one in all_measures:
            row += [one.target, one.text() + ("" if one.told else " (cannot be told)")]
        rows.append(row)
    test_set, within = evidence.test_set, evidence.question.within
    return Table(
        id=f"labels-needed-{test_set.id}",
        title=f"{test_set.name}: labels needed to come within {within:g} of a full-data result",
        columns=columns,
        rows=rows,
        notes=[
            "Between two points a curve is a straight line over the logarithm of the labels, and "
            "it does not fall (neighbours that do are averaged). Limits: "
            f"{label_efficiency.METHOD} together, of the curve and of what it is to reach, 2,000 "
            "resamples; with one seed of the test images alone.",
            "The fewest labels that were tried stand for that share or less. Cannot be told: the "
            "limits go from there to all labels, or to a result that is not reached.",
        ],
    )


# --- Points and pairs


def _points(evidence: Evidence, curves: Sequence[Curve], measures: Sequence[str]) -> Table:
    test_set = evidence.test_set
    columns = [
        Column("Method"),
        Column("Labels"),
        Column("Labelled images", 1, "of the train split; the mean over seeds"),
        Column("Steps", 0, "of training; of the longest seed"),
        Column("Seeds", 0),
        *(Column(test_set.task.metrics[m].label, 3, "mean over seeds with its 95 % interval")
          for m in measures),
    ]  # fmt: skip
    rows: list[Sequence[Cell]] = []
    for curve in curves:
        for point in curve.points:
            n = point.labels
            rows.append([
                curve.method, point.part, int(n) if n == int(n) else n, point.steps,
                len(point.variant.runs),
                *(interval(evidence.summary(point.variant, m)) for m in measures),
            ])  # fmt: skip
    return Table(
        id=f"labels-points-{test_set.id}",
        title=f"{test_set.name}: by labels, on {test_set.images}",
        columns=columns,
        rows=rows,
        notes=[
            "The nearest whole number of each class, and at least one of it, so of few labels the "
            "share is not exact. Intervals: over test images, and over seeds where there are "
            "several."
        ],
    )


Tested = list[tuple[Point, str, str, Difference, float | None]]


def _pairs(
    evidence: Evidence, measure: str, curves: Sequence[Curve], reference: Curve | None
) -> Tested:
    """Pairs of methods at equal labels: point, their names, difference, adjusted p.

    Where the report has a reference, its method with every other.
    """
    planned = reference if evidence.reference is not None else None
    known = evidence.differences.get(measure, {})
    found: list[tuple[Point, str, str, Difference]] = []
    seen: set[frozenset[str]] = set()
    for one, other in combinations(curves, 2):
        if planned is not None and planned not in (one, other):
            continue
        theirs = {p.part: p.variant.name for p in other.points}
        for point in one.points:
            pair = (point.variant.name, theirs.get(point.part, ""))
            turned = pair[::-1] in known
            if (pair not in known and not turned) or frozenset(pair) in seen:
                continue
            seen.add(frozenset(pair))
            names = (other.method, one.method) if turned else (one.method, other.method)
            found.append((point, *names, known[pair[::-1] if turned else pair]))
    found.sort(key=lambda row: row[0].labels)
    adjusted = comparisons.holm([row[3].p for row in found])
    return [(*row, p) for row, p in zip(found, adjusted, strict=True)]


def _paired(evidence: Evidence, measure: str, rows: Tested) -> str:
    """How many pairs differ at each number of labels."""
    by: dict[str, list[bool]] = {}
    for point, _, _, _, p in rows:
        by.setdefault(point.part, []).append(p is not None and p < LEVEL)
    listed = ", ".join(f"{part}: {sum(of)} of {len(of)}" for part, of in by.items())
    return (
        f"{_label(evidence, measure)}: methods that differ on the same test images at equal labels "
        f"(p < {LEVEL:g} after Holm for {len(rows)} pairs): {listed}."
    )


def _pair_table(evidence: Evidence, measure: str, rows: Tested) -> Table:
    test_set, label = evidence.test_set, evidence.test_set.task.metrics[measure].label
    return Table(
        id=f"labels-pairs-{measure}-{test_set.id}".replace("_", "-"),
        title=f"{test_set.name}: differences of {in_sentence(label)} at equal labels, on the same "
        f"{test_set.images}",
        columns=[
            Column("Labels"),
            Column("First"),
            Column("Second"),
            Column(f"{label} difference", 3, "first minus second, with its 95 % interval"),
            Column("p", 3, "two-sided, paired, not adjusted"),
            Column("Adjusted p", 3, f"after Holm, for {len(rows)} pairs"),
        ],
        rows=[
            [point.part, first, second, interval(d), _p(d.p), _p(p)]
            for point, first, second, d, p in rows
        ],
        notes=["These pairs alone are adjusted for; the table of all pairs of variants is another "
               "family of tests."],
    )  # fmt: skip


def _p(p: float | None) -> Cell:
    if p is None:
        return "n/a"
    return p_value(p) if p < 1e-3 else p


def _figure(
    evidence: Evidence, curves: Sequence[Curve], measures: Sequence[str], folder: Path
) -> Figure:
    test_set = evidence.test_set
    metrics = test_set.task.metrics
    panels = [
        Panel(
            f"Test {_label(evidence, m)}",
            [_line(evidence, curve, m) for curve in curves],
            no_skill(test_set, m),
        )
        for m in measures
    ]
    ticks = {point.labels: point.part for curve in curves for point in curve.points}
    measured = " and ".join(_label(evidence, m) for m in measures)
    return figures.figure(
        folder / f"labels-{test_set.id}",
        f"{test_set.heading}: {measured} by labelled training images, with 95 % intervals",
        f"{' and '.join(metrics[m].label for m in measures)} against the number of labelled "
        f"images, a line for each of {len(curves)} methods.",
        label_curves,
        panels=panels,
        ticks=sorted(ticks.items()),
        notes=["Intervals hold the draw of test images, and of seeds where there are several. "
               "Points of the same labels stand a little beside one another."],
    )  # fmt: skip


def _line(evidence: Evidence, curve: Curve, measure: str) -> Line:
    cells = [interval(evidence.summary(point.variant, measure)) for point in curve.points]
    return Line(
        curve.method,
        [point.labels for point in curve.points],
        [cell.value for cell in cells],
        [cell.low for cell in cells],
        [cell.high for cell in cells],
    )
