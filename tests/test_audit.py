"""The audit as a user runs it: its files, its exit codes, its messages."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from conftest import beitmed, medmnist_arrays, resolve
from PIL import Image

from beitmed import data
from beitmed.errors import UserError

OFFICIAL_FORM = medmnist_arrays("breastmnist", 28)
WHERE = ("data.allow_unofficial=true", "data.download=false")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder with a BreastMNIST file of noise in which something of every kind is wrong."""
    arrays = {k: v.copy() for k, v in OFFICIAL_FORM.items()}
    train, val, test = (arrays[f"{s}_images"] for s in ("train", "val", "test"))
    test[8], test[12] = train[8], train[12] + np.uint8(1)  # 8 and 12: label 0 in all splits
    val[3] = train[4]  # labels 1 and 0
    val[5] = val[4] + np.uint8(1)  # labels 1 and 0
    train[30] = 0
    train[31] = np.where(train[31] > 90, 255, 0)
    arrays["test_labels"][60:] = 1
    folder = tmp_path_factory.mktemp("planted")
    np.savez(folder / "breastmnist.npz", **arrays)
    return folder


def audit(cwd, *arguments):
    return beitmed(*arguments, cwd=cwd, module="audit")


def test_what_is_planted_is_written_and_strict_says_so(planted, tmp_path):
    done = audit(tmp_path, "dataset=breast", f"data.root={planted}", *WHERE)
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "outputs" / "audit" / "breast_28"
    assert {p.name for p in folder.iterdir()} == {
        "audit.json", "audit.csv", "pairs.png", "pairs.svg", "pairs-column.png",
        "pairs-column.svg",
    }  # fmt: skip
    with (folder / "audit.csv").open(newline="") as f:
        rows = [tuple(row.values())[:7] for row in csv.DictReader(f)]
    assert sorted(rows) == sorted(
        [
            ("class_shift", "train", "", "test", "", "", ""),
            ("class_shift", "val", "", "test", "", "", ""),
            ("exact_duplicate", "test", "8", "train", "8", "0", "0"),
            ("exact_duplicate", "val", "3", "train", "4", "1", "0"),
            ("exact_label_conflict", "val", "3", "train", "4", "1", "0"),
            ("near_duplicate", "test", "12", "train", "12", "0", "0"),
            ("near_duplicate", "val", "5", "val", "4", "1", "0"),
            ("near_label_conflict", "val", "5", "val", "4", "1", "0"),
            ("constant", "train", "30", "", "", "1", ""),
            ("saturated", "train", "31", "", "", "1", ""),
        ]
    )
    written = json.loads((folder / "audit.json").read_text())
    assert written["format"] == 1
    assert written["data"]["official"] is False and len(written["data"]["md5"]) == 32
    assert len(written["findings"]) == len(rows)
    assert written["splits"]["test"]["n"] == written["splits"]["test"]["n_official"] == 156
    exact = written["duplicates"]["exact"]
    assert exact["groups"][0] == {"images": [["train", 4], ["val", 3]], "labels": [0, 1]}
    assert exact["across"]["train-test"] == {"pairs": 1, "first": 1, "second": 1}
    assert written["duplicates"]["near"]["pairs"]["train-test"] == 1
    assert written["duplicates"]["method"]["near"]["min_correlation"] == 0.98
    for said in (
        "1 pair of train and test (1 image of train, 1 of test)",
        "1 exact duplicate with differing labels",
        "1 near duplicate with differing labels",
        "1 constant image",
        "train against test: classes differ",
        "10 findings in all",
    ):
        assert said in done.stdout

    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    again = audit(tmp_path, "dataset=breast", f"data.root={planted}", *WHERE, "strict=true")
    assert again.returncode == 1
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_nothing_is_found_where_nothing_is_and_old_pairs_go(medmnist_folder, tmp_path):
    folder = tmp_path / "here" / "audit" / "breast_28"
    folder.mkdir(parents=True)
    (folder / "pairs.png").write_text("of other data")
    done = audit(
        tmp_path, "dataset=breast,phantom", f"data.root={medmnist_folder}", *WHERE,
        "strict=true", "output_dir=here",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("nothing found") == 2
    for name in ("breast_28", "phantom_28"):
        written = tmp_path / "here" / "audit" / name
        assert {p.name for p in written.iterdir()} == {"audit.json", "audit.csv"}
        assert len((written / "audit.csv").read_text().splitlines()) == 1
        assert json.loads((written / "audit.json").read_text())["findings"] == []


def test_a_missing_file_is_said_as_in_training_and_the_others_are_audited(planted, tmp_path):
    arguments = (f"data.root={planted}", *WHERE)
    done = audit(tmp_path, "dataset=pneumonia,breast", *arguments)
    assert done.returncode == 2
    with pytest.raises(UserError) as e:
        data.load(resolve("dataset=pneumonia", *arguments))
    assert done.stderr == f"beitmed: {e.value}\n"
    assert str(planted / "pneumoniamnist.npz") in done.stderr
    assert [p.name for p in (tmp_path / "outputs" / "audit").iterdir()] == ["breast_28"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("sise=28", "Did you mean size?"),
        ("size=29", "size: found 29"),
        ("strict=maybe", "strict: found 'maybe'; allowed: true or false"),
        ("data.limit=5", "data.limit: found 5; an audit looks at whole splits"),
    ],
)
def test_bad_input_is_refused_with_what_is_allowed(argument, said, tmp_path):
    done = audit(tmp_path, "dataset=phantom", argument)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(planted, tmp_path):
    (tmp_path / "outputs").write_text("a file")
    done = audit(tmp_path, "dataset=breast", f"data.root={planted}", *WHERE)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_says_what_strict_counts(tmp_path):
    done = audit(tmp_path, "--help")
    assert done.returncode == 0
    for said in ("strict=true", "the two labels differ", "p < 0.01", "data.root", "grey value"):
        assert said in done.stdout


def test_several_folders_are_each_audited(tmp_path):
    for name, shade in (("first", 60), ("second", 160)):
        for label in ("a", "b"):
            (tmp_path / name / label).mkdir(parents=True)
            for i in range(10):
                pixels = np.random.default_rng([shade, i, ord(label)]).integers(0, shade, (28, 28))
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / label / f"{i}.png")
    done = audit(tmp_path, "dataset=folder", "dataset.path=first,second", "size=28",
                 "seed=1,2", f"cache.root={tmp_path}/cache")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    folders = sorted((tmp_path / "outputs" / "audit").iterdir())
    assert len(folders) == 2  # and another seed is no other dataset
    sources = [json.loads((f / "audit.json").read_text()) for f in folders]
    assert sources[0] != sources[1]


def test_images_of_several_labels_are_audited_label_by_label(tmp_path):
    arrays = medmnist_arrays("chestmnist", 28, n=120)
    arrays["test_images"][3] = arrays["train_images"][5]
    arrays["train_labels"][5], arrays["test_labels"][3] = 0, 0
    arrays["test_labels"][3, [2, 13]] = 1
    arrays["val_labels"][:, 7] = 1  # of one label only, more than in test
    np.savez(tmp_path / "chestmnist.npz", **arrays)
    done = audit(tmp_path, "dataset=chest", f"data.root={tmp_path}", *WHERE)
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "outputs" / "audit" / "chest_28"
    with (folder / "audit.csv").open(newline="") as f:
        rows = {row["kind"]: row for row in csv.DictReader(f)}
    conflict = rows["exact_label_conflict"]
    assert (conflict["label"], conflict["other_label"]) == ("2 13", "none")
    assert rows["class_shift"]["split"] == "val" and "14 labels" in rows["class_shift"]["detail"]
    written = json.loads((folder / "audit.json").read_text())
    shares = written["splits"]["train"]["classes"]
    assert [s["n"] for s in shares] == arrays["train_labels"].sum(axis=0).tolist()
    assert shares[0]["share"] == shares[0]["n"] / 120 and (folder / "pairs.png").exists()
