"""Sweeps: every variant the same as alone, failures contained, finished runs skipped."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import FAST, beitmed


def runs(folder: Path) -> dict[str, Path]:
    return {p.name.rpartition("_")[0]: p for p in folder.glob("outputs/[!.]*")}


def results(run: Path) -> dict[str, bytes]:
    names = ("predictions.csv", "history.csv", "top.safetensors", "metrics.json")
    return {name: (run / name).read_bytes() for name in names}


def test_b_alone_is_b_after_a_and_a_failing_variant_spares_the_others(tmp_path):
    grid = ["-m", *FAST, "seed=1,2", "unfreeze=99,1"]
    swept = beitmed(*grid, cwd=tmp_path)
    assert swept.returncode == 1
    assert "2 of the sweep's runs failed" in swept.stdout
    [_, closing] = swept.stdout.split("2 of the sweep's runs failed")
    assert closing.count("unfreeze: found 99, but beit_tiny has 8 layers; allowed: 0 to 8") == 2
    assert "Traceback" not in swept.stderr + swept.stdout
    assert set(runs(tmp_path)) == {f"phantom_28_full_beit_tiny_top1_seed{s}" for s in (1, 2)}

    alone = tmp_path / "alone"
    alone.mkdir()
    assert beitmed(*FAST, "seed=2", "unfreeze=1", cwd=alone).returncode == 0
    name = "phantom_28_full_beit_tiny_top1_seed2"
    assert results(runs(alone)[name]) == results(runs(tmp_path)[name])
    assert results(runs(alone)[name]) != results(runs(tmp_path)[name.replace("seed2", "seed1")])

    again = beitmed(*[a.replace("99,1", "1") for a in grid], cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.count("finished before") == 2


@pytest.mark.slow
def test_a_warm_run_leaves_nothing_behind_for_a_cold_one_in_the_same_process(tmp_path):
    # Once, building a top without its trunk left an index without values in a cache of
    # transformers, and every network built later in the process had a random position bias.
    cache = f"cache.root={tmp_path}/cache"
    assert beitmed(*FAST, cache, cwd=tmp_path).returncode == 0
    swept = beitmed("-m", *FAST, cache, "seed=2", "cache.dtype=fp16,fp32", cwd=tmp_path)
    assert swept.returncode == 0, swept.stdout
    assert swept.stdout.count("features: all") == swept.stdout.count("features: computing") == 1
    alone = tmp_path / "alone"
    alone.mkdir()
    exact = [*FAST, f"cache.root={alone}/cache", "seed=2", "cache.dtype=fp32"]
    assert beitmed(*exact, cwd=alone).returncode == 0
    [path] = alone.glob("outputs/*/predictions.csv")
    assert results(path.parent) == results(tmp_path / "outputs" / path.parent.name)


def test_a_key_that_no_run_of_a_sweep_reads_is_refused_before_any_begins(tmp_path):
    done = beitmed("-m", "method=resnet18", "train.epochs=3", "seed=1,2", cwd=tmp_path)
    assert done.returncode == 2
    assert "train.epochs=3: found with method=resnet18, which does not read it" in done.stderr
    assert not list(tmp_path.glob("outputs/[!.]*"))


def test_an_experiment_that_is_a_sweep_is_checked_as_one(tmp_path):
    done = beitmed("experiment=freeze_depth", "method=majority", "train.epochs=3", cwd=tmp_path)
    assert done.returncode == 2 and "train.epochs=3" in done.stderr
