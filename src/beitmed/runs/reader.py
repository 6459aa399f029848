"""Run folders read back: the one reader of what a run has written."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from beitmed import config, tasks
from beitmed.config import Config
from beitmed.config.fields import Decides
from beitmed.errors import UserError
from beitmed.runs import external_tests, predictions
from beitmed.runs.predictions import Predictions
from beitmed.statistics.estimates import Estimate
from beitmed.statistics.level import Bools, Floats
from beitmed.tasks import Task

FORMAT = 2  # of metrics.json and its neighbours; a reader refuses what it does not know
CONFIG, METRICS, PREDICTIONS = "config.yaml", "metrics.json", "predictions.csv"
ENVIRONMENT = "environment.json"
PRETRAINING = "pretraining.json"  # marks a pre-training as done
_DEPTH = 3  # of folders under a given one in which runs are looked for
# Folders of other commands.
_OURS = {"contents.json", "audit.json", "explanation.json", external_tests.FILE}
# PyYAML's own C loader is ten times as fast as its Python one; not every platform's wheel has it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_AGAIN = "run it again under another name (name=...)"


@dataclass(frozen=True)
class FinishedRun:
    """What a run's folder says.

    config: as it was resolved, with what its latest evaluation asked for.
    """

    path: Path
    metrics: dict[str, Any]
    config: Config
    data: dict[str, Any]
    model: dict[str, Any]
    environment: dict[str, Any]
    history: list[dict[str, float | None]]
    val: Predictions
    test: Predictions

    @property
    def dataset(self) -> str:
        return self.config.dataset.name

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def task(self) -> Task:
        return tasks.of(self.config.dataset.task)

    @property
    def binary(self) -> bool:
        """Whether there is a positive class, and so a score for it."""
        return self.task.has_positive

    @property
    def positive(self) -> int:
        assert self.config.dataset.positive_label is not None
        return self.config.dataset.positive_label

    @cached_property
    def score(self) -> Floats:
        """Log odds of the positive class, float64 [n], of the test split."""
        result: Floats = self.task.log_odds(self.test.logits)[:, self.positive]
        return result

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


def is_finished(folder: Path) -> bool:
    """Whether the file stands in a run's folder that is written last."""
    return any((folder / name).exists() for name in (METRICS, PRETRAINING))


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
        if not folders and not external_tests.folders_in(given):
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
        if PRETRAINING in names:  # has a configuration, and predicts nothing
            return
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
    if not (folder / METRICS).exists():
        raise UserError(
            f"{folder}: no finished run (no metrics.json). If it is a run of beitmed, give its "
            "command again and it goes on."
        )
    summary = read_json(folder / METRICS)
    run = FinishedRun(
        folder,
        summary,
        _evaluated(folder, summary),
        data=read_json(folder / "data.json"),
        model=read_json(folder / "model.json"),
        environment=read_json(folder / ENVIRONMENT),
        history=read_history(folder),
        **read_predictions(folder),
    )
    try:
        wrong = _contradictions(run)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        what = f"lacks {e}" if isinstance(e, KeyError) else f"are not of the expected form ({e})"
        raise UserError(f"{folder}: metrics.json or data.json {what}; {_AGAIN}.") from e
    if wrong:
        raise UserError(
            f"{folder}: its files do not belong together: {'; '.join(wrong)}. "
            f"Take the folder back from where it was made, or {_AGAIN}."
        )
    return run


def read_config(folder: Path, changes: Sequence[str] = (), kind: type[Config] = Config) -> Config:
    """The configuration of the run in `folder`, checked as one from the command line is.

    changes: `key=value` for what decides no number, where the run was moved to another machine.
    kind: what its configuration is of.
    Raises UserError if the folder is no run's, if its config.yaml is damaged or of another
    version, or if a change is not allowed.
    """
    file = folder / CONFIG
    if not file.is_file():
        raise UserError(
            f"{folder}: is not a run's folder (it has no config.yaml). Give a folder that "
            "`beitmed train` made, such as outputs/<run>."
        )
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _LOADER)
        if not isinstance(values, dict):
            raise ValueError(f"it holds {type(values).__name__}, not keys and values")
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise UserError(f"{file}: cannot be read ({e}). Restore it, or {_AGAIN}.") from e
    try:
        cfg = config.check(values, kind)
    except UserError as e:
        raise UserError(
            f"{file}: was written by another version of beitmed, or changed by hand: {e}"
        ) from e
    return config.changed(cfg, changes, Decides.NOTHING)


def read_predictions(folder: Path) -> dict[str, Predictions]:
    """The validation and the test split, by name."""
    try:
        return predictions.read(folder / PREDICTIONS)
    except (OSError, ValueError, OverflowError, csv.Error) as e:
        raise UserError(f"{folder / PREDICTIONS}: cannot be read ({e}); {_AGAIN}.") from e


def read_json(path: Path) -> dict[str, Any]:
    """A file's values by name. Raises UserError where it is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e}); {_AGAIN}.") from e
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds {type(values).__name__}, not values by name; {_AGAIN}.")
    return values


def read_history(folder: Path) -> list[dict[str, float | None]]:
    """A row an epoch, by column; what is undefined is None."""
    path = folder / "history.csv"
    try:
        with path.open(newline="", encoding="utf-8") as f:
            return [
                {k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(f)
            ]
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read ({e}); {_AGAIN}.") from e


def read_trained(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images that were trained on: indices int64 [n] and labels int64 [n], or [n, labels]."""
    path = folder / "train_indices.csv"
    try:
        with warnings.catch_warnings(action="error"):  # of a file without rows
            table = np.loadtxt(
                path, np.int64, comments=None, delimiter=",", skiprows=1, ndmin=2, encoding="utf-8"
            )
        return table[:, 0], table[:, 1] if table.shape[1] == 2 else table[:, 1:]
    except (OSError, ValueError, UserWarning) as e:
        raise UserError(f"{path}: cannot be read ({e}); {_AGAIN}.") from e


def read_evaluated_config(folder: Path) -> Config:
    """The configuration of a run, with what its latest evaluation, if any, asked for."""
    if not (folder / METRICS).exists():
        return read_config(folder)
    return _evaluated(folder, read_json(folder / METRICS))


def _evaluated(folder: Path, summary: dict[str, Any]) -> Config:
    file = folder / METRICS
    if (found := summary.get("format")) != FORMAT:
        raise UserError(
            f"{file}: format {found!r}, but this version reads {FORMAT}; run it again, or use the "
            "version of beitmed that wrote it."
        )
    asked = summary.get("evaluation")
    if not isinstance(asked, dict):
        raise UserError(f"{file}: lacks what was asked for (evaluation); {_AGAIN}.")
    changes = [f"{key}={json.dumps(value)}" for key, value in asked.items()]
    return config.changed(read_config(folder), changes, Decides.EVALUATION)


def _contradictions(run: FinishedRun) -> list[str]:
    """In what the files of a folder contradict one another.

    Raises KeyError, TypeError or ValueError where something is lacking that a report reads.
    """
    _expect(run)
    m, names = run.metrics, run.data["class_names"]
    stated = described(run.config) | classes(run.config, names)
    facts: list[tuple[str, object, str, object]] = [
        (f"{key} is", m[key], "in metrics.json, in config.yaml", value)
        for key, value in stated.items()
    ]
    for name, split in (("val", run.val), ("test", run.test)):
        rows = len(split.labels)
        facts.append((f"{name} images:", m["n"][name], "in metrics.json, in predictions.csv", rows))
        counted = run.task.members(split.labels, len(names)).sum(axis=0).tolist()
        by_class = run.data["images_by_class"][name]
        facts.append(
            (f"{name} images by class:", by_class, "in data.json, in predictions.csv", counted)
        )
    positive = run.config.dataset.positive_label
    for name, value in run.task.score(run.test.logits, run.test.labels, positive).items():
        said = m["test"][name]["value"]
        same = said is value is None or (
            said is not None and value is not None and abs(said - value) < 1e-9
        )
        where = "in metrics.json, of predictions.csv"
        facts.append((f"test {name}:", value if same else said, where, value))
    return [f"{what} {a} {where} {b}" for what, a, where, b in facts if a != b]


def described(cfg: Config) -> dict[str, Any]:
    """What `metrics.json` repeats of the configuration, for those who read that file alone."""
    return {
        "dataset": cfg.dataset.name,
        "task": cfg.dataset.task,
        "size": cfg.size,
        "balanced": cfg.balanced,
        "balancing": cfg.balancing.name if cfg.balanced else None,
        "method": cfg.method.name,
        "backbone": cfg.backbone.name if cfg.reads_backbone else None,
        "unfreeze": cfg.unfreeze if cfg.trains_backbone else None,
        "seed": cfg.seed,
    }


def classes(cfg: Config, names: Sequence[str]) -> dict[str, Any]:
    """Which class is the positive one, by label and name; or the names of all classes."""
    positive = cfg.dataset.positive_label
    if positive is None:
        return {"classes": list(names)}
    return {
        "positive_class": {"label": positive, "name": names[positive]},
        "negative_class": {"label": 1 - positive, "name": names[1 - positive]},
    }


def _expect(run: FinishedRun) -> None:
    m, names = run.metrics, run.data["class_names"]
    if not isinstance(names, list) or len(names) != run.test.logits.shape[1]:
        raise ValueError(f"class names {names}, but {run.test.logits.shape[1]} logits")
    if not isinstance(m["caveats"], list) or not all(isinstance(c, str) for c in m["caveats"]):
        raise TypeError(f"caveats {m['caveats']!r}")
    if not isinstance(run.data["digests"]["test"], str):
        raise TypeError(f"digests {run.data['digests']!r}")
    if not isinstance(m["n"]["train"], int):
        raise TypeError(f"train images {m['n']['train']!r}")
    for estimate in m["test"].values():
        Estimate(**estimate)
