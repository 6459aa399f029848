"""What faults happen to: commands, the folders they leave undisturbed, and what the files tell."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

import numpy as np

from beitmed.commands import front

for _name in ("pipeline", "commands.train", "commands.report", "commands.audit",
              "report.content.contents", "report.render.folder"):  # fmt: skip
    importlib.import_module(f"beitmed.{_name}")  # what a fork need not import again

#: A complete run of seconds; SYNTHETIC images, RANDOM weights.
RUN = ("experiment=smoke", "data.limit=48", "train.epochs=2", "evaluate.n_resamples=200",
       "data.download=false", "cache.root=cache", "device=cpu")  # fmt: skip
State = dict[str, str]
_SAID = Path(tempfile.mkdtemp(prefix="beitmed-said-"))  # not on a disk that will be full
atexit.register(shutil.rmtree, _SAID)


@dataclass(frozen=True)
class Work:
    """A command; phases: what its files tell, in their order; before: what it finds in its folder.

    codes: of its end where the disk is full. workers: whether it has processes that only a Python
    of its own ends; after a fork they would be waited for.
    """

    name: str
    arguments: tuple[str, ...]
    phases: tuple[str, ...]
    phase: Callable[[Path], str]
    before: Callable[[Path], None] = lambda folder: None
    codes: tuple[int, ...] = (2,)
    workers: bool = False


@dataclass
class Undisturbed:
    """What a work leaves when nothing happens to it, and how long each phase took."""

    folder: Path
    state: State
    seconds: dict[str, float] = field(default_factory=dict)


class Process:
    """A work that goes on in a folder of its own, as the first process of a new group.

    cold: a new `python -m beitmed`, whose imports take seconds; else a fork of this process, which
    has imported everything and done nothing. limit: bytes to which its files can grow.
    """

    def __init__(self, work: Work, folder: Path, cold: bool, limit: int | None = None) -> None:
        (folder / ".tmp").mkdir(parents=True, exist_ok=True)
        self._log = _SAID / f"{time.monotonic_ns()}.log"
        self.code: int | None = None
        with self._log.open("w") as log:  # by another, whose files may grow
            self._cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                assert self._cat.stdin is not None
                os.dup2(self._cat.stdin.fileno(), 1)
                os.dup2(1, 2)
                _become(work, folder, cold or work.workers, limit)
            finally:
                os._exit(70)
        assert self._cat.stdin is not None
        self._cat.stdin.close()

    def poll(self) -> int | None:
        """The exit code if it is over; negative for a signal."""
        if self.code is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.code = os.waitstatus_to_exitcode(found[1])
        return self.code

    def wait(self, seconds: float = 1200) -> int | None:
        """The same after its end, or after so many seconds."""
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        return self.code

    def kill(self) -> None:
        """Kill the group, and wait."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)  # it may have no group yet
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()

    def said(self) -> str:
        """What it has said, after its end."""
        self._cat.wait()
        return self._log.read_text()


def _become(work: Work, folder: Path, cold: bool, limit: int | None) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(folder)
    os.environ |= {"TMPDIR": str(folder / ".tmp"), "HOME": str(_SAID / "home")}
    tempfile.tempdir = None
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if cold:
        os.execv(sys.executable, [sys.executable, "-m", "beitmed", *work.arguments])
    sys.argv = ["beitmed", *work.arguments]
    code = 1
    try:
        front.main()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 0
    except BaseException:  # what an interpreter does with it
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def finish(work: Work, folder: Path, cold: bool = False) -> tuple[int | None, str]:
    """Give the command, and wait for its end; its exit code and what it said."""
    process = Process(work, folder, cold)
    return process.wait(), process.said()


def undisturbed(work: Work, folder: Path) -> Undisturbed:
    """Do a work once, looking meanwhile at its files."""
    folder.mkdir(parents=True)
    work.before(folder)
    process, last, seconds = Process(work, folder, cold=True), time.monotonic(), dict[str, float]()
    while process.poll() is None:
        now, phase = time.monotonic(), work.phase(folder)
        seconds[phase], last = seconds.get(phase, 0) + now - last, now
        time.sleep(0.002)
    assert process.code == 0, process.said()
    return Undisturbed(folder, state(folder), seconds)


def state(folder: Path) -> State:
    """The digest of every file of a folder, those left out aside."""
    return {name: _digest(path) for name, path in _files(folder) if path.name != "run.log"}


def whole(folder: Path, expected: Undisturbed, other: State | None = None) -> str | None:
    """What is half-written among the files that have their final name; None where nothing is.

    other: of what stood there before, which is whole as well.
    """
    found = {name: digest for name, digest in state(folder).items() if _final(name)}
    if other is not None:  # replaced as one
        reports = [{n: d for n, d in s.items() if n.startswith("report/")}
                   for s in (found, expected.state, other)]  # fmt: skip
        return None if reports[0] in ({}, *reports[1:]) else "half of a report"
    wrong = [name for name, digest in found.items() if expected.state.get(name) != digest]
    for failure in folder.glob("outputs/*/failure.json"):  # there until an attempt succeeds
        json.loads(failure.read_text())
    return f"half-written: {', '.join(wrong[:3])}" if wrong else None


def differing(folder: Path, expected: Undisturbed, without: str = "") -> str | None:
    """What differs from an undisturbed folder: files and leftovers by name; None if nothing.

    without: a folder in it that is not looked at.
    """
    found = state(folder)
    names = {n for n in found.keys() | expected.state if found.get(n) != expected.state.get(n)}
    names = {n for n in names if not without or not n.startswith(f"{without}/")}
    return f"differs: {', '.join(sorted(names)[:5])}" if names else None


def _final(name: str) -> bool:
    """Whether a file has the name that it keeps, and content that does not grow."""
    parts = Path(name).parts
    passing = any(p[0] == "." or p == "checkpoints" or p.endswith(".partial") for p in parts)
    return not passing and parts[-1] not in ("environment.json", "last_used", "failure.json")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            yield path.relative_to(folder).as_posix(), path


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "environment.json":
        values = json.loads(content)
        content = json.dumps({k: v for k, v in values.items() if k not in ("seconds", "phases")})
        content = content.encode()
    return hashlib.sha256(content).hexdigest()


RUN_PHASES = ("start", "data", "fill", "training", "checkpoint", "evaluation", "figures", "end")


def phase_of_run(run: Path) -> str:
    """Where a run is, by the files that it has."""
    names = {path.name for path in run.glob("*")}
    if "metrics.json" in names:
        return "end"
    if "predictions.csv" in names:
        return "figures" if any("roc" in name for name in names) else "evaluation"
    if "checkpoints" in names:
        written = list((run / "checkpoints").glob("checkpoint-*"))
        return "checkpoint" if any(not (w / "complete").exists() for w in written) else "training"
    if "model.json" in names:
        return "training"
    return "fill" if "data.json" in names else "data"


def _runs(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("outputs/*") if p.name[0] != ".")


def _one_run(folder: Path) -> str:
    runs = _runs(folder)
    return phase_of_run(runs[0]) if runs else "start"


def _sweep(folder: Path) -> str:
    """Of the run that is least far."""
    phases = [phase_of_run(run) for run in _runs(folder)]
    if not phases:
        return "fill" if list(folder.glob("cache/*.partial")) else "start"
    return min(phases, key=RUN_PHASES.index)


def _report(folder: Path) -> str:
    if list(folder.glob(".report.*.tmp/tables")):
        return "tables"
    return "figures" if list(folder.glob(".report.*.tmp")) else "start"


def _audit(folder: Path) -> str:
    for at in folder.glob("outputs/audit/*"):
        names = {path.name for path in at.iterdir()}
        return "end" if "audit.json" in names else "figures" if names else "search"
    return "start"


def run() -> Work:
    return Work("run", ("train", *RUN), RUN_PHASES, _one_run)


def sweep(launcher: str) -> Work:
    """Two runs; in one process, or at once in two."""
    arguments = ("train", "-m", *RUN, "seed=1,2")
    if launcher != "local":
        arguments += (f"launcher={launcher}",)
    return Work(f"sweep, {launcher}", arguments, RUN_PHASES, _sweep, codes=(1, 2),
                workers=launcher != "local")  # fmt: skip


def report(outputs: Path, old: Path | None = None) -> Work:
    """Of finished runs; old: of a report that is to be replaced."""

    def before(folder: Path) -> None:
        shutil.copytree(outputs, folder / "outputs")
        if old is not None:
            shutil.copytree(old, folder / "report")

    arguments = ("report", "outputs", "attention=false")
    return Work("report", arguments, ("start", "figures", "tables"), _report, before)


def audit() -> Work:
    """Of a dataset in which some images occur twice."""

    def before(folder: Path) -> None:
        rng, arrays = np.random.default_rng(0), {}
        for split, n in (("train", 200), ("val", 60), ("test", 60)):
            images = rng.integers(0, 256, (n, 28, 28), np.uint8)
            images[1:9] = images[0]
            arrays |= {f"{split}_images": images,
                       f"{split}_labels": np.arange(n, dtype=np.uint8)[:, None] % 2}  # fmt: skip
        (folder / "data").mkdir(parents=True)
        np.savez(folder / "data" / "breastmnist.npz", **arrays)

    arguments = ("audit", "dataset=breast", "size=28", "data.root=data", "data.download=false",
                 "data.allow_unofficial=true", "cache.root=cache")  # fmt: skip
    return Work("audit", arguments, ("start", "search", "figures", "end"), _audit, before)
