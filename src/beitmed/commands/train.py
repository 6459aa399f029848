"""The entry point: `python -m beitmed.train dataset=breast size=28 balanced=true`.

Exit codes: 0 done; 1 a variant of a sweep failed, or a bug; 2 bad input; 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
from typing import NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from beitmed import config
from beitmed.commands import cli
from beitmed.errors import UserError

log = logging.getLogger("beitmed")


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
        _check_given(cfg)
        from beitmed import pipeline  # torch and transformers: seconds, so after the checks

        pipeline.run(cfg)
    except Exception as e:
        hydra_cfg = HydraConfig.get()
        in_sweep = hydra_cfg.mode == RunMode.MULTIRUN
        _failures.append(_Failure(" ".join(hydra_cfg.overrides.task), e, in_sweep))
        if in_sweep:
            bug = None if isinstance(e, UserError) else e
            log.error("This run failed, the others go on: %s", e, exc_info=bug)


def _check_given(cfg: config.Config) -> None:
    hydra_cfg = HydraConfig.get()
    try:
        config.check_given(cfg, hydra_cfg.overrides.task)
    except UserError as e:
        # In a sweep over methods a key that some of them read is no mistake.
        if hydra_cfg.mode != RunMode.MULTIRUN:
            raise
        log.warning("Note: ignored: %s", e)


def _train() -> int:
    _failures.clear()
    _job()
    if not _failures:
        return 0
    if not _failures[0].in_sweep:
        raise _failures[0].error
    log.error("beitmed: %d of the sweep's runs failed:", len(_failures))
    for overrides, error, _ in _failures:
        log.error("  %s: %s", overrides, str(error).partition("\n")[0])
    log.error("Run the same command again to retry them; finished runs are skipped.")
    return 1


def main() -> None:
    """Compose the configuration from the command line and run it, or the sweep that it asks for."""
    sys.exit(cli.guarded(_train))


if __name__ == "__main__":
    main()
