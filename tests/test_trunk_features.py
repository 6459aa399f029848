"""Cached features: the same experiment as the live trunk, shared by all that may share them."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, REAL_DATA, beitmed, resolve

from beitmed import data, pipeline
from beitmed.errors import UserError
from beitmed.storage.store import Store
from beitmed.trunk_cache import trunk_features


def run(folder: Path, *overrides: str) -> Path:
    return pipeline.run(
        resolve(*FAST, f"output_dir={folder}/outputs", f"cache.root={folder}/cache", *overrides)
    )


def logits(path: Path) -> np.ndarray:
    rows = csv.DictReader((path / "predictions.csv").open())
    return np.array([[float(r["logit_0"]), float(r["logit_1"])] for r in rows])


def features(path: Path) -> dict:
    return json.loads((path / "model.json").read_text())["features"]


def values(path: Path) -> dict:
    test = json.loads((path / "metrics.json").read_text())["test"]
    return {name: estimate["value"] for name, estimate in test.items()}


def filled(folder: Path) -> set[str]:
    return {e.path.name for e in Store(folder / "cache").entries()}


@pytest.mark.parametrize("unfreeze", [0, 2, 8])
def test_in_fp32_cached_and_live_give_the_same_logits_and_metrics(tmp_path, unfreeze):
    common = (f"unfreeze={unfreeze}", "cache.dtype=fp32", "train.epochs=2", "data.limit=20")
    cached = run(tmp_path, *common, "features=cached")
    live = run(tmp_path, *common, "features=live")
    assert (features(cached)["mode"], features(live)["mode"]) == ("cached", "live")
    assert np.abs(logits(cached) - logits(live)).max() <= 1e-6
    assert values(cached) == pytest.approx(values(live), abs=1e-6)


@pytest.mark.real_data
def test_the_default_storage_changes_logits_by_less_than_the_seed_does(tmp_path):
    real = ("dataset=breast", f"data.root={REAL_DATA}", "data.allow_unofficial=true",
            "data.limit=40", "train.epochs=2")  # fmt: skip
    half, exact = run(tmp_path, *real), run(tmp_path, *real, "cache.dtype=fp32")
    other = run(tmp_path, *real, "cache.dtype=fp32", "seed=1")
    assert features(half)["dtype"] == "float16"
    difference = np.abs(logits(half) - logits(exact)).max()
    assert 0 < difference < 0.05 * np.abs(logits(other) - logits(exact)).max()
    assert abs(values(half)["auc"] - values(exact)["auc"]) < 0.01


def test_seeds_balance_and_recipes_share_one_fill_and_depths_go_on_from_lower_ones(tmp_path):
    first = run(tmp_path, "unfreeze=2")
    entries = filled(tmp_path)
    assert len(entries) == 4  # three splits, and the weights of the top
    for other in ("seed=7", "balanced=true", "train.learning_rate=0.1", "train.weight_decay=0"):
        again = run(tmp_path, "unfreeze=2", other)
        assert filled(tmp_path) == entries
    assert features(first)["lineage"] == features(again)["lineage"]
    assert features(first)["lineage"]["train"] == [6]
    deeper = run(tmp_path, "unfreeze=1")
    assert features(deeper)["lineage"]["train"] == [6, 7]
    assert features(run(tmp_path, "unfreeze=0"))["lineage"]["train"] == [6, 7, 8]
    shallower = run(tmp_path, "unfreeze=5")
    assert features(shallower)["lineage"]["train"] == [3]
    # What was extended is what a fill from the images gives, up to the rounding in between.
    alone = run(tmp_path / "alone", "unfreeze=1")
    assert np.abs(logits(alone) - logits(deeper)).max() < 1e-3


@pytest.mark.parametrize(
    "other",
    [
        "size=64",
        "dataset.phantom_seed=1",
        "backbone.random.init_seed=1",
        "cache.dtype=fp32",
        "precision=bf16",
        "data.limit=7",
    ],
)
def test_what_changes_the_features_is_never_served_the_old_ones(tmp_path, other):
    run(tmp_path)
    entries = filled(tmp_path)
    run(tmp_path, other)
    new = filled(tmp_path) - entries
    assert len(new) == (4 if "backbone" in other else 3)


def test_pooled_features_are_all_that_a_linear_probe_keeps(tmp_path):
    run(tmp_path, "unfreeze=0")
    shapes = {
        e.manifest["title"]: (e.manifest["shape"], e.manifest["dtype"])
        for e in Store(tmp_path / "cache").entries()
        if "boundary" in e.manifest
    }
    assert shapes["phantom 28 px, train"] == ([16, 96], "float32")


def test_a_damaged_cache_costs_time_and_nothing_else(tmp_path, capsys):
    good = run(tmp_path, "name=good")
    for entry in Store(tmp_path / "cache").entries():
        rows = entry.path / "rows.bin"
        raw = bytearray(rows.read_bytes())
        raw[len(raw) // 2] ^= 255
        rows.write_bytes(raw)
    again = run(tmp_path, "name=again")
    assert np.array_equal(logits(good), logits(again))
    assert "was altered in rows" in (again / "run.log").read_text()


def test_where_there_is_no_frozen_trunk_the_cache_is_an_error_or_said_to_be_off(tmp_path):
    for setting in ("trunk_mode=train", "unfreeze=all"):
        with pytest.raises(
            UserError, match=rf"features: found cached with {setting}.*features=live"
        ):
            run(tmp_path, setting, "features=cached")
        path = run(tmp_path, setting)
        assert features(path)["mode"] == "live"
        assert f"features: live, because of {setting}" in (path / "run.log").read_text()
    assert filled(tmp_path) == set()


def test_what_does_not_fit_goes_live_and_says_so_or_is_an_error(tmp_path):
    path = run(tmp_path, "cache.limit_gb=0.000001")
    log = (path / "run.log").read_text()
    assert "features: live, because" in log
    assert "cache.limit_gb is 1e-06" in log
    assert filled(tmp_path) == set()
    with pytest.raises(UserError, match=r"do not fit.*cache\.limit_gb.*features=live"):
        run(tmp_path, "cache.limit_gb=0.000001", "features=cached", "seed=1")


def test_the_size_is_said_before_it_is_filled(tmp_path):
    log = (run(tmp_path, "data.limit=null", "train.max_steps=1") / "run.log").read_text()
    # 780 images of 50 tokens of 96 numbers in two bytes
    assert f"computing {780 * 50 * 96 * 2 / 1e9:.2f} GB (10 kB an image)" in log


def test_the_size_of_beit_large_is_what_the_readme_says():
    cfg = resolve("backbone.weights=random", "dataset=phantom")
    keys = trunk_features._Keys(cfg, data.load(cfg))
    loaded = data.load(cfg)
    total = sum(trunk_features._bytes(keys, split) for split in loaded.splits.values())
    assert round(total / 780 / 1e3) == 403
    assert round(total / 1e9, 1) == 0.3


def test_a_warm_run_needs_no_trunk(tmp_path, tiny_weights):
    # With the features there, the weights below the top are not read: only their digest counts.
    weights = ("backbone=beit_tiny", f"backbone.weights={tiny_weights}")
    cold = run(tmp_path, *weights, "name=cold")
    warm = run(tmp_path, *weights, "name=warm")
    assert "features: all 48 images are in" in (warm / "run.log").read_text()
    for name in ("predictions.csv", "top.safetensors", "history.csv"):
        assert (cold / name).read_bytes() == (warm / name).read_bytes(), name
    assert json.loads((cold / "model.json").read_text()) == json.loads(
        (warm / "model.json").read_text()
    )


def test_too_large_for_half_precision_is_an_error_and_not_an_infinity(tmp_path, tiny_weights):
    import shutil

    from safetensors.torch import load_file, save_file

    loud = Path(shutil.copytree(tiny_weights, tmp_path / "loud"))
    tensors = load_file(loud / "model.safetensors")
    name = next(n for n in tensors if n.endswith("patch_embeddings.projection.bias"))
    tensors[name] = tensors[name] + 1e6
    save_file(tensors, loud / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"cache\.dtype: found fp16.*cache\.dtype=fp32"):
        run(tmp_path, f"backbone.weights={loud}")
    run(tmp_path, f"backbone.weights={loud}", "cache.dtype=fp32")
    # Pooled features are kept in fp32 whatever cache.dtype says, so there is nothing to refuse.
    run(tmp_path / "probe", f"backbone.weights={loud}", "unfreeze=0")


def test_a_cache_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "occupied").write_text("")
    done = beitmed(*FAST, "cache.root=occupied/below", cwd=tmp_path)
    assert done.returncode == 2
    assert "occupied/below" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/[!.]*"))


def test_the_command_lists_and_prunes(tmp_path):
    run(tmp_path)
    root = f"cache.root={tmp_path}/cache"
    listed = beitmed(root, cwd=tmp_path, module="cache")
    assert listed.returncode == 0, listed.stderr
    for part in ("phantom 28 px, train", "beit_tiny, below layer 3", "16 x float16", "4 entries"):
        assert part in listed.stdout
    [old] = [e for e in Store(tmp_path / "cache").entries() if "val" in e.manifest["title"]]
    (old.path / "last_used").write_text("0")
    os.utime(old.path, (0, 0))
    pruned = beitmed(root, "prune=unused:30", cwd=tmp_path, module="cache")
    assert "removed 1 entries" in pruned.stdout
    assert "phantom 28 px, val" not in pruned.stdout
    wrong = beitmed(root, "prune=some", cwd=tmp_path, module="cache")
    assert wrong.returncode == 2
    assert "unused:DAYS" in wrong.stderr
    assert "0 entries" in beitmed(root, "prune=to:0", cwd=tmp_path, module="cache").stdout
    run(tmp_path, "seed=5")  # and is filled again
