"""Attention maps: the layer's own probabilities, rollout as published, the rows that are read."""

from __future__ import annotations

import pytest
import torch
from conftest import randomise
from transformers import BeitConfig, BeitForImageClassification

from beitmed.backbones import freezing
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.explain import attention

LAYERS, HEADS, SIDE = 4, 2, 3
# The kinds of BEiT checkpoints: pt22k (shared bias), ft22k (a bias a layer), and pooled by CLS.
FLAGS = {
    "shared": {"use_shared_relative_position_bias": True, "use_mask_token": True},
    "per_layer": {"use_relative_position_bias": True},
    "per_layer_cls": {"use_relative_position_bias": True, "use_mean_pooling": False},
    "absolute_cls": {"use_absolute_position_embeddings": True, "use_mean_pooling": False},
}


def network(flags: str = "shared", unfreeze: int | str = 2) -> FreezableBackbone:
    torch.manual_seed(0)
    beit = BeitForImageClassification(
        BeitConfig(
            hidden_size=16, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=32, image_size=16 * SIDE, patch_size=16, drop_path_rate=0.3,
            num_labels=2, **FLAGS[flags],
        )
    )  # fmt: skip
    for _ in range(8):  # far from uniform, so that a wrong map is far from the right one
        randomise(beit)
    return FreezableBackbone(beit, unfreeze)


@pytest.fixture
def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, 3, 16 * SIDE, 16 * SIDE, generator=generator)


def bias_by_hand(table: torch.Tensor) -> torch.Tensor:
    """Relative position bias [heads, t, t] as BEiT defines it, from its table, pair by pair."""
    t, wide = 1 + SIDE * SIDE, 2 * SIDE - 1
    out = torch.empty(HEADS, t, t)
    for row in range(t):
        for column in range(t):
            if row == column == 0:
                entry = -1
            elif row == 0:
                entry = -3
            elif column == 0:
                entry = -2
            else:
                (y, x), (v, u) = divmod(row - 1, SIDE), divmod(column - 1, SIDE)
                entry = (y - v + SIDE - 1) * wide + (x - u + SIDE - 1)
            out[:, row, column] = table[entry]
    return out


def passes(net: FreezableBackbone, pixels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What each layer's attention reads and gives with the fast attention of training."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    hooks = [
        layer.attention.register_forward_hook(
            lambda module, args, out: seen.append((args[0], out[0]))
        )
        for layer in net.model.beit.layers
    ]
    assert net.model.config._attn_implementation == "sdpa"
    with torch.no_grad():
        net.eval()(pixel_values=pixels)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("unfreeze", [0, 2, "all"])
@pytest.mark.parametrize("flags", FLAGS)
def test_maps_are_those_of_the_layers_own_weights_and_make_its_output(flags, unfreeze, pixels):
    net = network(flags, unfreeze)
    base = net.model.beit
    d = 16 // HEADS
    for number, (tokens, output) in enumerate(passes(net, pixels), start=1):
        layer = base.layers[number - 1]
        maps = attention.attention_maps(net, pixels, number)
        assert maps.shape == (5, HEADS, 1 + SIDE * SIDE, 1 + SIDE * SIDE)
        assert torch.allclose(maps.sum(-1), torch.ones(()), atol=1e-5)
        q, k, v = (
            (tokens @ p.weight.T + (0 if p.bias is None else p.bias)).unflatten(-1, (HEADS, d))
            for p in (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj)
        )
        scores = torch.einsum("nrhd,nchd->nhrc", q, k) / d**0.5
        position = base.shared_position_bias or layer.relative_position_bias
        assert (position is None) == (flags == "absolute_cls")
        if position is not None:
            bias = bias_by_hand(position.relative_position_bias_table.detach())
            without = scores.exp() / scores.exp().sum(-1, keepdim=True)
            assert not torch.allclose(maps, without, atol=1e-2)  # a forgotten bias would be seen
            scores = scores + bias
        expected = scores.exp() / scores.exp().sum(-1, keepdim=True)
        assert torch.allclose(maps, expected, atol=1e-5), number
        # The probabilities times the values are what the layer computes when it trains.
        out = layer.attention.o_proj(torch.einsum("nhrc,nchd->nrhd", maps, v).flatten(2))
        assert torch.allclose(out, output, atol=1e-5), number


@pytest.mark.parametrize("flags", FLAGS)
def test_maps_are_those_that_transformers_returns(flags, pixels):
    net = network(flags)
    net.eval().model.set_attn_implementation("eager")
    with torch.no_grad():
        reference = net.model(pixel_values=pixels, output_attentions=True).attentions
    net.model.set_attn_implementation("sdpa")
    for number, expected in enumerate(reference, start=1):
        found = attention.attention_maps(net, pixels, number)
        assert torch.allclose(found, expected, atol=1e-6)


def test_the_network_is_left_as_it_was(pixels):
    net = network().train()
    expected = network().eval()(pixel_values=pixels)["logits"]
    reading = attention.read(net, pixels, LAYERS)
    assert torch.allclose(reading.logits, expected, atol=1e-5)
    assert net.training and net.model.beit.layers[-1].training
    assert not net.model.beit.layers[0].training  # the trunk stays frozen
    assert net.model.config._attn_implementation == "sdpa"
    assert not any(layer.attention._forward_hooks for layer in net.model.beit.layers)
    again = attention.read(net, pixels, LAYERS)  # and nothing is random, though it was in training
    assert torch.equal(reading.heads, again.heads)


def test_an_error_on_the_way_leaves_nothing_behind(pixels):
    net = network()
    with pytest.raises(ValueError, match="channel"):
        attention.read(net, pixels[:, :2], LAYERS)
    assert net.model.config._attn_implementation == "sdpa"
    assert not any(layer.attention._forward_hooks for layer in net.model.beit.layers)


def test_rollout_of_a_case_computed_by_hand():
    first = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]])
    second = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    # (W + I) / 2: [[.75, .25], [0, 1]] and [[1, 0], [.25, .75]]; the second times the first.
    expected = torch.tensor([[[0.75, 0.25], [0.1875, 0.8125]]], dtype=torch.float64)
    assert torch.allclose(attention.rollout([first, second]), expected, atol=1e-12)
    # The order matters: the other way round the last row is another.
    assert not torch.allclose(attention.rollout([second, first]), expected, atol=1e-2)
    identity = torch.eye(3).expand(2, 3, 3)
    assert torch.equal(attention.rollout([identity] * 5), identity.double())


def test_rollout_without_layers_is_refused():
    with pytest.raises(ValueError, match="no layers"):
        attention.rollout([])


@pytest.mark.parametrize("flags", FLAGS)
def test_a_reading_is_the_rows_of_the_maps_and_their_rollout(flags, pixels):
    net = network(flags)
    maps = [attention.attention_maps(net, pixels, k) for k in range(1, LAYERS + 1)]
    rolled = attention.rollout(m.mean(1) for m in maps)
    for rows, of in (
        ("cls", lambda a: a[..., 0, :]),
        ("patches", lambda a: a[..., 1:, :].mean(-2)),
    ):
        reading = attention.read(net, pixels, 3, rows)
        assert torch.allclose(reading.heads, of(maps[2]), atol=1e-6)
        assert torch.allclose(reading.rollout, of(rolled).float(), atol=1e-6)
        for shares in (reading.heads, reading.rollout):
            assert torch.allclose(shares.sum(-1), torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("flags", FLAGS)
def test_the_default_rows_are_the_tokens_that_the_classifier_reads(flags, pixels):
    """Found by gradient: the last layer's output tokens on which the logits depend."""
    net = network(flags, "all").eval()
    seen = []
    hook = net.model.beit.layers[-1].register_forward_hook(lambda m, a, out: seen.append(out))
    logits = net(pixel_values=pixels)["logits"]
    hook.remove()
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), seen)
    used = gradient.abs().sum((0, 2)) > 1e-12
    rows = attention.read_by_head(net)
    assert used.tolist() == [rows == "cls"] + [rows == "patches"] * SIDE * SIDE
    assert rows == {"per_layer_cls": "cls", "absolute_cls": "cls"}.get(flags, "patches")
    own = attention.read(net, pixels, LAYERS)
    assert torch.equal(own.heads, attention.read(net, pixels, LAYERS, rows).heads)
    other = "cls" if rows == "patches" else "patches"
    assert not torch.allclose(own.heads, attention.read(net, pixels, LAYERS, other).heads)


@pytest.mark.parametrize("unfreeze", [0, 2, "all"])
def test_a_reloaded_top_gives_the_same_maps(unfreeze, pixels, tmp_path):
    net = network("shared", unfreeze)
    with torch.no_grad():
        for _, p in net.trained_parameters():  # as training would
            p.add_(0.1 * torch.randn_like(p))
    freezing.save_top(net, tmp_path / "top.safetensors")
    again = network("shared", unfreeze)
    before = attention.attention_maps(again, pixels, LAYERS)
    freezing.load_top(again, tmp_path / "top.safetensors")
    live = attention.attention_maps(net, pixels, LAYERS)
    assert torch.equal(attention.attention_maps(again, pixels, LAYERS), live)
    assert torch.equal(before, live) == (unfreeze == 0)


@pytest.mark.parametrize("layer", [0, LAYERS + 1, -1])
def test_a_layer_that_does_not_exist_is_refused(layer, pixels):
    for function in (attention.attention_maps, attention.read):
        with pytest.raises(ValueError, match=f"found {layer}; allowed: 1 to {LAYERS}"):
            function(network(), pixels, layer)
