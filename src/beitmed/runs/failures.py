"""Why the last attempt at a run failed: a file that stands until an attempt succeeds."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import platform
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from beitmed.config import Config
from beitmed.errors import UserError
from beitmed.runs import reader
from beitmed.storage import files

FAILURE = "failure.json"


@dataclass(frozen=True)
class Failure:
    """An error as it is kept: what it was, where and when, and the command that it came of.

    bug: whether it is one of beitmed's own; of these the traceback is kept.
    """

    error: str
    message: str
    bug: bool
    command: str
    host: str
    time: str
    traceback: str | None


def key_of(cfg: Config) -> str:
    """Sixteen hexadecimal digits of all that a command line asks for, the weights' bytes apart."""
    return hashlib.sha256(cfg.model_dump_json().encode()).hexdigest()[:16]


def write(cfg: Config, folder: Path | None, error: Exception, command: str) -> Path | None:
    """Keep an error in the run's folder, or, where there is none, below `output_dir/.failures`.

    Returns the file; None where it cannot be written, such as on a full disk.
    """
    bug = not isinstance(error, UserError)
    values = Failure(
        error=type(error).__name__,
        message=str(error),
        bug=bug,
        command=command,
        host=platform.node(),
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        traceback="".join(traceback.format_exception(error)) if bug else None,
    )
    file = _homeless(cfg) if folder is None else folder / FAILURE
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(file, json.dumps(asdict(values), indent=2, ensure_ascii=False) + "\n")
    except OSError:
        return None
    return file


def clear(cfg: Config, folder: Path) -> None:
    """Forget why earlier attempts failed: this one has succeeded."""
    for file in (folder / FAILURE, _homeless(cfg)):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there, with others in it, or not there
        _homeless(cfg).parent.rmdir()


def read(file: Path) -> Failure:
    """An error that was kept. Raises UserError where the file is missing or damaged."""
    try:
        return Failure(**reader.read_json(file))
    except TypeError as e:
        raise UserError(f"{file}: is no record of a failure ({e}); delete it.") from e


def _homeless(cfg: Config) -> Path:
    return Path(cfg.output_dir).expanduser() / ".failures" / f"{key_of(cfg)}.json"
