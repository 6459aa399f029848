"""A run's folder: every write into it, each file there whole or not at all.

What a run has trained is there once `predictions.csv` is, and a run is finished if and only if
`metrics.json` is there: it is written last.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from beitmed import config
from beitmed.config import Config
from beitmed.errors import UserError, disk_full
from beitmed.runs import reader
from beitmed.runs.resources import Phases, Resources
from beitmed.storage import files, locks

log = logging.getLogger(__name__)


class Run:
    """A claimed run folder, of the process that holds its lock or of one that this has started.

    Made by `open_run`, and in ranks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._environment: dict[str, Any] = {}
        self._resources = Resources({}, lambda phases: None)

    def begin(self, environment: Mapping[str, Any]) -> None:
        """Note what the run is computed with, and count on from what it has taken before."""
        before = self.read_json(reader.ENVIRONMENT) or {}
        self._environment = dict(environment)
        self._resources = Resources(before.get("phases", {}), self._save_phases)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Count the seconds and the memory of what is done meanwhile as `name`."""
        return self._resources.phase(name)

    def tick(self) -> None:
        """Note what the phase has taken so far, for the case that the process is killed."""
        self._resources.update()

    def _save_phases(self, phases: Phases) -> None:
        seconds = round(sum(one["seconds"] for one in phases.values()), 3)
        values = {"seconds": seconds, "phases": phases, **self._environment}
        self.write_json(reader.ENVIRONMENT, values)

    @property
    def finished(self) -> bool:
        return reader.is_finished(self.path)

    @property
    def predicted(self) -> bool:
        """Whether training is over and only what derives from its predictions can be lacking."""
        return (self.path / reader.PREDICTIONS).exists()

    @property
    def checkpoints(self) -> Path:
        """Where training keeps what it needs to go on after it was killed."""
        return self.path / "checkpoints"

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        # allow_nan: a number that is none must have become null with a reason before.
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
        files.write_atomic(self.path / name, text + "\n")

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The file's values, None where it is not there. Raises UserError where it is damaged."""
        if not (self.path / name).exists():
            return None
        try:
            return reader.read_json(self.path / name)
        except UserError as e:
            raise UserError(
                f"{e} Delete {self.path} to start this run afresh, or set name=... to keep both."
            ) from e

    def write_csv(self, name: str, header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
        """Floats are written so that reading them gives the same bits; None is an empty field."""
        files.write_csv(self.path / name, header, rows)

    def agree(self, name: str, values: dict[str, Any], what: str) -> None:
        """Record what a run stands on, or, where it goes on, demand that it is still the same."""
        before = self.read_json(name)
        if before is None:
            self.write_json(name, values)
            return
        differing = config.differences(before, json.loads(json.dumps(values)))
        if differing:
            raise UserError(
                f"{self.path}: this run was begun with other {what}: {'; '.join(differing)}. "
                f"Restore the {what}, or set name=... for a new run, or delete the folder."
            )

    def agree_csv(
        self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]], what: str
    ) -> None:
        """The same for a table of numbers and words."""
        file = self.path / name
        if not file.exists():
            self.write_csv(name, header, rows)
        elif not files.holds_csv(file, header, rows):
            raise UserError(
                f"{file}: this run was begun with other {what}. Restore what chose them, or set "
                "name=... for a new run, or delete the folder."
            )

    def finish(self, metrics: Mapping[str, Any], name: str = reader.METRICS) -> None:
        """Write the metrics, which marks the run as done, and drop what was there to resume."""
        self._resources.stop()
        self.write_json(name, metrics)
        self.drop_checkpoints()

    def drop_checkpoints(self) -> None:
        """Remove what was there to go on from."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


@contextmanager
def open_run(cfg: Config) -> Iterator[Run]:
    """Claim the run's folder and lock it; a second process waits until the first is through.

    Raises UserError if the folder cannot be written or belongs to another configuration. A folder
    that was made here is removed again if the run fails before anything was trained. Errors of a
    full disk that arise while the run is open become a UserError.
    """
    path = path_of(cfg)
    with locked(path):
        files.clear_up(path.parent, path.name)
        run, fresh = Run(path), not path.exists()
        try:
            if fresh:
                _refuse_changed_weights(cfg, path)
            path.mkdir(exist_ok=True)
            files.clear_up(path)
            _claim(run, cfg)
            if run.finished:
                run.drop_checkpoints()  # a process that was killed had no time to
            with _log_file(path / "run.log"):
                yield run
        except BaseException as e:
            if fresh and not run.checkpoints.exists() and not run.predicted:
                files.remove(path)
            if isinstance(e, UserError) or (full := disk_full(e, path)) is None:
                raise
            raise full from e


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from a run's folder, waiting for one that has it."""
    waiting = f"{path}: another process is at this run; waiting until it is through."
    with locks.exclusive(path.parent, path.name, waiting):
        yield


def path_of(cfg: Config) -> Path:
    """The run's folder: the one that holds this very run, whatever it is called, or a new one."""
    parent, name = Path(cfg.output_dir).expanduser(), config.run_name(cfg)
    if cfg.name is None and not (parent / name).exists():
        same = sorted(parent.glob(f"*_seed{cfg.seed}_{config.digest(cfg)}/config.yaml"))
        if same:  # the same weights have another name there
            return same[0].parent
    return parent / name


def _refuse_changed_weights(cfg: Config, path: Path) -> None:
    """Raise UserError where the files that `backbone.weights` names were replaced by others."""
    if cfg.name is not None or not cfg.reads_backbone or cfg.backbone.content is None:
        return
    stem = path.name.removesuffix(config.digest(cfg))
    now = config.identity(cfg)
    for other in sorted(path.parent.glob(f"{stem}*/config.yaml")):
        try:
            found = reader.read_config(other.parent, kind=type(cfg))
        except UserError as e:
            log.debug("%s", e)  # whatever it is, it is not this run
            continue
        differing = config.differences(config.identity(found), now)
        same_place = found.backbone.weights == cfg.backbone.weights
        if same_place and [d.partition(" ")[0] for d in differing] == ["backbone.content"]:
            raise UserError(
                f"backbone.weights: {cfg.backbone.weights} holds other weights than when "
                f"{other.parent} was trained from it ({differing[0]}). Restore them, or set "
                "name=... for a run on the new ones."
            )


def _claim(run: Run, cfg: Config) -> None:
    file = run.path / reader.CONFIG
    if not file.exists():
        if any(run.path.iterdir()):
            raise UserError(
                f"{run.path}: is not empty and not a run's folder (it has no config.yaml). Set "
                "name=... or output_dir=... to something else."
            )
        header = f"# beitmed run {run.path.name}: the configuration as it was resolved\n"
        files.write_atomic(file, header + config.as_yaml(cfg))
        return
    before = reader.read_config(run.path, kind=type(cfg))
    differing = config.differences(config.identity(before), config.identity(cfg))
    if differing:
        raise UserError(
            f"{run.path}: belongs to a run of another configuration: {'; '.join(differing)}. Set "
            "name=... to something else, or delete the folder."
        )


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
