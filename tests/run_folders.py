"""Run folders in the format of a finished run, from generated logits instead of training."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from conftest import resolve

from beitmed import config, tasks
from beitmed.config import Config
from beitmed.data import medmnist_files
from beitmed.runs import predictions, reader
from beitmed.runs.predictions import Predictions

N = {"train": 60, "val": 24, "test": 40}
HISTORY = ("epoch", "step", "learning_rate", "train_loss", "val_loss", "val_auc", "val_accuracy")


@cache
def resolved(overrides: tuple[str, ...]) -> Config:
    return resolve(*overrides)


def class_names(cfg: Config) -> tuple[str, ...]:
    if cfg.dataset.flag is None:
        return ("left", "right")
    labels = medmnist_files.info(cfg.dataset.flag)["label"]
    return tuple(labels[str(i)] for i in range(len(labels)))


def labels_of(cfg: Config, n: int, shift: int = 0) -> np.ndarray:
    k = len(class_names(cfg))
    base = (np.arange(n) * 7 + shift) % k if k > 2 else ((np.arange(n) + shift) % 4 > 0).astype(int)
    if cfg.dataset.task != "multilabel":
        return base.astype(np.int64)
    return (np.arange(k) == base[:, None]).astype(np.int64)


def make(
    folder: Path,
    *overrides: str,
    logits: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    skill: float = 1.5,
    draw: int | None = None,
    md5: str | None = "0" * 32,
    official: bool = True,
    trunk: str = "t" * 64,
    n_val: int = N["val"],
    data: dict[str, Any] | None = None,
    groups: Sequence[str] | None = None,
) -> Path:
    """Write one run: `skill` moves the right logit up, `draw` seeds the noise (default: the seed).

    logits [n, classes] and labels: of the test split, where given. data: of data.json. groups: the
    patients of the test images.
    """
    cfg = resolved(overrides)
    names = class_names(cfg)
    rng = np.random.default_rng(cfg.seed if draw is None else draw)
    split_labels = {name: labels_of(cfg, n) for name, n in N.items()}
    split_labels["val"] = split_labels["val"][:n_val]
    if labels is not None:
        split_labels["test"] = labels
    made = {s: _noise(split_labels[s], len(names), skill, rng) for s in ("val", "test")}
    if logits is not None:
        made["test"] = logits
    folder.mkdir(parents=True, exist_ok=True)
    _config(folder, cfg)
    of_file = {"md5": md5, "official": official}
    data = {**of_file, **_data(cfg, split_labels, "" if official else str(md5)), **(data or {})}
    _json(folder / "data.json", data)
    _json(folder / "model.json", {"weights": cfg.backbone.weights, "trunk_sha256": trunk})
    _json(
        folder / "environment.json",
        {"beitmed": "0.1.0", "torch": "2.15.0", "transformers": "5.23.0"},
    )
    rows = [[e, 9 * e, 1e-3 / e, 0.7 / e, 0.8 / e, 0.6, 0.7] for e in (1.0, 2.0)]
    _csv(folder / "history.csv", HISTORY, rows)
    _predictions(folder / "predictions.csv", split_labels, made, groups)
    metrics = {"run": folder.name, **_metrics(cfg, split_labels, made)}
    _json(folder / "metrics.json", {"format": reader.FORMAT, **metrics})
    return folder


def _noise(y: np.ndarray, k: int, skill: float, rng: np.random.Generator) -> np.ndarray:
    member = y if y.ndim == 2 else y[:, None] == np.arange(k)
    return rng.normal(size=(len(y), k)) + skill * member - (y.ndim == 2)


def _data(cfg: Config, labels: dict[str, np.ndarray], file: str) -> dict[str, Any]:
    names = class_names(cfg)
    counts = {
        s: (y.sum(axis=0) if y.ndim == 2 else np.bincount(y, minlength=len(names))).tolist()
        for s, y in labels.items()
    }
    return {
        "source": f"{cfg.dataset.flag}.npz", "class_names": list(names),
        "images": {s: len(y) for s, y in labels.items()}, "images_by_class": counts,
        "trained_on_by_class": counts["train"],
        "digests": {
            s: hashlib.sha256(f"{cfg.dataset.name} {cfg.size} {file} {y}".encode()).hexdigest()
            for s, y in labels.items()
        },
    }  # fmt: skip


def _predictions(
    path: Path, labels: dict[str, np.ndarray], made: dict[str, np.ndarray],
    groups: Sequence[str] | None,
) -> None:  # fmt: skip
    of_val = None if groups is None else tuple(f"v{i}" for i in range(len(labels["val"])))
    of_test = None if groups is None else tuple(groups)
    header, rows = predictions.table({
        "val": Predictions(labels["val"], made["val"], of_val),
        "test": Predictions(labels["test"], made["test"], of_test),
    })  # fmt: skip
    _csv(path, header, rows)


def _metrics(
    cfg: Config, labels: dict[str, np.ndarray], made: dict[str, np.ndarray]
) -> dict[str, Any]:
    names = class_names(cfg)
    estimates = tasks.evaluate(
        tasks.of(cfg.dataset.task),
        logits=made,
        labels=labels,
        class_names=names,
        positive=cfg.dataset.positive_label,
        seed=0,
        n_resamples=100,
    )
    return {
        "caveats": [], **reader.described(cfg), **reader.classes(cfg, names),
        "epochs": 2.0, "trained_parameters": 1, "parameters": 2,
        "evaluation": config.evaluation(cfg),
        "n": {s: len(y) for s, y in labels.items()},
        "test": {name: estimate.as_dict() for name, estimate in estimates.items()},
    }  # fmt: skip


def edit(path: Path, **changes: Any) -> None:
    """Change values of a JSON file, by key; a value of None drops the key."""
    values = json.loads(path.read_text()) | changes
    _json(path, {k: v for k, v in values.items() if changes.get(k, ...) is not None})


def _config(folder: Path, cfg: Config) -> None:
    values = cfg.model_dump(mode="json")
    (folder / "config.yaml").write_text("# a run\n" + yaml.safe_dump(values, sort_keys=False))


def _json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")


def _csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([header, *rows])
