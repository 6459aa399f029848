"""Subgroups by a column of one's own table, and patients, from the table to the metrics."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import beitmed
from PIL import Image
from sklearn.metrics import roc_auc_score

from beitmed import tasks
from beitmed.statistics import clusters
from beitmed.tasks import subgroups

NAMES = ("a", "b", "c")


def found(y, logits, values, task="binary", positive=1, patients=None):
    return subgroups.evaluate(
        tasks.of(task), y, logits, {"sex": values}, class_names=NAMES[: logits.shape[1]],
        positive=positive, patients=patients,
    )["sex"]  # fmt: skip


def test_each_value_has_the_numbers_of_its_own_images():
    rng = np.random.default_rng(0)
    y, sex = rng.integers(0, 2, 80), rng.choice(["f", "m"], 80)
    logits = rng.normal(size=(80, 2)) + np.eye(2)[y]
    by_sex = found(y, logits, sex)
    assert list(by_sex) == ["f", "m"]
    for value, one in by_sex.items():
        chosen = sex == value
        assert (one["images"], one["patients"]) == (chosen.sum(), None)
        score = logits[chosen, 1] - logits[chosen, 0]
        assert one["auc"]["value"] == pytest.approx(roc_auc_score(y[chosen], score), abs=1e-12)
        right = logits[chosen].argmax(axis=1) == y[chosen]
        assert one["accuracy"]["value"] == pytest.approx(right.mean(), abs=1e-12)
        limits = clusters.proportion_limits(right)[:2]
        assert (one["accuracy"]["ci_low"], one["accuracy"]["ci_high"]) == pytest.approx(limits)
        assert one["auc"]["ci_low"] < one["auc"]["value"] < one["auc"]["ci_high"]


def test_patients_of_several_images_widen_the_intervals():
    rng = np.random.default_rng(1)
    y = np.repeat(np.arange(20) % 2, 4)
    logits = np.repeat(rng.normal(size=(20, 2)), 4, axis=0) + 0.7 * np.eye(2)[y]
    values, patients = ["x"] * 80, [f"p{i // 4}" for i in range(80)]
    alone = found(y, logits, values)["x"]
    known = found(y, logits, values, patients=patients)["x"]
    assert (known["images"], known["patients"]) == (80, 20)
    for metric in ("auc", "accuracy"):
        width = [one[metric]["ci_high"] - one[metric]["ci_low"] for one in (alone, known)]
        assert width[1] > 1.3 * width[0]
    each = found(y, logits, values, patients=[f"p{i}" for i in range(80)])["x"]
    for metric in ("auc", "accuracy"):
        assert each[metric] == {**alone[metric], "groups": 80}


def test_what_a_subgroup_lacks_is_a_reason_and_what_is_unknown_a_value():
    y, logits = np.array([0, 1, 2, 0, 0]), np.eye(3)[[0, 1, 1, 0, 2]]
    by_sex = found(y, logits, ["f", "f", "f", "", ""], "multiclass", None)
    assert by_sex["f"]["auc"]["value"] is not None
    lacking = by_sex[subgroups.NOT_GIVEN]
    assert lacking["images"] == 2 and lacking["auc"]["value"] is None
    assert "for 3 of 3 classes" in lacking["auc"]["reason"]
    assert lacking["accuracy"]["value"] == 0.5


def test_of_several_labels_accuracy_is_of_the_labels():
    y = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    logits = np.array([[1.0, -1], [1, 1], [1, 1], [-1, -1]])
    one = found(y, logits, ["x"] * 4, "multilabel", None)["x"]
    assert one["accuracy"]["value"] == 7 / 8 and one["auc"]["value"] == 0.875


# --- A run of one's own images with patients and subgroups


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 160 images of 80 patients, with their sex and their scanner."""
    home, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(2)
    with (home / "own.csv").open("w") as f:
        f.write("path,label,patient,sex,scanner,age\n")
        for i in range(160):
            p = i // 2
            pixels = rng.integers(0, 150, (28, 28)) + 25 * (p % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(home / f"{i}.png")
            sex = ["f", "m", ""][p % 3]
            f.write(f"{i}.png,{['well', 'ill'][p % 2]},p{p},{sex},{'AB'[p // 40]},{i}\n")
    return home


OPTIONS = (
    "dataset=folder", "dataset.name=own", "dataset.path=own.csv", "size=28", "cache.root=cache",
    "method=pixels_logistic", "method.C=[0.01]", "evaluate.n_resamples=100",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(home) -> Path:
    done = beitmed(*OPTIONS, "name=run", "dataset.columns.subgroups=[sex]", cwd=home)
    assert done.returncode == 0, done.stderr
    run = home / "outputs" / "run"
    f = metrics(run)["subgroups"]["sex"]["f"]
    said = f"Subgroup sex f: {f['images']} images of {f['patients']} patients, AUC "
    assert said + f"{f['auc']['value']:.3f} [" in done.stdout
    return run


def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_a_run_with_patients_and_subgroups(run):
    by_sex = metrics(run)["subgroups"]["sex"]
    assert list(by_sex) == [subgroups.NOT_GIVEN, "f", "m"]
    assert sum(one["images"] for one in by_sex.values()) == metrics(run)["n"]["test"] == 32
    assert sum(one["patients"] for one in by_sex.values()) == 16
    rows = [r for r in csv.DictReader((run / "predictions.csv").open()) if r["split"] == "test"]
    files = {(f["split"], f["index"]): f for f in csv.DictReader((run / "splits.csv").open())}
    kept = {(f["split"], f["index"]): f for f in csv.DictReader((run / "subgroups.csv").open())}
    assert len(kept) == len(files) == 160
    for row in rows:
        at = row["split"], row["index"]
        assert files[at]["patient"] == row["patient"]
        assert kept[at]["sex"] == ["f", "m", ""][int(row["patient"][1:]) % 3]
    chosen = [row for row in rows if kept["test", row["index"]]["sex"] == "f"]
    right = [(float(r["logit_1"]) > float(r["logit_0"])) == (r["label"] == "1") for r in chosen]
    assert by_sex["f"]["accuracy"]["value"] == np.mean(right)


def test_other_subgroups_are_evaluated_and_nothing_trained(home, run):
    before = (run / "predictions.csv").stat().st_mtime_ns
    done = beitmed(*OPTIONS, "name=run", "dataset.columns.subgroups=[scanner,sex]", cwd=home)
    assert done.returncode == 0, done.stderr
    assert list(metrics(run)["subgroups"]) == ["scanner", "sex"]
    # What the folder keeps needs no table; what it does not keep is read from there.
    (home / "own.csv").rename(home / "away.csv")
    asked = "dataset.columns.subgroups"
    try:
        done = beitmed("outputs/run", f"{asked}=[scanner]", cwd=home, module="evaluate")
        assert done.returncode == 0 and list(metrics(run)["subgroups"]) == ["scanner"]
        done = beitmed("outputs/run", f"{asked}=[age]", cwd=home, module="evaluate")
        assert done.returncode == 2 and "own.csv does not exist" in done.stderr
    finally:
        (home / "away.csv").rename(home / "own.csv")
    assert list(metrics(run)["subgroups"]) == ["scanner"]
    assert (run / "predictions.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("[sexe]", "has no column 'sexe'; found: path, label, patient, sex, scanner, age"),
        ("[age]", "has 160 different values of 'age'; allowed: 30 or fewer"),
    ],
)
def test_columns_that_make_no_subgroups_are_refused(columns, said, home):
    done = beitmed(*OPTIONS, "name=x", f"dataset.columns.subgroups={columns}", cwd=home)
    assert done.returncode == 2 and said in done.stderr
    assert not (home / "outputs" / "x").exists()


def test_class_folders_have_no_columns(home):
    options = ("name=x", "dataset.path=.", "dataset.columns.subgroups=[sex]")
    done = beitmed(*OPTIONS, *options, cwd=home)
    assert done.returncode == 2 and "is a folder, which has no columns" in done.stderr
