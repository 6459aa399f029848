"""All twelve MedMNIST2D datasets: their files, and a run of each task from file to folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import medmnist
import numpy as np
import pytest
import torch
from conftest import FAST, medmnist_arrays, resolve
from medmnist.evaluator import getACC, getAUC
from safetensors.torch import load_file
from scipy.special import expit, softmax

from beitmed import config, data, pipeline
from beitmed.data import medmnist_files, sampling
from beitmed.errors import UserError

TASKS = {"binary-class": "binary", "multi-class": "multiclass",
         "ordinal-regression": "ordinal", "multi-label, binary-class": "multilabel"}  # fmt: skip
DATASETS = {
    path.stem: cfg.flag
    for path in sorted((config.conf_dir() / "dataset").glob("*.yaml"))
    if (cfg := resolve(f"dataset={path.stem}").dataset).flag is not None
}


def folder_of(tmp_path: Path, flag: str, size: int = 28, n: int = 40) -> Path:
    suffix = "" if size == 28 else f"_{size}"
    np.savez(tmp_path / f"{flag}{suffix}.npz", **medmnist_arrays(flag, size, n=n))
    return tmp_path


def load(dataset: str, folder: Path, *overrides: str) -> data.Data:
    return data.load(
        resolve(f"dataset={dataset}", f"data.root={folder}", "data.allow_unofficial=true",
                f"cache.root={folder}/cache", "data.download=false", *overrides)
    )  # fmt: skip


def test_there_is_a_yaml_for_each_2d_dataset():
    flat = {f for f, entry in medmnist.INFO.items() if "3D" not in entry["python_class"]}
    assert set(DATASETS.values()) == flat and len(flat) == 12


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_yaml_says_what_the_medmnist_package_says(dataset, tmp_path):
    flag, entry = DATASETS[dataset], medmnist.INFO[DATASETS[dataset]]
    cfg = resolve(f"dataset={dataset}").dataset
    assert cfg.task == TASKS[entry["task"]]
    about = (config.conf_dir() / "dataset" / f"{dataset}.yaml").read_text().splitlines()[0]
    assert " / ".join(f"{n:,}" for n in entry["n_samples"].values()) + " images" in about
    assert ("colour" in about) == (entry["n_channels"] == 3)
    loaded = load(dataset, folder_of(tmp_path, flag))
    official = getattr(medmnist, entry["python_class"])
    for split, ours in loaded.splits.items():
        theirs = official(split, root=str(tmp_path), size=28)
        assert np.array_equal(ours.images, theirs.imgs)
        labels = theirs.labels if cfg.task == "multilabel" else theirs.labels[:, 0]
        assert np.array_equal(ours.labels, labels) and ours.labels.dtype == np.int64
    assert loaded.class_names == tuple(entry["label"].values())
    assert loaded.provenance["official_split_sizes"] == entry["n_samples"]


@pytest.mark.parametrize("size", [64, 128, 224])
def test_colour_at_the_larger_sizes(size, tmp_path):
    loaded = load("retina", folder_of(tmp_path, "retinamnist", size, n=6), f"size={size}")
    assert loaded.test.images.shape == (6, size, size, 3)


@pytest.mark.parametrize(
    ("dataset", "changes", "said"),
    [
        ("chest", {"val_labels": np.zeros((40, 1), np.uint8)}, ["(40, 1)", "(40, 14)"]),
        ("chest", {"val_labels": np.full((40, 14), 2, np.uint8)}, ["[2]", "val_labels", "0 to 1"]),
        ("chest", {"val_labels": np.eye(40, 14, 1, np.uint8)}, ["class 0 (atelectasis)", "val"]),
        ("path", {"val_labels": np.full((40, 1), 9, np.uint8)}, ["[9]", "0 to 8", "adipose"]),
        ("path", {"val_images": np.zeros((40, 28, 28), np.uint8)}, ["(40, 28, 28)", "28, 28, 3)"]),
        ("oct", {"val_images": np.zeros((40, 28, 28, 3), np.uint8)}, ["(40, 28, 28, 3)"]),
        ("oct", {"val_images": np.zeros((0, 28, 28), np.uint8),
                 "val_labels": np.zeros((0, 1), np.uint8)}, ["(0, 28, 28)"]),
    ],
)  # fmt: skip
def test_a_wrong_array_is_named(dataset, changes, said, tmp_path):
    flag = DATASETS[dataset]
    np.savez(tmp_path / f"{flag}.npz", **{**medmnist_arrays(flag, 28, n=40), **changes})
    with pytest.raises(UserError) as e:
        load(dataset, tmp_path)
    for part in (f"{flag}.npz", *said):
        assert part in str(e.value)


def test_other_split_sizes_need_an_unofficial_file_that_is_meant(tmp_path):
    folder = folder_of(tmp_path, "pathmnist")
    with pytest.raises(UserError, match=r"data\.allow_unofficial=true"):
        load("path", folder, "data.allow_unofficial=false")
    md5 = medmnist_files.md5_of(folder / "pathmnist.npz")
    entry = {**medmnist_files.info("pathmnist"), "MD5": md5}  # as if it were the official file
    file = medmnist_files.MedMNISTFile(folder / "pathmnist.npz", md5, True, 28, entry)
    with pytest.raises(UserError, match=r"\(40, 28, 28, 3\).*\(89996, 28, 28, 3\)"):
        medmnist_files.read(file, resolve().cache)


def test_a_task_that_is_not_the_datasets_is_refused(tmp_path):
    folder = folder_of(tmp_path, "retinamnist")
    with pytest.raises(UserError, match=r"dataset\.task: found multiclass.*retinamnist is ordinal"):
        load("retina", folder, "dataset.task=multiclass")
    with pytest.raises(UserError, match=r"dataset\.flag: found 'organmnist3d'"):
        load("path", folder, "dataset.flag=organmnist3d")


def test_a_limit_keeps_images_of_each_label_and_of_none(tmp_path):
    folder = folder_of(tmp_path, "chestmnist", n=300)
    whole, part = load("chest", folder), load("chest", folder, "data.limit=3")
    assert (part.test.labels.sum(axis=0) >= 3).all()
    assert len(part.test.labels) <= 3 * 15 < len(whole.test.labels)


def test_every_class_is_balanced_against_the_smallest():
    labels = np.repeat(np.arange(9), [9, 30, 12, 50, 8, 8, 100, 20, 17])
    kept = np.bincount(labels[sampling.undersample(labels, {"majority_ratio": 1.0}, 42)])
    assert kept.tolist() == [8] * 9


def go(tmp_path: Path, dataset: str, *overrides: str, n: int = 60) -> Path:
    folder = folder_of(tmp_path, DATASETS[dataset], n=n)
    return pipeline.run(
        resolve(
            *FAST, f"dataset={dataset}", f"data.root={folder}", "data.allow_unofficial=true",
            f"output_dir={tmp_path}/outputs", f"cache.root={tmp_path}/cache", "unfreeze=1",
            *overrides,
        )
    )  # fmt: skip


def predictions(run: Path, split: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rows = [r for r in csv.DictReader((run / "predictions.csv").open()) if r["split"] == split]
    names = [c for c in rows[0] if c.startswith("label")]
    labels = np.array([[int(r[c]) for c in names] for r in rows])
    return labels, np.array([[float(r[f"logit_{i}"]) for i in range(classes)] for r in rows])


@pytest.mark.parametrize(
    ("dataset", "official", "overrides"),
    [
        ("blood", "multi-class", ["balanced=true"]),
        ("retina", "ordinal-regression", []),
        ("chest", "multi-label, binary-class", ["data.limit=3"]),
        ("chest", "multi-label, binary-class", ["data.limit=2", "unfreeze=all"]),
    ],
)
def test_a_run_of_each_task_ends_in_the_official_numbers(
    tmp_path, dataset, official, overrides, caplog
):
    caplog.set_level("INFO", "beitmed")
    run = go(tmp_path, dataset, *overrides)
    summary = json.loads((run / "metrics.json").read_text())
    names = list(medmnist.INFO[DATASETS[dataset]]["label"].values())
    assert (summary["task"], summary["classes"]) == (TASKS[official], names)
    assert "positive_class" not in summary
    labels, logits = predictions(run, "test", len(names))
    several = summary["task"] == "multilabel"
    assert labels.shape[1] == (len(names) if several else 1)
    p = expit(logits) if several else softmax(logits, axis=1)
    test = {name: e["value"] for name, e in summary["test"].items()}
    assert test["auc"] == pytest.approx(getAUC(labels, p, official), abs=1e-12)
    assert test["accuracy"] == pytest.approx(getACC(labels, p, official), abs=1e-12)
    last = list(csv.DictReader((run / "history.csv").open()))[-1]
    val_labels, val_logits = predictions(run, "val", len(names))
    val_p = expit(val_logits) if several else softmax(val_logits, axis=1)
    assert float(last["val_auc"]) == pytest.approx(getAUC(val_labels, val_p, official), abs=1e-9)
    loss = _loss(torch.tensor(val_logits), torch.tensor(val_labels))
    assert float(last["val_loss"]) == pytest.approx(loss, rel=1e-4)
    recorded = json.loads((run / "data.json").read_text())
    assert len(recorded["images_by_class"]["train"]) == len(names)
    trained = list(csv.DictReader((run / "train_indices.csv").open()))
    columns = [c for c in trained[0] if c.startswith("label")]
    cells = np.array([[int(r[c]) for c in columns] for r in trained])
    by_class = cells.sum(axis=0) if several else np.bincount(cells[:, 0])
    assert recorded["trained_on_by_class"] == by_class.tolist()
    assert "its splits are not of the official sizes" in summary["caveats"]
    assert "  AUC     " in caplog.text and ("  Accuracy  " in caplog.text) != several
    assert sum(t.numel() for t in load_file(run / "top.safetensors").values()) > 0
    curves = list(csv.DictReader((run / "roc.csv").open()))
    kind = "label" if several else "class"
    assert {int(r[kind]) for r in curves} == set(range(len(names)))
    for i in range(len(names)):
        points = [r for r in curves if int(r[kind]) == i]
        x, y = (
            np.array([float(r[f"{w}_positive_rate"]) for r in points]) for w in ("false", "true")
        )
        assert np.trapezoid(y, x) == pytest.approx(test[f"auc_{kind}_{i}"], abs=1e-12)


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    if labels.shape[1] == 1:
        return float(torch.nn.functional.cross_entropy(logits, labels[:, 0]))
    return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double()))


def test_cached_and_live_features_give_the_same_logits_of_several_labels(tmp_path):
    common = ("data.limit=2", "cache.dtype=fp32")
    cached, live = (go(tmp_path, "chest", *common, f"features={f}") for f in ("cached", "live"))
    found = [predictions(run, "test", 14)[1] for run in (cached, live)]
    assert np.abs(found[0] - found[1]).max() <= 1e-6


def test_an_exported_model_of_several_labels_says_so(tmp_path):
    run = go(tmp_path, "chest", "data.limit=1", "export=true")
    exported = json.loads((run / "huggingface" / "config.json").read_text())
    assert exported["problem_type"] == "multi_label_classification"
    assert exported["id2label"]["13"] == "hernia"
