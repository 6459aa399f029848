"""The golden runs: what each is called, its overrides, and the generated file that it reads.

`python tests/golden/cases.py` trains them all and writes their predictions and losses beside this
file. They were made before the redesign of November 2026 and are made again only for a change of
numbers that is meant, which its commit then explains. `tests/test_golden.py` holds every version to
them.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROWS = 40  # of each split that are kept
REAL = HERE.parents[2] / "shared" / "medmnist"


class Case(NamedTuple):
    overrides: tuple[str, ...]
    flag: str | None = None  # of a file that is generated for it
    real: bool = False
    history: bool = False


_SMALL = ("experiment=smoke", "data.limit=40", "evaluate.n_resamples=100")
_TASK = ("experiment=smoke", "data.limit=8", "train.epochs=1", "evaluate.n_resamples=100",
         "unfreeze=1")  # fmt: skip
CASES = {
    "quickstart": Case(("experiment=smoke", "evaluate.n_resamples=100"), history=True),
    "breast": Case(("dataset=breast", "backbone=beit_tiny", "evaluate.n_resamples=100"), real=True,
                   history=True),
    "trunk_mode_train": Case((*_SMALL, "trunk_mode=train"), history=True),
    "live": Case((*_SMALL, "features=live"), history=True),
    "linear_probe": Case((*_SMALL, "unfreeze=0"), history=True),
    "majority": Case((*_SMALL, "method=majority")),
    "pixels_logistic": Case((*_SMALL, "method=pixels_logistic")),
    "features_logistic": Case((*_SMALL, "method=features_logistic")),
    "features_knn": Case((*_SMALL, "method=features_knn")),
    "resnet18": Case((*_SMALL, "method=resnet18", "method.epochs=2", "data.limit=16"),
                     history=True),
    "multiclass": Case((*_TASK, "dataset=blood"), "bloodmnist"),
    "ordinal": Case((*_TASK, "dataset=retina"), "retinamnist"),
    "multilabel": Case((*_TASK, "dataset=chest", "data.limit=3"), "chestmnist"),
}  # fmt: skip


def arguments(case: Case, folder: Path) -> list[str]:
    """The command line of a case, whose files all lie in `folder`."""
    data = REAL if case.real else folder
    return [
        *case.overrides, f"data.root={data}", "data.allow_unofficial=true", "data.download=false",
        f"cache.root={folder}/cache", f"output_dir={folder}/outputs", "name=golden", "device=cpu",
    ]  # fmt: skip


def rows(file: Path) -> list[list[str]]:
    """A predictions.csv's header and the first rows of each of its splits; any other file whole."""
    with file.open(newline="") as f:
        header, *found = csv.reader(f)
    kept = found
    if header[0] == "split":
        kept = [row for split in ("val", "test")
                for row in [r for r in found if r[0] == split][:ROWS]]  # fmt: skip
    return [header, *kept]


def _make(name: str, case: Case) -> None:
    sys.path.insert(0, str(HERE.parent))
    import numpy as np
    from conftest import medmnist_arrays

    with tempfile.TemporaryDirectory() as folder:
        if case.flag is not None:
            np.savez(Path(folder) / f"{case.flag}.npz", **medmnist_arrays(case.flag, 28, n=60))
        command = [sys.executable, "-m", "beitmed.train", *arguments(case, Path(folder))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for file in ("predictions", *(["history"] if case.history else [])):
            with (HERE / f"{name}.{file}.csv").open("w", newline="") as f:
                writer = csv.writer(f, lineterminator="\n")
                writer.writerows(rows(Path(folder) / "outputs" / "golden" / f"{file}.csv"))
        shutil.rmtree(folder, ignore_errors=True)
    print(name)


if __name__ == "__main__":
    for name, case in CASES.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            _make(name, case)
