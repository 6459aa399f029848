"""A report's folder: replaced as a whole or not at all, and never if it holds what is not ours.

`report.html`, `report.md`, `tables/<id>.csv` and `.tex` (a long table's `.csv.gz` alone),
`errors/*.png`, the figures, and `contents.json`, which names every file with its digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beitmed.errors import UserError, disk_full
from beitmed.report.document import Document, plain
from beitmed.report.render import exports, markdown, page

FORMAT = 1  # of contents.json
CONTENTS = "contents.json"
_OF_THE_SYSTEM = {".DS_Store", "Thumbs.db", "desktop.ini"}  # file managers leave these


@contextmanager
def replacing(to: Path) -> Iterator[Path]:
    """Give an empty folder beside `to` to fill; at the end it takes the place of `to`.

    If the body raises, `to` stays as it was. UserError: `to` holds anything but a report as it was
    written here, or cannot be written, or the disk is full.
    """
    to = to.expanduser().absolute()
    to = to.resolve() if to.is_symlink() else to
    temporary = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    try:
        _recover(to)
        _refuse_foreign(to)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    except OSError as e:
        raise _unwritable(to, e) from e
    try:
        yield temporary
        try:
            _seal(temporary)
            _refuse_foreign(to)  # it took a while
            _swap(temporary, to)
        except OSError as e:
            raise _unwritable(to, e) from e
    except BaseException as e:
        if isinstance(e, UserError) or (full := disk_full(e, to)) is None:
            raise
        raise full from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write(document: Document, folder: Path) -> None:
    """Write every file of the report but its figures, which lie in `folder` already."""
    (folder / "tables").mkdir(exist_ok=True)
    files = {table.id: exports.of(table) for table in document.tables}
    for export in (one for of_table in files.values() for one in of_table):
        (folder / "tables" / export.name).write_bytes(export.content)
    errors = {}
    for section in document.sections:
        for i, image in enumerate(section.errors, 1):
            name = errors[id(image)] = f"errors/{section.id}-{i:04d}.png"
            (folder / "errors").mkdir(exist_ok=True)
            (folder / name).write_bytes(image.png)
    _text(folder / "report.md", markdown.render(document, folder, errors))
    _text(folder / "report.html", page.render(document, folder, files))


def _text(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")


def _seal(folder: Path) -> None:
    """Name every file with its digest, and flush all of them to the disk."""
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in _files(folder)}
    contents = {"format": FORMAT, "what": "a report of beitmed", "sha256": digests}
    _text(folder / CONTENTS, json.dumps(contents, indent=1) + "\n")
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
    shutil.rmtree(before, ignore_errors=True)


def _before(to: Path) -> Path:
    """Where the old report is for the moment between the two renames."""
    return to.with_name(f".{to.name}.before")


def _recover(to: Path) -> None:
    """Put the old report back if a process died between the two renames."""
    if not to.exists() and _before(to).exists():
        _before(to).rename(to)


def _refuse_foreign(to: Path) -> None:
    """Raise UserError unless `to` is absent, empty, or a report in which nothing was changed."""
    if not to.exists():
        return
    if not to.is_dir():
        raise UserError(f"{to}: is a file, but a report is a folder. Set to=... to something else.")
    found = {path.relative_to(to).as_posix(): path for path in _files(to)}
    if not found:
        return
    try:
        contents = json.loads(found[CONTENTS].read_text(encoding="utf-8"))
        digests = dict(contents["sha256"]) if contents["format"] == FORMAT else {}
    except (KeyError, TypeError, ValueError):
        digests = {}
    if not digests:
        raise UserError(
            f"{to}: is not empty and not a report of this version of beitmed (no {CONTENTS} that "
            "says so). It is left as it is; set to=... to another folder."
        )
    foreign = sorted(
        name
        for name, path in found.items()
        if name != CONTENTS and (name not in digests or _digest(path) != digests[name])
    )
    if foreign:
        names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise UserError(
            f"{to}: a new report would replace files that were added or changed since the last one "
            f"({plain(names)}). Move them elsewhere, or set to=... to another folder."
        )


def _files(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob("*"))
    return [p for p in paths if (p.is_symlink() or not p.is_dir()) and p.name not in _OF_THE_SYSTEM]


def _digest(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return "not a plain file"
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _unwritable(to: Path, error: OSError) -> UserError:
    return disk_full(error, to) or UserError(
        f"{to}: the report cannot be written ({error}). Set to=... to a folder that you may write."
    )
