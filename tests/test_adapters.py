"""LoRA: starts as the model that it adapts, trains updates only, and merges into a plain model."""

from __future__ import annotations

import builtins
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import FAST, randomise, resolve
from test_families import LAYERS, SIDE, tiny

from beitmed import config, pipeline
from beitmed.backbones import adapters, freezing, weights
from beitmed.backbones.families import FAMILIES
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.errors import UserError

pytest.importorskip("peft")
PROJECTIONS, RANK = 4, 2


def settings(unfreeze: int, target: str = "attention"):
    return resolve("dataset=phantom", "backbone=beit_tiny", f"unfreeze={unfreeze}",
                   "adapter=lora", f"lora.rank={RANK}", f"lora.target={target}")  # fmt: skip


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "pixel_values": torch.randn(4, 3, SIDE, SIDE, generator=generator),
        "labels": torch.tensor([0, 1, 1, 0]),
    }


def logits(network, batch) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(batch["pixel_values"])["logits"]


@pytest.mark.parametrize("target", ["attention", "attention_and_mlp"])
@pytest.mark.parametrize("unfreeze", [1, 2, LAYERS])
@pytest.mark.parametrize("name", FAMILIES)
def test_an_adapted_network(name, unfreeze, target, batch, tmp_path):
    plain = FreezableBackbone(tiny(name), unfreeze)
    total, before = plain.count()[1], logits(plain, batch)
    network = adapters.build(settings(unfreeze, target), tiny(name))
    # It starts as the plain network, to the bit.
    assert torch.equal(logits(network, batch), before)
    # Trained: two matrices a linear map in the top layers, the last norm and the classifier.
    trained = dict(network.trained_parameters())
    updates = {n: p for n, p in trained.items() if ".lora_" in n}
    [layers] = [
        m for m in network.model.modules()
        if isinstance(m, torch.nn.ModuleList) and len(m) == LAYERS
    ]  # fmt: skip
    inside = {id(p) for layer in layers[LAYERS - unfreeze :] for p in layer.parameters()}
    assert {id(p) for p in updates.values()} <= inside
    if target == "attention":
        assert len(updates) == 2 * PROJECTIONS * unfreeze
        assert sum(p.numel() for p in updates.values()) == PROJECTIONS * unfreeze * 2 * RANK * 32
    else:
        assert len(updates) > 2 * PROJECTIONS * unfreeze
    head = sum(p.numel() for m in network.family.modules_above(network.model)
               for p in m.parameters())  # fmt: skip
    added = sum(p.numel() for p in updates.values())
    assert network.count() == (head + added, total + added)
    # A step changes these and nothing else.
    frozen = {n: p.clone() for n, p in network.model.named_parameters() if n not in trained}
    tokens = network.trunk(batch["pixel_values"])
    optimizer = torch.optim.AdamW(trained.values(), lr=0.1)
    for _ in range(2):  # A has no gradient before B has left zero
        optimizer.zero_grad()
        network.train()(**batch)["loss"].backward()
        optimizer.step()
    assert all(
        torch.equal(p, frozen[n]) for n, p in network.model.named_parameters() if n in frozen
    )
    assert torch.equal(tokens, network.trunk(batch["pixel_values"]))
    after = logits(network, batch)
    assert not torch.allclose(after, before, atol=1e-3)
    # What is saved brings it back, on the same base only.
    freezing.save_top(network, tmp_path / "top")
    again = adapters.build(settings(unfreeze, target), tiny(name))
    freezing.load_top(again, tmp_path / "top")
    assert torch.equal(logits(again, batch), after)
    foreign = tiny(name)
    randomise(foreign.get_submodule(FAMILIES[name].layers)[-1])
    with pytest.raises(UserError, match="trunk with SHA-256"):
        freezing.load_top(adapters.build(settings(unfreeze, target), foreign), tmp_path / "top")
    # Merged, it is a plain model of the same logits.
    adapters.merge(again)
    names = {n for n, _ in again.model.named_parameters()}
    assert names == {n for n, _ in plain.model.named_parameters()}
    torch.testing.assert_close(logits(again, batch), after, atol=1e-5, rtol=1e-5)


def test_a_snapshot_is_adapted_to_a_dataset_of_other_classes(tmp_path):
    (tmp_path / "top").write_bytes(FreezableBackbone(tiny("beit"), 1).top_snapshot())
    again, whole = FreezableBackbone.from_snapshot(tmp_path / "top", 1), tiny("beit")
    for model in (again.model, whole):
        weights.new_head(model, tuple("abcde"), seed=1)
    adapted = adapters.adapt(settings(1), again)
    assert adapted.count() == adapters.build(settings(1), whole).count()


def test_where_updates_start_from_depends_on_the_seed_alone():
    starts = []
    for state, overrides in ((0, []), (1, []), (0, ["seed=7"])):
        cfg = resolve("dataset=phantom", "backbone=beit_tiny", "unfreeze=1", "adapter=lora",
                      *overrides)  # fmt: skip
        found = tiny("beit")
        torch.manual_seed(state)
        network = adapters.build(cfg, found)
        assert torch.initial_seed() == state
        starts.append(next(p for n, p in network.trained_parameters() if ".lora_A" in n))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def rows(path: Path) -> np.ndarray:
    found = csv.DictReader((path / "predictions.csv").open())
    return np.array([[float(r["logit_0"]), float(r["logit_1"])] for r in found])


def test_a_run_shares_the_plain_trunks_features_and_exports_a_merged_model(tmp_path):
    from transformers import AutoModelForImageClassification

    common = (*FAST, f"output_dir={tmp_path}/outputs", f"cache.root={tmp_path}/cache",
              "cache.dtype=fp32")  # fmt: skip
    plain = pipeline.run(resolve(*common))
    lora = (*common, "adapter=lora", "train.learning_rate=0.01")
    cached = pipeline.run(resolve(*lora, "export=true"))
    assert "features: all 48 images are in" in (cached / "run.log").read_text()
    live = pipeline.run(resolve(*lora, "features=live"))
    np.testing.assert_allclose(rows(cached), rows(live), atol=1e-5)
    assert np.abs(rows(cached) - rows(plain)).max() > 1e-3
    facts = [json.loads((p / "model.json").read_text()) for p in (plain, cached, live)]
    assert facts[1]["trained_parameters"] == facts[2]["trained_parameters"]
    assert facts[1]["trained_parameters"] < facts[0]["trained_parameters"] / 5
    assert facts[1]["trunk_sha256"] == facts[2]["trunk_sha256"]
    whole = AutoModelForImageClassification.from_pretrained(cached / "huggingface")
    assert not [n for n, _ in whole.named_parameters() if "lora" in n]


@pytest.mark.parametrize("unfreeze", [0, "all"])
def test_depths_that_have_nothing_to_adapt_are_refused(unfreeze):
    with pytest.raises(UserError, match=rf"adapter: found lora with unfreeze={unfreeze}"):
        resolve("adapter=lora", f"unfreeze={unfreeze}")


def test_without_an_adapter_its_settings_decide_nothing():
    name = config.run_name(resolve("dataset=breast"))
    assert config.run_name(resolve("dataset=breast", "lora.rank=4")) == name
    adapted = config.run_name(resolve("dataset=breast", "adapter=lora"))
    assert adapted != name
    assert config.run_name(resolve("dataset=breast", "adapter=lora", "lora.rank=4")) != adapted


def test_without_peft_it_is_said_what_to_install(monkeypatch):
    found = builtins.__import__

    def no_peft(name, *args, **kwargs):
        if name == "peft":
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_peft)
    with pytest.raises(UserError, match=r"pip install '\.\[lora\]'"):
        adapters.build(settings(1), tiny("beit"))
