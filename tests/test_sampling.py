"""Balancing: the paper's counts, what must hold for any labels, and strategies from outside."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import REAL_DATA, resolve

from beitmed import config
from beitmed.config.balancing import NAMES
from beitmed.data import sampling
from beitmed.errors import UserError

BREAST = np.repeat([0, 1], [147, 399])
PNEUMONIA = np.repeat([0, 1], [1214, 3494])


@pytest.mark.parametrize(
    ("labels", "ratio", "kept"),
    [(BREAST, 1.5, [147, 220]), (PNEUMONIA, 1.0, [1214, 1214])],
)
def test_the_papers_counts(labels, ratio, kept):
    indices = sampling.undersample(labels, {"majority_ratio": ratio}, seed=42)
    assert np.bincount(labels[indices]).tolist() == kept


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "ratio", "total", "of"),
    [("breastmnist", 1.5, 367, 546), ("pneumoniamnist", 1.0, 2428, 4708)],
)
def test_the_papers_counts_on_the_real_files(file, ratio, total, of):
    labels = np.load(REAL_DATA / f"{file}.npz")["train_labels"][:, 0]
    assert (len(sampling.undersample(labels, {"majority_ratio": ratio}, seed=42)), len(labels)) == (
        total,
        of,
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0, 10.0])
def test_invariants(seed, ratio):
    labels = np.random.default_rng(seed).choice(3, p=[0.1, 0.2, 0.7], size=200)
    indices = sampling.undersample(labels, {"majority_ratio": ratio}, seed)
    assert (np.diff(indices) > 0).all()  # sorted, none twice
    counts, before = np.bincount(labels[indices]), np.bincount(labels)
    assert counts.tolist() == np.minimum(before, int(before.min() * ratio)).tolist()


def test_drawn_from_the_seed_alone():
    np.random.seed(0)  # noqa: NPY002 (the global state must not matter)
    first = sampling.undersample(BREAST, {"majority_ratio": 1.0}, seed=1)
    np.random.seed(1)  # noqa: NPY002
    assert (first == sampling.undersample(BREAST, {"majority_ratio": 1.0}, seed=1)).all()
    assert (first != sampling.undersample(BREAST, {"majority_ratio": 1.0}, seed=2)).any()


@pytest.mark.parametrize(
    ("labels", "ratio", "counts"),
    [(BREAST, 1.5, [266, 399]), (BREAST, 1.0, [399, 399]), (PNEUMONIA, 3.0, [1214, 3494])],
)
def test_oversampling_repeats_the_smaller_class_up_to_the_ratio(labels, ratio, counts):
    indices = sampling.oversample(labels, {"majority_ratio": ratio}, seed=42)
    assert np.bincount(labels[indices]).tolist() == counts


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0, 10.0])
def test_oversampling_keeps_every_image_and_repeats_evenly(seed, ratio):
    labels = np.random.default_rng(seed).choice(3, p=[0.1, 0.2, 0.7], size=200)
    options = {"majority_ratio": ratio}
    indices = sampling.oversample(labels, options, seed)
    assert (np.diff(indices) >= 0).all()
    times, counts = np.bincount(indices, minlength=200), np.bincount(labels[indices])
    assert times.min() == 1 and counts.max() == np.bincount(labels).max()
    assert counts.max() / counts.min() <= ratio
    for c in range(3):
        assert np.ptp(times[labels == c]) <= 1
    assert (indices == sampling.oversample(labels, options, seed)).all()
    if (times > 1).any() and np.ptp(times[labels == 0]):
        assert (indices != sampling.oversample(labels, options, seed + 100)).any()


def test_every_strategy_of_the_package_has_its_yaml_and_its_function():
    for name in NAMES:
        chosen = resolve("balanced=true", f"balancing={name}").balancing
        assert sampling.strategy(chosen) is getattr(sampling, name)
    assert {p.stem for p in (config.conf_dir() / "balancing").glob("*.yaml")} == set(NAMES)
    for name in NAMES:
        assert resolve("balanced=true", f"balancing={name}").balancing.name == name


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([0, 1], "list"),
        (np.array([True, False, True]), "ndarray bool (3,)"),
        (np.array([0.0, 1.0]), "ndarray float64 (2,)"),
        (np.array([[0, 2]]), "ndarray int64 (1, 2)"),
        (np.array([], np.int64), "no index"),
        (np.array([0, 4]), "indices from 0 to 4"),
        (np.array([-1, 2]), "indices from -1 to 2"),
        (np.array([0, 1]), "no image of class 1"),
    ],
)
def test_what_a_strategy_from_outside_returns_is_checked(found, said):
    with pytest.raises(UserError) as e:
        sampling.check(found, np.array([0, 0, 1, 1]), "my.own")
    assert f"my.own returned {said}; allowed: a numpy array of integers" in str(e.value)
    sorted_ = sampling.check(np.array([3, 0, 3], np.int32), np.array([0, 0, 1, 1]), "my.own")
    assert sorted_.tolist() == [0, 3, 3] and sorted_.dtype == np.int64


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "other"}, "allowed: undersample, oversample, or a name of your own"),
        ({"name": "oversample", "function": "my.own"}, "give the strategy a name of its own"),
        ({"name": "oversample", "options": {"a": 1}}, "oversample has none; majority_ratio"),
        ({"name": "mine", "function": "own"}, "balancing.function: found 'own'"),
        ({"name": "mine", "function": "my.own", "options": {"majority_ratio": 2}},
         "a key of its own"),
    ],
)  # fmt: skip
def test_a_wrong_strategy_is_named(values, said):
    with pytest.raises(UserError) as e:
        config.check(resolve("balanced=true").model_dump() | {"balancing": values})
    assert said in str(e.value)


def test_a_strategy_without_balancing_is_refused():
    with pytest.raises(UserError, match="balancing: found oversample with balanced=false"):
        resolve("balancing=oversample")
    with pytest.raises(UserError, match="balancing=undersample: found with balanced=false"):
        config.check_read([resolve("balancing=undersample")], ["balancing=undersample"])
    config.check_read([resolve("balanced=true")], ["balanced=true", "balancing=undersample"])
    with pytest.raises(UserError, match="several labels"):
        resolve("dataset=chest", "balanced=true", "balancing=oversample")


def test_a_strategy_is_part_of_a_balanced_runs_name_and_identity_and_of_no_others():
    other = resolve("dataset=breast", "balanced=true", "balancing=oversample")
    assert config.run_name(other).startswith("breast_28_oversample_beit_large_top5_seed42_")
    assert config.identity(other)["balancing.name"] == "oversample"
    papers = resolve("dataset=breast", "balanced=true")
    assert config.run_name(papers).startswith("breast_28_balanced_beit_large_top5_seed42_")
    assert not [k for k in config.identity(resolve()) if k.startswith("balancing")]
