"""What the runs of a sweep came to, told from files alone, whichever process did them.

A sweep has a folder, and each of its runs a file there: empty from when its work begins, then with
the folder of the finished run, or with the record of its failure.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from beitmed.config import Config
from beitmed.errors import UserError, disk_error
from beitmed.runs import failures, reader
from beitmed.storage import files

State = Literal["finished", "failed", "stopped", "not started"]


@dataclass(frozen=True)
class Outcome:
    """What one run came to; reason: of one that failed."""

    state: State
    reason: str | None = None


@dataclass(frozen=True)
class Records:
    """The folder in which the runs of one sweep say what they came to."""

    folder: Path

    @classmethod
    def create(cls, output_dir: Path) -> Records:
        """A new one, below the folder of the runs, that no other sweep has.

        Those of sweeps that were killed on this machine go: nobody asks for them any more. Raises
        UserError where it cannot be made.
        """
        now, parent = datetime.datetime.now(datetime.UTC), output_dir / ".sweep"
        for old in parent.glob("*.of.*"):
            if files.abandoned(old.name.rpartition(".of.")[2]):
                shutil.rmtree(old, ignore_errors=True)
        folder = parent / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}.of.{files.owner()}"
        try:
            folder.mkdir(parents=True)
        except OSError as e:
            raise disk_error(e, output_dir) or e from e
        return cls(folder.resolve())

    def begun(self, cfg: Config) -> None:
        self._write(cfg, {})

    def finished(self, cfg: Config, run: Path) -> None:
        self._write(cfg, {"run": str(run.resolve())})

    def failed(self, cfg: Config, file: Path | None, message: str) -> None:
        """file: that of the failure; without one the message itself is kept, if there is room."""
        self._write(cfg, {"failure": str(file.resolve())} if file else {"message": message})

    def outcome(self, cfg: Config) -> Outcome:
        """What this run came to so far."""
        file = self.folder / f"{failures.key_of(cfg)}.json"
        if not file.exists():
            return Outcome("not started")
        try:
            found = reader.read_json(file)
            if "failure" in found:
                return Outcome("failed", _told(Path(found["failure"])))
        except UserError as e:
            return Outcome("failed", str(e))
        if "message" in found:
            return Outcome("failed", found["message"])
        if "run" in found and reader.is_finished(Path(found["run"])):
            return Outcome("finished")
        return Outcome("stopped")

    def drop(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, cfg: Config, values: dict[str, str]) -> None:
        file = self.folder / f"{failures.key_of(cfg)}.json"
        with contextlib.suppress(FileNotFoundError):  # the sweep was killed, and nobody asks
            files.write_atomic(file, json.dumps(values) + "\n")


def _told(file: Path) -> str:
    failure = failures.read(file)
    if not failure.bug:
        return failure.message
    return f"{failure.error}: {failure.message} (its traceback is in {file})"
