"""Checkpoints: read as saved, and refused with a reason where they are not what they should be."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import beitmed, resolve
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import BeitForMaskedImageModeling, BeitModel, ViTConfig

from beitmed.backbones import weights
from beitmed.data.pixels import to_rgb
from beitmed.errors import UserError
from beitmed.storage import digests

NAMES = ("a", "b")


def backbone(folder: Path, *overrides: str):
    return resolve("backbone=beit_tiny", f"backbone.weights={folder}", *overrides).backbone


@pytest.fixture
def copy_of(tiny_weights: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_weights, tmp_path / "copy"))


def test_the_trunk_is_the_checkpoints_to_the_bit(tiny_weights):
    saved = dict(BeitForMaskedImageModeling.from_pretrained(tiny_weights).beit.named_parameters())
    model, _ = weights.load(backbone(tiny_weights), NAMES, seed=0)
    loaded = {n: p for n, p in model.beit.named_parameters() if not n.startswith("pooler.")}
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(p, saved[n]) for n, p in loaded.items())
    assert model.beit.shared_position_bias.relative_position_bias_table.abs().sum() > 0
    assert model.config.id2label == {0: "a", 1: "b"}


def test_the_seed_draws_the_classifier_and_nothing_else(tiny_weights):
    for given in (backbone(tiny_weights), resolve("backbone=beit_tiny").backbone):
        first, second, again = (weights.load(given, NAMES, seed)[0] for seed in (0, 1, 0))
        for (name, a), b, c in zip(
            first.named_parameters(), second.parameters(), again.parameters(), strict=True
        ):
            assert torch.equal(a, b) == (name != "classifier.weight"), name
            assert torch.equal(a, c), name


def test_loading_leaves_the_global_random_state_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    weights.load(resolve("backbone=beit_tiny").backbone, NAMES, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_old_pytorch_format_is_read_as_plain_tensors(copy_of):
    tensors = load_file(copy_of / "model.safetensors")
    torch.save(tensors, copy_of / "pytorch_model.bin")
    (copy_of / "model.safetensors").unlink()
    model, _ = weights.load(backbone(copy_of), NAMES, seed=0)
    assert torch.equal(model.beit.embeddings.cls_token, tensors["beit.embeddings.cls_token"])


class _RunsCode:
    def __reduce__(self):
        return (Path("executed").touch, ())


def test_code_in_a_weights_file_is_refused_and_not_run(copy_of, monkeypatch):
    monkeypatch.chdir(copy_of)
    (copy_of / "model.safetensors").unlink()
    (copy_of / "pytorch_model.bin").write_bytes(pickle.dumps({"w": _RunsCode()}))
    with pytest.raises(UserError, match="cannot be read"):
        weights.load(backbone(copy_of), NAMES, seed=0)
    assert not (copy_of / "executed").exists()


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _drop_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[next(name for name in tensors if "layer.3." in name or "layers.3." in name)]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _other_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["beit.embeddings.cls_token"] = torch.zeros(1, 1, 4)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _other_architecture(folder: Path) -> None:
    ViTConfig().save_pretrained(folder)


def _other_size(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text()) | {"hidden_size": 64}
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_truncate, ["cannot be read", "model.safetensors"]),
        (_drop_a_tensor, ["lacks 1 tensors", "incomplete"]),
        (_other_shape, ["another shape", "cls_token"]),
        (_other_architecture, ["'vit'", "allowed: beit"]),
        (_other_size, ["hidden_size=64", "beit_tiny", "96"]),
        (lambda f: (f / "preprocessor_config.json").unlink(), ["preprocessor_config.json"]),
        (lambda f: (f / "config.json").unlink(), ["config.json"]),
        (lambda f: (f / "config.json").write_text("{"), ["cannot be read"]),
        (lambda f: (f / "model.safetensors").unlink(), ["model.safetensors"]),
    ],
)
def test_damaged_or_foreign_weights_are_refused(copy_of, damage, said):
    damage(copy_of)
    with pytest.raises(UserError) as e:
        weights.load(backbone(copy_of), NAMES, seed=0)
    for part in ("backbone.weights", str(copy_of), *said):
        assert part in str(e.value)


def test_the_same_content_is_the_same_backbone_wherever_it_lies(copy_of, tiny_weights, tmp_path):
    root = str(tmp_path / "cache")
    here, there = (weights.complete(backbone(f), root) for f in (tiny_weights, copy_of))
    assert here.content == there.content
    (copy_of / "README.md").write_text("a file that nobody reads")
    assert weights.complete(backbone(copy_of)).content == here.content
    tensors = load_file(copy_of / "model.safetensors")
    tensors["beit.embeddings.cls_token"] += 1
    save_file(tensors, copy_of / "model.safetensors", metadata={"format": "pt"})
    assert weights.complete(backbone(copy_of), root).content != here.content
    with pytest.raises(UserError, match=r"backbone\.content: found .*expected .*content=null"):
        weights.load(there, NAMES, seed=0)
    assert weights.complete(resolve("backbone=beit_tiny").backbone).content is None


def test_large_files_are_read_once_and_again_when_they_change(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(bytes(2_000_000))
    first = digests.sha256(file, str(tmp_path / "cache"))
    memory = tmp_path / "cache" / ".digests.json"
    assert list(json.loads(memory.read_text()).values()) == [first]
    memory.write_text(memory.read_text().replace(first, "as remembered"))
    digests._seen.clear()  # as in another process
    assert digests.sha256(file, str(tmp_path / "cache")) == "as remembered"
    times = file.stat()
    with file.open("r+b") as f:
        f.write(b"1")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same size, inode and mtime
    assert digests.sha256(file, str(tmp_path / "cache")) not in (first, "as remembered")


def test_auto_takes_its_name_from_the_configuration_and_not_from_the_folder(copy_of):
    auto = resolve("backbone=auto", f"backbone.weights={copy_of}").backbone
    assert weights.complete(auto).name == "beit_96x8"
    values = json.loads((copy_of / "config.json").read_text())
    (copy_of / "config.json").write_text(json.dumps(values | {"_name_or_path": "owner/its-name"}))
    assert weights.complete(auto).name == "its-name"


@pytest.mark.parametrize("given", ["./nowhere", "/no/where", "nowhere", "a/b/c"])
def test_a_folder_that_is_not_there(given):
    with pytest.raises(UserError, match=r"backbone\.weights: found .*neither a folder"):
        weights.load(backbone(Path("x"), f"backbone.weights={given}"), NAMES, seed=0)


def test_a_hub_name_without_a_network_says_how_to_bring_the_files(tmp_path, medmnist_folder):
    done = beitmed(
        "dataset=breast", f"data.root={medmnist_folder}", "data.allow_unofficial=true",
        cwd=tmp_path, env={"HF_HUB_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for part in (
        "microsoft/beit-large-patch16-224-pt22k",
        "hf download",
        "backbone.weights=FOLDER",
    ):
        assert part in done.stderr
    assert not list(tmp_path.glob("outputs/[!.]*"))


def test_a_checkpoint_in_the_hubs_cache_is_found_without_a_network(
    tiny_weights, tmp_path, monkeypatch
):
    # The cache's own layout: snapshots/<commit>, and refs/main that names it.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--owner--tiny"
    shutil.copytree(tiny_weights, cache / "snapshots" / ("0" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    done = beitmed(
        "dataset=phantom", "backbone=beit_tiny", "backbone.weights=owner/tiny",
        cwd=tmp_path, module="prepare",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "there, complete" in done.stdout
    by_name, by_folder = (weights.complete(backbone(f)) for f in ("owner/tiny", tiny_weights))
    assert by_name.content == by_folder.content


def test_the_embedded_checkpoint_is_small_whole_and_transformers_own(tmp_path):
    cfg = resolve("backbone=beit_small").backbone
    folder = weights.locate(cfg)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 12_000_000
    assert {p.name for p in folder.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json"
    }  # fmt: skip
    model, processor = weights.load(cfg, NAMES, seed=0)
    theirs = BeitModel.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = processor(to_rgb(np.full((28, 28), 90, np.uint8)), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        found, expected = (m(pixels).last_hidden_state for m in (model.beit.eval(), theirs))
    assert torch.equal(found, expected)
    assert not cfg.random_weights and resolve("backbone=beit_small", "backbone.weights=random")
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in card and "test images were not read" in card
