"""Folders that are replaced as a whole or not at all, and never if they hold what is not ours.

`contents.json` says what such a folder is and names every file in it with its digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from beitmed.errors import UserError, disk_full
from beitmed.storage import files

FORMAT = 1  # of contents.json
CONTENTS = "contents.json"
_OF_THE_SYSTEM = {".DS_Store", "Thumbs.db", "desktop.ini"}  # file managers leave these


@dataclass(frozen=True)
class Kind:
    """What a folder is, for messages and for the next one who wants to replace it.

    what: "a report", "an export". key: the key that names another folder. of: whose it is, such as
    a run's identity: only one of the same may be replaced; None where any may.
    """

    what: str
    key: str
    of: str | None = None

    @property
    def stated(self) -> dict[str, str]:
        return {"what": f"{self.what} of beitmed"} | ({} if self.of is None else {"of": self.of})


@contextmanager
def replacing(to: Path, kind: Kind) -> Iterator[Path]:
    """Give an empty folder beside `to` to fill; at the end it takes the place of `to`.

    If the body raises, `to` stays as it was. UserError: `to` holds anything but a folder of this
    kind as it was written here, or cannot be written, or the disk is full.
    """
    to = to.expanduser().absolute()
    to = to.resolve() if to.is_symlink() else to
    temporary = files.temporary(to)
    try:
        files.clear_up(to.parent, to.name)
        _recover(to)
        _refuse_foreign(to, kind)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    except OSError as e:
        raise _unwritable(to, kind, e) from e
    try:
        yield temporary
        try:
            _seal(temporary, kind)
            _refuse_foreign(to, kind)  # it took a while
            _swap(temporary, to)
        except OSError as e:
            raise _unwritable(to, kind, e) from e
    except BaseException as e:
        if isinstance(e, UserError) or (full := disk_full(e, to)) is None:
            raise
        raise full from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _seal(folder: Path, kind: Kind) -> None:
    """Name every file with its digest, and flush all of them to the disk."""
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in _files(folder)}
    contents = {"format": FORMAT, **kind.stated, "sha256": digests}
    (folder / CONTENTS).write_text(json.dumps(contents, indent=1) + "\n", "utf-8", newline="\n")
    for path in _files(folder):
        with path.open("rb") as f:
            os.fsync(f.fileno())


def _swap(temporary: Path, to: Path) -> None:
    before = _before(to)
    if to.exists():
        shutil.rmtree(before, ignore_errors=True)
        to.rename(before)
    try:
        temporary.rename(to)
    except OSError:
        _recover(to)
        raise
    if before.exists():
        before.rename(temporary)  # so that what is called `before` is never half of it


def _before(to: Path) -> Path:
    """Where the old folder is for the moment between the two renames."""
    return to.with_name(f".{to.name}.before")


def _recover(to: Path) -> None:
    """Put the old folder back if a process died between the renames, or remove it after them."""
    if not _before(to).exists():
        return
    if to.exists():
        shutil.rmtree(_before(to))
    else:
        _before(to).rename(to)


def _refuse_foreign(to: Path, kind: Kind) -> None:
    """Raise UserError unless `to` is absent, empty, or of this kind with nothing changed in it."""
    if not to.exists():
        return
    if not to.is_dir():
        raise UserError(
            f"{to}: is a file, but {kind.what} is a folder. Set {kind.key}=... to something else."
        )
    found = {path.relative_to(to).as_posix(): path for path in _files(to)}
    if not found:
        return
    try:
        contents = json.loads(found[CONTENTS].read_text(encoding="utf-8"))
        ours = contents["format"] == FORMAT and all(
            contents[key] == value for key, value in kind.stated.items()
        )
        digests = dict(contents["sha256"]) if ours else {}
    except (KeyError, TypeError, ValueError):
        digests = {}
    if not digests:
        whose = "this version of beitmed" if kind.of is None else "the same run"
        raise UserError(
            f"{to}: is not empty and not {kind.what} of {whose} (no {CONTENTS} that says "
            f"so). It is left as it is; set {kind.key}=... to another folder."
        )
    foreign = sorted(
        name
        for name, path in found.items()
        if name != CONTENTS and (name not in digests or _digest(path) != digests[name])
    )
    if foreign:
        names = ", ".join(map(_shown, foreign[:3])) + (", ..." if len(foreign) > 3 else "")
        raise UserError(
            f"{to}: {kind.what} would replace files that were added or changed since the last one "
            f"({names}). Move them elsewhere, or set {kind.key}=... to another folder."
        )


def _shown(name: str) -> str:
    """A file's name without what would hide or reorder the text around it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)


def _files(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob("*"))
    return [p for p in paths if (p.is_symlink() or not p.is_dir()) and p.name not in _OF_THE_SYSTEM]


def _digest(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return "not a plain file"
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _unwritable(to: Path, kind: Kind, error: OSError) -> UserError:
    return disk_full(error, to) or UserError(
        f"{to}: {kind.what} cannot be written there ({error}). Set {kind.key}=... to a folder that "
        "you may write."
    )
