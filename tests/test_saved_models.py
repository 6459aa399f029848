"""What a run has fitted is asked again: by its folder alone, nothing unpickled, to the bit."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import medmnist_arrays, resolve
from predict_checks import assert_predicts

from beitmed import config, data, methods, pipeline
from beitmed.config.method import NAMES, OPTIONAL, reads
from beitmed.errors import UserError
from beitmed.methods import automl, estimators
from beitmed.runs import reader
from beitmed.runs.reader import read_config

SMALL = ("dataset=phantom", "data.limit=20", "evaluate.n_resamples=100", "backbone=beit_tiny",
         "train.epochs=1", "train.eval_batch_size=7")  # fmt: skip
CASES = {
    "majority": ["method=majority"],
    "pixels_logistic": ["method=pixels_logistic"],
    "features_logistic": ["method=features_logistic"],
    "features_logistic, live": ["method=features_logistic", "features=live"],
    "features_knn": ["method=features_knn"],
    "features_knn, live": ["method=features_knn", "features=live", "precision=bf16"],
    "resnet18": ["method=resnet18", "method.epochs=1", "method.batch_size=16"],
    "resnet18, bf16": ["method=resnet18", "method.epochs=1", "method.batch_size=16",
                       "precision=bf16"],
    "resnet18_short": ["method=resnet18_short", "method.epochs=1"],
    "automl": ["method=automl", "method.time_budget_s=2"],
    "cached": ["unfreeze=2"],
    "cached, fp32": ["unfreeze=1", "cache.dtype=fp32", "precision=bf16"],
    "live": ["unfreeze=2", "features=live"],
    "probe": ["unfreeze=0"],
    "all": ["unfreeze=all"],
    "drop path": ["unfreeze=1", "trunk_mode=train"],
    "lora": ["unfreeze=1", "adapter=lora", "lora.rank=2", "train.learning_rate=0.01"],
}  # fmt: skip
TASKS = {"blood": "bloodmnist", "retina": "retinamnist", "chest": "chestmnist"}


def go(folder: Path, *overrides: str) -> Path:
    return pipeline.run(
        resolve(*SMALL, f"output_dir={folder}/outputs", f"cache.root={folder}/cache", *overrides)
    )


def asked_again(run: Path, *changes: str) -> tuple[methods.Model, data.Data]:
    """The model that the run has saved, and its data."""
    cfg = read_config(run, changes)
    loaded = data.load(cfg)
    return methods.load(cfg, run, loaded.class_names), loaded


def assert_same(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved, without its cache, and where nothing can be unpickled, it gives its predictions.

    So it does as `beitmed predict`.
    """

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    said = reader.read(run)
    shutil.rmtree(run.parents[1] / "cache", ignore_errors=True)
    moved = Path(shutil.move(run, run.parents[1] / "moved"))
    with monkeypatch.context() as patch:
        for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
            patch.setattr(module, name, refuse)
        model, loaded = asked_again(moved)
        for split, stated in (("val", said.val), ("test", said.test)):
            found = model.logits(loaded.splits[split].images)
            assert found.dtype == np.float64
            np.testing.assert_array_equal(found, stated.logits)
        asked = assert_predicts(moved, np.asarray(loaded.test.images), moved.parent)
    assert asked["unlikeness"]["runs"][0]["training_images"] > 1


@pytest.mark.parametrize("name", CASES)
def test_every_method_gives_its_predictions_again(name, tmp_path, monkeypatch):
    if name == "automl":
        pytest.importorskip("flaml.automl.automl")
    if name == "lora":
        pytest.importorskip("peft")
    assert_same(go(tmp_path, *CASES[name]), monkeypatch)


@pytest.mark.parametrize("dataset", TASKS)
@pytest.mark.parametrize("name", ["features_logistic", "live"])
def test_every_task_too(name, dataset, tmp_path, monkeypatch):
    np.savez(tmp_path / f"{TASKS[dataset]}.npz", **medmnist_arrays(TASKS[dataset], 28, n=40))
    assert_same(
        go(tmp_path, *CASES[name], f"dataset={dataset}", f"data.root={tmp_path}", "data.limit=2",
           "data.allow_unofficial=true"),
        monkeypatch,
    )  # fmt: skip


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", estimators.SEARCHED)
def test_what_the_search_may_find_is_saved(name, classes, tmp_path):
    flaml = pytest.importorskip("flaml.automl.automl")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % classes
    rows = rng.random((60, 9)).astype(np.float32) + labels[:, None] / 5
    search = flaml.AutoML()
    search.fit(
        rows, labels, X_val=rows, y_val=labels, task="classification", eval_method="holdout",
        metric="log_loss", estimator_list=[name], max_iter=1, retrain_full=False, n_jobs=1,
        verbose=0, log_file_name="",
    )  # fmt: skip
    file = estimators.save(search.model.estimator, tmp_path / "estimator_0")
    expected = search.predict_proba(rows)
    found = estimators.load(file).predict_proba(rows)
    assert found == pytest.approx(expected, abs=1e-7)
    assert len(np.unique(found)) > 2
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"estimator_0\.\w+: cannot be read"):
        estimators.load(file)


def test_of_several_labels_the_search_keeps_a_model_each(tmp_path):
    pytest.importorskip("flaml.automl.automl")
    rng = np.random.default_rng(0)
    labels = np.column_stack([np.arange(60) % 2, np.ones(60, int), np.arange(60) // 2 % 2])
    rows = (rng.random((60, 9)) + labels[:, :1] / 2).astype(np.float32)
    cfg = resolve("method=automl")
    found = [
        automl._search(cfg, tmp_path / f"{i}", {"train": rows, "val": rows}, y, y, 0.7)
        for i, y in enumerate(labels.T)
    ]
    logits = automl._load({"found": found}, tmp_path, 3).of_rows(rows)
    assert logits.shape == (60, 3) and (logits[:, 1] == np.log(121)).all()
    assert logits[labels[:, 0] == 1, 0].min() > logits[labels[:, 0] == 0, 0].max()


READ = {
    "backbone": "beit_tiny", "unfreeze": "1", "trunk_mode": "eval", "adapter": "lora",
    "lora": "{rank: 2}", "features": "live", "precision": "bf16", "processes": "1",
    "export": "true", "train": "{epochs: 1, eval_batch_size: 4}", "train.eval_batch_size": "4",
    "cache.dtype": "fp32",
}  # fmt: skip
SETTINGS = {
    "resnet18": ["method.epochs=1"], "resnet50": ["method.epochs=1", "data.limit=2"],
    "resnet18_short": ["method.epochs=1"], "automl": ["method.time_budget_s=2"],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"autogluon"}))
def test_every_key_that_a_method_reads_is_taken(name, tmp_path):
    if name == "automl":
        pytest.importorskip("flaml.automl.automl")
    if name == "backbone":
        pytest.importorskip("peft")
    given = [f"{key}={READ[key]}" for key in reads({"name": name})]
    rest = ("dataset=phantom", "data.limit=4", f"method={name}", "evaluate.n_resamples=100",
            f"output_dir={tmp_path}/outputs", f"cache.root={tmp_path}/cache")  # fmt: skip
    cfg = resolve(*rest, *given, *SETTINGS.get(name, []))
    config.check_read([cfg], given)
    run = pipeline.run(cfg)
    assert (run / "metrics.json").is_file()
    unread = [f"{key}={READ[key]}" for key in OPTIONAL if key not in reads({"name": name})]
    for one in unread:
        with pytest.raises(UserError, match="does not read it"):
            config.check_read([cfg], [one])


def test_other_weights_or_a_damaged_file_are_told(tmp_path, tiny_weights):
    run = go(tmp_path, "method=features_knn", f"backbone.weights={tiny_weights}")
    said = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(said | {"trunk_sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"trunk of SHA-256 0000.*backbone\.weights"):
        asked_again(run)
    (run / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read.*train the run anew"):
        asked_again(run)
    (run / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read"):
        asked_again(run)


def test_a_split_on_disk_is_read_as_an_array_is(tmp_path):
    run = go(tmp_path, "unfreeze=1")
    model, loaded = asked_again(run)
    images = loaded.test.images
    whole = model.logits(images)
    again = model.logits(np.ascontiguousarray(images))
    np.testing.assert_array_equal(whole, again)
    # Fewer images: other blocks, so the same up to rounding.
    np.testing.assert_allclose(model.logits(images[:5]), whole[:5], atol=1e-4)
