"""Works that are stopped at random moments: by SIGKILL, or by a disk that is full from then on."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import faults_work
from faults_work import Process, State, Undisturbed, Work

SIZES = (0, 100, 1_000, 5_000, 20_000, 60_000, 200_000)  # bytes; of the files of a small disk
_LARGE = "4g"


@dataclass
class Result:
    """A row of the table; hit: how often each phase was; wrong: what is not as it must be."""

    scenario: str
    tries: int = 0
    passed: int = 0
    hit: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def told(self) -> str:
        """What was hit, and how often."""
        return ", ".join(f"{name} {n}" for name, n in self.hit.items())

    def count(self, hit: str, problem: str | None) -> None:
        self.tries += 1
        self.passed += problem is None
        self.hit[hit] += 1
        if problem is not None:
            self.wrong.append(f"{hit}: {problem}")
        print(f"  {self.scenario} {self.tries}: {hit}: {problem or 'as undisturbed'}", flush=True)


def moments(work: Work, of: Undisturbed, tries: int, rng: random.Random) -> list[tuple[str, float]]:
    """A phase each, in turn, and seconds after its begin, at random within its length."""
    known = [phase for phase in work.phases if phase in of.seconds]
    chosen = [known[(i + 1) % len(known)] for i in range(tries)]
    # The last one is mostly Python's own end, which a fork has not.
    length = {phase: of.seconds[phase] * (0.05 if phase == "end" else 1) for phase in known}
    return [(phase, rng.uniform(0, length[phase])) for phase in chosen]


def wait_for(work: Work, folder: Path, process: Process, moment: tuple[str, float]) -> str:
    """Wait until a work is in a phase, or beyond it, for so many seconds; the phase it is in."""
    order = work.phases.index
    while process.poll() is None and order(work.phase(folder)) < order(moment[0]):
        time.sleep(0.002)
    return "over" if process.wait(moment[1]) is not None else work.phase(folder)


def kill(work: Work, of: Undisturbed, scratch: Path, moment: tuple[str, float], cold: bool,
         old: State | None = None) -> tuple[str, str | None]:  # fmt: skip
    """Kill a work at a moment and start it again: the phase that was hit, and what is wrong."""
    folder = fresh(work, scratch)
    process = Process(work, folder, cold)
    hit = wait_for(work, folder, process, moment)
    process.kill()
    problem = _survivors(folder) or faults_work.whole(folder, of, old)
    return hit, problem or again(work, of, folder, cold)


def again(work: Work, of: Undisturbed, folder: Path, cold: bool) -> str | None:
    """Give the command again, and compare; the folder goes if all is well."""
    begun = time.monotonic()
    code, said = faults_work.finish(work, folder, cold)
    if code:
        return f"exit code {code}: {said[-2000:]}"
    if "waiting" in said and time.monotonic() - begun > 25:
        return "waited for a lock of the dead"
    problem = faults_work.differing(folder, of)
    if problem is None:
        shutil.rmtree(folder)
    return problem


def fresh(work: Work, scratch: Path) -> Path:
    """A folder with what a work finds."""
    folder = scratch / f"{work.name.replace(', ', '-')}-{time.monotonic_ns()}"
    folder.mkdir(parents=True)
    work.before(folder)
    return folder


def _survivors(folder: Path) -> str | None:
    """Whether a process works on in a folder seconds later, which no kill would have left."""
    end = time.monotonic() + 5
    while (found := _inside(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    return f"lives on: {found}" if found else None


def _inside(folder: Path) -> str | None:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").resolve() == folder.resolve():
                return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    return None


class Disk:
    """What holds the folders of works, and can be made full: a file system in memory, or a limit.

    Where no file system can be mounted, the process may write no file any further.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.mounted = not self._mount("-t", "tmpfs", "-o", f"size={_LARGE}", "tmpfs")

    def _mount(self, *options: str) -> int:
        if shutil.which("mount") is None or os.geteuid():
            return 1
        command = ["mount", *options, str(self.folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    @property
    def kind(self) -> str:
        return "full disk" if self.mounted else "no file may grow"

    def fill(self, process: Process) -> None:
        if not self.mounted:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        for _ in range(1000):
            used = max(1, shutil.disk_usage(self.folder).used)  # 0 is no limit
            if not self._mount("-o", f"remount,size={used}"):
                return
        raise AssertionError("the file system could not be made full")

    def empty(self) -> None:
        if self.mounted:
            assert not self._mount("-o", f"remount,size={_LARGE}")

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    made = Disk(folder)
    try:
        yield made
    finally:
        made.close()


def fill(work: Work, of: Undisturbed, on: Disk, moment: tuple[str, float], cold: bool,
         old: State | None = None) -> tuple[str, str | None]:  # fmt: skip
    """Let the disk be full from a moment on, then make space and start the work again."""
    folder = fresh(work, on.folder)
    process = Process(work, folder, cold)
    hit = wait_for(work, folder, process, moment)
    on.fill(process)
    process.wait()
    on.empty()
    problem = _told(work, process) or faults_work.whole(folder, of, old)
    hit = hit if process.code else "nothing more to write"
    return hit, problem or again(work, of, folder, cold)


def limit(work: Work, of: Undisturbed, scratch: Path, size: int) -> tuple[str, str | None]:
    """The same with a disk on which no file can become larger than `size` bytes."""
    folder = fresh(work, scratch)
    process = Process(work, folder, cold=False, limit=size)
    process.wait()
    hit = f"{size:,} bytes, {work.phase(folder)}"
    problem = _told(work, process) or faults_work.whole(folder, of)
    return hit, problem or again(work, of, folder, cold=False)


def _told(work: Work, process: Process) -> str | None:
    """Whether a full disk is said as it must be."""
    code, said = process.code, process.said()
    if code == 0:  # what was to be written was there already
        return None
    if code not in work.codes or "Traceback" in said:
        return f"exit code {code}: {said[-3000:]}"
    clear = "no space left" in said or "MB are free" in said or "GB that are free" in said
    return None if clear else f"not clear: {said[-2000:]}"
