"""A run on one's own images as a user does it, from the command to the folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, beitmed, resolve
from PIL import Image
from sklearn.metrics import roc_auc_score

from beitmed import pipeline
from beitmed.runs import predictions

OPTIONS = (*FAST, "dataset=folder", "dataset.name=mydata", "unfreeze=1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `my images/<class>/*`: 16-bit, JPEG and PNG files, 15 of each class."""
    home = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for i, name in enumerate(("ill", "well")):
        folder = home / "my images" / name
        folder.mkdir(parents=True)
        for k in range(15):
            pixels = (rng.integers(0, 150, (40, 48)) + 100 * i).astype(np.uint8)
            if k % 3 == 0:
                pixels = pixels.astype(np.uint16) * 257
            Image.fromarray(pixels).save(folder / f"{k}.{'jpg' if k % 3 == 1 else 'png'}")
    return home


def go(home: Path, *overrides: str, module: str = "train"):
    return beitmed(*overrides, f"cache.root={home}/cache", cwd=home, module=module)


@pytest.fixture(scope="module")
def trained(home):
    path = f"dataset.path='{home}/my images'"
    return go(home, *OPTIONS, path, "dataset.positive_class=ill", "data.limit=null"), path


def only_run(home: Path) -> Path:
    [run] = home.glob("outputs/mydata_*")
    return run


def test_a_run_from_folders_to_metrics(home, trained):
    done, _ = trained
    assert done.returncode == 0, done.stderr
    run = only_run(home)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["positive_class"] == {"label": 0, "name": "ill"}
    assert metrics["dataset"] == "mydata" and metrics["n"] == {"train": 21, "val": 3, "test": 6}
    said = " ".join(metrics["caveats"])
    assert "own images" in said and "by image" in said and "official" not in said
    recorded = json.loads((run / "data.json").read_text())
    assert (recorded["official"], recorded["source"]) == (False, "my images")
    assert len(set(recorded["digests"].values())) == 3 and recorded["digests"].keys() >= {"test"}
    files = list(csv.DictReader((run / "splits.csv").open()))
    assert len(files) == len({f["file"] for f in files}) == 30
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    named = {(f["split"], f["index"]): f["label"] for f in files}
    for row in rows:
        assert named[row["split"], row["index"]] == ["ill", "well"][int(row["label"])]
    test = [row for row in rows if row["split"] == "test"]
    scores = [float(row["logit_0"]) - float(row["logit_1"]) for row in test]
    auc = roc_auc_score([row["label"] == "0" for row in test], scores)
    assert metrics["test"]["auc"]["value"] == pytest.approx(auc, abs=1e-12)


def test_the_second_run_converts_and_computes_nothing(home, trained, caplog):
    _, path = trained
    again = go(home, *OPTIONS, path, "dataset.positive_label=0", "data.limit=null")
    assert "finished before, nothing to do" in again.stdout, again.stderr
    assert "converting" in trained[0].stdout
    caplog.set_level("INFO", "beitmed")
    pipeline.run(
        resolve(*OPTIONS, path, "seed=1", "data.limit=null", f"cache.root={home}/cache",
                f"output_dir={home}/others")
    )  # fmt: skip
    assert "converting" not in caplog.text
    assert "features: all 30 images are in" in caplog.text


def test_an_audit_and_prepare(home, trained):
    _, path = trained
    audit = go(home, "dataset=folder", "dataset.name=mydata", path, module="audit")
    assert audit.returncode == 0, audit.stderr
    assert "own images, splits drawn by image" in audit.stdout
    written = json.loads((home / "outputs" / "audit" / "mydata_28" / "audit.json").read_text())
    assert all(split["n_official"] is None for split in written["splits"].values())
    prepared = go(home, "dataset=folder", path, "backbone=beit_tiny", module="prepare")
    assert prepared.returncode == 0, prepared.stderr
    assert "there, own images (21 train, 3 val, 6 test)" in prepared.stdout


def test_bad_input_is_one_message_and_code_2(home, trained):
    (home / "bad" / "a").mkdir(parents=True)
    (home / "bad" / "b").mkdir()
    for k in range(6):
        (home / "bad" / "ab"[k % 2] / f"{k // 2}.png").write_bytes(b"not an image")
    done = go(home, *OPTIONS, f"dataset.path={home}/bad", "output_dir=bad_outputs")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "a/1.png: is of no supported format" in done.stderr and "b/1.png" in done.stderr
    assert not list(home.glob("bad_outputs/mydata*"))


def test_an_explanation_of_a_run(home, trained):
    done = go(home, str(only_run(home)), "images=each:1", "methods=attention", "tests=false",
              trained[1].replace("'", ""), module="explain")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Maps over images of the test split (the first 1 of each class)" in done.stdout
    assert (only_run(home) / "explanation" / "explanation.npz").is_file()


def test_colour_of_three_classes_with_patients_from_a_table(tmp_path):
    rng = np.random.default_rng(1)
    with (tmp_path / "own.csv").open("w") as f:
        f.write("path,label,patient\n")
        for i in range(60):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / f"{i}.png")
            f.write(f"{i}.png,{'abc'[i // 2 % 3]},p{i // 2}\n")
    run = pipeline.run(
        resolve(*OPTIONS, f"dataset.path={tmp_path}/own.csv", f"output_dir={tmp_path}/outputs",
                f"cache.root={tmp_path}/cache", "balanced=true", "data.limit=4")
    )  # fmt: skip
    summary = json.loads((run / "metrics.json").read_text())
    assert summary["task"] == "multiclass" and summary["classes"] == ["a", "b", "c"]
    assert not any("by image" in said for said in summary["caveats"])
    files = list(csv.DictReader((run / "splits.csv").open()))
    assert len({f["patient"] for f in files}) == len({(f["patient"], f["split"]) for f in files})
    tested = predictions.read(run / "predictions.csv")["test"].groups
    assert summary["patients"]["test"] == len(set(tested)) < summary["n"]["test"] == len(tested)
    accuracy = summary["test"]["accuracy"]
    assert (accuracy["n"], accuracy["groups"]) == (len(tested), len(set(tested)))
