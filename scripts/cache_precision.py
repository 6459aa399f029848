"""What storing features in fewer bits does to a run's test logits and AUC, beside another seed.

    python scripts/cache_precision.py dataset=breast backbone=beit_tiny data.root=FOLDER

Whatever is given goes to `beitmed train`. Each run is trained with features in fp32, fp16, int8 and
fp8, with `--seeds` seeds each. A row of the table says how far the test logits and the AUC of one
storage lie from those of fp32, seed by seed, and how many times farther two seeds lie apart, by
logits (root of the mean square) and by AUC (mean distance). What both put at 50 times or more is of
no account; nothing else may become the default.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

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


class Distances(NamedTuple):
    """How far runs lie apart, pair by pair: their test logits, and their AUC."""

    rms: float
    largest: float
    auc: float
    largest_auc: float


def _distances(pairs: Sequence[tuple[FinishedRun, FinishedRun]]) -> Distances:
    logits = np.stack([one.test.logits - other.test.logits for one, other in pairs])
    auc = np.array([[run.metrics["test"]["auc"]["value"] for run in pair] for pair in pairs])
    apart = np.abs(auc[:, 0] - auc[:, 1])
    rms = float(np.sqrt(np.mean(logits**2)))
    return Distances(rms, float(np.abs(logits).max()), float(apart.mean()), float(apart.max()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    options, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = _train(arguments, options.seeds, Path(scratch))
    seeds = range(1, options.seeds + 1)
    pairs = [(runs["fp32", a], runs["fp32", b]) for a, b in itertools.combinations(seeds, 2)]
    of_seeds = _distances(pairs)
    print("stored as,logits (rms),logits (largest),AUC (mean),AUC (largest),"
          "another seed: times farther by logits,by AUC,of no account")  # fmt: skip
    _tell("another seed", of_seeds, of_seeds)
    for kind in _STORED[1:]:
        _tell(kind, _distances([(runs["fp32", s], runs[kind, s]) for s in seeds]), of_seeds)


def _tell(name: str, found: Distances, of_seeds: Distances) -> None:
    times = [
        float(np.divide(seeds, own)) if own else float("inf")
        for seeds, own in ((of_seeds.rms, found.rms), (of_seeds.auc, found.auc))
    ]
    enough = "-" if found is of_seeds else "yes" if min(times) >= _ENOUGH else "no"
    said = [f"{x:.1e}" for x in found] + [f"{x:.0f}" if np.isfinite(x) else "equal" for x in times]
    print(name, *said, enough, sep=",", flush=True)


if __name__ == "__main__":
    main()
