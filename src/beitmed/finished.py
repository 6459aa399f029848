"""Finished runs, read back from their folders alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from beitmed import artifacts, config
from beitmed.errors import UserError
from beitmed.intervals import Bools, Floats
from beitmed.metrics import margin

_DEPTH = 3  # of folders under a given one in which runs are looked for
_OURS = ("contents.json", "audit.json", "attention.json")  # folders of other commands


@dataclass(frozen=True)
class Predictions:
    """One split: labels int64 [n] or [n, labels], logits float64 [n, classes], in its order."""

    labels: np.ndarray
    logits: np.ndarray


@dataclass(frozen=True)
class FinishedRun:
    """What a run's folder says; `config` is the resolved configuration as plain values."""

    path: Path
    metrics: dict[str, Any]
    config: dict[str, Any]
    data: dict[str, Any]
    model: dict[str, Any]
    environment: dict[str, Any]
    history: list[dict[str, float | None]]
    val: Predictions
    test: Predictions

    @property
    def dataset(self) -> str:
        return self.metrics["dataset"]

    @property
    def seed(self) -> int:
        return self.metrics["seed"]

    @property
    def task(self) -> str:
        return self.metrics.get("task", "binary")

    @property
    def binary(self) -> bool:
        """Whether there is a positive class, and so a score for it."""
        return self.task == "binary"

    @property
    def single_label(self) -> bool:
        """Whether an image has one label, and argmax is its prediction."""
        return self.test.labels.ndim == 1

    @property
    def positive(self) -> int:
        return self.metrics["positive_class"]["label"]

    @cached_property
    def score(self) -> Floats:
        """Log odds of the positive class, float64 [n], of the test split."""
        return margin(self.test.logits, self.positive)

    @cached_property
    def actual(self) -> Bools:
        """Whether a test image is of the positive class, [n]."""
        result: Bools = self.test.labels == self.positive
        return result

    @cached_property
    def correct(self) -> Bools:
        """Whether argmax is right for a test image, [n]; a tie is the first class."""
        result: Bools = self.test.logits.argmax(axis=1) == self.test.labels
        return result

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The configuration without places and without what changes no prediction."""
        values = config.without_locations(self.config)
        values.pop("evaluate", None)
        return values


def find(paths: Iterable[Path]) -> tuple[list[FinishedRun], list[str]]:
    """Read every finished run in or under these folders, by path; and why others were not read.

    Raises UserError where a given path does not exist.
    """
    runs, problems, seen = [], [], set()
    for given in paths:
        if not given.is_dir():
            raise UserError(
                f"{given}: no such folder. Give run folders, or the folder that holds them (where "
                "training wrote to: output_dir, by default outputs)."
            )
        folders = list(_candidates(given, _DEPTH))
        if not folders:
            problems.append(f"{given}: no run in it (a run's folder has a config.yaml).")
        for folder in folders:
            if (resolved := folder.resolve()) in seen:
                continue
            seen.add(resolved)
            try:
                runs.append(read(folder))
            except UserError as e:
                problems.append(str(e))
    return sorted(runs, key=lambda run: str(run.path)), problems


def _candidates(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / name).exists() for name in ("config.yaml", "metrics.json")):
        yield folder
    elif depth and not any((folder / name).exists() for name in _OURS):
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _candidates(child, depth - 1)


def read(folder: Path) -> FinishedRun:
    """Read one run. Raises UserError that names the file and what is wrong with it."""
    if not (folder / "metrics.json").exists():
        raise UserError(
            f"{folder}: not finished (no metrics.json); give its command again and it goes on."
        )
    metrics = _json(folder / "metrics.json")
    if (found := metrics.get("format")) != artifacts.FORMAT:
        raise UserError(
            f"{folder / 'metrics.json'}: format {found!r}, but this version reads "
            f"{artifacts.FORMAT}; run it again, or use the version of beitmed that wrote it."
        )
    try:
        resolved = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise UserError(f"{folder / 'config.yaml'}: cannot be read ({e}).") from e
    val, test = _predictions(folder / "predictions.csv")
    run = FinishedRun(
        folder,
        metrics,
        resolved if isinstance(resolved, dict) else {},
        data=_json(folder / "data.json"),
        model=_json(folder / "model.json"),
        environment=_json(folder / "environment.json"),
        history=_history(folder / "history.csv"),
        val=val,
        test=test,
    )
    _check(run)
    return run


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e}); run it again under another name.") from e
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {type(values).__name__}, not an object by name.")
    return values


def _history(path: Path) -> list[dict[str, float | None]]:
    try:
        with path.open(newline="", encoding="utf-8") as f:
            return [
                {k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(f)
            ]
    except (OSError, ValueError, TypeError, AttributeError) as e:
        raise UserError(f"{path}: cannot be read ({e}).") from e


def _predictions(path: Path) -> tuple[Predictions, Predictions]:
    """The validation and the test split of a predictions.csv."""
    try:
        with path.open(newline="", encoding="utf-8") as f:
            header, *rows = list(csv.reader(f))
        labels = [i for i, name in enumerate(header) if name.startswith("label")]
        logits = [i for i, name in enumerate(header) if name.startswith("logit_")]
        splits = []
        for split in ("val", "test"):
            chosen = [row for row in rows if row[0] == split]
            label = np.array([[int(row[i]) for i in labels] for row in chosen], np.int64)
            logit = np.array([[float(row[i]) for i in logits] for row in chosen], np.float64)
            if [int(row[1]) for row in chosen] != list(range(len(chosen))) or not np.isfinite(
                logit
            ).all():
                raise ValueError(f"rows of {split} are missing, out of order or not finite")
            splits.append(Predictions(label[:, 0] if len(labels) == 1 else label, logit))
    except (OSError, ValueError, IndexError) as e:
        raise UserError(f"{path}: cannot be read ({e}); the run has to be made again.") from e
    return splits[0], splits[1]


def _check(run: FinishedRun) -> None:
    """Raise UserError where the files of a folder do not belong together."""
    try:
        n, seed = run.metrics["n"]["test"], run.config["seed"]
        needed = (run.metrics["test"]["auc"], run.metrics["caveats"], run.dataset)
        positive = run.positive if run.binary else None
    except (KeyError, TypeError) as e:
        raise UserError(f"{run.path}: metrics.json or config.yaml lacks {e}.") from e
    if len(run.test.labels) != n or seed != run.seed or not needed:
        raise UserError(
            f"{run.path}: its files do not belong together: metrics.json has seed {run.seed} and "
            f"{n} test images, config.yaml seed {seed}, predictions.csv {len(run.test.labels)}."
        )
    if positive is not None and positive not in (0, 1):
        raise UserError(f"{run.path / 'metrics.json'}: positive class {positive!r}, not 0 or 1.")
