"""What storing features in fewer bits does to a run's test logits and AUC, beside another seed.

    python scripts/cache_precision.py dataset=breast backbone=beit_tiny data.root=FOLDER

Whatever is given goes to `beitmed train`. Each run is trained with features in fp32, fp16, int8 and
fp8, and with `--seeds` seeds in fp32. A row of the table says how far the test logits of one
storage lie from those of fp32, seed by seed, and how many times farther two seeds lie apart.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from beitmed.runs import reader
from beitmed.runs.reader import FinishedRun

_STORED = ("fp32", "fp16", "int8", "fp8")
_ENOUGH = 50  # times smaller than another seed's: of no account


def _train(arguments: list[str], seeds: int, out: Path) -> dict[tuple[str, int], FinishedRun]:
    numbers = ",".join(map(str, range(1, seeds + 1)))
    subprocess.run(
        [sys.executable, "-m", "beitmed", "train", "-m", *arguments, f"seed={numbers}",
         f"cache.dtype={','.join(_STORED)}", f"output_dir={out}"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    runs, problems = reader.find([out])
    assert not problems, problems
    return {(run.config.cache.dtype, run.seed): run for run in runs}


def _apart(one: FinishedRun, other: FinishedRun) -> np.ndarray:
    """Distances of the test logits, |difference| of each, float64 [n * classes]."""
    return np.abs(one.test.logits - other.test.logits).ravel()


def _auc(one: FinishedRun, other: FinishedRun) -> float:
    return abs(one.metrics["test"]["auc"]["value"] - other.metrics["test"]["auc"]["value"])


def _rms(values: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(values) ** 2)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    options, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = _train(arguments, options.seeds, Path(scratch))
    seeds = range(1, options.seeds + 1)
    pairs = [(runs["fp32", a], runs["fp32", b]) for a, b in itertools.combinations(seeds, 2)]
    between = _rms([_apart(*pair) for pair in pairs])
    print(
        "stored,rms_of_logits,largest_of_logits,mean_of_auc,largest_of_auc,seeds_are_times_farther"
    )
    aucs = [_auc(*pair) for pair in pairs]
    largest = max(_apart(*pair).max() for pair in pairs)
    print(f"another seed,{between:.3g},{largest:.3g},{np.mean(aucs):.3g},{max(aucs):.3g},1")
    for kind in _STORED[1:]:
        pairs = [(runs["fp32", seed], runs[kind, seed]) for seed in seeds]
        apart, aucs = [_apart(*pair) for pair in pairs], [_auc(*pair) for pair in pairs]
        times = between / _rms(apart)
        said = f"{times:.0f}" if times >= _ENOUGH else f"{times:.0f} (below {_ENOUGH})"
        largest = max(a.max() for a in apart)
        print(f"{kind},{_rms(apart):.3g},{largest:.3g},{np.mean(aucs):.3g},{max(aucs):.3g},{said}")


if __name__ == "__main__":
    main()
