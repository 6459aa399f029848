"""What every command shares: help, console output, and errors as messages with an exit code."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence

from hydra.errors import HydraException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from beitmed import config, console, threads
from beitmed.errors import UserError

# Set by launchers of several processes: they do the same command each, as if they were alone.
_TORCHRUN = ("TORCHELASTIC_RUN_ID", "LOCAL_RANK")
_RANKS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_WHILE_ONE_SPEAKS = 10.0  # seconds; a launcher ends the others when the first has said why


def run(
    command: Callable[[Sequence[str]], int],
    usage: str,
    kind: type[config.Config] = config.Config,
) -> None:
    """Do what `main` of a command does: give it the command line, and exit with its code.

    usage: what `--help` prints. kind: what the command's configuration is.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(usage.strip())
        sys.exit(0)
    sys.exit(guarded(lambda: command(arguments), kind))


def guarded(command: Callable[[], int], kind: type[config.Config] = config.Config) -> int:
    """Run a command and return its exit code; bad input becomes a message and code 2.

    Bugs keep their traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises to here instead of exiting with 1
    threads.share()
    config.register_resolvers()
    console.install()
    try:
        _refuse_torchrun()
        return command()
    except UserError as e:
        print(f"beitmed: {e}", file=sys.stderr)
    except (HydraException, OmegaConfBaseException, YAMLError) as e:
        print(f"beitmed: configuration: {_explain(e, kind)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("beitmed: interrupted; the same command goes on where it was.", file=sys.stderr)
        return 130
    return 2


def _refuse_torchrun() -> None:
    """Raise UserError where a launcher has started this command several times over."""
    several = [n for n in _RANKS if os.environ.get(n, "1") != "1"]
    if not several and not any(name in os.environ for name in _TORCHRUN):
        return
    if os.environ.get("RANK", "0") != "0":
        time.sleep(_WHILE_ONE_SPEAKS)
        sys.exit(2)
    found = ", ".join(n for n in (*_TORCHRUN, *_RANKS) if n in os.environ)
    raise UserError(
        f"found that torchrun, accelerate or mpirun has started this ({found} in the environment), "
        "once for each process. beitmed starts a run's processes by itself: give the command once, "
        "without a launcher, as in `beitmed train processes=2 ...`."
    )


def _explain(error: BaseException, kind: type[config.Config]) -> str:
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for e in chain:
        if isinstance(e, ConfigAttributeError | ConfigKeyError) and e.full_key:
            parent, _, key = str(e.full_key).rpartition(".")
            if parent.startswith("hydra."):
                return f"{e.full_key}: no such key. conf/launcher/ has those of the launchers."
            return config.unknown_key(parent, key, kind)
        if isinstance(e, YAMLError):
            return f"a YAML file cannot be read: {e}"
    # Hydra's advice to append a key with `+` leads nowhere here: unknown keys are refused.
    lines = [line for e in chain for line in str(e).splitlines()]
    kept = [
        line for line in lines if line.strip() and not re.match(r"\s*(To append|object_type)", line)
    ]
    return "\n  ".join(dict.fromkeys(kept))
