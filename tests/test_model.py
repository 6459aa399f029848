"""The frozen trunk: what is trained at every depth, and that the trunk stays what it was."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import randomise, resolve
from transformers import BeitConfig, BeitForImageClassification

from beitmed.backbones import beit_training, freezing, weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.errors import UserError

LAYERS = 4
DEPTHS = [0, 1, 2, LAYERS, "all"]
# Flags of the two kinds of BEiT checkpoints: pt22k (shared bias) and ft22k (a bias a layer).
FLAGS = {
    "shared": {"use_shared_relative_position_bias": True, "use_mask_token": True},
    "per_layer": {"use_relative_position_bias": True},
    "absolute_cls": {"use_absolute_position_embeddings": True, "use_mean_pooling": False},
}


def tiny(flags: str = "shared") -> BeitForImageClassification:
    torch.manual_seed(0)
    beit = BeitForImageClassification(
        BeitConfig(
            hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=32,
            image_size=48, patch_size=16, drop_path_rate=0.3, num_labels=2, **FLAGS[flags],
        )
    )  # fmt: skip
    randomise(beit)
    return beit


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "pixel_values": torch.randn(6, 3, 48, 48, generator=generator),
        "labels": torch.tensor([0, 1, 1, 0, 1, 1]),
    }


def saved(network, folder):
    freezing.save_top(network, folder / "saved.safetensors")
    return (folder / "saved.safetensors").read_bytes()


def test_beit_large_with_the_papers_five_layers_trains_exactly_its_63_million():
    geometry = resolve("backbone=beit_large").backbone.geometry.model_dump()
    with torch.device("meta"):  # shapes without values: parameters can be counted in a second
        beit = BeitForImageClassification(
            BeitConfig(**geometry, use_shared_relative_position_bias=True, use_mask_token=True)
        )
    assert FreezableBackbone(beit, 5).count() == (62_990_338, 303_139_266)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("unfreeze", DEPTHS)
def test_the_trained_set_at_every_depth(flags, unfreeze):
    network = FreezableBackbone(tiny(flags), unfreeze)
    trained = {name for name, _ in network.trained_parameters()}
    tops = range(LAYERS) if unfreeze == "all" else range(LAYERS - unfreeze, LAYERS)
    expected = {
        name
        for name, _ in network.model.named_parameters()
        if name.startswith(("classifier.", "beit.pooler.", "beit.layernorm."))
        or any(name.startswith(f"beit.layers.{i}.") for i in tops)
        or (unfreeze == "all" and not name.endswith("mask_token"))
    }
    assert trained == expected
    sizes = dict(network.model.named_parameters())
    assert network.count()[0] == sum(sizes[name].numel() for name in expected)


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("unfreeze", DEPTHS)
def test_trunk_and_top_are_the_whole_model(flags, unfreeze, batch):
    network = FreezableBackbone(tiny(flags), unfreeze).eval()
    with torch.no_grad():
        whole = network.model(**batch)
        out = network(**batch)
    assert torch.equal(out["logits"], whole.logits)
    assert torch.equal(out["loss"], whole.loss)


def test_without_the_shared_bias_the_outputs_would_differ(batch):
    # Guards the test above: a bias that is zero could be forgotten unseen.
    network = FreezableBackbone(tiny(), 2).eval()
    beit = tiny()
    with torch.no_grad():
        beit.beit.shared_position_bias.relative_position_bias_table.zero_()
        without = FreezableBackbone(beit, 2).eval()
        assert not torch.equal(network(**batch)["logits"], without(**batch)["logits"])


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("unfreeze", [0, 1, 2, LAYERS])
def test_from_features_without_its_trunk_it_is_the_same_network(flags, unfreeze, batch, tmp_path):
    network = FreezableBackbone(tiny(flags), unfreeze).eval()
    with torch.no_grad():
        whole = network(**batch)
        features = network.trunk(batch["pixel_values"])
        assert torch.equal(
            network.below(batch["pixel_values"], [network.first_trained])[0], features
        )
    assert features.dim() == (2 if unfreeze == 0 else 3)
    facts = network.count(), network.trunk_fingerprint(), saved(network, tmp_path)
    (tmp_path / "top").write_bytes(network.top_snapshot())
    network.release_trunk()
    again = FreezableBackbone.from_snapshot(tmp_path / "top", unfreeze).eval()
    for other in (network, again):
        with torch.no_grad():
            out = other(features=features, labels=batch["labels"])
        assert torch.equal(out["logits"], whole["logits"])
        assert torch.equal(out["loss"], whole["loss"])
        assert (other.count(), other.trunk_fingerprint(), saved(other, tmp_path)) == facts
        trained = {name for name, _ in other.trained_parameters()}
        assert {name for name, _ in other.model.named_parameters()} == trained  # nothing else left


def test_a_snapshot_has_the_same_bytes_each_time():
    network = FreezableBackbone(tiny(), 1)
    assert len({network.top_snapshot() for _ in range(10)}) == 1


@pytest.mark.parametrize("unfreeze", [0, 2])
def test_a_snapshot_serves_a_dataset_of_other_classes(unfreeze, tmp_path):
    (tmp_path / "top").write_bytes(FreezableBackbone(tiny(), unfreeze).top_snapshot())
    again, whole = FreezableBackbone.from_snapshot(tmp_path / "top", unfreeze), tiny()
    for model in (again.model, whole):
        weights.new_head(model, tuple("abcde"), seed=1)
    expected = FreezableBackbone(whole, unfreeze)
    assert again.count() == expected.count()
    assert again.trunk_fingerprint() == expected.trunk_fingerprint()


@pytest.mark.parametrize("unfreeze", [0, 1, 2, LAYERS])
def test_a_step_changes_the_top_and_nothing_of_the_trunk(unfreeze, batch):
    network = FreezableBackbone(tiny(), unfreeze).train()
    before = copy.deepcopy(dict(network.model.named_parameters()))
    tokens = network.trunk(batch["pixel_values"])
    optimizer = torch.optim.AdamW((p for _, p in network.trained_parameters()), lr=0.1)
    network(**batch)["loss"].backward()
    optimizer.step()
    trained = {name for name, _ in network.trained_parameters()}
    for name, parameter in network.model.named_parameters():
        assert torch.equal(before[name], parameter) == (name not in trained), name
    assert torch.equal(tokens, network.trunk(batch["pixel_values"]))


def test_a_frozen_layer_is_deterministic_while_the_top_has_drop_path(batch):
    network = FreezableBackbone(tiny(), 2).train()
    x = batch["pixel_values"]
    assert torch.equal(network.trunk(x), network.trunk(x))
    assert not torch.equal(network(x)["logits"], network(x)["logits"])
    assert [layer.training for layer in network.model.beit.layers] == [False, False, True, True]


@pytest.mark.parametrize("gathered_on", [("cpu",), ()], ids=["cpu", "gpu"])
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("images", [1, 2, 6])
def test_what_training_leaves_out_changes_neither_values_nor_gradients(
    flags, images, gathered_on, batch, monkeypatch
):
    monkeypatch.setattr(beit_training, "_GATHERED_ON", gathered_on)
    # For the same random numbers: the values and gradients of transformers' own layers.
    batch = {name: values[:images] for name, values in batch.items()}
    found = []
    for first in range(12):  # with one image, seeds that drop all of a branch are among them
        ours, theirs = (FreezableBackbone(tiny(flags), LAYERS).train() for _ in range(2))
        torch.manual_seed(first)
        loss = ours(**batch)["loss"]
        loss.backward()
        torch.manual_seed(first)
        plain = theirs.model(**batch).loss
        plain.backward()
        torch.testing.assert_close(loss, plain, atol=1e-6, rtol=1e-6)
        found.append(loss.item())
        for (name, p), (_, q) in zip(
            ours.trained_parameters(), theirs.trained_parameters(), strict=True
        ):
            assert (p.grad is None) == (q.grad is None), name
            torch.testing.assert_close(p.grad, q.grad, atol=1e-6, rtol=1e-4, msg=name)
    assert len(set(found)) > 1


def test_trunk_mode_train_is_the_papers_random_trunk(batch):
    network = FreezableBackbone(tiny(), 0, trunk_mode="train").train()
    x = batch["pixel_values"]
    assert not torch.equal(network(x)["logits"], network(x)["logits"])
    assert all(layer.training for layer in network.model.beit.layers)
    network.eval()
    assert torch.equal(network(x)["logits"], network(x)["logits"])


def test_checkpoints_hold_the_trained_parameters_only():
    network = FreezableBackbone(tiny(), 1)
    expected = {f"model.{name}" for name, _ in network.trained_parameters()}
    assert set(network.state_dict()) == expected
    assert len(expected) < len(list(network.parameters()))


def test_a_saved_top_comes_back_on_the_same_trunk_only(tmp_path, batch):
    network = FreezableBackbone(tiny(), 1).eval()
    randomise(network.model.classifier)
    freezing.save_top(network, tmp_path / "top.safetensors")
    other = FreezableBackbone(tiny(), 1).eval()
    assert not torch.equal(network(**batch)["logits"], other(**batch)["logits"])
    freezing.load_top(other, tmp_path / "top.safetensors")
    assert torch.equal(network(**batch)["logits"], other(**batch)["logits"])

    with pytest.raises(UserError, match="unfreeze"):
        freezing.load_top(FreezableBackbone(tiny(), 2), tmp_path / "top.safetensors")
    foreign = FreezableBackbone(tiny(), 1)
    with torch.no_grad():
        foreign.model.beit.layers[0].mlp.fc1.bias[0] += 1e-3
    with pytest.raises(UserError, match="trunk with SHA-256"):
        freezing.load_top(foreign, tmp_path / "top.safetensors")
