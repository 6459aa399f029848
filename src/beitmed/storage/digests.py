"""SHA-256 of files, remembered for as long as a file is the same one."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from beitmed.storage import files

_NAME, _MOST = ".digests.json", 1000
_LARGE = 1 << 20  # bytes; smaller files are read faster than they are looked up
_seen: dict[str, str] = {}  # a sweep's runs read each file once


def sha256(path: Path, cache_root: str | None = None) -> str:
    """The digest of a file's content.

    Known again by path, size, times of change and inode: within a process always, and beyond it
    where the folder of the cache is given and can be written.
    """
    status = path.stat()
    key = (
        f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} "
        f"{status.st_ino}"
    )
    if key not in _seen:
        kept = cache_root is not None and status.st_size >= _LARGE
        memory = Path(cache_root or "").expanduser() / _NAME
        known = _known(memory) if kept else {}
        _seen[key] = known.get(key) or _read(path)
        if kept and key not in known:
            _remember(memory, {**known, key: _seen[key]})
    return _seen[key]


def _remember(memory: Path, known: dict[str, str]) -> None:
    with contextlib.suppress(OSError):  # then it is computed again the next time
        memory.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(memory, json.dumps(dict([*known.items()][-_MOST:])))


def _read(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _known(memory: Path) -> dict[str, str]:
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
