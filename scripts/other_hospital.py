#!/usr/bin/env python
"""Two sets of images to try `beitmed validate` on, made from a PneumoniaMNIST file.

    python scripts/other_hospital.py FILE.npz FOLDER

FOLDER/resplit.npz: all images shared out anew, so that most of its test images are training images
of any run on the original. FOLDER/shifted: the original's test images as another hospital might
have them, as PNG in a folder a class: half the contrast, noise of 12 grey levels, and a quarter of
the pneumonias. The same seed gives the same files.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

SPLITS, CLASSES = ("train", "val", "test"), ("normal", "pneumonia")


def main(file: Path, folder: Path) -> None:
    """Write both."""
    rng = np.random.default_rng(2026)
    with np.load(file) as npz:
        arrays = {key: npz[key] for key in npz.files}
    images, labels = (
        np.concatenate([arrays[f"{s}_{what}"] for s in SPLITS]) for what in ("images", "labels")
    )
    sizes = np.cumsum([len(arrays[f"{s}_labels"]) for s in SPLITS])[:-1]
    parts = np.split(rng.permutation(len(images)), sizes)
    folder.mkdir(parents=True, exist_ok=True)
    anew = {f"{s}_images": images[part] for s, part in zip(SPLITS, parts, strict=True)}
    anew |= {f"{s}_labels": labels[part] for s, part in zip(SPLITS, parts, strict=True)}
    np.savez(folder / "resplit.npz", **anew)
    test, label = arrays["test_images"].astype(np.float64), arrays["test_labels"][:, 0]
    kept = (label == 0) | (rng.random(len(label)) < 0.25)
    middle = test.mean(axis=(1, 2), keepdims=True)
    changed = middle + 0.5 * (test - middle) + rng.normal(scale=12, size=test.shape)
    changed = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    for i in np.flatnonzero(kept):
        path = folder / "shifted" / CLASSES[label[i]] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(changed[i]).save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
