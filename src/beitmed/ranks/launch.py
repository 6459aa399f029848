"""Ranks started by the process that does a run, inside it, and what became of them.

By torch's elastic launch, without its restarts: what fails in a rank fails here, once and in its
own words, and the run goes on from its last checkpoint when it is started again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from beitmed import threads
from beitmed.errors import UserError
from beitmed.ranks import member
from beitmed.runs import resources

PATIENCE = 600.0  # seconds that a rank waits for another before that is taken to hang
_TO_END = 5  # seconds that a rank has to end by itself
_STOPS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
_OTHERS = ("SIGUSR1", "SIGUSR2", "SIGCONT")
_LAUNCHER = ("torch.distributed", "torch.multiprocessing")
_AGAIN = "Run the same command again: it goes on from what was done before."
_WHY_ENDED = {
    "SIGKILL": ", as Linux does where memory is short",
    "SIGABRT": ", as NCCL does where another process does not answer",
}
T = TypeVar("T")


def start(
    n: int, gpu: bool, task: Callable[..., T], *args: Any, hear: Callable[[Any], None] | None = None
) -> T:
    """Have `task(*args)` done by n ranks together and return what it returns on the first.

    gpu: whether each computes on a GPU of its own. task: of a module, as ranks are new processes.
    hear: called in a thread with what `member.say` is given. Raises the UserError of a rank, one
    where a rank was killed or hangs, and RuntimeError with the traceback where one has a bug.
    """
    receiver, sender = Pipe(duplex=False)
    listening = _Listening(receiver, hear)
    with (
        tempfile.TemporaryDirectory(prefix="beitmed-ranks-") as folder,
        _environment(n),
        _quiet_launcher(),
        _own_signals() as (stops, ignored),
    ):
        config = LaunchConfig(
            1, 1, n, run_id=uuid.uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1", rdzv_configs={"is_host": True}, max_restarts=0,
            start_method="spawn", shutdown_timeout=_TO_END, signals_to_handle=",".join(stops),
            logs_specs=DefaultLogsSpecs(folder),
        )  # fmt: skip
        outside = member.Outside(sender, folder, PATIENCE, gpu, ignored)
        returned: dict[int, Any] = {}
        stopped: signal.Signals | None = None
        try:
            returned = elastic_launch(config, member.do)(outside, task, args)
        except ChildFailedError as e:
            raise _cause(n, Path(folder), e) from None
        except SignalException as e:
            stopped = e.sigval
        finally:
            sender.close()
            listening.end()
    if stopped is not None:
        if stopped != signal.SIGINT:
            os.kill(os.getpid(), stopped)  # whose handler is the one that was there before
        raise KeyboardInterrupt
    if listening.error is not None:
        raise listening.error
    for _, peaks in returned.values():
        resources.count_other(peaks)
    return returned[0][0]


class _Listening:
    """A thread that hears the first rank: log records, and rows, which go to `hear`."""

    def __init__(self, receiver: Connection, hear: Callable[[Any], None] | None) -> None:
        self.receiver, self.hear = receiver, hear
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):  # all ends of the pipe are closed
            while True:
                said = self.receiver.recv()
                try:
                    if isinstance(said, logging.LogRecord):
                        logging.getLogger(said.name).handle(said)
                    elif self.hear is not None:
                        self.hear(said)
                except Exception as e:
                    self.error = self.error or e

    def end(self) -> None:
        self._thread.join(_TO_END)
        self.receiver.close()


def _cause(n: int, folder: Path, failed: ChildFailedError) -> Exception:
    """What went wrong: of all that the ranks say the cause, not what it led to in others."""
    said = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    said.sort(key=lambda one: one["at"])
    for one in said:
        if one["kind"] == "user":
            return UserError(one["text"])
    rank, failure = next(iter(failed.failures.items()))
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        return UserError(
            f"processes: process {rank} of {n}, counted from 0, was ended by {name}"
            f"{_WHY_ENDED.get(name, '')}. {_AGAIN}"
        )
    for one in said:
        if one["kind"] == "hung":
            return UserError(
                f"processes: process {one['rank']} of {n}, counted from 0, waited for another "
                f"longer than {PATIENCE:g} s ({one['line']}). The other hangs, so all were ended. "
                f"{_AGAIN}"
            )
    for one in said:
        return RuntimeError(f"{one['line']} (in process {one['rank']} of {n})\n{one['text']}")
    return RuntimeError(str(failed))


@contextlib.contextmanager
def _environment(n: int) -> Iterator[None]:
    """What ranks inherit: a share of the cores, and that they meet on this machine."""
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = str(threads.divided(n))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():  # the launcher leaves something too
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _quiet_launcher() -> Iterator[None]:
    """What the launcher warns of is said here, once."""
    names = [n for n in logging.root.manager.loggerDict if n.startswith(_LAUNCHER)]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _own_signals() -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """Signals that the launcher may take over meanwhile, and those that ranks are to ignore.

    Ignored are those that have a handler here: by it a scheduler's plugin has a run requeued, and
    sends the signal to all processes of a job.
    """
    before = {
        name: handler
        for name in (*_STOPS, *_OTHERS)
        if (handler := signal.getsignal(getattr(signal, name))) is not None
    }
    own = [n for n, h in before.items() if callable(h) and h is not signal.default_int_handler]
    try:
        yield (
            [n for n in _STOPS if before.get(n) in (signal.SIG_DFL, signal.default_int_handler)],
            tuple(getattr(signal, name) for name in own),
        )
    finally:
        if threading.current_thread() is threading.main_thread():
            for name, handler in before.items():
                signal.signal(getattr(signal, name), handler)
