"""`label_fraction` and `shots`: which images of the train split count as labelled."""

from __future__ import annotations

import csv
import itertools
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, beitmed, resolve

from beitmed import config, pipeline
from beitmed.config import Config
from beitmed.data import Data, label_subset
from beitmed.data.splits import Split
from beitmed.errors import UserError

BREAST = np.repeat([0, 1], [147, 399])
RNG = np.random.default_rng(0)
SEVERAL = (RNG.random((400, 5)) < [0.01, 0.05, 0.1, 0.3, 0.5]).astype(np.int64)
FRACTIONS = (0.01, 0.05, 0.1, 0.25, 0.5, 1)


def data_of(labels: np.ndarray, patients: np.ndarray | None = None) -> Data:
    files = None
    if patients is not None:
        files = tuple((f"{i}.png", "", f"p{p}") for i, p in enumerate(patients))
    split = Split(np.zeros((len(labels), 2, 2), np.uint8), labels, files)
    classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    return Data(split, split, split, tuple(f"class {i}" for i in range(classes)), {})


@cache
def base(dataset: str) -> Config:
    return resolve(f"dataset={dataset}")


def chosen(data: Data, seed: int = 1, **part: float) -> np.ndarray:
    """Indices of the labelled part; part: `label_fraction` or `shots`."""
    cfg = base("chest" if data.train.labels.ndim == 2 else "breast")
    return label_subset.choose(cfg.model_copy(update={"seed": seed, **part}), data).indices


@pytest.mark.parametrize(
    ("fraction", "counts"),
    [(0.01, [1, 4]), (0.05, [7, 20]), (0.1, [15, 40]), (0.5, [74, 200]), (1, [147, 399])],
)
def test_of_each_class_the_nearest_number_and_at_least_one(fraction, counts):
    """1 % of 147 malignant images is 1.47, and so 1 image."""
    found = chosen(data_of(BREAST), label_fraction=fraction)
    assert np.bincount(BREAST[found]).tolist() == counts
    assert (np.diff(found) > 0).all()


def test_shots_are_so_many_of_each_class():
    for shots in (1, 5, 147):
        found = chosen(data_of(BREAST), shots=shots)
        assert np.bincount(BREAST[found]).tolist() == [shots, shots]


@pytest.mark.parametrize("labels", [BREAST, SEVERAL], ids=["classes", "several labels"])
@pytest.mark.parametrize("patients", [False, True])
def test_a_smaller_part_lies_within_a_larger_one(labels, patients):
    data = data_of(labels, np.arange(len(labels)) // 3 if patients else None)
    for key, values in (("label_fraction", FRACTIONS), ("shots", (1, 2))):
        found = [set(chosen(data, **{key: value})) for value in values]
        assert all(a <= b for a, b in itertools.pairwise(found)), key
        assert len(found[0]) < len(found[1])
    # And the shots lie within fractions of as many images, as both count from one order.
    assert set(chosen(data, shots=1)) <= set(chosen(data, label_fraction=0.5))


def test_each_seed_draws_its_own_part_and_the_same_one_again():
    data = data_of(BREAST)
    one, again, other = (chosen(data, s, label_fraction=0.1) for s in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()


def test_each_image_of_a_class_is_as_likely():
    data = data_of(BREAST)
    times = np.zeros(len(BREAST))
    for seed in range(300):
        times[chosen(data, seed, label_fraction=0.1)] += 1
    for label, share in ((0, 15 / 147), (1, 40 / 399)):
        rate = times[np.flatnonzero(label == BREAST)] / 300
        assert abs(rate.mean() - share) < 1e-9
        assert rate.std() < 1.25 * np.sqrt(share * (1 - share) / 300)


def test_patients_stay_whole_and_are_what_counts():
    patients = np.repeat(np.arange(60), 1 + np.arange(60) % 4)  # of one to four images
    labels = (np.arange(60) % 3 > 0).astype(np.int64)[patients]
    data = data_of(labels, patients)
    found = label_subset.choose(resolve("dataset=breast", "label_fraction=0.2"), data)
    kept = set(patients[found.indices])
    assert sorted(found.indices) == [i for i, p in enumerate(patients) if p in kept]
    assert len({p for p in kept if p % 3 == 0}) == 4  # of 20 patients
    assert len({p for p in kept if p % 3}) == 8  # of 40
    assert found.said == {
        "images": len(found.indices), "patients": 12,
        "by_class": np.bincount(labels[found.indices]).tolist(),
    }  # fmt: skip
    shots = chosen(data, shots=3)
    assert len({p for p in patients[shots] if p % 3 == 0}) == 3


def test_a_patient_of_two_classes_counts_for_each():
    patients, labels = np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 1, 1])
    for seed in range(10):
        found = chosen(data_of(labels, patients), seed, shots=1)
        assert {0, 1} <= set(found)  # the only patient of class 0, with both images
        assert len(set(patients[found])) <= 2


def test_several_labels_are_all_there_and_so_are_images_of_none():
    part = SEVERAL[chosen(data_of(SEVERAL), label_fraction=0.1)]
    assert part.any(axis=0).all()
    assert (part.sum(axis=0) >= np.floor(0.1 * SEVERAL.sum(axis=0) + 0.5)).all()
    assert (~part.any(axis=1)).any()
    assert 40 <= len(part) <= 60  # an image counts for each of its labels


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["label_fraction=0"], "label_fraction: found 0; allowed: greater than 0"),
        (["label_fraction=1.5"], "label_fraction: found 1.5; allowed: less than or equal to 1"),
        (["label_fraction=few"], "label_fraction: found 'few'; allowed: a number"),
        (["shots=0"], "shots: found 0"),
        (["shots=2.5"], "shots: found 2.5"),
        (["shots=5", "label_fraction=0.1"], "shots: found 5 with label_fraction=0.1"),
    ],
)
def test_a_wrong_part_is_refused(overrides, said):
    with pytest.raises(UserError) as e:
        resolve("dataset=breast", *overrides)
    assert said in str(e.value) and str(e.value).count("\n") == 1


def test_more_shots_than_the_smallest_class_has_are_refused(tmp_path):
    done = beitmed(*FAST, "shots=9", cwd=tmp_path)
    assert done.returncode == 2
    assert "shots: found 9, but the train split has 8 images of 'synthetic" in done.stderr
    assert "allowed: 1 to 8" in done.stderr
    assert not list(tmp_path.glob("outputs/*/config.yaml"))
    patients = data_of(BREAST, np.arange(len(BREAST)) // 100)
    with pytest.raises(UserError, match="the train split has 2 patients of 'class 0'"):
        chosen(patients, shots=3)


def test_a_part_is_another_run_and_all_labels_are_the_run_as_it_was():
    whole = resolve("dataset=breast")
    same = resolve("dataset=breast", "label_fraction=1")
    assert config.identity(same) == config.identity(whole)
    assert {"label_fraction", "shots"}.isdisjoint(config.identity(whole))
    tenth, five = (resolve("dataset=breast", o) for o in ("label_fraction=0.1", "shots=5"))
    assert config.run_name(tenth).startswith("breast_28_full_beit_large_top5_labels0.1_seed42_")
    assert config.run_name(five).startswith("breast_28_full_beit_large_top5_shots5_seed42_")
    assert len({config.digest(c) for c in (whole, tenth, five)}) == 3


def train(folder: Path, *overrides: str) -> tuple[Path, list[int]]:
    run = pipeline.run(
        resolve(*FAST, "data.limit=30", f"output_dir={folder}/outputs",
                f"cache.root={folder}/cache", *overrides)
    )  # fmt: skip
    with (run / "train_indices.csv").open() as f:
        return run, [int(row["index"]) for row in csv.DictReader(f)]


def test_a_run_on_a_part_needs_no_more_of_the_cache_and_says_what_it_is(tmp_path):
    """One fill serves every part; a batch may be larger than it; what is balanced is the part."""
    train(tmp_path, "method=features_knn")
    files = sorted(p for p in (tmp_path / "cache").rglob("rows.bin"))
    before = [(p, p.stat().st_mtime_ns) for p in files]
    run, indices = train(tmp_path, "method=features_knn", "label_fraction=0.1")
    assert [(p, p.stat().st_mtime_ns) for p in sorted((tmp_path / "cache").rglob("rows.bin"))] == (
        before
    )
    assert len(indices) == 6
    data = json.loads((run / "data.json").read_text())
    assert data["labelled"] == {"images": 6, "patients": None, "by_class": [3, 3]}
    assert data["images"]["train"] == 60  # the split itself, and its digest, are the whole one
    assert any("part of the training labels" in c
               for c in json.loads((run / "metrics.json").read_text())["caveats"])  # fmt: skip
    balanced, fewer = train(
        tmp_path, "method=majority", "label_fraction=0.1", "balanced=true", "majority_ratio=1"
    )
    assert set(fewer) <= set(indices)
    log = (balanced / "run.log").read_text()
    assert "training on 6 of 60 images, 6 of them labelled" in log


def test_a_backbone_trains_on_fewer_images_than_a_batch_holds(tmp_path):
    run, indices = train(tmp_path, "shots=2", "train.batch_size=32")
    assert len(indices) == 4
    with (run / "history.csv").open() as f:
        assert [row["step"] for row in csv.DictReader(f)] == ["1"]
