"""What is done of one run: here, or by a worker of any launcher, which may be reused."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from beitmed import config, console, threads
from beitmed.config import Config, PretrainRun
from beitmed.errors import UserError
from beitmed.runs import failures, folder
from beitmed.sweeps.outcomes import Records

log = logging.getLogger(__name__)


def attempt(cfg: Config, overrides: Sequence[str]) -> Path:
    """Do one run and return its folder; why it failed is kept on disk until an attempt succeeds.

    overrides: those of the command line that asks for this run.
    """
    line = _line(cfg)
    try:
        path: Path = line.run(cfg)
    except Exception as e:
        _keep(cfg, e, overrides)
        raise
    failures.clear(cfg, path)
    return path


def _line(cfg: Config) -> ModuleType:
    """The module with `run`, `fill` and `complete` of what is asked for."""
    # With torch and transformers, which are seconds, so after the checks.
    if isinstance(cfg, PretrainRun):
        from beitmed.pretraining import line

        return line
    from beitmed import pipeline

    return pipeline


def _keep(cfg: Config, error: Exception, overrides: Sequence[str]) -> Path | None:
    """Keep an error in the folder that the attempt has left, if it has; the file, if any."""
    left = None
    with contextlib.suppress(Exception):  # the attempt's own error is what counts
        path = folder.path_of(_line(cfg).complete(cfg))
        left = path if path.is_dir() else None
    return failures.write(cfg, left, error, shlex.join(["beitmed", cfg.COMMAND, *overrides]))


@dataclass(frozen=True)
class Origin:
    """Where the user has called: the working directory, and where modules are looked for."""

    cwd: str
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Origin:
        return cls(str(Path.cwd()), tuple(sys.path))


@dataclass(frozen=True)
class Task:
    """What Hydra's launchers pickle, and call with a composed configuration, wherever they do.

    parallel: whether other runs of the sweep go on meanwhile. kind: what a configuration is.
    """

    origin: Origin
    parallel: bool
    kind: type[Config]

    def enter(self, composed: DictConfig) -> Config:
        """Make this process what it is to a run, whatever it did before, and read the run's."""
        threads.share()
        if str(Path.cwd()) != self.origin.cwd:
            os.chdir(self.origin.cwd)
        sys.path += [p for p in self.origin.path if p not in sys.path]
        if self.parallel:
            os.environ.setdefault("TQDM_DISABLE", "1")  # bars would write over one another
            console.install(f"[{HydraConfig.get().job.num}] ")
        config.register_resolvers()
        return config.resolve(composed, self.kind)


@dataclass(frozen=True)
class Work(Task):
    """Do a run, and say what it came to."""

    records: Records

    def __call__(self, composed: DictConfig) -> None:
        cfg = self.enter(composed)
        self.records.begun(cfg)
        line = _line(cfg)
        try:
            path = line.run(cfg)
        except Exception as e:
            bug = None if isinstance(e, UserError) else e
            log.error("This run failed, the others go on: %s", e, exc_info=bug)
            file = _keep(cfg, e, HydraConfig.get().overrides.task)
            with contextlib.suppress(OSError):  # of a full disk: then it has stopped, and why
                self.records.failed(cfg, file, str(e))
        else:
            failures.clear(cfg, path)
            self.records.finished(cfg, path)


@dataclass(frozen=True)
class Fill(Task):
    """Fill what runs share, so that none of them waits for another that fills it."""

    def __call__(self, composed: DictConfig) -> None:
        cfg = self.enter(composed)
        line = _line(cfg)
        try:
            line.fill(cfg)
        except Exception as e:  # those who need it will say the same of themselves
            log.info("Not filled beforehand: %s", e)
