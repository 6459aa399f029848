"""`beitmed train`: one run, or a sweep."""

from __future__ import annotations

from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from beitmed import config
from beitmed.commands import cli, jobs, sweep
from beitmed.commands.jobs import Jobs

USAGE = """
Train a model and evaluate it: `beitmed train key=value ...`.

  beitmed train experiment=quickstart                    offline: synthetic images, a small BEiT
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
    return sweep.do(_checked(jobs.of(arguments)))


def _checked(planned: Jobs) -> Jobs:
    """Refuse what cannot be right of any run; a sweep over depths fills them all in one pass."""
    members = planned.configurations
    config.check_read(members, planned.overrides)
    depths = sorted({cfg.unfreeze for cfg in members if isinstance(cfg.unfreeze, int)})
    if len(depths) < 2 or any(cfg.cache.depths for cfg in members):
        return planned
    return jobs.with_depths(planned, depths)


def main() -> None:
    """Train what the command line names."""
    cli.run(_train, USAGE)
