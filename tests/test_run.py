"""A run from the command to its folder: whole, repeatable, and safe against what may happen."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, REAL_DATA, beitmed, resolve
from medmnist.evaluator import getACC, getAUC
from safetensors import safe_open
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score

from beitmed import pipeline
from beitmed.errors import UserError
from beitmed.storage import files

FILES = {
    "confusion.png", "confusion.svg", "decision.csv", "decision.png", "decision.svg",
    "reliability.csv",
    "config.yaml", "data.json", "environment.json", "history.csv", "history.png", "history.svg",
    "metrics.json", "model.json", "predictions.csv", "roc.csv", "roc.png", "roc.svg", "run.log",
    "top.safetensors", "train_indices.csv",
}  # fmt: skip


def only_run(folder: Path) -> Path:
    [path] = folder.glob("outputs/[!.]*")
    return path


def run_here(tmp_path: Path, *overrides: str) -> Path:
    return pipeline.run(resolve(*FAST, f"output_dir={tmp_path}/outputs", *overrides))


def predictions(run: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [r for r in csv.DictReader((run / "predictions.csv").open()) if r["split"] == split]
    logits = np.array([[float(r["logit_0"]), float(r["logit_1"])] for r in rows])
    return np.array([int(r["label"]) for r in rows]), logits


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess, Path]:
    """The main job as a user types it, on few images."""
    folder = tmp_path_factory.mktemp("quick")
    return beitmed(*FAST, "balanced=true", cwd=folder), folder


def test_the_main_job_ends_in_a_complete_folder(quick):
    done, folder = quick
    assert done.returncode == 0, done.stderr
    run = only_run(folder)
    assert {p.name for p in run.iterdir()} == FILES
    assert run.name.startswith("phantom_28_balanced_beit_tiny_top5_seed42_")
    assert f"ROC plot: outputs/{run.name}/roc.png" in done.stdout
    assert f"metrics:  outputs/{run.name}/metrics.json" in done.stdout
    assert (run / "roc.png").read_bytes().startswith(b"\x89PNG")
    ET.parse(run / "roc.svg")


def test_the_numbers_are_those_of_independent_references(quick):
    run = only_run(quick[1])
    summary = json.loads((run / "metrics.json").read_text())
    labels, logits = predictions(run, "test")
    test = {name: e["value"] for name, e in summary["test"].items()}
    probability = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert test["auc"] == pytest.approx(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
    assert test["auc"] == pytest.approx(getAUC(labels[:, None], probability, "binary-class"))
    assert test["accuracy"] == pytest.approx(getACC(labels[:, None], probability, "binary-class"))
    assert test["accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    tn, fp, fn, tp = confusion_matrix(labels, logits.argmax(1)).ravel()
    assert test["sensitivity"] == pytest.approx(tp / (tp + fn))
    assert test["specificity"] == pytest.approx(tn / (tn + fp))
    last = list(csv.DictReader((run / "history.csv").open()))[-1]
    val_labels, val_logits = predictions(run, "val")
    assert float(last["val_auc"]) == pytest.approx(
        roc_auc_score(val_labels, val_logits[:, 1] - val_logits[:, 0])
    )
    assert float(last["val_accuracy"]) == pytest.approx(
        accuracy_score(val_labels, val_logits.argmax(1))
    )


def test_every_number_stands_with_its_interval_n_and_class(quick):
    summary = json.loads((only_run(quick[1]) / "metrics.json").read_text())
    auc = summary["test"]["auc"]
    assert auc["ci_low"] < auc["value"] < auc["ci_high"]
    assert (auc["n"], auc["interval"]) == (16, auc["interval"])
    assert summary["positive_class"] == {"label": 1, "name": "synthetic smooth or no lesion"}
    for estimate in summary["test"].values():
        assert (estimate["value"] is None) <= bool(estimate["reason"])


def test_what_is_synthetic_random_or_cut_short_says_so_everywhere(quick):
    done, folder = quick
    run = only_run(folder)
    said = ["SYNTHETIC images", "RANDOM weights", "at most 8 images of each class and split"]
    for text in (done.stdout, (run / "run.log").read_text(), (run / "metrics.json").read_text()):
        for part in said:
            assert part in text
    # Text is drawn as outlines; matplotlib notes each line of it in a comment.
    drawn = " ".join(re.findall(r"<!-- (.*?) -->", (run / "roc.svg").read_text()))
    for part in said:
        assert set(part.split()) <= set(drawn.replace(";", " ").replace(",", " ").split())


def test_what_was_trained_is_counted_recorded_and_saved(quick):
    done, folder = quick
    run = only_run(folder)
    recorded = json.loads((run / "model.json").read_text())
    with safe_open(run / "top.safetensors", framework="np") as f:
        saved = sum(f.get_tensor(k).size for k in f.keys())  # noqa: SIM118
        assert f.metadata()["trunk_sha256"] == recorded["trunk_sha256"]
    assert saved == recorded["trained_parameters"]
    share = recorded["trained_share"]
    assert share == recorded["trained_parameters"] / recorded["parameters"]
    assert (
        f"training {saved:,} of {recorded['parameters']:,} parameters ({share:.1%}".replace(
            "%", " %"
        )
        in done.stdout
    )
    rows = list(csv.DictReader((run / "train_indices.csv").open()))
    by_class = json.loads((run / "data.json").read_text())["trained_on_by_class"]
    assert np.bincount([int(r["label"]) for r in rows]).tolist() == by_class == [8, 8]


def test_started_again_a_finished_run_does_no_work(quick):
    _, folder = quick
    before = {p: p.stat().st_mtime_ns for p in only_run(folder).iterdir()}
    done = beitmed(*FAST, "balanced=true", "device=cpu", cwd=folder)
    assert done.returncode == 0
    assert "finished before, nothing to do" in done.stdout
    after = {p: p.stat().st_mtime_ns for p in only_run(folder).iterdir()}
    after.pop(only_run(folder) / "run.log")
    assert after.items() <= before.items()


def test_killed_and_started_again_it_ends_in_the_same_bytes(tmp_path):
    command = [*FAST, "train.epochs=6", "unfreeze=1"]
    whole = run_here(tmp_path / "whole", *command[len(FAST) :])
    process = subprocess.Popen(
        [sys.executable, "-m", "beitmed.train", *command], cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("outputs/*/checkpoints/*/complete")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    run = only_run(tmp_path)
    assert not (run / "metrics.json").exists()
    done = beitmed(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("predictions.csv", "history.csv", "top.safetensors", "roc.csv", "roc.svg"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert {p.name for p in run.iterdir()} == FILES
    # It did go on from the checkpoint: the second process reported fewer than all epochs.
    assert 0 < done.stdout.count("epoch ") < 6


@pytest.mark.slow
def test_two_processes_that_start_the_same_run_do_not_damage_it(tmp_path):
    both = [
        subprocess.Popen([sys.executable, "-m", "beitmed.train", *FAST], cwd=tmp_path,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]  # fmt: skip
    outputs = [p.communicate(timeout=200) for p in both]
    assert [p.returncode for p in both] == [0, 0], outputs
    assert {p.name for p in only_run(tmp_path).iterdir()} == FILES
    assert sum("finished before" in out for out, _ in outputs) == 1


def test_a_folder_of_another_configuration_is_refused_and_left_alone(tmp_path):
    run = run_here(tmp_path, "name=mine")
    before = (run / "metrics.json").read_bytes()
    with pytest.raises(UserError) as e:
        run_here(tmp_path, "name=mine", "seed=7", "train.epochs=2")
    for part in (str(run), "seed was 42, now 7", "train.epochs was 1, now 2", "name="):
        assert part in str(e.value)
    assert (run / "metrics.json").read_bytes() == before
    assert run_here(tmp_path, "name=mine") == run  # and the one it belongs to finds it finished


def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path):
    foreign = tmp_path / "outputs" / "thesis"
    foreign.mkdir(parents=True)
    (foreign / "chapter1.tex").write_text("years of work")
    with pytest.raises(UserError, match="not a run's folder"):
        run_here(tmp_path, "name=thesis")
    assert [p.name for p in foreign.iterdir()] == ["chapter1.tex"]


def test_an_unfinished_run_does_not_go_on_with_other_data(tmp_path):
    run = run_here(tmp_path, "name=mine")
    for name in ("metrics.json", "predictions.csv"):
        (run / name).unlink()
    recorded = json.loads((run / "data.json").read_text()) | {"phantom_seed": 9}
    (run / "data.json").write_text(json.dumps(recorded))
    with pytest.raises(UserError, match=r"begun with other data: phantom_seed was 9, now 0"):
        run_here(tmp_path, "name=mine")


def test_a_finished_run_is_not_passed_off_as_one_on_a_changed_file(tmp_path, edit_npz):
    def go() -> Path:
        return run_here(tmp_path, "dataset=breast", f"data.root={tmp_path}",
                        "data.allow_unofficial=true")  # fmt: skip

    edit_npz()
    go()
    edit_npz(train_images=np.zeros((546, 28, 28), np.uint8))
    with pytest.raises(UserError, match=r"has MD5 .* but the finished run .* was made from"):
        go()


@pytest.mark.parametrize("place", ["/proc/nowhere", "occupied/below"])
def test_an_output_folder_that_cannot_be_written(tmp_path, place):
    (tmp_path / "occupied").write_text("a file, not a folder")
    for arguments in ([], ["-m"]):
        done = beitmed(*arguments, *FAST, f"output_dir={place}", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert place.partition("/")[0] in done.stderr
        assert "output_dir=" in done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "occupied").read_text() == "a file, not a folder"


def test_a_disk_that_fills_up_costs_the_run_and_nothing_else(tmp_path):
    before = run_here(tmp_path, "name=before")
    kept = {p.name: p.read_bytes() for p in before.iterdir()}

    def small_disk() -> None:  # files may not grow past 100 kB: a full disk without being root
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = beitmed(*FAST, "name=after", cwd=tmp_path, preexec_fn=small_disk)
    assert done.returncode == 2, done.stderr
    assert "no space left" in done.stderr
    assert "outputs/after" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs" / "after" / "metrics.json").exists()
    assert not list((tmp_path / "outputs").rglob("*.tmp"))
    assert {p.name: p.read_bytes() for p in before.iterdir()} == kept
    # With space again, the same command succeeds.
    done = beitmed(*FAST, "name=after", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "outputs" / "after").iterdir()} == FILES


def test_too_little_space_is_found_before_training(tmp_path):

    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with pytest.raises(UserError, match=r"MB are free there.*output_dir"):
        files.require_space(tmp_path, free * 2)
    files.require_space(tmp_path, 1)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):

    (tmp_path / "x").write_text("old")
    with pytest.raises(OSError) as e:
        files.write_atomic(tmp_path / "gone" / "x", "new")
    assert e.value.errno == errno.ENOENT
    files.write_atomic(tmp_path / "x", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "new"


@pytest.mark.real_data
@pytest.mark.parametrize("dataset", ["breast", pytest.param("pneumonia", marks=pytest.mark.slow)])
def test_on_real_data(tmp_path, dataset):
    run = run_here(
        tmp_path, f"dataset={dataset}", f"data.root={REAL_DATA}", "data.allow_unofficial=true",
        "data.limit=null", "train.max_steps=3", "balanced=true",
    )  # fmt: skip
    summary = json.loads((run / "metrics.json").read_text())
    n = {"breast": (367, 78, 156), "pneumonia": (2428, 524, 624)}[dataset]
    assert tuple(summary["n"].values()) == n
    assert len(predictions(run, "test")[0]) == n[2]
    assert "data file is not the official one" in summary["caveats"]
