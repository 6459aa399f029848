"""`beitmed train`: one run, or a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from beitmed import config
from beitmed.commands import cli, jobs, sweep
from beitmed.commands.jobs import Jobs
from beitmed.errors import disk_error
from beitmed.sweeps import work

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


_INFORMATION = ("-c", "--cfg", "-i", "--info", "--hydra-help")


@hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="config")
def _show(composed: DictConfig) -> None:
    """What Hydra shows of a configuration, such as with `--cfg job`, it shows instead of a run."""


def _train(arguments: Sequence[str]) -> int:
    if any(a in _INFORMATION for a in arguments):
        _show()
        return 0
    planned = _checked(jobs.of(arguments))
    if planned.sweep:
        return sweep.run(planned)
    [cfg] = planned.configurations
    work.attempt(cfg, planned.overrides)
    return 0


def _checked(planned: Jobs) -> Jobs:
    """Refuse what cannot be right of any run; a sweep over depths fills them all in one pass."""
    members = planned.configurations
    config.check_read(members, planned.overrides)
    for folder in {Path(cfg.output_dir).expanduser() for cfg in members}:
        try:  # a launcher makes a sweep's folder by itself, and would say less
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise disk_error(e, folder) or e from e
    depths = sorted({cfg.unfreeze for cfg in members if isinstance(cfg.unfreeze, int)})
    if len(depths) < 2 or any(cfg.cache.depths for cfg in members):
        return planned
    return jobs.with_depths(planned, depths)


def main() -> None:
    """Train what the command line names."""
    cli.run(_train, USAGE)
