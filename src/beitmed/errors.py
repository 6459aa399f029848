"""The one exception that stands for "the user can put this right"."""

from __future__ import annotations

import errno
from pathlib import Path

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Libraries that write through Rust or C++ report the same errors as text only.
_DISK_FULL_TEXT = (
    "os error 28",
    "os error 122",
    "os error 27",
    "No space left on device",
    "file write failed",
    "PytorchStreamWriter failed",
)


class UserError(ValueError):
    """Bad input: shown as one message without a traceback, exit code 2.

    The message names the key or file, what was found, what is allowed and what to do next.
    """


def install(extra: str) -> str:
    """How to install what is needed for some uses only, as the README says it."""
    return f"pip install '.[{extra}]' (in the folder of beitmed's repository)"


def disk_error(error: BaseException, where: Path) -> UserError | None:
    """Turn an error from a disk that is full or cannot be written into a message; else None.

    `where` is the folder that was being written.
    """
    if (full := disk_full(error, where)) is not None:
        return full
    if isinstance(error, PermissionError | NotADirectoryError | FileExistsError) or (
        isinstance(error, OSError) and error.errno in (errno.EROFS, errno.ENOENT)
    ):
        return UserError(
            f"{where}: cannot be written ({error}). Give a folder that you may write to: "
            "output_dir=... for runs, cache.root=... for features, data.root=... for data."
        )
    return None


def disk_full(error: BaseException, where: Path) -> UserError | None:
    """Turn an error that a full disk is behind into a message; else None.

    Looks through the chain of causes, and at texts where a library knows no better.
    """
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen)
        if (isinstance(seen, OSError) and seen.errno in _DISK_FULL) or any(
            part in text for part in _DISK_FULL_TEXT
        ):
            return UserError(
                f"{where}: no space left while writing ({text.partition(chr(10))[0]}). Free some "
                "space, or use a larger disk (output_dir=... for runs, cache.root=... for "
                "features), then run the same command again: what was finished before is intact."
            )
        seen = seen.__cause__ or seen.__context__
    return None
