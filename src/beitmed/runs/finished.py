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

from beitmed import config, tasks
from beitmed.errors import UserError
from beitmed.runs import artifacts
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.intervals import Bools, Floats
from beitmed.tasks import Task
from beitmed.tasks.binary import margin

_DEPTH = 3  # of folders under a given one in which runs are looked for
_OURS = {"contents.json", "audit.json", "attention.json"}  # folders of other commands
# PyYAML's own C loader is ten times as fast as its Python one; not every platform's wheel has it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_AGAIN = "run it again under another name (name=...)"


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
    def task(self) -> Task:
        return tasks.of(self.metrics["task"])

    @property
    def binary(self) -> bool:
        """Whether there is a positive class, and so a score for it."""
        return self.task.has_positive

    @property
    def single_label(self) -> bool:
        """Whether an image has one label, and argmax is its prediction."""
        return not self.task.several_labels

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
    def one_against_others(self) -> tuple[Bools, Floats]:
        """Test images of each class or label [n, classes], and its log odds there [n, classes]."""
        labels, logits = self.test.labels, self.test.logits
        return self.task.members(labels, logits.shape[1]), self.task.log_odds(logits)

    @cached_property
    def correct(self) -> Bools:
        """Whether argmax is right for a test image, [n]; a tie is the first class."""
        result: Bools = self.task.called(self.test.logits) == self.test.labels
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
    runs: list[FinishedRun] = []
    problems: list[str] = []
    seen: set[Path] = set()
    for given in paths:
        if not given.is_dir():
            raise UserError(
                f"{given}: no such folder. Give run folders, or the folder that holds them (where "
                "training wrote to: output_dir, by default outputs)."
            )
        folders = list(_candidates(given, _DEPTH, problems))
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


def _candidates(folder: Path, depth: int, problems: list[str]) -> Iterator[Path]:
    try:
        names = {entry.name: entry for entry in folder.iterdir()}
        if names.keys() & {"config.yaml", "metrics.json"}:
            yield folder
            return
        inner = [] if names.keys() & _OURS else [names[n] for n in sorted(names) if n[0] != "."]
        inner = [child for child in inner if depth and child.is_dir()]
    except OSError as e:
        problems.append(f"{folder}: cannot be read ({e.strerror}).")
        return
    for child in inner:
        yield from _candidates(child, depth - 1, problems)


def read(folder: Path) -> FinishedRun:
    """Read one run. Raises UserError that names the file and what is wrong with it."""
    if not (folder / "metrics.json").exists():
        raise UserError(
            f"{folder}: no finished run (no metrics.json). If it is a run of beitmed, give its "
            "command again and it goes on."
        )
    summary = _json(folder / "metrics.json")
    if (found := summary.get("format")) != artifacts.FORMAT:
        raise UserError(
            f"{folder / 'metrics.json'}: format {found!r}, but this version reads "
            f"{artifacts.FORMAT}; run it again, or use the version of beitmed that wrote it."
        )
    val, test = _predictions(folder / "predictions.csv")
    run = FinishedRun(
        folder,
        summary,
        _config(folder / "config.yaml"),
        data=_json(folder / "data.json"),
        model=_json(folder / "model.json"),
        environment=_json(folder / "environment.json"),
        history=_history(folder / "history.csv"),
        val=val,
        test=test,
    )
    try:
        wrong = _contradictions(run)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        what = f"lacks {e}" if isinstance(e, KeyError) else f"are not of the expected form ({e})"
        raise UserError(
            f"{folder}: metrics.json, config.yaml or data.json {what}; {_AGAIN}."
        ) from e
    if wrong:
        raise UserError(
            f"{folder}: its files do not belong together: {'; '.join(wrong)}. "
            f"Take the folder back from where it was made, or {_AGAIN}."
        )
    return run


def _config(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise UserError(f"{path}: cannot be read ({e}); {_AGAIN}.") from e
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {type(values).__name__}, not values by name; {_AGAIN}.")
    return values


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e}); {_AGAIN}.") from e
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {type(values).__name__}, not an object by name; {_AGAIN}.")
    return values


def _history(path: Path) -> list[dict[str, float | None]]:
    try:
        with path.open(newline="", encoding="utf-8") as f:
            return [
                {k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(f)
            ]
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read ({e}); {_AGAIN}.") from e


def _predictions(path: Path) -> tuple[Predictions, Predictions]:
    """The validation and the test split of a predictions.csv."""
    try:
        with path.open(newline="", encoding="utf-8") as f:
            rows = csv.reader(f)
            header = next(rows, [])
            labels = sum(name.startswith("label") for name in header)
            logits = sum(name.startswith("logit_") for name in header)
            if [name.partition("_")[0] for name in header] != (
                ["split", "index"] + ["label"] * labels + ["logit"] * logits
            ) or not (labels and logits > 1):
                raise ValueError(f"columns {', '.join(header) or 'lacking'}")
            splits: dict[str, list[list[str]]] = {}
            for row in rows:
                if len(row) != len(header):
                    raise ValueError(f"line {rows.line_num} has {len(row)} fields")
                splits.setdefault(row[0], []).append(row)
        return _split(splits, "val", labels), _split(splits, "test", labels)
    except (OSError, ValueError, OverflowError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read ({e}); {_AGAIN}.") from e


def _split(splits: dict[str, list[list[str]]], name: str, labels: int) -> Predictions:
    rows = splits.get(name, [])  # none of "val" is allowed: metrics.json says how many there are
    complete = [row[1] for row in rows] == [str(i) for i in range(len(rows))]
    if not complete or (name == "test" and not rows):
        raise ValueError(f"rows of {name} are missing or out of order")
    classes = len(rows[0]) - 2 - labels if rows else 2
    label = np.array([[int(field) for field in row[2 : 2 + labels]] for row in rows], np.int64)
    label = label.reshape(-1, labels)
    logit = np.array([row[2 + labels :] for row in rows], np.float64).reshape(-1, classes)
    if not np.isfinite(logit).all():
        raise ValueError(f"rows of {name} are not finite")
    largest = 1 if labels > 1 else logit.shape[1] - 1
    if rows and (label.min() < 0 or label.max() > largest or labels not in (1, classes)):
        raise ValueError(f"labels of {name}: found {label.min()} to {label.max()}")
    return Predictions(label[:, 0] if labels == 1 else label, logit)


def _contradictions(run: FinishedRun) -> list[str]:
    """In what the files of a folder contradict one another.

    Raises KeyError, TypeError or ValueError where something is lacking that a report reads.
    """
    m, cfg = run.metrics, run.config
    _expect(run)
    classes = len(run.data["class_names"])
    # A baseline says in metrics.json which it is, and its config.yaml has keys that it never read.
    plain, named = (
        (("seed", "size", "balanced"), ("dataset", "method"))
        if "method" in m
        else (("seed", "size", "balanced", "unfreeze"), ("dataset", "backbone"))
    )
    facts: list[tuple[str, object, str, object]] = [
        (f"{key} is", m[key], "in metrics.json, in config.yaml", cfg[key])
        for key in plain
        if key in cfg
    ]
    facts += [
        (f"{key} is", m[key], "in metrics.json, in config.yaml", cfg[key]["name"])
        for key in named
        if key in cfg
    ]
    for name, split in (("val", run.val), ("test", run.test)):
        rows = len(split.labels)
        facts.append((f"{name} images:", m["n"][name], "in metrics.json, in predictions.csv", rows))
        counted = run.task.members(split.labels, classes).sum(axis=0).tolist()
        stated = run.data["images_by_class"][name]
        facts.append((f"{name} images by class:", stated, "in data.json, in predictions.csv",
                      counted))  # fmt: skip
    for name, value in _headlines(run).items():
        stated = m["test"][name]["value"]
        same = stated is value is None or (
            stated is not None and value is not None and abs(stated - value) < 1e-9
        )
        facts.append((f"test {name}:", value if same else stated,
                      "in metrics.json, of predictions.csv", value))  # fmt: skip
    return [f"{what} {a} {where} {b}" for what, a, where, b in facts if a != b]


def _expect(run: FinishedRun) -> None:
    m, test = run.metrics, run.metrics["test"]
    names = run.data["class_names"]
    if not isinstance(names, list) or len(names) != run.test.logits.shape[1]:
        raise ValueError(f"class names {names}, but {run.test.logits.shape[1]} logits")
    if not isinstance(m["caveats"], list) or not all(isinstance(c, str) for c in m["caveats"]):
        raise TypeError(f"caveats {m['caveats']!r}")
    if not isinstance(run.seed, int) or not isinstance(m["n"]["train"], int):
        raise TypeError(f"seed {run.seed!r}, train images {m['n']['train']!r}")
    for estimate in test.values():
        Estimate(**estimate)
    if run.binary:
        labels = [m[key]["label"] for key in ("positive_class", "negative_class")]
        if sorted(labels) != [0, 1] or not all(
            isinstance(m[key]["name"], str) for key in ("positive_class", "negative_class")
        ):
            raise ValueError(f"positive and negative class {labels}, not 0 and 1")


def _headlines(run: FinishedRun) -> dict[str, float | None]:
    """The test AUC and accuracy, computed anew from the predictions."""
    positive = run.positive if run.task.has_positive else None
    return run.task.score(run.test.logits, run.test.labels, positive)
