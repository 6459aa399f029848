"""Published results beside measured ones: the paper's tables 1 and 2, and what stands around them.

The figures are package data (`beitmed/published/*.csv`), each with its protocol and source. The
paper's own rows are single runs with seed 42, as its authors' notebook printed them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from beitmed.finished import FinishedRun
from beitmed.report.document import Cell, Column, Interval, Table, text
from beitmed.report.variants import TestSet, Variant, flatten, method

_PAPER = "Baietti and Carlesso, notebook output"
_BENCHMARK = "MedMNIST v2 official benchmark"
#: What the paper's recipe fixes beyond dataset, size and balance. trunk_mode is compared with its
#: default here: the paper trained with drop path in the frozen layers.
_RECIPE = {
    "backbone.name": "beit_large",
    "backbone.weights": "microsoft/beit-large-patch16-224-pt22k",
    "unfreeze": 5,
    "trunk_mode": "train",
    "train.epochs": 5,
    "train.max_steps": None,
    "train.learning_rate": 3e-4,
    "train.schedule": "linear",
    "train.warmup_steps": 0,
    "train.max_grad_norm": 1.0,
    "precision": "fp32",
    "data.limit": None,
}
#: Baselines that were published, by method: the name there, and the protocol of its figures.
_BASELINES: dict[str, tuple[str, dict[str, Any]]] = {
    name: (title, {"epochs": 100, "batch_size": 128, "learning_rate": 1e-3,
                   "milestones": [0.5, 0.75], "decay": 0.1})
    for name, title in (("resnet18", "ResNet-18"), ("resnet50", "ResNet-50"))
} | {"automl": ("auto-sklearn", {})}  # fmt: skip
#: AUC and accuracy of one variant, means over its seeds.
Headlines = tuple[Interval, Interval]


def _rows(name: str) -> list[dict[str, str]]:
    text_ = resources.files("beitmed").joinpath("published", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text_.splitlines()))


def paper_run(run: FinishedRun) -> tuple[float, float] | None:
    """The paper's own test AUC and accuracy for a run's dataset, size and balance, or None."""
    for row in _rows("paper_runs.csv"):
        if (
            f"{row['dataset']}mnist" == run.config["dataset"].get("flag")
            and int(row["size"]) == run.metrics["size"]
            and row["balanced"] == str(run.metrics["balanced"]).lower()
        ):
            return float(row["test_auc"]), float(row["test_acc"])
    return None


def departures(run: FinishedRun) -> list[str]:
    """In what a run is not the paper's, as `key=value` (the paper's in brackets)."""
    own = flatten(run.config)
    recipe = run.config["dataset"]["recipe"]["balanced" if run.metrics["balanced"] else "full"]
    expected = dict(_RECIPE) | {
        "train.batch_size": recipe["batch_size"],
        "train.weight_decay": recipe["weight_decay"],
        "majority_ratio": recipe["majority_ratio"],
    }
    said = [
        f"{key}={own.get(key)} (paper: {value})"
        for key, value in expected.items()
        if own.get(key) != value
    ]
    if not run.data.get("official"):
        said.append("data file not the official one")
    return said


def paper_table(test_set: TestSet, measured: Mapping[str, Headlines]) -> Table | None:
    """The paper's table of one dataset: measured rows, its own numbers, published baselines.

    measured: by variant name. None for a dataset of which nothing is published.
    """
    flag = test_set.first.config["dataset"].get("flag")
    published = [row for row in _rows("results.csv") if row["dataset"] == flag]
    if not published:
        return None
    notes: list[str] = []
    rows: list[Sequence[Cell]] = []
    others = [row for row in published if row["source"] == _BENCHMARK]
    for variant in sorted(test_set.variants, key=lambda v: method(v.first) in _BASELINES):
        if method(variant.first) == "backbone":
            rows.append(_measured(variant, measured[variant.name], notes))
            continue
        rows.append(_baseline(variant, measured[variant.name], notes))
        same = [row for row in others if _counterpart(row, variant.first)]
        last = [v for v in test_set.variants if _same_method(v, variant)][-1]
        if variant is last:  # what was published of a method stands right below it
            rows += [_published(row, notes) for row in same]
            others = [row for row in others if row not in same]
    rows += [_published(row, notes) for row in others]
    paper = [Column(f"{what} in the paper", 3) for what in ("AUC", "Accuracy")]
    return Table(
        id=f"paper-{test_set.id}",
        title=f"{test_set.name}: measured and published, in the layout of the paper's table",
        columns=[
            Column("Method"),
            Column("Origin", meaning="measured here, or published"),
            Column("AUC", meaning="mean over seeds with its 95 % interval where measured"),
            paper[0],
            Column("Difference", 3, "measured minus the paper's"),
            Column("Interval holds it", meaning="the measured 95 % interval holds the paper's"),
            Column("Accuracy", meaning="mean over seeds with its 95 % interval where measured"),
            paper[1],
            Column("Difference", 3, "measured minus the paper's"),
            Column("Interval holds it", meaning="the measured 95 % interval holds the paper's"),
        ],
        rows=rows,
        notes=[
            *notes,
            "Rows stand in a fixed order, not in one of merit. Published rows are single figures "
            "without intervals; with "
            f"{test_set.n} test images an interval around each is about as wide as those shown.",
        ],
    )


def _published(row: Mapping[str, str], notes: list[str]) -> list[Cell]:
    name = row["method"] + (f" ({row['size']})" if "ResNet" in row["method"] else "")
    mark = _note(notes, f"Published: {row['source']}; {row['protocol']}.")
    auc, accuracy = float(row["test_auc"]), float(row["test_acc"])
    return [f"{name} {mark}", "published", auc, *[None] * 3, accuracy, *[None] * 3]


def _counterpart(row: Mapping[str, str], run: FinishedRun) -> bool:
    """Whether a published row is of a run's method and size."""
    title, _ = _BASELINES.get(method(run), ("", {}))
    return row["method"] == title and int(row["size"]) == run.metrics["size"]


def _same_method(one: Variant, other: Variant) -> bool:
    a, b = one.first, other.first
    return method(a) == method(b) and a.metrics["size"] == b.metrics["size"]


def _baseline(variant: Variant, headlines: Headlines, notes: list[str]) -> list[Cell]:
    """A baseline's row: the paper trained none, so its columns stay empty."""
    name = variant.name
    if differing := baseline_departures(variant.first):
        name += " " + _note(notes, "Not the published protocol: " + ", ".join(differing) + ".")
    auc, accuracy = headlines
    seeds = f"measured, {len(variant.runs)} seed(s)"
    return [name, seeds, auc, *[None] * 3, accuracy, *[None] * 3]


def baseline_departures(run: FinishedRun) -> list[str]:
    """In what a run of a published baseline's method is not that protocol; [] for other methods."""
    name = method(run)
    if name not in _BASELINES:
        return []
    own = run.config.get("method", {})
    said = [
        f"method.{key}={own.get(key)} (published: {value})"
        for key, value in _BASELINES[name][1].items()
        if own.get(key) != value
    ]
    if name == "automl":
        said.append(f"FLAML for {own.get('time_budget_s')} s stands in for auto-sklearn")
    elif run.metrics["size"] != 28:
        said.append("images of this size (published: 28 px enlarged to 224)")
    if run.metrics["balanced"]:
        said.append("balanced=True (published: all images)")
    if run.config.get("data", {}).get("limit") is not None:
        said.append(f"data.limit={run.config['data']['limit']}")
    if not run.data.get("official"):
        said.append("data file not the official one")
    return said


def _measured(variant: Variant, headlines: Headlines, notes: list[str]) -> list[Cell]:
    paper = paper_run(variant.first)
    name = variant.name
    if paper is not None and (differing := departures(variant.first)):
        name += " " + _note(notes, "Not the paper's protocol: " + ", ".join(differing) + ".")
    cells: list[Cell] = [name, f"measured, {len(variant.runs)} seed(s)"]
    for estimate, published in zip(headlines, paper or (None, None), strict=True):
        cells += [estimate, published, *_held(estimate, published)]
    return cells


def _held(estimate: Interval, published: float | None) -> tuple[float | None, bool | None]:
    if published is None or estimate.value is None:
        return None, None
    if estimate.low is None or estimate.high is None:
        return estimate.value - published, None
    return estimate.value - published, estimate.low <= published <= estimate.high


def _note(notes: list[str], said: str) -> str:
    """The mark of a footnote, made once for each text."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    found = [i for i, note in enumerate(notes) if note.partition(" ")[2] == said]
    if not found:
        notes.append(f"({letters[len(notes) % 26]}) {said}")
        found = [len(notes) - 1]
    return f"({letters[found[0] % 26]})"


def anchors_table(test_set: TestSet) -> Table | None:
    """Published results of other protocols, which a reader will want to hold ours against."""
    flag = test_set.first.config["dataset"].get("flag")
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
