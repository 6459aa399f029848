"""Baselines: the same evaluation, artifacts and report rows, and scikit-learn's own numbers."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import medmnist_arrays, resolve
from safetensors.numpy import load_file
from scipy.special import expit, softmax
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from test_saved_models import assert_same

from beitmed import config, data, methods, pipeline
from beitmed.config.method import NAMES
from beitmed.errors import UserError
from beitmed.explain import explanation
from beitmed.methods import neighbors
from beitmed.report.content import baselines, published, variants
from beitmed.report.content.evidence import Evidence
from beitmed.runs import reader
from beitmed.runs.reader import read_config

EVERY = {
    "config.yaml", "confusion.png", "confusion.svg", "data.json", "decision.csv", "decision.png",
    "decision.svg", "environment.json", "history.csv", "metrics.json", "model.json",
    "predictions.csv", "reliability.csv", "roc.csv", "roc.png", "roc.svg", "run.log",
    "train_indices.csv",
}  # fmt: skip
SMALL = ("dataset=phantom", "data.limit=12", "evaluate.n_resamples=100", "backbone=beit_tiny")
EPOCHS = {"method.epochs=2", "method.batch_size=8"}
MORE = {
    "majority": (set(), {"model.safetensors"}),
    "pixels_logistic": (set(), {"model.safetensors"}),
    "features_logistic": (set(), {"model.safetensors"}),
    "features_knn": (set(), {"model.safetensors"}),
    "resnet18": (EPOCHS, {"model.safetensors", "history.png", "history.svg"}),
    "automl": ({"method.time_budget_s=2"}, set()),
}


def go(folder: Path, *overrides: str) -> Path:
    return pipeline.run(
        resolve(*SMALL, f"output_dir={folder}/outputs", f"cache.root={folder}/cache", *overrides)
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of each baseline, and one of a backbone, in one folder."""
    folder = tmp_path_factory.mktemp("baselines")
    found = {"backbone": go(folder, "train.epochs=1", "unfreeze=1")}
    for name, (extra, _) in MORE.items():
        if name == "automl":
            pytest.importorskip("flaml.automl.automl")
        found[name] = go(folder, f"method={name}", *extra)
    return found


def logits(run: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    read = reader.read(run)
    chosen = read.val if split == "val" else read.test
    return chosen.labels, chosen.logits


def loaded(run: Path) -> tuple[data.Data, np.ndarray]:
    rows = list(csv.DictReader((run / "train_indices.csv").open()))
    return data.load(read_config(run)), np.array([int(r["index"]) for r in rows])


def test_every_method_has_its_yaml_and_its_module():
    for name in NAMES:
        module = methods.module_of(resolve(f"method={name}"))
        assert callable(module.fit) and callable(module.load)
    assert {p.stem for p in (config.conf_dir() / "method").glob("*.yaml")} == set(NAMES)
    assert all(resolve(f"method={name}").method.name == name for name in NAMES)


@pytest.mark.parametrize("name", MORE)
def test_a_baseline_ends_in_the_same_files_and_fields(runs, name):
    run = runs[name]
    files = {p.name for p in run.iterdir() if not p.name.startswith("estimator_")}
    assert files == EVERY | MORE[name][1]
    theirs = json.loads((runs["backbone"] / "metrics.json").read_text())
    ours = json.loads((run / "metrics.json").read_text())
    assert set(ours) == {*theirs, "method"}
    assert set(ours["test"]) == set(theirs["test"])
    reads = name.startswith("features")
    assert (ours["method"], ours["unfreeze"]) == (name, None)
    assert ours["backbone"] == ("beit_tiny" if reads else None)
    assert ("RANDOM weights, not pre-trained" in ours["caveats"]) == reads
    assert run.name.startswith(f"phantom_28_full_{name}{'_beit_tiny' if reads else ''}_seed42_")
    labels, scores = logits(run, "test")
    auc = roc_auc_score(labels, scores[:, 1] - scores[:, 0])
    assert ours["test"]["auc"]["value"] == pytest.approx(auc, abs=1e-12)


def test_the_majority_class_is_that_of_the_images_that_were_trained_on(tmp_path, runs):
    summary = json.loads((runs["majority"] / "metrics.json").read_text())
    assert summary["test"]["auc"]["value"] == 0.5
    whole = go(tmp_path, "method=majority", "balanced=true", "data.limit=null")
    known, chosen = loaded(whole)
    assert len(chosen) == 367  # the paper's undersampling
    reference = DummyClassifier(strategy="prior").fit(chosen[:, None], known.train.labels[chosen])
    _, scores = logits(whole, "test")
    expected = reference.predict_log_proba(np.zeros((len(scores), 1)))
    assert scores == pytest.approx(expected, abs=1e-12)


def test_logistic_regression_is_scikit_learns(runs):
    run = runs["pixels_logistic"]
    known, chosen = loaded(run)
    x = {k: s.images.reshape(len(s.labels), -1) / 255 for k, s in known.splits.items()}
    scaler = StandardScaler().fit(x["train"][chosen])
    best: tuple[float, float, LogisticRegression] | None = None
    described = json.loads((run / "model.json").read_text())
    for candidate in sorted(resolve("method=pixels_logistic").method.C):
        model = LogisticRegression(C=candidate, max_iter=1000)
        model.fit(scaler.transform(x["train"][chosen]), known.train.labels[chosen])
        score = model.decision_function(scaler.transform(x["val"]))
        auc = roc_auc_score(known.val.labels, score)
        tried = {row["C"]: row["val_auc"] for row in described["candidates"]}
        assert tried[candidate] == pytest.approx(auc, abs=0.01)
        if best is None or tried[candidate] > best[0]:
            best = tried[candidate], candidate, model
    assert best is not None and described["C"] == best[1]
    p = best[2].predict_log_proba(scaler.transform(x["test"]))
    assert logits(run, "test")[1] == pytest.approx(p, abs=1e-3)
    kept = load_file(run / "model.safetensors")
    assert kept["coefficients"] == pytest.approx(best[2].coef_, abs=1e-4)


def test_nearest_neighbours_are_scikit_learns():
    rng = np.random.default_rng(0)
    x, queries, labels = rng.normal(size=(60, 5)), rng.normal(size=(20, 5)), rng.integers(0, 3, 60)
    for k in (1, 7):
        reference = KNeighborsClassifier(k, metric="cosine").fit(x, labels)
        found = reference.kneighbors(queries, return_distance=False)
        p = np.exp(neighbors.from_neighbors(labels[found], 3))
        assert p == pytest.approx((reference.predict_proba(queries) * k + 1) / (k + 3), abs=1e-12)
        assert (p.argmax(axis=1) == reference.predict(queries)).all()
    several = rng.integers(0, 2, (60, 4))
    reference = KNeighborsClassifier(7, metric="cosine").fit(x, several)
    found = reference.kneighbors(queries, return_distance=False)
    odds = neighbors.from_neighbors(several[found], 4)
    shares = np.column_stack([p[:, 1] for p in reference.predict_proba(queries)])
    assert expit(odds) == pytest.approx((shares * 7 + 1) / 9, abs=1e-12)


def test_features_are_those_that_a_linear_probe_trains_on(tmp_path, runs):
    described = json.loads((runs["features_knn"] / "model.json").read_text())
    probe = go(tmp_path, "train.epochs=1", "unfreeze=0")
    theirs = json.loads((probe / "model.json").read_text())
    assert described["trunk_sha256"] == theirs["trunk_sha256"]
    assert described["features"]["mode"] == theirs["features"]["mode"] == "cached"
    assert described["features"]["dtype"] == theirs["features"]["dtype"] == "float32"
    live = go(tmp_path, "method=features_knn", "features=live")
    assert logits(live, "test")[1] == pytest.approx(logits(runs["features_knn"], "test")[1])


@pytest.mark.parametrize("dataset", ["blood", "retina", "chest"])
@pytest.mark.parametrize("name", ["majority", "pixels_logistic", "features_knn", "resnet18"])
def test_every_task(tmp_path, monkeypatch, dataset, name):
    flag = {"blood": "bloodmnist", "retina": "retinamnist", "chest": "chestmnist"}[dataset]
    np.savez(tmp_path / f"{flag}.npz", **medmnist_arrays(flag, 28, n=40))
    extra = {"method.epochs=1"} if name == "resnet18" else MORE[name][0]
    run = go(tmp_path, f"dataset={dataset}", f"data.root={tmp_path}", "data.limit=2",
             "data.allow_unofficial=true", f"method={name}", *extra)  # fmt: skip
    labels, scores = logits(run, "test")
    summary = json.loads((run / "metrics.json").read_text())
    if dataset == "chest":
        expected = np.mean([roc_auc_score(y, s) for y, s in zip(labels.T, scores.T, strict=True)])
    else:
        p = softmax(scores, axis=1).round(12)  # neighbours' votes tie
        member = labels[:, None] == np.arange(p.shape[1])
        expected = np.mean([roc_auc_score(m, q) for m, q in zip(member.T, p.T, strict=True)])
    assert summary["test"]["auc"]["value"] == pytest.approx(expected, abs=1e-9)
    if name == "majority":
        assert summary["test"]["auc"]["value"] == pytest.approx(0.5, abs=1e-12)
    if (name, dataset) == ("pixels_logistic", "chest"):
        c = json.loads((run / "model.json").read_text())["C"]
        known, chosen = loaded(run)
        x = {k: s.images.reshape(len(s.labels), -1) / 255 for k, s in known.splits.items()}
        scaler = StandardScaler().fit(x["train"][chosen])
        reference = OneVsRestClassifier(LogisticRegression(C=c, max_iter=1000))
        reference.fit(scaler.transform(x["train"][chosen]), known.train.labels[chosen])
        theirs = reference.decision_function(scaler.transform(x["test"]))
        assert scores == pytest.approx(theirs, abs=1e-3)
    assert_same(run, monkeypatch)


def test_a_baseline_stands_in_a_report_beside_a_backbone(runs):
    found, problems = reader.find([runs["backbone"].parent])
    assert problems == []
    [test_set], notes = variants.group(found)
    assert notes == []
    assert {v.name for v in test_set.variants} == {
        f"{name} (28), {caveat}"
        for caveat, names in {
            "SYNTHETIC images": ["majority class", "logistic regression on pixels", "ResNet-18",
                                 "FLAML on pixels"],
            "RANDOM weights, SYNTHETIC images": ["beit_tiny top 1", "beit_tiny features, kNN",
                                                 "beit_tiny features, logistic regression"],
        }.items()
        for name in names
    }  # fmt: skip
    by_name = {run.config.method.name: run for run in found}
    said = baselines.departures(by_name["resnet18"])
    assert "method.epochs=2 (published: 100)" in said
    assert not any("learning_rate" in part for part in said)
    assert baselines.departures(by_name["majority"]) == []


def test_a_measured_baseline_stands_above_what_was_published_of_it(tmp_path):
    np.savez(tmp_path / "breastmnist.npz", **medmnist_arrays("breastmnist", 28))
    common = ("dataset=breast", f"data.root={tmp_path}", "data.allow_unofficial=true")
    for name, extra in (("majority", ()), ("resnet18", EPOCHS)):
        go(tmp_path, *common, f"method={name}", *extra)
    [test_set], _ = variants.group(reader.find([tmp_path / "outputs"])[0])
    table = published.paper_table(Evidence(test_set))
    assert table is not None
    names = [str(row[0]) for row in table.rows]
    at = next(i for i, name in enumerate(names) if name.startswith("ResNet-18 (28)"))
    assert [row[1] for row in table.rows[at : at + 2]] == ["measured, 1 seed", "published"]
    assert names[at + 1].startswith("ResNet-18 (28)") and table.rows[at + 1][2] == 0.901
    assert sum(name.startswith("ResNet-18 (28)") for name in names) == 2
    assert all(table.rows[at][i] is None for i in (3, 4, 6, 7))  # the paper trained no baseline


def test_a_baseline_has_no_attention_to_show(runs):
    with pytest.raises(UserError, match=r"method=majority.*method=backbone"):
        explanation.explain([runs["majority"]])


def test_what_a_method_does_not_read_is_left_out_of_its_name():
    name = config.run_name(resolve("method=majority"))
    for other in ("unfreeze=1", "backbone=beit_tiny", "train.epochs=9", "precision=bf16",
                  "cache.dtype=fp32", "experiment=smoke"):  # fmt: skip
        same = resolve("method=majority", other, "dataset=breast")
        assert config.run_name(same) == name
    assert config.run_name(resolve("method=majority", "seed=1")) != name
    knn = config.run_name(resolve("method=features_knn"))
    assert config.run_name(resolve("method=features_knn", "unfreeze=1")) == knn
    assert config.run_name(resolve("method=features_knn", "precision=bf16")) != knn
    assert config.run_name(resolve("method=features_knn", "method.k=[3]")) != knn


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["method=majority", "unfreeze=3"], ["unfreeze=3", "method=majority", "method=backbone"]),
        (["method=resnet18", "train.epochs=3"], ["train.epochs=3", "method.epochs"]),
        (["method=features_knn", "unfreeze=1"], ["unfreeze=1", "method.k"]),
        (["method=majority", "backbone=beit_tiny"], ["backbone=beit_tiny"]),
    ],
)
def test_what_is_given_in_vain_is_refused(overrides, said):
    with pytest.raises(UserError) as e:
        config.check_read([resolve(*overrides)], overrides)
    for part in said:
        assert part in str(e.value)
    config.check_read([resolve("unfreeze=3", "train.epochs=2")], ["unfreeze=3", "train.epochs=2"])
    config.check_read([resolve("method=features_knn")], ["backbone=beit_tiny", "features=live"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["method=resnet18", "method.epochs=x"], ["method.epochs", "'x'", "an integer"]),
        (["method=resnet18", "+method.epcohs=3"], ["method.epcohs: no such key", "method.epochs"]),
        (["method=majority", "+method.epochs=3"], ["method.epochs: is not a key of the chosen"]),
        (["method=features_knn", "method.k=[0]"], ["method.k", "greater than or equal to 1"]),
        (["method=majority", "method.name=other"], ["method.module: is missing"]),
        (["method=majority", "+method.module=os"], ["method.name", "name of its own"]),
    ],
)
def test_a_wrong_setting_is_named(overrides, said):
    with pytest.raises(UserError) as e:
        resolve(*overrides)
    for part in said:
        assert part in str(e.value)


def test_a_missing_automl_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flaml", ModuleType("flaml"))  # without what it searches over
    with pytest.raises(UserError, match=r"pip install '\.\[automl\]'"):
        go(tmp_path, "method=automl")
    assert not list(tmp_path.glob("outputs/[!.]*"))
