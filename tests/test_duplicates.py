"""Duplicates: what is planted is found where it was planted, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import REAL_DATA, resolve
from PIL import Image
from scipy.ndimage import gaussian_filter

from beitmed import data
from beitmed.audit import duplicates, near_duplicates
from beitmed.audit.duplicates import Place
from beitmed.data import Data, Split


def pictures(n: int, size: int = 28, seed: int = 0, channels: int = 0) -> np.ndarray:
    """Different smooth images, uint8, that use about a third of the grey values."""
    shape = (n, size, size, channels) if channels else (n, size, size)
    noise = np.random.default_rng(seed).normal(size=shape)
    scale = 1.5 * size / 28
    smooth = gaussian_filter(noise, (0, scale, scale, 0)[: len(shape)])
    return np.clip(120 + 30 * smooth / smooth.std(), 20, 235).astype(np.uint8)


def splits(train, val, test) -> dict[str, Split]:
    return {
        name: Split(images, np.arange(len(images)) % 2)
        for name, images in (("train", train), ("val", val), ("test", test))
    }


def jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file))


def resized(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BILINEAR))


CHANGES = {
    "brighter by 1": lambda i: i + np.uint8(1),
    "less contrast": lambda i: np.round(0.8 * i).astype(np.uint8),
    "JPEG": jpeg,
    "shifted right": lambda i: np.pad(i, ((0, 0), (1, 0)), mode="edge")[:, :28],
    "shifted up": lambda i: np.pad(i, ((0, 1), (0, 0)), mode="edge")[1:],
    "shifted down and left": lambda i: np.pad(i, ((1, 0), (0, 1)), mode="edge")[:28, 1:],
    "cropped at two sides": lambda i: resized(i[1:, :-1]),
    "cropped at all sides": lambda i: resized(i[1:-1, 1:-1]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_changed_copy_is_a_near_duplicate_and_nothing_else_is(change, swapped):
    images = pictures(120)
    source, copy = images[7], CHANGES[change](images[7])
    train, test = images[:80].copy(), images[80:].copy()
    train[7], test[5] = (copy, source) if swapped else (source, copy)
    found = duplicates.find(splits(train, images[:0], test))
    assert [(p.first, p.second) for p in found.near] == [(Place("train", 7), Place("test", 5))]
    assert 0.98 <= found.near[0].correlation <= 1 + 1e-12
    assert found.near_groups == ((Place("train", 7), Place("test", 5)),)
    assert (found.exact, found.limit) == ((), None)


@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_nothing_is_found_among_different_images(kind):
    if kind == "smooth":
        found = duplicates.find(splits(pictures(500), pictures(80, seed=1), pictures(90, seed=2)))
    else:
        noise = np.random.default_rng(0).integers(0, 256, (600, 28, 28)).astype(np.uint8)
        found = duplicates.find(splits(noise[:400], noise[400:500], noise[500:]))
    assert (found.exact, found.near, found.near_groups) == ((), (), ())


def test_exact_groups_and_what_is_counted():
    train, val, test = pictures(20), pictures(8, seed=1), pictures(8, seed=2)
    train[5] = train[9] = val[3] = val[4] = test[0] = train[2]
    test[7] = test[6]
    found = duplicates.find(splits(train, val, test))
    group = [("train", 2), ("train", 5), ("train", 9), ("val", 3), ("val", 4), ("test", 0)]
    assert found.exact == (
        tuple(Place(*p) for p in group),
        (Place("test", 6), Place("test", 7)),
    )
    assert found.near == ()
    assert duplicates.beyond_first(found.exact) == {"train": 2, "val": 1, "test": 1}
    assert duplicates.across(found.exact, ("train", "val", "test")) == {
        ("train", "val"): {"pairs": 6, "first": 3, "second": 2},
        ("train", "test"): {"pairs": 3, "first": 3, "second": 1},
        ("val", "test"): {"pairs": 2, "first": 2, "second": 1},
    }


def test_a_near_copy_is_near_to_every_exact_copy():
    train, test = pictures(30), pictures(10, seed=1)
    train[4] = train[3]
    test[2] = train[3] + np.uint8(1)
    found = duplicates.find(splits(train, train[:0], test))
    copies = [Place("train", 3), Place("train", 4)]
    assert [(p.first, p.second) for p in found.near] == [(c, Place("test", 2)) for c in copies]
    assert found.near_groups == ((*copies, Place("test", 2)),)


def test_test_images_seen_before():
    train, val, test = pictures(30), pictures(10, seed=1), pictures(20, seed=2)
    test[4], test[11] = train[8], val[2]
    test[5] = train[9] + np.uint8(1)
    test[12] = test[11] + np.uint8(1)  # near to val 2 by way of its exact copy
    test[7], test[8] = test[6], test[6] + np.uint8(1)  # within test only
    parts = splits(train, val, test)
    seen = duplicates.test_images_seen_before(Data(**parts, class_names=("a", "b"), provenance={}))
    assert (seen.exact.tolist(), seen.near.tolist()) == ([4, 11], [5, 12])
    assert (seen.exact.dtype, seen.near.dtype) == (np.int64, np.int64)


def test_every_pair_above_the_threshold_is_found_as_numpy_correlates_them():
    rng = np.random.default_rng(3)
    base, other = pictures(60).astype(float), pictures(60, seed=5).astype(float)
    share = rng.uniform(0, 0.3, 60)[:, None, None]
    mixed = ((1 - share) * base + share * other).astype(np.uint8)
    images = np.concatenate([base.astype(np.uint8), mixed])
    expected = np.triu(np.corrcoef(images[:, 1:-1, 1:-1].reshape(120, -1)), 1)
    a, b = np.nonzero(expected >= near_duplicates.MIN_CORRELATION)
    assert 20 < len(a) < 60  # on both sides of the threshold
    found = near_duplicates.search(images)
    assert list(zip(found.a, found.b, strict=True)) == list(zip(a, b, strict=True))
    assert np.allclose(found.correlation, expected[a, b], atol=1e-9)


def test_constant_images_are_equal_or_different_but_never_near():
    train = pictures(12)
    for i in range(4):
        train[i] = i // 2 * 100  # two images of 0, two of 100
    found = duplicates.find(splits(train, train[:0], train[:0]))
    assert [len(g) for g in found.exact] == [2, 2]
    assert found.near == ()


@pytest.mark.parametrize(("size", "channels"), [(64, 0), (224, 3)])
def test_larger_and_coloured_images(size, channels):
    images = pictures(24, size, channels=channels)
    images[20] = images[3] + np.uint8(1)
    images[21] = images[4]
    found = duplicates.find(splits(images[:16], images[:0], images[16:]))
    assert [(p.first, p.second) for p in found.near] == [(Place("train", 3), Place("test", 4))]
    assert found.exact == ((Place("train", 4), Place("test", 5)),)


def test_what_a_search_leaves_out_is_said(monkeypatch):
    images = pictures(40)
    images[30], images[31] = CHANGES["shifted right"](images[1]), images[2] + np.uint8(1)
    monkeypatch.setattr(near_duplicates, "MAX_ALIGNED", 39)
    found = near_duplicates.search(images)
    assert list(zip(found.a, found.b, strict=True)) == [(2, 31)]
    assert "more than 39 images: not searched for shifted" in found.limit
    assert found.method["alignments"] == 1
    monkeypatch.setattr(near_duplicates, "MAX_PAIRS", 0)
    assert "stopped at 1 pairs" in near_duplicates.search(images).limit


def test_no_image_at_all():
    assert len(near_duplicates.search(pictures(1)).a) == 0


@pytest.mark.real_data
def test_the_real_files():
    def load(name: str) -> Data:
        where = (f"data.root={REAL_DATA}", "data.allow_unofficial=true")
        return data.load(resolve(f"dataset={name}", *where))

    breast = load("breast")
    found = duplicates.find(breast.splits)
    assert found.exact == ((Place("train", 115), Place("test", 76)),)
    # Of one picture, and differently labelled: malignant in train, benign in test.
    assert (breast.train.labels[115], breast.test.labels[76]) == (0, 1)
    assert 190 < len(found.near) < 220
    seen = duplicates.test_images_seen_before(breast)
    assert seen.exact.tolist() == [76]
    assert 76 not in seen.near and len(seen.near) > 30

    # Numbers of images, as the data card of the files counts them: those beyond the first of a
    # group within a split, and those of val that stand in train too (10 pairs, as 2 of them
    # stand there twice).
    pneumonia = duplicates.find(load("pneumonia").splits)
    assert duplicates.beyond_first(pneumonia.exact) == {"train": 18, "test": 3}
    shared = duplicates.across(pneumonia.exact, ("train", "val", "test"))
    assert shared["train", "val"] == {"pairs": 10, "first": 10, "second": 8}
    assert shared["train", "test"]["pairs"] == shared["val", "test"]["pairs"] == 0
    assert len(pneumonia.near) <= 2  # thousands of X-rays look alike; they are not reported
