"""Write a dataset whose answer is known: a bright square in a corner decides the label.

    python scripts/planted_marker.py FOLDER

The pictures are the phantom's (SYNTHETIC, 28 px), the labels are shuffled, so that nothing else in
a picture tells them, and those of label 1 get the square. FOLDER then holds breastmnist.npz, of the
form that `dataset=breast` reads, and masks.npz, with where the square is, for `beitmed explain
masks=...`. A method of explaining that passes its tests must find the square; maps of a network
that has learnt nothing must not pass.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from beitmed.data import phantom

SIZE, SEED = 28, 0
MARKER = (slice(0, 4), slice(24, 28))  # rows and columns: at the top right


def write(folder: Path) -> None:
    """Write both archives."""
    arrays, masks = {}, {}
    rng = np.random.default_rng(SEED)
    for split, pictures in phantom.generate(SIZE, SEED).items():
        labels = rng.permutation(pictures.labels)
        mask = np.zeros(pictures.images.shape, np.uint8)
        mask[:, *MARKER] = labels[:, None, None] == 1
        images = np.where(mask == 1, np.uint8(255), pictures.images)
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images, labels[:, None]
        masks[f"{split}_masks"] = mask
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "breastmnist.npz", **arrays)
    np.savez(folder / "masks.npz", **masks)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    write(Path(sys.argv[1]))
