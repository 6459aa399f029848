"""What every command shares: console output, and errors as messages with an exit code."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from beitmed import config
from beitmed.config import Config
from beitmed.errors import UserError, disk_error


def guarded(command: Callable[[], int]) -> int:
    """Run a command and return its exit code; bad input becomes a message and code 2.

    Bugs keep their traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises to here instead of exiting with 1
    config.register_resolvers()
    _console()
    try:
        return command()
    except UserError as e:
        print(f"beitmed: {e}", file=sys.stderr)
    except (HydraException, OmegaConfBaseException) as e:
        print(f"beitmed: configuration: {_explain(e)}", file=sys.stderr)
    except OSError as e:
        # Ours become a UserError where they arise; Hydra makes the sweep's folder by itself.
        if not isinstance(e.filename, str) or isinstance(e, FileNotFoundError):
            raise
        if (problem := disk_error(e, Path(e.filename))) is None:
            raise
        print(f"beitmed: {problem}", file=sys.stderr)
    except KeyboardInterrupt:
        print("beitmed: interrupted; the same command goes on where it was.", file=sys.stderr)
        return 130
    return 2


def configurations(overrides: list[str]) -> list[Config]:
    """Every configuration that the overrides stand for; values separated by commas are all taken.

    `--config-dir FOLDER` among them adds the user's own YAML files, as it does for `beitmed.train`.
    Raises what `guarded` makes a message of.
    """
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    try:
        known, others = parser.parse_known_args(overrides)
    except argparse.ArgumentError as e:
        raise UserError(str(e)) from e
    if known.config_dir is not None and not known.config_dir.is_dir():
        raise UserError(f"--config-dir: found {known.config_dir}, which is no folder.")
    added = [] if known.config_dir is None else [f"file://{known.config_dir.resolve()}"]
    # The grammar and the product of Hydra's own multirun, so that all commands read the same.
    parsed = OverridesParser.create().parse_overrides(others)
    [jobs] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    search = [f"hydra.searchpath={json.dumps(added)}"] if added else []
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        return [config.resolve(compose("config", overrides=[*job, *search])) for job in jobs]


def _console() -> None:
    logger = logging.getLogger("beitmed")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not any(isinstance(handler, _Console) for handler in logger.handlers):
        logger.addHandler(_Console())


class _Console(logging.Handler):
    """Messages as they are, on whatever standard output is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


def _explain(error: BaseException) -> str:
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for e in chain:
        if isinstance(e, ConfigAttributeError | ConfigKeyError) and e.full_key:
            parent, _, key = str(e.full_key).rpartition(".")
            return config.unknown_key(parent, key)
    # Hydra's advice to append a key with `+` leads nowhere here: unknown keys are refused.
    lines = [line for e in chain for line in str(e).splitlines()]
    kept = [
        line for line in lines if line.strip() and not re.match(r"\s*(To append|object_type)", line)
    ]
    return "\n  ".join(dict.fromkeys(kept))
