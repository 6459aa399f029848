"""A thousand runs of a thousand variants, from generated scores, and what a report of them takes.

`python scripts/many_runs.py FOLDER [COUNT]` writes the runs into FOLDER/runs and reports them into
FOLDER/report; it prints wall and CPU seconds, the peak of memory and the size of the report.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import run_folders

TINY = "backbone=beit_tiny"
IMAGES = 156  # as BreastMNIST tests on


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    labels = run_folders.labels_of(run_folders.resolved((TINY,)), IMAGES)
    rng = np.random.default_rng(0)
    for i in range(count):
        run_folders.make(
            folder / "runs" / f"{i:04d}", TINY, f"train.learning_rate={(i + 1) / 1e5}",
            labels=labels, skill=1 + 0.2 * rng.normal(), draw=i,
        )  # fmt: skip
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "beitmed.report", "runs", "to=report", "images=false"],
        cwd=folder, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wall = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    size = sum(p.stat().st_size for p in (folder / "report").rglob("*") if p.is_file())
    print(f"{count} runs: {wall:.0f} s wall, {used.ru_utime + used.ru_stime:.0f} s CPU, "
          f"{used.ru_maxrss / 1e6:.1f} GB, report {size / 1e6:.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
