"""Locks that several processes and machines share: held by one, lost by the dead."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock._util
import pytest

from beitmed.errors import UserError
from beitmed.storage import locks

HOLDER = """
import sys, time
from pathlib import Path
from beitmed.storage import locks
root, name, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
with locks.exclusive(root, "one", "waiting"), (root / "log").open("a", buffering=1) as log:
    log.write(f"{name} begins\\n")
    time.sleep(seconds)
    log.write(f"{name} ends\\n")
"""


def hold(root: Path, name: str, seconds: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", HOLDER, str(root), name, str(seconds)])


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def marker_of(root: Path) -> Path:
    return root / ".locks" / "one.lease"


def foreign(root: Path) -> Path:
    """The marker of a holder on another host, as it stands while that holds the lock."""
    with locks.exclusive(root, "one", "waiting"):
        content = marker_of(root).read_text()
    assert socket.gethostname() in content
    marker_of(root).write_text(content.replace(socket.gethostname(), "another-host"))
    return marker_of(root)


def dead_marker(root: Path) -> Path:
    """The marker of a holder on this host that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    with locks.exclusive(root, "one", "waiting"):
        content = marker_of(root).read_text()
    marker_of(root).write_text(content.replace(f"pid={os.getpid()}", f"pid={process.pid}"))
    return marker_of(root)


def test_of_eight_processes_one_at_a_time_works_and_a_killed_one_stops_nobody(tmp_path):
    killed = hold(tmp_path, "killed", 600)
    wait_for(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text())
    others = [hold(tmp_path, str(i), 0.05) for i in range(7)]
    wait_for(lambda: all(p.poll() is None for p in others))
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert [p.wait(60) for p in others] == [0] * 7
    first, *lines = (tmp_path / "log").read_text().splitlines()
    assert first == "killed begins"
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    assert all(b.split()[1] == "begins" and e == b.replace("begins", "ends") for b, e in pairs)
    assert sorted(b.split()[0] for b, _ in pairs) == [str(i) for i in range(7)]


def test_a_holder_that_died_on_another_host_loses_the_lock(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(locks, "LEASE", 1.0)
    foreign(tmp_path)
    start = time.monotonic()
    with caplog.at_level("INFO"), locks.exclusive(tmp_path, "one", "somebody has it"):
        waited = time.monotonic() - start
    assert 1 <= waited < 10 and "somebody has it" in caplog.text


@pytest.fixture
def without_exchange(monkeypatch):
    """A file system that cannot exchange two names, as NFS says it."""
    monkeypatch.setattr(filelock._util, "_rename_call", lambda: (lambda *_: errno.EINVAL, 2))


def test_on_nfs_too_a_holder_that_died_loses_the_lock(tmp_path, monkeypatch, without_exchange):
    monkeypatch.setattr(locks, "LEASE", 0.3)
    for content in (foreign(tmp_path).read_text(), dead_marker(tmp_path).read_text()):
        marker_of(tmp_path).write_text(content)
        start = time.monotonic()
        with locks.exclusive(tmp_path, "one", "waiting"):
            assert 0.3 <= time.monotonic() - start < 10
        assert not list((tmp_path / ".locks").iterdir())


def test_a_holder_that_died_as_it_made_its_marker_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LEASE", 0.3)
    marker_of(tmp_path).parent.mkdir()
    marker_of(tmp_path).touch()
    with locks.exclusive(tmp_path, "one", "waiting"):
        assert marker_of(tmp_path).read_text()
    assert not list((tmp_path / ".locks").iterdir())


def test_of_many_who_wait_on_nfs_one_at_a_time_takes_over(tmp_path, monkeypatch, without_exchange):
    monkeypatch.setattr(locks, "LEASE", 0.3)
    foreign(tmp_path)
    held = threading.Lock()

    def take() -> bool:
        with locks.exclusive(tmp_path, "one", "waiting"):
            alone = held.acquire(blocking=False)
            time.sleep(0.02)
            held.release()
        return alone

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: take(), range(8)))


@pytest.mark.parametrize("seconds", [-60, 60])
def test_a_live_holder_keeps_the_lock_though_its_clock_is_a_minute_off(
    tmp_path, monkeypatch, seconds
):
    monkeypatch.setattr(locks, "LEASE", 1.0)
    marker, stop = foreign(tmp_path), threading.Event()

    def beat() -> None:
        while not stop.wait(0.1):
            os.utime(marker, (time.time() + seconds,) * 2)

    beating = threading.Thread(target=beat)
    beating.start()
    end = time.monotonic() + 2.5
    try:
        while time.monotonic() < end:
            with locks.if_free(tmp_path, "one") as free:
                assert not free
    finally:
        stop.set()
        beating.join()
    with locks.exclusive(tmp_path, "one", "waiting"):  # it has died: nobody beats any more
        assert "another-host" not in marker.read_text()


@pytest.mark.parametrize("sigint", [signal.default_int_handler, signal.SIG_IGN])
def test_a_holder_whose_lease_was_taken_is_told_and_stops(tmp_path, monkeypatch, request, sigint):
    monkeypatch.setattr(locks, "LEASE", 0.4)
    before = signal.signal(signal.SIGINT, sigint)  # ignored in what a script starts with `&`
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with (
        pytest.raises(UserError, match="another process took this over"),
        locks.exclusive(tmp_path, "one", "waiting"),
    ):
        content = marker_of(tmp_path).read_text()
        theirs = tmp_path / "theirs"  # put there in one step: a marker without content is no one's
        theirs.write_text(content.replace(socket.gethostname(), "another-host"))
        theirs.replace(marker_of(tmp_path))
        time.sleep(30)
    assert "another-host" in marker_of(tmp_path).read_text()  # what is not ours stays


def test_ctrl_c_stays_what_it_is(tmp_path):
    with pytest.raises(KeyboardInterrupt), locks.exclusive(tmp_path, "one", "waiting"):
        raise KeyboardInterrupt
    with locks.if_free(tmp_path, "one") as free:
        assert free
