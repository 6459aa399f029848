"""Every read and write of a run's folder. A file is there whole or not at all.

A run is finished if and only if `metrics.json` is there: it is written last.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from beitmed import config
from beitmed.config import Config
from beitmed.errors import UserError, disk_full
from beitmed.storage import files, locks

log = logging.getLogger(__name__)
FORMAT = 1  # of metrics.json and its neighbours; a reader refuses what it does not know


class Run:
    """A claimed run folder. Made by `open_run` only, which holds its lock meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def finished(self) -> bool:
        return (self.path / "metrics.json").exists()

    @property
    def checkpoints(self) -> Path:
        """Where training keeps what it needs to go on after it was killed."""
        return self.path / "checkpoints"

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        # allow_nan: a number that is none must have become null with a reason before.
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        files.write_atomic(self.path / name, text + "\n")

    def read_json(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as e:
            raise UserError(
                f"{self.path / name}: cannot be read ({e}). Delete {self.path} to start this run "
                "afresh, or set name=... to keep both."
            ) from e

    def write_csv(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Floats are written so that reading them gives the same bits; None is an empty field."""
        files.write_atomic(self.path / name, _csv_text(header, rows))

    def agree(self, name: str, values: dict[str, Any], what: str) -> None:
        """Record what a run stands on, or, where it goes on, demand that it is still the same."""
        before = self.read_json(name)
        if before is None:
            self.write_json(name, values)
        elif before != json.loads(json.dumps(values)):
            raise UserError(
                f"{self.path}: this run was begun with other {what}: "
                + "; ".join(_differences(before, values))
                + f". Restore the {what}, or set name=... for a new run, or delete the folder."
            )

    def agree_csv(
        self, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]], what: str
    ) -> None:
        """The same for a table of numbers and words."""
        file = self.path / name
        if not file.exists():
            self.write_csv(name, header, rows)
        elif file.read_bytes() != _csv_text(header, rows).encode():
            raise UserError(
                f"{file}: this run was begun with other {what}. Restore what chose them, or set "
                "name=... for a new run, or delete the folder."
            )

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write the metrics, which marks the run as done, and drop what was there to resume."""
        self.write_json("metrics.json", metrics)
        shutil.rmtree(self.checkpoints, ignore_errors=True)


@contextmanager
def open_run(cfg: Config) -> Iterator[Run]:
    """Claim the run's folder and lock it; a second process waits until the first is through.

    Raises UserError if the folder cannot be written or belongs to another configuration. A folder
    that was made here is removed again if the run fails before anything was trained. Errors of a
    full disk that arise while the run is open become a UserError.
    """
    output_dir = Path(cfg.output_dir).expanduser()
    path = output_dir / config.run_name(cfg)
    waiting = f"{path}: another process is at this run; waiting until it is through."
    with locks.exclusive(output_dir, path.name, waiting):
        run, fresh = Run(path), not path.exists()
        try:
            path.mkdir(exist_ok=True)
            _claim(run, cfg)
            with _log_file(path / "run.log"):
                yield run
        except BaseException as e:
            if fresh and not run.checkpoints.exists():
                shutil.rmtree(path, ignore_errors=True)
            if isinstance(e, UserError) or (full := disk_full(e, path)) is None:
                raise
            raise full from e


def _claim(run: Run, cfg: Config) -> None:
    file = run.path / "config.yaml"
    if not file.exists():
        if any(run.path.iterdir()):
            raise UserError(
                f"{run.path}: is not empty and not a run's folder (it has no config.yaml). Set "
                "name=... or output_dir=... to something else."
            )
        header = f"# beitmed run {run.path.name}: the configuration as it was resolved\n"
        text = yaml.safe_dump(cfg.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        files.write_atomic(file, header + text)
        return
    try:
        before = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise UserError(f"{file}: cannot be read ({e}). Set name=... for a new run.") from e
    differing = _differences(config.without_locations(before), config.identity(cfg))
    if differing:
        raise UserError(
            f"{run.path}: belongs to a run of another configuration: "
            + "; ".join(differing)
            + ". Set name=... to something else, or delete the folder."
        )


#: What may be elsewhere than where a run had it: `key=value` beside the run's folder.
MOVABLE = ("data.root", "data.download", "data.mirror", "data.allow_unofficial",
           "dataset.path", "dataset.image_root", "backbone.weights", "backbone.revision",
           "cache.root", "device")  # fmt: skip
_WORDS = {"true": True, "false": False, "null": None}


def read_config(folder: Path, changes: Sequence[str] = ()) -> Config:
    """The configuration of the run in `folder`, checked as one from the command line is.

    changes: `key=value` for keys of `MOVABLE`, where the run has been moved to another machine.
    Raises UserError if the folder is no run's, if its config.yaml is damaged or of another
    version, or if a change is not allowed.
    """
    file = folder / "config.yaml"
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds {type(values).__name__}, not keys and values")
    except (FileNotFoundError, NotADirectoryError) as e:
        raise UserError(
            f"{folder}: is not a run's folder (it has no config.yaml). Give a folder that "
            "`python -m beitmed.train` made, such as outputs/<run>."
        ) from e
    except (OSError, ValueError, yaml.YAMLError) as e:
        raise UserError(f"{file}: cannot be read ({e}). Restore it, or train the run anew.") from e
    try:
        cfg = config.check(values)
    except UserError as e:
        raise UserError(
            f"{file}: was written by another version of beitmed, or changed by hand: {e}"
        ) from e
    return config.check(_moved(values, changes)) if changes else cfg


def _moved(values: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    moved = copy.deepcopy(values)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or key not in MOVABLE:
            raise UserError(
                f"{change}: cannot be changed for a run that is there. Allowed: "
                + ", ".join(f"{key}=..." for key in MOVABLE)
            )
        node = moved
        *parents, last = key.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = _WORDS.get(text, text)
    return moved


def _csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _differences(before: Any, now: Any, key: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for k in dict.fromkeys([*before, *now])
            for line in _differences(before.get(k), now.get(k), f"{key}.{k}" if key else str(k))
        ]
    return [] if before == now else [f"{key or 'content'} was {before!r}, now {now!r}"]


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    logger = logging.getLogger("beitmed")
    logger.setLevel(logging.INFO)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    # A full disk is reported by what matters, not by a traceback for each line of the log.
    handler.handleError = lambda record: None  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
