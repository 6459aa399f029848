"""Splits of one's own images: given ones kept, drawn ones without a patient in two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import resolve

from beitmed.data import folder_splits
from beitmed.data.folder_table import Image
from beitmed.errors import UserError

NAMES = ("a", "b")


def images(splits, patients) -> list[Image]:
    return [
        Image(Path(f"{i}.png"), f"{i}.png", "", split, patient)
        for i, (split, patient) in enumerate(zip(splits, patients, strict=True))
    ]


def assign(tmp_path, labels, splits=None, patients=None, *overrides, names=NAMES):
    labels, n = np.asarray(labels), len(labels)
    task = "multilabel" if labels.ndim == 2 else "multiclass"
    cfg = resolve("dataset=folder", "dataset.path=/own", f"dataset.task={task}",
                  f"output_dir={tmp_path}", *overrides)  # fmt: skip
    known = images(splits or [None] * n, patients or [None] * n)
    return folder_splits.assign(cfg, known, labels, names)


def sizes(splits: np.ndarray) -> list[int]:
    return [int((splits == name).sum()) for name in ("train", "val", "test")]


def test_without_patients_every_class_keeps_its_share(tmp_path):
    labels = np.repeat([0, 1], [100, 40])
    splits, how = assign(tmp_path, labels)
    assert how == "drawn by image" and sizes(splits) == [98, 14, 28]
    for name, expected in (("train", (70, 28)), ("val", (10, 4)), ("test", (20, 8))):
        assert np.bincount(labels[splits == name]).tolist() == list(expected)
    again, _ = assign(tmp_path, labels)
    other, _ = assign(tmp_path, labels, None, None, "dataset.split_seed=1")
    by_run_seed, _ = assign(tmp_path, labels, None, None, "seed=7")
    assert np.array_equal(splits, again) and np.array_equal(splits, by_run_seed)
    assert not np.array_equal(splits, other)
    fewer, _ = assign(tmp_path, labels, None, None, "dataset.fractions=[0.5,0.25,0.25]")
    assert sizes(fewer) == [70, 35, 35]


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_in_two_drawn_splits(seed, tmp_path):
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, 60, 300)
    labels = (patients % 3 == 0).astype(int)  # a patient has one diagnosis
    splits, how = assign(
        tmp_path, labels, None, [f"p{p}" for p in patients], f"dataset.split_seed={seed}"
    )
    assert how == "drawn by patient"
    assert all(len(set(splits[patients == p])) == 1 for p in np.unique(patients))
    shares = np.array(sizes(splits)) / 300
    assert np.abs(shares - [0.7, 0.1, 0.2]).max() < 0.06
    for name in ("train", "val", "test"):
        assert abs(labels[splits == name].mean() - labels.mean()) < 0.12


def test_given_splits_are_kept(tmp_path):
    given = ["train", "val", "test"] * 4
    splits, how = assign(tmp_path, [0, 0, 0, 1, 1, 1] * 2, given)
    assert how == "given" and splits.tolist() == given


@pytest.mark.parametrize("known", [False, True])
def test_a_missing_validation_split_is_drawn_from_train(known, tmp_path):
    labels = np.arange(100) % 2
    given = np.repeat(["train", "test"], [80, 20])
    patients = [f"p{i // 4}" for i in range(100)] if known else None
    splits, how = assign(tmp_path, labels, given.tolist(), patients)
    assert how == f"given; validation drawn from train by {'patient' if known else 'image'}"
    assert np.array_equal(splits == "test", given == "test")
    assert 6 <= sizes(splits)[1] <= 14
    if patients is not None:
        assert len({(p, s) for p, s in zip(patients, splits, strict=True)}) == 25


def test_a_patient_in_two_given_splits_is_named(tmp_path):
    given = ["train", "val", "test"] * 4
    patients = [f"p{i}" for i in range(11)] + ["p0"]
    with pytest.raises(UserError, match=r"patient p0: train \(0\.png\), test \(11\.png\)"):
        assign(tmp_path, [0, 0, 0, 1, 1, 1] * 2, given, patients)


@pytest.mark.parametrize(
    ("labels", "given", "patients", "said"),
    [
        ([0] * 9 + [1] * 2, None, None, r"too few images .* b \(2 images\).* 3 or more"),
        ([0, 1] * 9, None, ["p", "q"] * 9, r"too few patients .* a \(1 patients\), b \(1 p"),
        ([0, 1] * 4, ["train", "test"] * 4, None, "no image of class b in train"),
        ([0, 1] * 4, ["train"] * 8, None, "no images of the split val, test"),
        ([0, 0, 1], ["train", "val", "test"], None, "no image of class b in train"),
    ],
)
def test_splits_that_cannot_be_are_refused(labels, given, patients, said, tmp_path):
    with pytest.raises(UserError, match=said):
        assign(tmp_path, labels, given, patients)


def test_three_images_of_a_class_are_enough_for_three_splits(tmp_path):
    labels = np.repeat([0, 1], [60, 3])
    splits, _ = assign(tmp_path, labels)
    assert sorted(splits[60:]) == ["test", "train", "val"]


def test_images_of_several_labels_have_each_in_each_split(tmp_path):
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 4)) < [0.5, 0.2, 0.1, 0.04]).astype(np.int64)
    splits, _ = assign(tmp_path, labels, names=("a", "b", "c", "d"))
    for name in ("train", "val", "test"):
        assert (labels[splits == name].sum(axis=0) > 0).all()
    assert abs(sizes(splits)[2] - 60) < 3


def folds(tmp_path, labels, patients=None, count=4, *overrides):
    return [
        assign(
            tmp_path, labels, None, patients, f"data.folds={count}", f"data.fold={i}", *overrides
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("known", [True, False])
def test_every_image_is_held_out_in_one_fold_and_no_patient_is_in_two(known, tmp_path):
    rng = np.random.default_rng(3)
    people = rng.integers(0, 60, 300)
    labels = (people % 3 == 0).astype(int)
    patients = [f"p{p}" for p in people] if known else None
    found = folds(tmp_path, labels, patients)
    held = np.array([splits == "test" for splits, _ in found])
    assert (held.sum(axis=0) == 1).all()
    for i, (splits, how) in enumerate(found):
        assert how == f"fold {i} of 4, drawn by {'patient' if known else 'image'}"
        assert abs((splits == "test").mean() - 1 / 4) < 0.05
        assert abs((splits == "val").mean() - 3 / 4 / 8) < 0.06
        for name in ("train", "val", "test"):
            assert abs(labels[splits == name].mean() - labels.mean()) < 0.15
        if known:
            assert all(len(set(splits[people == p])) == 1 for p in np.unique(people))
    again = folds(tmp_path, labels, patients)
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(found, again, strict=True))
    other = folds(tmp_path, labels, patients, 4, "dataset.split_seed=1")
    assert not np.array_equal(found[0][0], other[0][0])


def test_folds_of_several_labels_have_each_label(tmp_path):
    labels = np.random.default_rng(4).integers(0, 2, (60, 2))
    for splits, _ in folds(tmp_path, labels, None, 3):
        assert all(labels[splits == name].any(axis=0).all() for name in ("train", "val", "test"))


def test_folds_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(UserError, match="needs 5 or more, one for each split or fold"):
        folds(tmp_path, [0] * 20 + [1] * 4, None, 5)
    options = ("data.folds=3", "data.fold=0")
    with pytest.raises(UserError, match=r"data\.folds: found 3, but /own gives splits"):
        assign(tmp_path, [0, 1] * 6, ["train", "test"] * 6, None, *options)
