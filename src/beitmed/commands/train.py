"""`beitmed train`: one run, or a sweep."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from beitmed import config
from beitmed.commands import cli, jobs
from beitmed.commands.jobs import Jobs
from beitmed.errors import UserError, disk_error

log = logging.getLogger("beitmed")
USAGE = """
Train a model and evaluate it: `beitmed train key=value ...`.

  beitmed train experiment=quickstart                    offline: synthetic images, random weights
  beitmed train dataset=breast size=28 balanced=true     one variant of the paper
  beitmed train experiment=paper                         all eight
  beitmed train -m dataset=breast unfreeze=0,2,5 seed=1,2,3    a sweep: every combination
  beitmed train --cfg job                                print every key and its value

Keys and their defaults stand in conf/config.yaml. `--config-dir FOLDER` adds YAML files of your
own. A finished run is skipped, an interrupted one goes on. Exit codes: 0 done; 1 a run of a sweep
failed, or a bug; 2 bad input; 130 interrupted.
"""


class _Failure(NamedTuple):
    overrides: str
    error: Exception
    in_sweep: bool


# Hydra's basic launcher runs all jobs of a sweep in this process, and of those that raise it would
# report the first only: so jobs raise nothing, and what went wrong is told at the end.
_failures: list[_Failure] = []


@hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="config")
def _job(composed: DictConfig) -> None:
    try:
        cfg = config.resolve(composed)
        from beitmed import pipeline  # torch and transformers: seconds, so after the checks

        pipeline.run(cfg)
    except Exception as e:
        hydra_cfg = HydraConfig.get()
        in_sweep = hydra_cfg.mode == RunMode.MULTIRUN
        _failures.append(_Failure(" ".join(hydra_cfg.overrides.task), e, in_sweep))
        if in_sweep:
            bug = None if isinstance(e, UserError) else e
            log.error("This run failed, the others go on: %s", e, exc_info=bug)


def _train(arguments: Sequence[str]) -> int:
    _failures.clear()
    if not any(a in ("-c", "--cfg", "-i", "--info", "--hydra-help") for a in arguments):
        sys.argv += _check(jobs.of(arguments))
    _job()
    if not _failures:
        return 0
    if not _failures[0].in_sweep:
        raise _failures[0].error
    log.error("beitmed: %d of the sweep's runs failed:", len(_failures))
    for overrides, error, _ in _failures:
        log.error("  %s: %s", overrides, str(error).replace("\n", "\n    "))
    log.error("Run the same command again to retry them; finished runs are skipped.")
    return 1


def _check(planned: Jobs) -> list[str]:
    """Refuse what cannot be right of any run; give the overrides that a sweep is faster with."""
    members = planned.configurations
    config.check_read(members, planned.overrides)
    for folder in {Path(cfg.output_dir).expanduser() for cfg in members}:
        try:  # Hydra makes a sweep's folder by itself, and would say less
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise disk_error(e, folder) or e from e
    depths = sorted({cfg.unfreeze for cfg in members if isinstance(cfg.unfreeze, int)})
    if len(depths) < 2 or any(cfg.cache.depths for cfg in members):
        return []
    return [f"cache.depths={depths}".replace(" ", "")]


def main() -> None:
    """Train what the command line names."""
    cli.run(_train, USAGE)
