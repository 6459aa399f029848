"""200 crops of the two photographs that come with scikit-learn, as PNG files in a folder.

    python scripts/natural_pictures.py FOLDER

A temple in China and a flower (CC BY 2.0): pictures that are nothing medical.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

COUNT = 200


def main(folder: Path) -> None:
    """Write them: squares of 64 to 256 pixels, always the same."""
    folder.mkdir(parents=True)
    photographs, rng = load_sample_images().images, np.random.default_rng(0)
    for i in range(COUNT):
        photograph, side = photographs[i % 2], int(rng.integers(64, 257))
        top, left = (int(rng.integers(0, n - side)) for n in photograph.shape[:2])
        crop = photograph[top : top + side, left : left + side]
        Image.fromarray(crop).save(folder / f"{i:03d}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
