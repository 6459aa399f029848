"""The generated stand-in for BreastMNIST: its form, its repeatability, and how hard it is."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from beitmed.data import phantom

SEEDS = (0, 1, 2)
generate = cache(phantom.generate)  # three seconds a call, and no test writes into the arrays


def everything(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels, the splits one after the other."""
    images, labels, _ = zip(*generate(size, seed).values(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def area_average(images: np.ndarray, size: int) -> np.ndarray:
    """Unrounded area averages: every pixel cut in 4 x 4, which 28, 64 and 128 all divide."""
    fine = images.repeat(4, axis=1).repeat(4, axis=2).astype(float)
    block = fine.shape[1] // size
    return fine.reshape(len(images), size, block, size, block).mean(axis=(2, 4))


@pytest.mark.parametrize("size", phantom.SIZES)
def test_splits_have_breastmnists_form_and_counts(size):
    data = generate(size, 0)
    expected = {"train": (546, 147, 399), "val": (78, 21, 57), "test": (156, 42, 114)}
    assert list(data) == list(expected)
    for split, (n, irregular, smooth) in expected.items():
        images, labels, lesions = data[split]
        assert (lesions.shape, lesions.dtype) == (images.shape, np.bool_)
        assert (images.shape, images.dtype) == ((n, size, size), np.uint8)
        assert (labels.shape, labels.dtype) == ((n,), np.int64)
        assert (np.sum(labels == 0), np.sum(labels == 1)) == (irregular, smooth)
        assert phantom.SPLITS[split] == (irregular, smooth)
    assert set(phantom.LABELS) == {0, 1}
    assert all("synthetic" in name for name in phantom.LABELS.values())


@pytest.mark.parametrize("size", [28, 64, 128])
def test_a_smaller_size_is_the_area_average_of_the_same_picture(size):
    large, labels = everything(224, 0)
    small, small_labels = everything(size, 0)
    assert np.array_equal(labels, small_labels)
    some = slice(None, None, 13)
    # Half a grey value of rounding, and nothing of interpolation.
    assert np.abs(small[some] - area_average(large[some], size)).max() <= 0.5 + 1e-4


def test_the_seed_decides_everything():
    again, other = phantom.generate(28, 0), generate(28, 1)
    for split, (images, labels, lesions) in generate(28, 0).items():
        assert images.tobytes() == again[split][0].tobytes()
        assert labels.tobytes() == again[split][1].tobytes()
        assert lesions.tobytes() == again[split][2].tobytes()
        assert not np.any(np.all(images == other[split][0], axis=(1, 2)))
        assert not np.array_equal(labels, other[split][1])


def test_a_picture_does_not_depend_on_how_many_there_are(monkeypatch):
    images, labels, _ = generate(28, 0)["train"]
    monkeypatch.setattr(phantom, "SPLITS", {"train": (9, 0), "val": (0, 9)})
    few = phantom.generate(28, 0)["train"][0]
    same = labels[:9] == 0
    assert same.any()
    assert np.array_equal(few[same], images[:9][same])


def test_labels_are_shuffled():
    for _, labels, _ in generate(28, 0).values():
        runs = 1 + np.sum(labels[1:] != labels[:-1])
        assert runs > len(labels) / 4  # sorted labels have 2; shuffled ones 0.39 n on average


@pytest.mark.parametrize("size", phantom.SIZES)
def test_no_picture_is_flat_or_stands_there_twice(size):
    images, _ = everything(size, 0)
    assert images.std(axis=(1, 2)).min() > 15
    assert len({image.tobytes() for image in images}) == len(images)
    # Neither under- nor overexposed as a whole.
    assert 60 < images.mean() < 110
    assert np.mean(images == 255) < 0.01


def test_speckle_is_elongated_across_the_beam():
    images, _ = everything(224, 0)
    # What is left after the local mean is taken away, in rows where the gland is.
    patch = images[::20, 70:120].astype(float)
    detail = patch - (np.roll(patch, 8, 2) + np.roll(patch, -8, 2)) / 2
    along = np.mean(detail[:, 1:] * detail[:, :-1])
    across = np.mean(detail[:, :, 1:] * detail[:, :, :-1])
    assert across > 1.3 * along


@pytest.mark.parametrize("seed", SEEDS)
def test_brightness_alone_does_not_tell_the_label(seed):
    images, labels = everything(28, seed)
    auc = roc_auc_score(labels, images.mean(axis=(1, 2)))
    assert 0.35 < auc < 0.65


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("model", "low", "high"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), 0.65, 0.93),
        (make_pipeline(StandardScaler(), PCA(40, random_state=0), SVC()), 0.72, 0.98),
    ],
    ids=["linear", "kernel"],
)
def test_the_label_can_be_learnt_but_not_perfectly(model, low, high, seed):
    data = {k: (p.images.reshape(len(p.images), -1) / 255, p.labels)
            for k, p in generate(28, seed).items()}  # fmt: skip
    scores = model.fit(*data["train"]).decision_function(data["test"][0])
    assert low < roc_auc_score(data["test"][1], scores) < high


@pytest.mark.parametrize("size", [0, 27, 32, 256])
def test_another_size_is_refused_with_the_allowed_ones(size):
    with pytest.raises(ValueError, match=rf"size: found {size}; allowed: 28, 64, 128, 224"):
        phantom.generate(size, 0)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed: found -1; allowed: 0 or more"):
        phantom.generate(28, -1)


def test_lesions_are_where_they_were_drawn():
    images, labels, lesions = generate(224, 0)["train"]
    there = lesions.any(axis=(1, 2))
    assert there[labels == 0].all()
    assert 0.65 < there[labels == 1].mean() < 0.85  # a quarter has none
    assert 0.01 < lesions[there].mean() < 0.2
    # Dark inside: than the same rows outside of it.
    inside = np.array([i[m].mean() for i, m in zip(images[there], lesions[there], strict=True)])
    outside = np.array([
        i[m.any(axis=1)][~m[m.any(axis=1)]].mean()
        for i, m in zip(images[there], lesions[there], strict=True)
    ])  # fmt: skip
    assert np.mean(inside < outside - 10) > 0.9
    # A smaller mask is the same one: a pixel that the lesion covers by half or more.
    some = slice(None, None, 13)
    assert np.array_equal(
        generate(28, 0)["train"].lesions[some], area_average(lesions[some], 28) >= 0.5
    )
