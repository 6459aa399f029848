"""A split's digest: equal for the same images, labels and order, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import resolve
from test_folder_data import load, picture

from beitmed import data
from beitmed.data import Split
from beitmed.storage.rows import Rows

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (300, 28, 28), np.uint8)
LABELS = np.arange(300) % 2


def classes(folder: Path) -> Path:
    for i, name in enumerate(("benign", "malignant")):
        for k in range(12):
            picture(folder / name / f"{k:02}.png", 100 * i)
    return folder


def test_it_is_that_of_images_labels_and_order():
    within = np.arange(300)
    within[LABELS == 0] = within[LABELS == 0][::-1]  # the labels stay as they are
    assert np.array_equal(LABELS[within], LABELS)
    others = [
        Split(IMAGES[within], LABELS),
        Split(IMAGES, 1 - LABELS),
        Split(IMAGES[::-1], LABELS[::-1]),
        Split(IMAGES.reshape(300, 14, 56), LABELS),
        Split(IMAGES, np.eye(2, dtype=np.int64)[LABELS]),
    ]
    assert len({Split(IMAGES, LABELS).digest, *(s.digest for s in others)}) == 6
    # Where the images were permuted and the labels with them, the images alone are others too.
    assert len({s.images_digest for s in (Split(IMAGES, LABELS), *others)}) == 4


def test_rows_on_disk_have_the_digest_of_the_array(tmp_path):
    IMAGES.tofile(tmp_path / "rows")
    rows = Rows(tmp_path / "rows", IMAGES.shape, IMAGES.dtype)
    assert Split(rows, LABELS).digest == Split(IMAGES, LABELS.astype(np.uint8)).digest


@pytest.mark.parametrize("other", ["dataset.split_seed=1", "size=64", "data.limit=2"])
def test_own_images_of_another_seed_size_or_limit_are_others(other, tmp_path):
    folder = classes(tmp_path / "one")
    first, again, changed = (load(folder, *o) for o in ((), (), (other,)))
    assert first.test.digest == again.test.digest
    for name in ("train", "test"):  # the limit takes no validation image
        assert first.splits[name].digest != changed.splits[name].digest


def test_folders_of_equal_counts_are_others(tmp_path):
    one, two = (load(classes(tmp_path / name)).splits for name in ("one", "two"))
    for name in one:
        assert np.array_equal(one[name].labels, two[name].labels)
        assert one[name].digest != two[name].digest


def test_generated_sets_are_told_by_their_seed():
    digests = {
        data.load(resolve("experiment=smoke", f"dataset.phantom_seed={seed}")).test.digest
        for seed in (0, 0, 1)
    }
    assert len(digests) == 2
