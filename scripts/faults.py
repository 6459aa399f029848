"""What becomes of works that are killed, that run out of disk, and whose cache is not what it was.

    python scripts/faults.py [--csv FILE] [--only run sweep ...] [--seed N] [--scratch FOLDER]
    python scripts/faults.py --smoke

A try is a `beitmed` command in a process and a folder of its own: every fifth a new `python -m
beitmed`, the others forks of a process that has imported PyTorch before, which saves hours (all of
them new: --cold). It passes if the same command, given
again, leaves the bytes of a folder in which nothing happened, and no file more or less, and if
nothing half-written had its final name meanwhile. Left out of the comparison: run.log, and of
environment.json the keys seconds and phases. The moments are random: phases in turn, each at a time
within its length.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import faults_cache
import faults_stops
import faults_work
from faults_stops import Result
from faults_work import State, Undisturbed, Work

_KINDS = ("run", "joblib", "sweep", "report", "audit", "disk", "cache")
Problem = tuple[str, str | None]


class Size(NamedTuple):
    """How often each thing happens."""

    kills: dict[str, int]
    full: dict[str, int]  # disks
    limits: int
    processes: int
    bytes_each: int


_TITLES = {"run": "a run", "joblib": "a sweep, launcher=joblib", "sweep": "a sweep",
           "report": "a report", "audit": "an audit"}  # fmt: skip
FULL = Size({"run": 50, "joblib": 10, "sweep": 10, "report": 10, "audit": 10},
            {"run": 16, "joblib": 2, "sweep": 2, "report": 4, "audit": 4},
            len(faults_stops.SIZES), 8, 12)  # fmt: skip
SMOKE = Size({"run": 6, "joblib": 1, "sweep": 1, "report": 2, "audit": 2}, {"run": 1}, 1, 3, 1)


class Faults:
    """All scenarios, below one folder."""

    def __init__(self, scratch: Path, size: Size, seed: int, cold: bool) -> None:
        self.scratch, self.size, self.cold = scratch, size, cold
        self.rng = random.Random(seed)
        self._undisturbed: dict[str, Undisturbed] = {}

    def undisturbed(self, work: Work) -> Undisturbed:
        """What a work leaves, whatever it found; done once."""
        if work.name not in self._undisturbed:
            folder = self.scratch / f"undisturbed-{work.name.replace(', ', '-')}"
            found = self._undisturbed[work.name] = faults_work.undisturbed(work, folder)
            told = ", ".join(f"{phase} {s:.2f}" for phase, s in found.seconds.items())
            print(f"{work.name}, undisturbed, in s: {told}", flush=True)
        return self._undisturbed[work.name]

    def joblib(self) -> list[tuple[Work, State | None]]:
        """A sweep by that launcher, if it is installed here."""
        if importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher") is not None:
            return [(faults_work.sweep("joblib"), None)]
        print("launcher=joblib is not installed: sweeps by launcher=local only", flush=True)
        return []

    def reports(self) -> list[tuple[Work, State | None]]:
        """A report where there is none, and where another stands; and what that one is."""
        outputs = self.undisturbed(faults_work.sweep("local")).folder / "outputs"
        new = faults_work.report(outputs)
        old = self.scratch / "undisturbed-old-report"
        if not old.exists():
            other = replace(new, arguments=(*new.arguments, "margin=0.1"))
            faults_work.undisturbed(other, old)
        replacing = faults_work.report(outputs, old / "report")
        return [(new, None), (replacing, faults_work.state(old))]

    def stopped(self, scenario: str, works: list[tuple[Work, State | None]], tries: int,
                stop: Callable[..., Problem]) -> Result:  # fmt: skip
        """Stop works in turn, at random moments."""
        result = Result(scenario)
        for i, (work, old) in enumerate(works):
            of = self.undisturbed(work)
            share = len(range(i, tries, len(works)))
            for at, moment in enumerate(faults_stops.moments(work, of, share, self.rng)):
                # The first phase is the imports: there is nothing to kill in a fork.
                cold = self.cold or at % 5 == 0 or moment[0] == work.phases[0]
                result.count(*stop(work, of, moment=moment, cold=cold, old=old))
        return result

    def works(self, kind: str) -> list[tuple[Work, State | None]]:
        """What is stopped, in turn, and what stood in its place before."""
        if kind == "report":
            return self.reports()
        if kind == "joblib":
            return self.joblib()
        made = {"run": faults_work.run, "audit": faults_work.audit}
        return [(made[kind]() if kind in made else faults_work.sweep("local"), None)]

    def killed(self, kind: str) -> list[Result]:
        """What is killed and started again."""
        kill, tries = partial(faults_stops.kill, scratch=self.scratch), self.size.kills[kind]
        return [self.stopped(f"{_TITLES[kind]}, killed", self.works(kind), tries, kill)]

    def disks(self) -> list[Result]:
        found = []
        with faults_stops.disk(self.scratch / "disk") as on:
            fill = partial(faults_stops.fill, on=on)
            for kind, tries in self.size.full.items():
                title = f"{_TITLES[kind]}, {on.kind}"
                found.append(self.stopped(title, self.works(kind), tries, fill))
        run = faults_work.run()
        small = Result("a run whose files can grow to a size only")
        for limit in self.rng.sample(faults_stops.SIZES, self.size.limits):
            small.count(*faults_stops.limit(run, self.undisturbed(run), self.scratch, limit))
        return [*found, small]

    def caches(self) -> list[Result]:
        run, size = faults_work.run(), self.size
        of = self.undisturbed(run)
        return [
            faults_cache.together(run, of, self.scratch, size.processes),
            faults_cache.seeds(run, self.scratch, size.processes),
            faults_cache.read_only(run, of, self.scratch),
            faults_cache.changed_bytes(run, of, self.scratch, size.bytes_each, self.rng),
        ]


def main() -> None:
    """Do what is asked for, print the table, and exit with 1 if a try has not passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="a few of each")
    parser.add_argument("--only", nargs="+", choices=_KINDS, default=_KINDS)
    parser.add_argument("--csv", type=Path, help="also write the table here")
    parser.add_argument("--cold", action="store_true", help="every try a new python")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--scratch", type=Path, help="kept, with the folders of what went wrong")
    given = parser.parse_args()
    scratch = given.scratch or Path(tempfile.mkdtemp(prefix="beitmed-faults-"))
    scratch.mkdir(parents=True, exist_ok=True)
    faults = Faults(scratch.resolve(), SMOKE if given.smoke else FULL, given.seed, given.cold)
    kinds = {"disk": faults.disks, "cache": faults.caches}
    begun, results = time.monotonic(), list[Result]()
    for kind in given.only:
        results += kinds[kind]() if kind in kinds else faults.killed(kind)
    print(f"\n{(time.monotonic() - begun) / 60:.1f} minutes\n")
    rows = [(r.scenario, r.tries, r.passed, r.told) for r in results]
    for row in [("scenario", "tries", "passed", "hit"), *rows]:
        print(f"{row[0]:44} {row[1]!s:>5} {row[2]!s:>6}  {row[3]}")
    if given.csv is not None:
        with given.csv.open("w", encoding="utf-8", newline="") as f:
            csv.writer(f, lineterminator="\n").writerows(
                [("scenario", "tries", "passed", "hit"), *rows]
            )
    wrong = [f"{r.scenario}, {problem}" for r in results for problem in r.wrong]
    if given.scratch is None and not wrong:
        shutil.rmtree(scratch)
    sys.exit("\n".join(["", f"not passed, see {scratch}:", *wrong]) if wrong else 0)


if __name__ == "__main__":
    main()
