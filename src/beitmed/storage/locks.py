"""One process at a time, for runs and for features alike, on one machine or on many.

A lock is a lease (filelock's `SoftFileLease`): a file that its holder touches again and again. It
needs nothing of the file system but exclusive creation, so it holds on NFS too; a holder that died
loses it, at once on its own machine and after `LEASE` seconds on another, counted by the clock of
whoever waits, never by that of a host or file server. Two cases the library leaves to its caller,
and here they end after `_PATIENCE` leases: a file system that cannot exchange two names, as NFS,
where it takes no marker away; and an empty marker, which a holder leaves that was killed as it made
it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

from beitmed.errors import UserError, disk_error

log = logging.getLogger(__name__)
LEASE = 30.0  # seconds without a sign of life; the same for all that share a folder
_PATIENCE = 1.2  # leases, so that whoever can take a marker over as the library does is the first
_LOST = signal.SIGURG  # not SIGINT, which is ignored in what a script starts with `&`
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
        signal.pthread_kill(main, _LOST)  # wakes it, too, from what it waits for

    if threading.current_thread() is threading.main_thread():
        signal.signal(_LOST, signal.default_int_handler)
    try:
        lease = _lease(root, name, stop)
        try:
            lease.acquire(timeout=0)
        except Timeout:
            log.info("%s", waiting)
            _wait(lease)
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


def _wait(lease: SoftFileLease) -> None:
    """Wait for a lease, and take away a marker that nobody touches and the library leaves."""
    marker, seen, since = Path(lease.lock_file), None, time.monotonic()
    while True:
        try:
            lease.acquire(timeout=LEASE / 8)
        except Timeout:
            now = _touched(marker)
            if now is None or now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > _PATIENCE * LEASE:
                _take_away(marker, seen)
        else:
            return


def _touched(marker: Path) -> tuple[int, int] | None:
    """Which file it is, and when it was touched last by the clock of whoever did; None: gone."""
    try:
        with marker.open("rb") as f:  # NFS asks the server when a file is opened
            status = os.fstat(f.fileno())
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _take_away(marker: Path, seen: tuple[int, int]) -> None:
    aside = marker.with_name(f"{marker.name}.{os.getpid()}.gone")
    with contextlib.suppress(OSError):  # of several who wait another was quicker
        marker.rename(aside)
        try:
            if _touched(aside) != seen:  # just now; its holder looks twice before it stops
                os.link(aside, marker)
        finally:
            aside.unlink()


def _lease(
    root: Path, name: str, on_loss: Callable[[LeaseCompromise], None] | None = None
) -> SoftFileLease:
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    return SoftFileLease(
        root / ".locks" / f"{name}.lease", lease_duration=LEASE, heartbeat_interval=LEASE / 4,
        on_compromise=on_loss, poll_interval=_AGAIN,
    )  # fmt: skip
