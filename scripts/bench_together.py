"""Two runs at once on one machine, and one beside a busy program, on both sides.

    python scripts/bench.py --together

Whole processes on all cores, from start to end, with the imports: what a person waits for. Every
run has a cache of its own, so that none waits for another's. Start it on a machine that does
nothing else. The peer is `bench_peer.py` as it comes, whose threads wait as its libraries let them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench_runs import HERE
from bench_table import Table

# Patience with the peer: a run that takes this many times one alone is ended, and said to be over.
PATIENCE = 3
_SET_BY_OTHERS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "BEITMED_OMP_NUM_THREADS")
_OPENMPS_OWN = "300000"  # GOMP_SPINCOUNT where none is set: GCC's libgomp manual
_BUSY = "while True: pass"


def together(
    table: Table, scratch: Path, rounds: int, data: Path | None, extra: tuple[str, ...]
) -> None:
    """Time one run, two at once, and one beside as many busy programs as there are cores."""
    small = {"dataset": "phantom", "backbone": "beit_small", "backbone.weights": "random",
             "train.epochs": "1", "evaluate.n_resamples": "100"}  # fmt: skip
    if data is not None:
        small |= {"dataset": "pneumonia", "data.root": str(data.resolve()),
                  "data.allow_unofficial": "true", "data.download": "false"}  # fmt: skip
    small |= dict(o.split("=", 1) for o in extra)
    overrides = [f"{key}={value}" for key, value in small.items()]
    cores = len(os.sched_getaffinity(0))
    print(f"\nRuns beside one another, the small BEiT, {cores} cores (measured):")
    found: dict[str, dict[str, list[float]]] = {"beitmed": {}, "peer": {}}
    for i in range(rounds):
        for side, times in found.items():
            folder = scratch / f"together-{side}{i}"
            alone = _seconds(side, folder / "one alone", overrides, 1)
            times.setdefault("one alone", []).append(alone)
            if side == "beitmed":
                spinning = _seconds(side, folder / "spinning", overrides, 1, spin=True)
                times.setdefault("one alone, its spin not bounded", []).append(spinning)
            for name, runs, busy in (("two at once", 2, 0), ("beside", 1, cores)):
                seconds = _seconds(side, folder / name, overrides, runs, busy, alone)
                times.setdefault(name, []).append(seconds)
    for side, times in found.items():
        names = {"beside": f"one beside {cores} busy programs"}
        for name, values in times.items():
            table.add(f"{side}: {names.get(name, name)}", values, "s")
        for name, what in (("two at once", "over one after the other"),
                           ("beside", "over twice one alone")):  # fmt: skip
            ratios = [b / (2 * a) for a, b in zip(times["one alone"], times[name], strict=True)]
            table.add(f"{side}: {names.get(name, name)}, {what}", ratios, "x")


def _seconds(
    side: str,
    folder: Path,
    overrides: list[str],
    runs: int,
    busy: int = 0,
    alone: float | None = None,
    spin: bool = False,
) -> float:
    """Seconds until `runs` processes of a side, started at once, are over, or patience is.

    spin: threads that wait spin as long as OpenMP has them do by itself.
    """
    environment = {k: v for k, v in os.environ.items() if k not in _SET_BY_OTHERS}
    if spin:
        environment["GOMP_SPINCOUNT"] = _OPENMPS_OWN
    with ExitStack() as started:
        for _ in range(busy):
            started.callback(_end, subprocess.Popen([sys.executable, "-c", _BUSY]))
        begun, processes = time.perf_counter(), []
        for i in range(runs):
            own = folder / str(i)
            own.mkdir(parents=True)
            log = started.enter_context((own / "log.txt").open("w"))
            process = subprocess.Popen(
                _command(side, overrides, seed=i), cwd=own, env=environment, stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
            started.callback(_end, process)
            processes.append(process)
        limit = None if alone is None else PATIENCE * alone
        for i, process in enumerate(processes):
            left = None if limit is None else max(1.0, begun + limit - time.perf_counter())
            try:
                code = process.wait(left)
            except subprocess.TimeoutExpired:
                print(f"  {side}, {folder.name}: ended after {limit:.0f} s, not over by far")
                break
            if code:
                sys.exit(f"{side} failed:\n{(folder / str(i) / 'log.txt').read_text()}")
        seconds = time.perf_counter() - begun
        print(f"  {side}, {folder.name}: {seconds:.0f} s", flush=True)
        return seconds


def _command(side: str, overrides: list[str], seed: int) -> list[str]:
    if side == "peer":
        return [sys.executable, str(HERE / "bench_peer.py"), *overrides, f"seed={seed}"]
    return [
        sys.executable,
        "-m",
        "beitmed",
        "train",
        *overrides,
        f"seed={seed}",
        "cache.root=cache",
    ]


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
