"""The same run wherever its weights lie, and another one where they were replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from conftest import beitmed
from safetensors.torch import load_file, save_file

SHORT = ("dataset=phantom", "data.limit=6", "evaluate.n_resamples=100", "method=features_knn")


@pytest.fixture
def weights(tiny_weights: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_weights, tmp_path / "weights"))


def go(folder: Path, *overrides: str):
    return beitmed(*SHORT, "cache.root=cache", *overrides, cwd=folder)


def runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("outputs/[!.]*"))


def test_the_same_weights_at_another_path_are_the_same_run(weights, tmp_path):
    first = go(tmp_path, "backbone=beit_tiny", f"backbone.weights={weights}")
    assert first.returncode == 0, first.stderr
    moved = weights.rename(tmp_path / "elsewhere")
    for backbone in ("beit_tiny", "auto"):
        again = go(tmp_path, f"backbone={backbone}", f"backbone.weights={moved}")
        assert again.returncode == 0, again.stderr
        assert "finished before, nothing to do" in again.stdout, again.stdout
    assert len(runs(tmp_path)) == 1


def test_weights_that_were_written_over_others_are_named_and_refused(weights, tmp_path):
    given = ("backbone=beit_tiny", f"backbone.weights={weights}")
    assert go(tmp_path, *given).returncode == 0
    [run] = runs(tmp_path)
    before = (run / "metrics.json").read_bytes()
    tensors = load_file(weights / "model.safetensors")
    name = next(n for n, t in tensors.items() if t.dtype == torch.float32)
    save_file({**tensors, name: tensors[name] + 1}, weights / "model.safetensors")
    done = go(tmp_path, *given)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for part in (str(weights), "holds other weights than when", run.name, "backbone.content was"):
        assert part in done.stderr
    assert runs(tmp_path) == [run] and (run / "metrics.json").read_bytes() == before
    named = go(tmp_path, *given, "name=second")
    assert named.returncode == 0, named.stderr
    again = go(tmp_path, *given, f"name={run.name}")
    assert again.returncode == 2 and "backbone.content was" in again.stderr
