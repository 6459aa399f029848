"""Undersampling: the paper's counts, and what must hold for any labels."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import REAL_DATA

from beitmed.data import sampling

BREAST = np.repeat([0, 1], [147, 399])
PNEUMONIA = np.repeat([0, 1], [1214, 3494])


@pytest.mark.parametrize(
    ("labels", "ratio", "kept"),
    [(BREAST, 1.5, [147, 220]), (PNEUMONIA, 1.0, [1214, 1214])],
)
def test_the_papers_counts(labels, ratio, kept):
    indices = sampling.undersample(labels, ratio, seed=42)
    assert np.bincount(labels[indices]).tolist() == kept


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "ratio", "total", "of"),
    [("breastmnist", 1.5, 367, 546), ("pneumoniamnist", 1.0, 2428, 4708)],
)
def test_the_papers_counts_on_the_real_files(file, ratio, total, of):
    labels = np.load(REAL_DATA / f"{file}.npz")["train_labels"][:, 0]
    assert (len(sampling.undersample(labels, ratio, seed=42)), len(labels)) == (total, of)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0, 10.0])
def test_invariants(seed, ratio):
    labels = np.random.default_rng(seed).choice(3, p=[0.1, 0.2, 0.7], size=200)
    indices = sampling.undersample(labels, ratio, seed)
    assert (np.diff(indices) > 0).all()  # sorted, none twice
    counts, before = np.bincount(labels[indices]), np.bincount(labels)
    assert counts.tolist() == np.minimum(before, int(before.min() * ratio)).tolist()


def test_drawn_from_the_seed_alone():
    np.random.seed(0)  # noqa: NPY002 (the global state must not matter)
    first = sampling.undersample(BREAST, 1.0, seed=1)
    np.random.seed(1)  # noqa: NPY002
    assert (first == sampling.undersample(BREAST, 1.0, seed=1)).all()
    assert (first != sampling.undersample(BREAST, 1.0, seed=2)).any()
