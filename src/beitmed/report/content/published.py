"""Published results beside measured ones: the paper's tables 1 and 2, and what stands around them.

The figures are package data (`beitmed/published/*.csv`), each with its protocol and source. The
paper's own rows are single runs with seed 42, as its authors' notebook printed them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import resources

from beitmed import config
from beitmed.report.content import baselines
from beitmed.report.content.evidence import Evidence
from beitmed.report.content.variant_names import plainly
from beitmed.report.content.variants import TestSet, Variant, letters
from beitmed.report.document import Cell, Column, Interval, Table, text
from beitmed.runs.reader import FinishedRun

_PAPER = "Baietti and Carlesso, notebook output"
_BENCHMARK = "MedMNIST v2 official benchmark"
#: What the paper's runs had beyond dataset, size and balance. Its frozen layers stayed in train
#: mode, with drop path in them, which is `trunk_mode=train` and not the default here.
_RECIPE = {
    "backbone.name": "beit_large",
    "unfreeze": 5,
    "adapter": "none",
    "trunk_mode": "train",
    "train.epochs": 5,
    "train.max_steps": None,
    "train.learning_rate": 3e-4,
    "train.schedule": "linear",
    "train.warmup_steps": 0,
    "train.max_grad_norm": 1.0,
    "train.adam_beta1": 0.9,
    "train.adam_beta2": 0.999,
    "train.adam_epsilon": 1e-8,
    "precision": "fp32",
    "data.limit": None,
    "balancing.name": "undersample",
}
_HEADLINES = ("auc", "accuracy")  # as they were published
_MEANING = {"trunk_mode": "; train keeps drop path in the frozen layers"}


def _rows(name: str) -> list[dict[str, str]]:
    text_ = resources.files("beitmed").joinpath("published", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text_.splitlines()))


def paper_run(run: FinishedRun) -> dict[str, float] | None:
    """The paper's own test figures (auc, accuracy) for a run's dataset, size and balance, or None.

    None also for what is no BEiT that was trained: the paper has nothing to hold it against.
    """
    cfg = run.config
    if not cfg.trains_backbone or cfg.backbone.family != "beit":
        return None
    for row in _rows("paper_runs.csv"):
        if (f"{row['dataset']}mnist", int(row["size"]), row["balanced"]) == (
            cfg.dataset.flag, cfg.size, str(cfg.balanced).lower()
        ):  # fmt: skip
            return _figures(row)
    return None


def departures(run: FinishedRun) -> list[str]:
    """In what a run is not the paper's, as `key=value` (the paper's in brackets); YAML's values."""
    cfg = run.config
    own = config.variant(cfg) | {"backbone.name": cfg.backbone.name}
    recipe = cfg.dataset.recipe.balanced if cfg.balanced else cfg.dataset.recipe.full
    expected = _RECIPE | ({} if recipe is None else {
        ("majority_ratio" if key == "majority_ratio" else f"train.{key}"): value
        for key, value in recipe.model_dump().items()
    })  # fmt: skip
    said = [
        f"{key}={plainly(own[key])} (paper: {plainly(value)}{_MEANING.get(key, '')})"
        for key, value in expected.items()
        if key in own and own[key] != value
    ]
    if not run.data.get("official"):
        said.append("the data file is not the official one")
    return said


def paper_table(evidence: Evidence) -> Table | None:
    """The paper's table of one dataset: measured rows, its own numbers, published baselines.

    None for a dataset of which nothing is published.
    """
    test_set = evidence.test_set
    flag = test_set.first.config.dataset.flag
    published = [row for row in _rows("results.csv") if row["dataset"] == flag]
    here = [paper_run(variant.first) for variant in test_set.variants]
    if not published:
        return None
    notes: list[str] = []
    rows: list[Sequence[Cell]] = []
    others = [row for row in published if row["source"] == _BENCHMARK]
    paper = [row for row in published if row["source"] == _PAPER and _figures(row) not in here]
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
    if any(row["source"] == _PAPER for row in published):
        title += ", in the layout of the paper's table"
    else:  # the paper's columns would be empty
        kept = (0, 1, 2, 6)
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


def _figures(row: Mapping[str, str]) -> dict[str, float]:
    return {"auc": float(row["test_auc"]), "accuracy": float(row["test_acc"])}


def _published(row: Mapping[str, str], notes: list[str]) -> list[Cell]:
    """A row that was not run here; the paper's own figures stand in their column."""
    auc, accuracy = (_figures(row)[name] for name in _HEADLINES)
    mark = _note(notes, f"Published: {row['source']}; {row['protocol']}. Not run here.")
    if row["source"] == _PAPER:
        return [f"{row['method']} {mark}", "the paper", None, auc, None, None,
                None, accuracy, None, None]  # fmt: skip
    name = row["method"] + (f" ({row['size']})" if "ResNet" in row["method"] else "")
    return [f"{name} {mark}", "published", auc, None, None, None, accuracy, None, None, None]


def _baseline(variant: Variant, evidence: Evidence, notes: list[str]) -> list[Cell]:
    """A baseline's row: the paper trained none, so its columns stay empty."""
    name = variant.name
    if differing := baselines.departures(variant.first):
        name += " " + _note(notes, "Not the published protocol: " + ", ".join(differing) + ".")
    auc, accuracy = (evidence.cell(variant, name) for name in _HEADLINES)
    return [name, _seeds(variant), auc, *[None] * 3, accuracy, *[None] * 3]


def _columns(what: str, short: str) -> list[Column]:
    return [
        Column(what, meaning="0 to 1; mean over seeds with its 95 % interval where measured"),
        Column(f"Paper's {short}", 3, "as its authors printed it, of one run with seed 42"),
        Column(f"{short[0].upper()}{short[1:]} diff.", 3, "measured minus the paper's"),
        Column(
            f"{short[0].upper()}{short[1:]} held",
            meaning="the measured 95 % interval holds the paper's figure",
        ),
    ]


def _measured(variant: Variant, evidence: Evidence, notes: list[str]) -> list[Cell]:
    paper = paper_run(variant.first)
    name = variant.name
    if paper is not None and (differing := departures(variant.first)):
        name += " " + _note(notes, "Not the paper's protocol: " + ", ".join(differing) + ".")
    cells: list[Cell] = [name, _seeds(variant)]
    for measure in _HEADLINES:
        estimate, published = evidence.cell(variant, measure), (paper or {}).get(measure)
        cells += [estimate, published, *_held(estimate, published)]
    return cells


def _seeds(variant: Variant) -> str:
    return f"measured, {len(variant.runs)} seed{'s' if len(variant.runs) > 1 else ''}"


def _held(estimate: Interval, published: float | None) -> tuple[float | None, bool | None]:
    if published is None or estimate.value is None:
        return None, None
    if estimate.low is None or estimate.high is None:
        return estimate.value - published, None
    return estimate.value - published, estimate.low <= published <= estimate.high


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
        for row in _rows("results.csv")
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
