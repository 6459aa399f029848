"""How the threads of a computation share a machine with others, decided before torch is imported.

A computation's threads meet some thousand times a second, and wait for one another. GNU's OpenMP,
which torch uses on Linux, lets a thread that waits spin for up to 300,000 turns, some milliseconds:
quick where every thread has a core of its own, and a disaster where it has not, for the one that is
waited for then waits for the core on which the other one spins. So it spins for as long as that
library itself does where it knows of more threads than cores, some ten microseconds, which bridges
the usual gap between two parallel parts, and then sleeps.

The number of threads stays what the machine has, or what its container is allowed: sums are split
by it, so a number that followed the load would change a run's last bits with the load.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

SPINS = 1_000
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_THREADS, _CHOSEN_HERE = "OMP_NUM_THREADS", "BEITMED_OMP_NUM_THREADS"
_CGROUP = Path("/sys/fs/cgroup")


def share() -> None:
    """Set what OpenMP reads when torch loads it, unless the user has; calling it again is safe."""
    if not any(name in os.environ for name in _WAITING):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)
    # What was chosen here goes on to other processes, of which one may be on another machine.
    if os.environ.get(_THREADS) == os.environ.get(_CHOSEN_HERE):
        os.environ.pop(_THREADS, None)
        if (allowed := min(filter(None, (quota(_CGROUP), _slurm())), default=_cores())) < _cores():
            os.environ[_THREADS] = os.environ[_CHOSEN_HERE] = str(allowed)


def divided(processes: int) -> int:
    """How many threads each of several processes takes: a share, or what the user has set."""
    found, cores = os.environ.get(_THREADS, ""), _cores()
    if found.isdigit():
        if found != os.environ.get(_CHOSEN_HERE):
            return int(found)
        cores = int(found)
    return max(1, cores // processes)


def quota(cgroup: Path) -> int | None:
    """How many cores' time the container may take, rounded up; None where it is not limited.

    cgroup: where the control groups are mounted, of version 2 or 1.
    """
    try:
        if (cgroup / "cpu.max").exists():
            limit, period = (cgroup / "cpu.max").read_text().split()
        else:
            limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text()
        share_of_time = int(limit) / int(period)
    except (OSError, ValueError):  # no Linux, or "max": no limit
        return None
    return max(1, math.ceil(share_of_time)) if share_of_time > 0 else None


def _slurm() -> int | None:
    """The cores of a Slurm task, which not every cluster binds it to."""
    found = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(found) if found.isdigit() else None


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
