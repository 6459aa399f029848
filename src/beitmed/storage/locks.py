"""One process at a time, for runs and for features alike, on one machine or on many.

A lock is a lease (filelock's `SoftFileLease`): a file that its holder touches again and again. It
needs nothing of the file system but exclusive creation, so it holds on NFS too; a holder that died
loses it, at once on its own machine and after `LEASE` seconds on another, counted by the clock of
whoever waits, never by that of a host or file server.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

from beitmed.errors import UserError, disk_error

log = logging.getLogger(__name__)
LEASE = 30.0  # seconds without a sign of life; the same for all that share a folder
_AGAIN = 0.25  # seconds between two looks at a lock that another process has


@contextmanager
def exclusive(root: Path, name: str, waiting: str) -> Iterator[None]:
    """Hold `root/.locks/<name>.lease`; where another process has it, say `waiting` and wait.

    Best entered in the main thread, which is interrupted where the lease is lost. Raises UserError
    where `root` cannot be written, and where another process took the lease meanwhile, since this
    one gave no sign of life for `LEASE` seconds (a suspended machine, a file system that hung).
    """
    lost = threading.Event()

    def stop(_: LeaseCompromise) -> None:
        lost.set()
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)  # wakes it, too, from what it waits for

    try:
        lease = _lease(root, name, stop)
        try:
            lease.acquire(timeout=0)
        except Timeout:
            log.info("%s", waiting)
            lease.acquire()
    except OSError as e:
        raise disk_error(e, root) or e from e
    try:
        yield
    except KeyboardInterrupt:
        if lost.is_set():
            raise UserError(
                f"{root / name}: another process took this over, since this one gave no sign of "
                f"life for {LEASE:.0f} s. Run the command again: it waits for the other and goes "
                "on from there."
            ) from None
        raise
    finally:
        lease.release()


@contextmanager
def if_free(root: Path, name: str) -> Iterator[bool]:
    """Hold the lock `exclusive` would hold, if no other process has it; whether that is so."""
    lease = _lease(root, name)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lease.release()


def _lease(
    root: Path, name: str, on_loss: Callable[[LeaseCompromise], None] | None = None
) -> SoftFileLease:
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    return SoftFileLease(
        root / ".locks" / f"{name}.lease", lease_duration=LEASE, heartbeat_interval=LEASE / 4,
        on_compromise=on_loss, poll_interval=_AGAIN,
    )  # fmt: skip
