"""Published results beside measured ones: the paper's tables 1 and 2, and what stands around them.

The figures are package data (`beitmed/published/*.csv`), each with its protocol and source. The
paper's own rows are single runs with seed 42, as its authors' notebook printed them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from beitmed.report.content import baselines
from beitmed.report.content.evidence import Evidence
from beitmed.report.content.variants import TestSet, Variant, letters
from beitmed.report.document import Cell, Column, Interval, Table, in_sentence, text
from beitmed.runs import published
from beitmed.runs.reader import FinishedRun
from beitmed.statistics import planning
from beitmed.statistics.planning import Published

_PAPER = "Baietti and Carlesso, notebook output"
_BENCHMARK = "MedMNIST v2 official benchmark"
_HEADLINES = ("auc", "accuracy")  # as they were published


def paper_run(run: FinishedRun) -> dict[str, float] | None:
    """The paper's own test figures (auc, accuracy) for a run's dataset, size and balance, or None.

    None also for what is no BEiT that was trained: the paper has nothing to hold it against.
    """
    return published.paper_run(run.config)


def departures(run: FinishedRun) -> list[str]:
    """In what a run is not the paper's, as `key=value` (the paper's in brackets); YAML's values."""
    return published.departures(run.config, bool(run.data.get("official")))


def paper_table(evidence: Evidence) -> Table | None:
    """The paper's table of one dataset: measured rows, its own numbers, published baselines.

    None for a dataset of which nothing is published.
    """
    test_set = evidence.test_set
    flag = test_set.first.config.dataset.flag
    known = [row for row in published.rows("results.csv") if row["dataset"] == flag]
    here = [paper_run(variant.first) for variant in test_set.variants]
    if not known:
        return None
    notes: list[str] = []
    rows: list[Sequence[Cell]] = []
    others = [row for row in known if row["source"] == _BENCHMARK]
    paper = [row for row in known if row["source"] == _PAPER and published.figures(row) not in here]
    for variant in sorted(test_set.variants, key=lambda v: baselines.has_counterpart(v.first)):
        if variant.first.config.trains_backbone:
            rows.append(_measured(variant, evidence, notes))
            continue
        rows.append(_baseline(variant, evidence, notes))
        same = [row for row in others if baselines.is_counterpart(row, variant.first)]
        last = [v for v in test_set.variants if baselines.same_method(v.first, variant.first)]
        if variant is last[-1]:  # what was published of a method stands right below it
            rows += [_published(row, notes) for row in same]
            others = [row for row in others if row not in same]
    rows += [_published(row, notes) for row in [*paper, *others]]
    columns = [
        Column("Method"),
        Column("Origin", meaning="measured here, or published"),
        *_columns("AUC", "AUC"),
        *_columns("Accuracy", "acc."),
    ]
    title = f"{test_set.name}: measured and published"
    if any(row["source"] == _PAPER for row in known):
        title += ", in the layout of the paper's table"
    else:  # the paper's columns would be empty
        kept = (0, 1, 2, 5)
        columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
    return Table(
        id=f"paper-{test_set.id}",
        title=title,
        columns=columns,
        rows=rows,
        notes=[
            *notes,
            "Rows stand in a fixed order, not in one of merit. Published rows are single figures "
            "without intervals; each would have one about as wide as those measured on as many "
            f"test images (here {test_set.n:,}).",
        ],
    )


def _published(row: Mapping[str, str], notes: list[str]) -> list[Cell]:
    """A row that was not run here; the paper's own figures stand in their column."""
    auc, accuracy = (published.figures(row)[name] for name in _HEADLINES)
    mark = _note(notes, f"Published: {row['source']}; {row['protocol']}. Not run here.")
    if row["source"] == _PAPER:
        return [f"{row['method']} {mark}", "the paper", None, auc, None, None, accuracy, None]
    name = row["method"] + (f" ({row['size']})" if "ResNet" in row["method"] else "")
    return [f"{name} {mark}", "published", auc, None, None, accuracy, None, None]


def _baseline(variant: Variant, evidence: Evidence, notes: list[str]) -> list[Cell]:
    """A baseline's row: the paper trained none, so its columns stay empty."""
    name = variant.name
    if differing := baselines.departures(variant.first):
        name += " " + _note(notes, "Not the published protocol: " + ", ".join(differing) + ".")
    auc, accuracy = (evidence.cell(variant, name) for name in _HEADLINES)
    return [name, _seeds(variant), auc, None, None, accuracy, None, None]


def _columns(what: str, short: str) -> list[Column]:
    return [
        Column(what, meaning="0 to 1; mean over seeds with its 95 % interval where measured"),
        Column(f"Paper's {short}", 3, "as its authors printed it, of one run with seed 42"),
        Column(
            f"{short[0].upper()}{short[1:]} diff.",
            3,
            "measured minus the paper's, with the 95 % interval that it has between trainings that "
            "differ by the seed alone, on these very test images",
        ),
    ]


def _measured(variant: Variant, evidence: Evidence, notes: list[str]) -> list[Cell]:
    paper = paper_run(variant.first)
    name = variant.name
    if paper is not None and (differing := departures(variant.first)):
        name += " " + _note(notes, "Not the paper's protocol: " + ", ".join(differing) + ".")
    cells: list[Cell] = [name, _seeds(variant)]
    for measure in _HEADLINES:
        estimate, figure = evidence.cell(variant, measure), (paper or {}).get(measure)
        cells += [estimate, figure, _difference(variant, evidence, measure, figure)]
    return cells


def _seeds(variant: Variant) -> str:
    return f"measured, {len(variant.runs)} seed{'s' if len(variant.runs) > 1 else ''}"


def beside(variant: Variant, evidence: Evidence, measure: str) -> Published | None:
    """A variant less the paper's run; of one seed with the spread that published networks had."""
    figure = (paper_run(variant.first) or {}).get(measure)
    values = np.array(evidence.summary(variant, measure).values)
    flag = variant.first.config.dataset.flag
    if figure is None or flag is None or not values.size:
        return None
    sd, _ = published.assumed_sd(flag, measure)
    return planning.beside_published(values, figure, rounding=published.ROUNDING, assumed_sd=sd)


def _difference(
    variant: Variant, evidence: Evidence, measure: str, figure: float | None
) -> Interval | None:
    found = None if figure is None else beside(variant, evidence, measure)
    return None if found is None else Interval(found.difference, found.low, found.high)


def conclusions(evidence: Evidence) -> list[str]:
    """What can be said of the measured variants beside the paper's own runs."""
    said = []
    for measure in _HEADLINES:
        found = [(v, one) for v in evidence.test_set.variants
                 if (one := beside(v, evidence, measure)) is not None]  # fmt: skip
        if not found:
            continue
        label = in_sentence(evidence.test_set.task.metrics[measure].label)
        listed = "; ".join(
            f'"{v.name}" {text(Interval(one.difference, one.low, one.high))}'
            + (f" (seeds assumed {one.sd:.3f} apart)" if one.assumed else "")
            for v, one in found
        )
        beyond = sum(one.low > 0 or one.high < 0 for _, one in found)
        said.append(
            f"{label}, measured less the paper's single run: {listed}. The interval is where such "
            "a difference falls between trainings that differ by the seed alone, on the same test "
            f"images; {beyond} of {len(found)} lie{'s' if beyond == 1 else ''} beyond it, which "
            "means more than seeds explain. It presumes the paper's protocol."
        )
    foreign = [v for v in evidence.test_set.variants
               if paper_run(v.first) is not None and departures(v.first)]  # fmt: skip
    if said and foreign:
        said.append(
            f"{len(foreign)} of these variants did not follow the paper's protocol (the table's "
            "notes say in what they differ), so agreement or its lack says little about whether "
            "the paper's result repeats."
        )
    return said


def _note(notes: list[str], said: str) -> str:
    """The mark of a footnote, made once for each text."""
    found = [i for i, note in enumerate(notes) if note.partition(" ")[2] == said]
    if not found:
        notes.append(f"({letters(len(notes))}) {said}")
        found = [len(notes) - 1]
    return f"({letters(found[0])})"


def anchors_table(test_set: TestSet) -> Table | None:
    """Published results of other protocols, which a reader will want to hold ours against."""
    flag = test_set.first.config.dataset.flag
    rows: list[Sequence[Cell]] = [
        [
            row["method"],
            int(row["size"]),
            _with_sd(row["test_auc"], row["auc_std"]),
            _with_sd(row["test_acc"], row["acc_std"]),
            int(row["n_seeds"]),
            row["protocol"],
            row["source"],
        ]
        for row in published.rows("results.csv")
        if row["dataset"] == flag and row["source"] not in (_BENCHMARK, _PAPER)
    ]
    if not rows:
        return None
    return Table(
        id=f"anchors-{test_set.id}",
        title=f"{test_set.name}: published results under other protocols",
        columns=[
            Column("Method"),
            Column("Size", 0),
            Column("AUC", meaning="± standard deviation between seeds where published"),
            Column("Accuracy", meaning="± standard deviation between seeds where published"),
            Column("Seeds", 0),
            Column("Protocol"),
            Column("Source"),
        ],
        rows=rows,
        notes=["None of these was run here. Protocols differ, so rows are not a ranking."],
    )


def _with_sd(value: str, sd: str) -> str:
    return text(float(value)) + (f" ± {text(float(sd))}" if sd else "")
