"""What the cache of trunk features is worth: beitmed beside a plain Trainer script, in one run.

    python scripts/bench.py                 everything that a CPU can show
    python scripts/bench.py --only parts --precision bf16   for CPUs that have its instructions
    python scripts/bench.py --variants      the paper's eight variants in real sizes, on a GPU, bf16
    python scripts/bench.py --step          a training step's kernels, and what compiling it gives
    python scripts/bench.py --pretrain      pre-training beside transformers' own loop
    python scripts/bench.py --predict       beitmed predict beside the bare forward pass
    python scripts/bench.py --labels        label efficiency, beside a script for each part
    python scripts/bench.py --together      runs beside one another, and beside a busy program
    python scripts/bench.py --reading       features from disk and page cache, beside a top step
    python scripts/bench.py --smoke         shows that all of it runs, on a tiny geometry

The peer is `bench_peer.py`. All parts are measured in turn, round by round, so that a machine that
slows down slows both sides; medians and ranges are printed, and the totals of whole experiments
are put together from the measured parts and marked so. Rows go to a CSV file too.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch
from bench_labels import labels
from bench_parts import measure_parts, totals
from bench_predict import BASE, rate
from bench_pretrain import pretraining
from bench_reading import reading
from bench_runs import depths, exactness, many, memory, variants, whole_runs
from bench_step import steps
from bench_table import LARGE, TINY, Table
from bench_together import together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--csv", type=Path, default=Path("outputs/benchmark.csv"))
    parser.add_argument("--variants", action="store_true", help="the eight variants, on a GPU")
    parser.add_argument("--no-peer", action="store_true", help="with --variants: beitmed alone")
    parser.add_argument("--step", action="store_true", help="a training step, and what it is of")
    parser.add_argument("--pretrain", action="store_true", help="pre-training, and nothing else")
    parser.add_argument("--predict", action="store_true", help="the rate of beitmed predict")
    parser.add_argument("--labels", action="store_true", help="label efficiency")
    parser.add_argument("--together", action="store_true", help="runs beside one another, on CPUs")
    parser.add_argument("--reading", action="store_true", help="how fast features are read")
    parser.add_argument("--smoke", action="store_true", help="a tiny geometry, one round")
    parser.add_argument("--only", choices=["parts", "runs", "memory", "exactness"])
    parser.add_argument(
        "--precision", choices=["fp32", "bf16"], default="fp32", help="of the parts, both sides"
    )
    parser.add_argument("--data", type=Path, help="folder of real images, for exactness, together")
    parser.add_argument("--many", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.many:
        many(options.many)
        return
    smoke = options.smoke
    geometry, rounds = (TINY, 1) if smoke else (LARGE, options.rounds)
    few = ("data.limit=8", "train.epochs=1") if smoke else ()
    table = Table()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir = scratch  # whatever is written anywhere goes at the end
        if options.variants:
            backbone, scale = (TINY[1:], 0.02) if smoke else (LARGE[1:], 1.0)
            variants(table, Path(scratch), backbone, scale, not options.no_peer)
        elif options.step:
            steps(table, TINY if smoke else LARGE)
        elif options.pretrain:
            pretraining(table, rounds, smoke)
        elif options.predict:
            backbone, images = (TINY, 40) if smoke else (BASE, 256)
            rate(table, Path(scratch), rounds, backbone, images)
        elif options.labels:
            labels(table, Path(scratch), rounds, few, smoke)
        elif options.together:
            together(table, Path(scratch), rounds, options.data, few)
        elif options.reading:
            reading(table, Path(scratch), rounds, geometry, 200 if smoke else 4_000)
        else:
            if options.only in (None, "parts"):
                precision = f"precision={options.precision}"
                totals(table, measure_parts(table, rounds, (*geometry, precision)))
            if options.only in (None, "runs"):
                whole_runs(table, Path(scratch), max(1, rounds - 1), few)
                depths(table, Path(scratch), few)
            if options.only in (None, "exactness"):
                exactness(table, Path(scratch), options.data, few)
            if options.only in (None, "memory"):
                images = [100, 1_000] if smoke else [1_000, 100_000]
                memory(table, Path(scratch), geometry, images)
    context = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cpus",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("beitmed", "torch", "transformers")},
    }
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="") as f:
        writer = csv.DictWriter(f, [*table.rows[0], *context])
        writer.writeheader()
        writer.writerows({**row, **context} for row in table.rows)
    print(f"\n{time.perf_counter() - start:.0f} s in all; rows are in {options.csv}")


if __name__ == "__main__":
    main()
