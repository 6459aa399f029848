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


def disk_error(error: BaseException, where: Path) -> UserError | None:
    """Turn an error that comes from a full or unwritable disk into a message; else None.

    Looks through the chain of causes. `where` is the folder that was being written.
    """
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen)
        if (isinstance(seen, OSError) and seen.errno in _DISK_FULL) or any(
            part in text for part in _DISK_FULL_TEXT
        ):
            return UserError(
                f"{where}: no space left while writing ({text.splitlines()[0]}). Free some space "
                "or set output_dir=... to a larger disk, then run the same command again: what "
                "was finished before is intact."
            )
        if isinstance(seen, PermissionError | NotADirectoryError) or (
            isinstance(seen, OSError) and seen.errno in (errno.EROFS, errno.ENOENT)
        ):
            return UserError(
                f"{where}: cannot be written ({text}). Set output_dir=... to a folder that you "
                "may write to."
            )
        seen = seen.__cause__ or seen.__context__
    return None
