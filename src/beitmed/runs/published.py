"""The paper's own runs beside one of ours: which figures they had, and what can be said of them.

The figures are package data (`beitmed/published/*.csv`), each with its protocol and source. The
paper's rows are single runs with seed 42, as its authors' notebook printed them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from beitmed import config
from beitmed.config import Config
from beitmed.statistics import planning
from beitmed.statistics.estimates import Estimate

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
_MEANING = {"trunk_mode": "; train keeps drop path in the frozen layers"}
ROUNDING = 1e-4  # to which the paper's figures were printed


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a file of published results."""
    text = resources.files("beitmed").joinpath("published", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def figures(row: Mapping[str, str]) -> dict[str, float]:
    """The test figures of such a row."""
    return {"auc": float(row["test_auc"]), "accuracy": float(row["test_acc"])}


def paper_run(cfg: Config) -> dict[str, float] | None:
    """The paper's own test figures (auc, accuracy) for a run's dataset, size and balance, or None.

    None also for what is no BEiT that was trained, or was on a part of the labels: the paper has
    nothing to hold it against.
    """
    if not cfg.trains_backbone or cfg.backbone.family != "beit" or cfg.part_of_labels:
        return None
    for row in rows("paper_runs.csv"):
        if (f"{row['dataset']}mnist", int(row["size"]), row["balanced"]) == (
            cfg.dataset.flag, cfg.size, str(cfg.balanced).lower()
        ):  # fmt: skip
            return figures(row)
    return None


def departures(cfg: Config, official: bool) -> list[str]:
    """In what a run is not the paper's, as `key=value` (the paper's in brackets); YAML's values.

    official: whether its data file is the official one.
    """
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
    if cfg.backbone.random_weights:
        said.append("RANDOM weights (paper: pre-trained)")
    if not official:
        said.append("the data file is not the official one")
    return said


def beside(cfg: Config, official: bool, estimates: Mapping[str, Estimate]) -> dict[str, Any] | None:
    """What can be said of the paper's run of a variant and this one, as JSON values; or None.

    Of each figure: the paper's, ours less it, and the 95 % interval that such a difference has
    between two single trainings that differ by their seed alone, on the same test images. How far
    seeds lie apart is unknown of one run, and assumed from published networks (`assumed_sd`).
    """
    paper = paper_run(cfg)
    if paper is None or cfg.dataset.flag is None:
        return None
    found: dict[str, Any] = {"departures": departures(cfg, official)}
    for name, figure in paper.items():
        sd, of = assumed_sd(cfg.dataset.flag, name)
        value = estimates[name].value
        if value is None:
            continue
        difference = planning.beside_published(
            np.array([value]), figure, rounding=ROUNDING, assumed_sd=sd
        )
        assert difference is not None
        found[name] = {
            "paper": figure, "difference": difference.difference, "ci_low": difference.low,
            "ci_high": difference.high, "assumed_sd": sd, "networks": of,
        }  # fmt: skip
    return found


def assumed_sd(flag: str, name: str) -> tuple[float, int]:
    """How far seeds lie apart: the root mean square over published networks, and their number.

    They are the networks trained on the dataset of which standard deviations were published, of
    three seeds each (Doerrich et al. 2025).
    """
    column = {"auc": "auc_std", "accuracy": "acc_std"}[name]
    known = [float(row[column]) for row in rows("results.csv")
             if row["dataset"] == flag and row[column]]  # fmt: skip
    return math.sqrt(sum(x**2 for x in known) / len(known)), len(known)


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What `beside` found, for a reader."""
    said = []
    for name, label in (("auc", "AUC"), ("accuracy", "accuracy")):
        if (one := found.get(name)) is None:
            continue
        apart = one["ci_low"] > 0 or one["ci_high"] < 0
        verdict = "more than seeds explain" if apart else "no more than seeds can explain"
        said.append(
            f"The paper's {label}: {one['paper']:.4f}. This run less the paper's: "
            f"{one['difference']:+.3f} [{one['ci_low']:+.3f}, {one['ci_high']:+.3f}], {verdict}, "
            f"if seeds lie {one['assumed_sd']:.3f} apart (standard deviation of {one['networks']} "
            "published networks)."
        )
    where = "; ".join(found["departures"])
    said.append(
        "The intervals are those of two single trainings with the same protocol on the same test "
        "images. " + (f"This run departs from it: {where}." if where else "It is the paper's.")
    )
    return said


def plainly(value: Any) -> str:
    """A value as YAML has it, so that it can be given on the command line again."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
