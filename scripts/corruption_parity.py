"""How near beitmed's corruptions are to those of the package that published them, medmnistc 0.1.0.

That package pins older versions, so it has an environment of its own:

    apt-get install libmagickwand-6.q16-6
    python3.11 -m venv /tmp/medmnistc
    /tmp/medmnistc/bin/pip install medmnistc==0.1.0 'numpy<2.3'
    python scripts/corruption_parity.py /tmp/medmnistc/bin/python docs/results/corruption_parity.csv

Both corrupt the same synthetic images of 224 px, for every data set, corruption and severity. Where
chance plays no part (the angle of motion_blur is given to both), the images are compared, pixel by
pixel; else how much the corruption changes the grey level of a pixel, on average over images:
the mean of the change and of its absolute value. Prints a line a corruption; writes all severities.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

IMAGES = 12
ANGLE = 20.0  # degrees, of motion_blur
BY_CHANCE = {"gaussian_noise", "speckle_noise", "impulse_noise", "shot_noise", "stain_deposit",
             "bubble", "characters"}  # fmt: skip
COLUMNS = ("dataset", "corruption", "severity", "compared", "mean_absolute_difference",
           "largest_difference", "change_here", "change_there", "absolute_change_here",
           "absolute_change_there")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="the interpreter of the environment with medmnistc")
    parser.add_argument("csv", type=Path, help="where the figures go")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        peer(given.peer, given.csv)
        return
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "images.npz"), Path(folder, "theirs.npz")
        np.savez(source, **images())
        command = [given.python, __file__, given.python, str(target), "--peer", str(source)]
        subprocess.run(command, check=True)
        with np.load(target) as theirs, np.load(source) as clean:
            rows = list(compared(clean, theirs))
    with given.csv.open("w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows([COLUMNS, *rows])
    show(rows)


def images() -> dict[str, np.ndarray]:
    """Grey phantoms, and colour ones that have a phantom in each channel; borders not black."""
    from beitmed.data import phantom

    grey = phantom.generate(224, 1)["val"][0][: 3 * IMAGES]
    colour = np.stack([grey[i::3] for i in range(3)], axis=-1)
    return {"grey": grey[:IMAGES], "colour": (colour // 2 + 90).astype(np.uint8)}


def peer(source: Path, target: Path) -> None:
    """What medmnistc makes of the images; runs in its own environment."""
    import random

    from medmnistc.corruptions.registry import CORRUPTIONS_DS, DATASET_RGB
    from PIL import Image

    uniform = np.random.uniform
    found = {}
    with np.load(source) as clean:
        for dataset, corruptions in CORRUPTIONS_DS.items():
            colour = DATASET_RGB[dataset]
            for name, corruption in corruptions.items():
                corruption.rng = np.random.default_rng(0)
                np.random.seed(0)  # noqa: NPY002, the package draws from it
                random.seed(0)
                np.random.uniform = (lambda *a, **k: ANGLE) if name == "motion_blur" else uniform
                for severity in range(5):
                    made = []
                    for image in clean["colour" if colour else "grey"]:
                        out = corruption.apply(Image.fromarray(image).convert("RGB"), severity)
                        made.append(out if colour else np.array(Image.fromarray(out).convert("L")))
                    found[f"{dataset} {name} {severity + 1}"] = np.stack(made)
    np.savez_compressed(target, **found)


def compared(clean: np.lib.npyio.NpzFile, theirs: np.lib.npyio.NpzFile) -> Iterator[list[object]]:
    from beitmed.data import corruptions
    from beitmed.data.corruptions import blur

    for key in theirs.files:
        dataset, name, severity = key.split()
        there = theirs[key].astype(np.int64)
        images = clean["colour" if there.ndim == 4 else "grey"]
        corruption = corruptions.set_of("medmnist_c", dataset)[name]
        if name == "motion_blur":
            parameter = corruptions.published()[dataset]["corruptions"][name]["severities"]
            parameter = tuple(parameter[int(severity) - 1])
            here = np.stack([
                blur.trail(np.atleast_3d(i), parameter, ANGLE, 1.0).reshape(i.shape) for i in images
            ])  # fmt: skip
        else:
            here = corruptions.corrupt(images, np.arange(IMAGES), corruption, int(severity))
        here, before = here.astype(np.int64), images.astype(np.int64)
        apart = np.abs(here - there)
        chance = name in BY_CHANCE
        changes = [f(x - before).mean() for f in (np.positive, np.abs) for x in (here, there)]
        yield [
            dataset, name, severity, "change" if chance else "pixels",
            "" if chance else f"{apart.mean():.4f}", "" if chance else apart.max(),
            *(f"{x:.3f}" for x in changes),
        ]  # fmt: skip


def show(rows: list[list[object]]) -> None:
    """A line a corruption, over data sets and severities."""
    by_name: dict[str, list[list[object]]] = {}
    for row in rows:
        by_name.setdefault(str(row[1]), []).append(row)
    print(f"{'':18}{'grey levels apart: mean':>24}{'largest':>9}{'  change here : there':>26}")
    for name, own in sorted(by_name.items()):
        numbers = np.array([row[4:] for row in own if row[3] == "pixels"], float)
        if numbers.size:
            print(f"{name:18}{numbers[:, 0].mean():24.4f}{numbers[:, 1].max():9.0f}")
        else:
            here, there = np.array([row[8:] for row in own], float).mean(axis=0)
            print(f"{name:18}{'random':>24}{'':>9}{here:>16.2f} : {there:.2f}")


if __name__ == "__main__":
    sys.exit(main())
