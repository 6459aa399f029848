"""Cached features: the same experiment as the live trunk, shared by all that may share them."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FAST, REAL_DATA, beitmed, resolve
from transformers import default_data_collator
from transformers.models.beit.modeling_beit import BeitLayer

from beitmed import config, data, pipeline
from beitmed.backbones import weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.data.pixels import PixelDataset
from beitmed.errors import UserError
from beitmed.storage.store import Store
from beitmed.trunk_cache import features, fill, keys
from beitmed.trunk_cache.rows import FeatureDataset, TrunkRows


def run(folder: Path, *overrides: str) -> Path:
    return pipeline.run(
        resolve(*FAST, f"output_dir={folder}/outputs", f"cache.root={folder}/cache", *overrides)
    )


def logits(path: Path) -> np.ndarray:
    rows = csv.DictReader((path / "predictions.csv").open())
    return np.array([[float(r["logit_0"]), float(r["logit_1"])] for r in rows])


def description(path: Path) -> dict:
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
    assert (description(cached)["mode"], description(live)["mode"]) == ("cached", "live")
    assert np.abs(logits(cached) - logits(live)).max() <= 1e-6
    assert values(cached) == pytest.approx(values(live), abs=1e-6)


@pytest.mark.real_data
def test_the_default_storage_changes_logits_by_less_than_the_seed_does(tmp_path):
    real = ("dataset=breast", f"data.root={REAL_DATA}", "data.allow_unofficial=true",
            "data.limit=40", "train.epochs=2")  # fmt: skip
    half, exact = run(tmp_path, *real), run(tmp_path, *real, "cache.dtype=fp32")
    other = run(tmp_path, *real, "cache.dtype=fp32", "seed=1")
    assert description(half)["dtype"] == "float16"
    difference = np.abs(logits(half) - logits(exact)).max()
    assert 0 < difference < 0.05 * np.abs(logits(other) - logits(exact)).max()
    assert abs(values(half)["auc"] - values(exact)["auc"]) < 0.01


def prepare(folder: Path, *overrides: str) -> features.Features:
    """The features of a run, which is not trained."""
    cfg = resolve(*FAST, f"cache.root={folder}/cache", *overrides)
    found = features.prepare(cfg, data.load(cfg))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "other",
    ["seed=7", "balanced=true", "train.learning_rate=0.1", "train.weight_decay=0",
     "cache.depths=[1,2]", "cache.limit_gb=7"],
)  # fmt: skip
def test_seeds_balance_and_recipes_share_one_fill(tmp_path_factory, other):
    folder = tmp_path_factory.getbasetemp() / "shared"
    prepare(folder, "unfreeze=2")
    entries = filled(folder)
    assert len(entries) == 4  # three splits, and the weights of the top
    prepare(folder, "unfreeze=2", other)
    assert filled(folder) == entries


def stored(folder: Path) -> dict[tuple[str, int], bytes]:
    """The rows that are in the cache, by split and boundary."""
    entries = (e for e in Store(folder / "cache").entries() if "boundary" in e.manifest)
    return {
        (e.manifest["title"], e.manifest["boundary"]): (e.path / "rows.bin").read_bytes()
        for e in entries
    }


@contextlib.contextmanager
def counted_layers():
    """Counts the images that pass through a layer of BEiT in eval mode, that is in the trunk."""
    passed = []

    def count(module, arguments, _):
        if isinstance(module, BeitLayer) and not module.training:
            passed.append(len(arguments[0]))

    handle = torch.nn.modules.module.register_module_forward_hook(count)
    yield passed
    handle.remove()


@pytest.mark.parametrize("settings", [(), ("cache.dtype=fp32",), ("precision=bf16",)])
def test_one_pass_stores_every_depth_to_the_bit_as_a_pass_of_its_own(tmp_path, settings):
    depths = (0, 1, 2, 5)
    prepare(tmp_path, "unfreeze=2", f"cache.depths=[{','.join(map(str, depths))}]", *settings)
    together = stored(tmp_path)
    assert {boundary for _, boundary in together} == {8 - depth for depth in depths}
    apart: dict = {}
    for depth in depths:
        prepare(tmp_path / str(depth), f"unfreeze={depth}", *settings)
        apart |= stored(tmp_path / str(depth))
    assert together == apart


@pytest.mark.parametrize("order", [(0, 1, 2, 5), (5, 1, 0, 2)])
def test_whatever_the_order_of_depths_each_image_passes_the_trunk_once(tmp_path, order):
    cfg = resolve(*FAST, f"cache.root={tmp_path}/cache", "cache.depths=[0,1,2,5]")
    loaded = data.load(cfg)
    with counted_layers() as passed:
        for depth in order:
            found = features.prepare(cfg.model_copy(update={"unfreeze": depth}), loaded)
            assert found is not None
    images = sum(len(split.labels) for split in loaded.splits.values())
    assert sum(passed) == 8 * images  # as many layers as the tiny BEiT has


def test_the_freeze_depth_experiment_shares_one_pass_and_a_depth_too_many_is_left_out(tmp_path):
    cfg = resolve("experiment=freeze_depth")
    assert cfg.cache.depths == [0, 1, 2, 5]
    assert config.identity(cfg) == config.identity(resolve())  # a matter of speed
    prepare(tmp_path, "cache.depths=[5,99]")  # 99 is refused where it is the run's own
    assert {boundary for _, boundary in stored(tmp_path)} == {3}


@pytest.mark.parametrize("pruned", [pytest.param("all", marks=pytest.mark.slow), "own"])
def test_a_result_does_not_depend_on_what_the_cache_holds(tmp_path, pruned):
    alone = run(tmp_path / "alone", "unfreeze=1")
    run(tmp_path, "unfreeze=5")  # a shallower boundary of the same images
    beside = run(tmp_path, "unfreeze=1", "name=beside")
    for file in ("predictions.csv", "top.safetensors"):
        assert (alone / file).read_bytes() == (beside / file).read_bytes()
    store = Store(tmp_path / "cache")
    for entry in store.entries():  # the run is then killed before its end, and goes on
        if pruned == "all" or entry.manifest.get("boundary") == 7:
            assert store.remove(entry.path)
    for file in ("metrics.json", "predictions.csv", "top.safetensors"):
        (beside / file).unlink()
    again = run(tmp_path, "unfreeze=1", "name=beside")
    assert (alone / "predictions.csv").read_bytes() == (again / "predictions.csv").read_bytes()


def test_a_network_that_stays_on_a_gpu_gives_the_next_run_what_its_own_would(tmp_path, monkeypatch):
    asked = ("data.limit=8", "unfreeze=2")
    prepare(tmp_path / "alone", *asked, "size=64")
    monkeypatch.setattr(fill, "_KEPT_ON", ("cpu",))
    monkeypatch.setattr(fill, "_kept", {})
    first = prepare(tmp_path / "kept", *asked)
    [(kept, _)] = fill._kept.values()
    optimizer = torch.optim.SGD((p for _, p in first.network.trained_parameters()), lr=1.0)
    first.network(features=torch.from_numpy(first.rows["test"][:4]))["logits"].sum().backward()
    optimizer.step()  # a run trains its own copy
    prepare(tmp_path / "kept", *asked, "size=64")
    assert [network for network, _ in fill._kept.values()] == [kept]
    alone = stored(tmp_path / "alone")
    assert alone.items() <= stored(tmp_path / "kept").items()
    prepare(tmp_path / "kept", *asked, "backbone.random.init_seed=3")
    assert kept not in [network for network, _ in fill._kept.values()]  # another's are not used


@pytest.mark.parametrize("unfreeze", [0, 2])
def test_rows_that_a_device_holds_are_those_on_disk(tmp_path, unfreeze):
    loaded = prepare(tmp_path, "data.limit=8", f"unfreeze={unfreeze}")
    rows = loaded.rows["train"]
    for labels in (np.arange(len(rows)) % 2, np.eye(len(rows), 3, dtype=np.int64)):
        read, held = (FeatureDataset(rows, labels, np.array([5, 0, 5])) for _ in range(2))
        held.hold(torch.device("cpu"))
        assert held.held and not read.held
        pairs = zip(*(default_data_collator(list(d)).items() for d in (read, held)), strict=True)
        for expected, found in pairs:
            assert found[0] == expected[0] and found[1].dtype == expected[1].dtype
            assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("unfreeze", [0, 2])
def test_new_images_get_the_rows_that_the_cache_stores(tmp_path, unfreeze):
    cfg = resolve(*FAST, f"cache.root={tmp_path}/cache", f"unfreeze={unfreeze}", "data.limit=20")
    loaded = data.load(cfg)
    cached = features.prepare(cfg, loaded)
    model, processor = weights.load(cfg.backbone, loaded.class_names, cfg.seed)
    network = FreezableBackbone(model, unfreeze).eval()
    images = PixelDataset(loaded.test.images, loaded.test.labels, processor)
    fresh = TrunkRows(cfg, network, images)
    assert (fresh.shape, fresh.dtype) == (cached.rows["test"].shape, cached.rows["test"].dtype)
    assert np.array_equal(fresh[:], cached.rows["test"][:])
    for chosen in (39, 0, 33):  # whatever the order
        assert np.array_equal(fresh[chosen], cached.rows["test"][chosen])


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
def test_what_changes_the_features_is_never_served_the_old_ones(other):
    names = []
    for overrides in ((), (other,)):
        cfg = resolve(*FAST, *overrides)
        of_run = keys.Keys(cfg, data.load(cfg))
        names.append([*(of_run.target(split).key for split in of_run.images), of_run.top()])
    same = set(names[0]) & set(names[1])
    assert len({*names[0], *names[1]}) == 8 - len(same)
    # The weights above the trunk are the same whatever the images and the precision.
    assert same == (set() if "backbone" in other else {names[0][-1]})


def test_pooled_features_are_all_that_a_linear_probe_keeps(tmp_path):
    prepare(tmp_path, "unfreeze=0")
    shapes = {
        e.manifest["title"]: (e.manifest["shape"], e.manifest["dtype"])
        for e in Store(tmp_path / "cache").entries()
        if "boundary" in e.manifest
    }
    assert shapes["phantom 28 px, train"] == ([16, 96], "float32")


def test_a_damaged_cache_costs_time_and_nothing_else(tmp_path):
    good = prepare(tmp_path).rows["test"][:]
    for entry in Store(tmp_path / "cache").entries():
        rows = entry.path / "rows.bin"
        raw = bytearray(rows.read_bytes())
        raw[len(raw) // 2] ^= 255
        rows.write_bytes(raw)
    again = prepare(tmp_path).rows["test"][:]
    assert np.array_equal(good, again)


def test_where_there_is_no_frozen_trunk_the_cache_is_an_error_or_said_to_be_off(tmp_path):
    for setting in ("trunk_mode=train", "unfreeze=all"):
        with pytest.raises(
            UserError, match=rf"features: found cached with {setting}.*features=live"
        ):
            run(tmp_path, setting, "features=cached")
        path = run(tmp_path, setting)
        assert description(path)["mode"] == "live"
        assert f"features: live, because of {setting}" in (path / "run.log").read_text()
    assert filled(tmp_path) == set()


def test_what_does_not_fit_is_refused_with_the_ways_out(tmp_path):
    for mode in ("auto", "cached"):
        with pytest.raises(UserError, match=r"does not fit.*cache\.limit_gb") as e:
            run(tmp_path, "cache.limit_gb=0.000001", f"features={mode}")
        for way in ("cache.root=", "beitmed cache prune", "features=live"):
            assert way in str(e.value)
    assert filled(tmp_path) == set()
    run(tmp_path, "cache.limit_gb=0.000001", "features=live")


def test_other_depths_are_left_out_where_there_is_room_for_the_runs_own_only(tmp_path):
    path = run(tmp_path, "unfreeze=2", "cache.depths=[1,2]", "cache.limit_gb=0.0006")
    assert {boundary for _, boundary in stored(tmp_path)} == {6}
    assert "of unfreeze=2 only" in (path / "run.log").read_text()


def test_the_size_is_said_before_it_is_filled(tmp_path):
    log = (run(tmp_path, "data.limit=null", "train.max_steps=1") / "run.log").read_text()
    # 780 images of 50 tokens of 96 numbers in two bytes
    assert f"computing {780 * 50 * 96 * 2 / 1e9:.2f} GB (10 kB an image)" in log


def test_the_size_of_beit_large_is_what_the_readme_says():
    cfg = resolve("backbone.weights=random", "dataset=phantom")
    loaded = data.load(cfg)
    names = keys.Keys(cfg, loaded)
    targets = [names.target(split) for split in loaded.splits]
    total = sum(t.shape[0] * t.row_bytes for t in targets)
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
        prepare(tmp_path, f"backbone.weights={loud}")
    prepare(tmp_path, f"backbone.weights={loud}", "cache.dtype=fp32")
    # Pooled features are kept in fp32 whatever cache.dtype says, so there is nothing to refuse.
    prepare(tmp_path / "probe", f"backbone.weights={loud}", "unfreeze=0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("method", ["backbone", "features_knn"])
def test_fp16_without_a_gpu_is_refused_before_anything_is_computed(tmp_path, method):
    with pytest.raises(UserError, match=r"precision: found fp16, which needs a GPU"):
        run(tmp_path, "precision=fp16", f"method={method}")
    assert not list(tmp_path.iterdir())


def test_all_files_of_a_run_have_the_mode_that_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        path = run(tmp_path, "export=true")
    finally:
        os.umask(before)
    files = [p for p in path.rglob("*") if p.is_file()]
    assert {"top.safetensors", "model.safetensors"} <= {p.name for p in files}
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in files} == {
        p.name: "0o640" for p in files
    }


def test_a_cache_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "occupied").write_text("")
    done = beitmed(*FAST, "cache.root=occupied/below", cwd=tmp_path)
    assert done.returncode == 2
    assert "occupied/below" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/[!.]*"))


def test_the_command_lists_and_prunes(tmp_path):
    prepare(tmp_path)
    root = f"cache.root={tmp_path}/cache"
    listed = beitmed(root, cwd=tmp_path, module="cache")
    assert listed.returncode == 0, listed.stderr
    for part in ("phantom 28 px, train", "beit_tiny, below layer 3", "16 x float16", "4 entries"):
        assert part in listed.stdout
    [old] = [e for e in Store(tmp_path / "cache").entries() if "val" in e.manifest["title"]]
    os.utime(old.path / "last_used", (0, 0))
    pruned = beitmed(root, "prune=unused:30", cwd=tmp_path, module="cache")
    assert "removed 1 entries" in pruned.stdout
    assert "phantom 28 px, val" not in pruned.stdout
    wrong = beitmed(root, "prune=some", cwd=tmp_path, module="cache")
    assert wrong.returncode == 2
    assert "unused:DAYS" in wrong.stderr
    assert "0 entries" in beitmed(root, "prune=to:0", cwd=tmp_path, module="cache").stdout
    prepare(tmp_path, "seed=5")  # and is filled again
