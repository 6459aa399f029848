"""A rank: a process that joins others, does its part of a run, and leaves word of what it fails of.

It writes and logs through the process that started it, which has the console and the log file, and
does not outlive that one.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from beitmed.errors import UserError
from beitmed.ranks import together
from beitmed.runs import resources

_LINGER = 1.0  # seconds in which who ended the others is seen before what they say of it
_PR_SET_PDEATHSIG = 1
_parent: Connection | None = None  # in the first rank


class Outside(NamedTuple):
    """What a rank is told by the process that starts it.

    errors: the folder for `<rank>.json`. patience: as `together.join`. ignored: signals.
    """

    to_parent: Connection
    errors: str
    patience: float
    gpu: bool
    ignored: tuple[int, ...]


def say(row: Any) -> None:
    """Have the process that started the ranks hear this; of the first rank, others say nothing."""
    if _parent is not None:
        _parent.send(row)


def do(outside: Outside, task: Callable[..., Any], args: Sequence[Any]) -> Any:
    """Join the others, do the task, leave: what it returns on the first rank, and the peaks."""
    rank = int(os.environ["RANK"])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once, and without a traceback of each
    for number in outside.ignored:
        signal.signal(number, signal.SIG_IGN)
    try:
        _speak_through(outside.to_parent if rank == 0 else None)
        together.join(outside.gpu, outside.patience)
        found = task(*args)
        peaks = resources.peaks()
        together.leave()
    except Exception as e:
        kind = _kind(e)
        said = {
            "rank": rank,
            "at": time.time(),
            "kind": kind,
            "line": f"{type(e).__name__}: {e}".partition("\n")[0],
            "text": str(e) if kind == "user" else traceback.format_exc(),
        }
        Path(outside.errors, f"{rank}.json").write_text(json.dumps(said), encoding="utf-8")
        if kind != "user":  # one that was killed is to be found first, not one that missed it
            time.sleep(_LINGER)
        os._exit(1)  # without waiting for the others
    return (found if rank == 0 else None), peaks


def _kind(error: Exception) -> str:
    if isinstance(error, UserError):
        return "user"
    # PyTorch has no one type for having waited in vain for another.
    text = str(error).lower()
    waited = isinstance(error, RuntimeError) and ("timed out" in text or "timeout" in text)
    return "hung" if waited else "bug"


class _ToParent(logging.Handler):
    """Hands a record to the process that started this one."""

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = self.format(record), None
        record.exc_info = record.exc_text = None
        say(record)


def _speak_through(parent: Connection | None) -> None:
    """Log through the parent, or not at all: what all do is said by one."""
    global _parent
    _parent = parent
    logger = logging.getLogger("beitmed")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.NullHandler() if parent is None else _ToParent())
    # PyTorch and the Trainer disagree on the name of an argument, which is nobody's concern here.
    warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
    if parent is None:
        warnings.simplefilter("ignore")
        for name in ("transformers", "accelerate"):
            logging.getLogger(name).setLevel(logging.ERROR)
