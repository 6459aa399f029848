"""Methods of explaining: on every family, against other implementations and by hand."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
import transformers as hf
from captum.attr import LayerGradCam, Occlusion
from conftest import randomise, resolve
from test_families import tiny_config

from beitmed.backbones import adapters, families, freezing
from beitmed.backbones.families import FAMILIES
from beitmed.explain import attention, choice, maps, network
from beitmed.explain.maps import METHODS, Question
from beitmed.explain.network import Convolutional, Network, Transformer
from beitmed.methods import resnet_network
from beitmed.methods.resnet_network import ResNet

SIDE, SMALL, N = 32, 16, 3  # px of a transformer's and a ResNet's images
ATTENDING = choice.ATTENDING


def transformer(name: str = "beit", unfreeze: int | str = 1, several: bool = False) -> Transformer:
    torch.manual_seed(0)
    config = tiny_config(name)
    model = families.of(config).classifier(config)
    for _ in range(3):  # far from uniform, so that a wrong map is far from the right one
        randomise(model)
    backbone = freezing.FreezableBackbone(model, unfreeze).eval().requires_grad_(False)
    processor = hf.BeitImageProcessorPil(size={"height": SIDE, "width": SIDE}, resample=0)
    return Transformer(backbone, several, processor)


def resnet(channels: int = 1) -> Convolutional:
    torch.manual_seed(0)
    module = resnet_network.build("resnet18", 28, channels, 2).eval().requires_grad_(False)
    return Convolutional(module, False, ResNet(resolve("method=resnet18"), module, 8))


def pixels(net: Network, n: int = N) -> torch.Tensor:
    channels, side = (3, SIDE) if isinstance(net, Transformer) else (1, SMALL)
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def question(net: Network, given: torch.Tensor) -> Question:
    target = torch.arange(len(given)) % 2
    if isinstance(net, Convolutional) or net.module.model.config.model_type == "data2vec-vision":
        return Question(target, torch.zeros_like(given))
    layers = len(net.module.family.layer_list(net.module.model))
    return Question(target, torch.zeros_like(given), layers, attention.read_by_head(net.module))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_asked(name):
    net = transformer(name)
    given = pixels(net)
    with torch.no_grad():
        expected = net.module(pixel_values=given)["logits"]
    assert torch.allclose(net.logits(given), expected, atol=1e-5)
    possible = [m for m in METHODS if name != "data2vec-vision" or m not in ATTENDING]
    made = maps.make(net, given, possible, question(net, given))
    for method, values in made.items():
        assert values.shape == ((N, SIDE, SIDE) if "integrated" in method else (N, 4, 4)), method
        assert np.isfinite(values).all() and len(np.unique(values)) > N, method
        assert METHODS[method].signed or values.min() >= 0
    assert net.module.model.config._attn_implementation != "eager" or name == "dinov3_vit"


@pytest.mark.parametrize("name", ["beit", "deit", "dinov2_with_registers", "ijepa"])
def test_attention_is_of_what_the_head_reads(name):
    net = transformer(name)
    given, prefix = pixels(net), attention.prefix(net.module)
    assert prefix == {"beit": 1, "deit": 2, "dinov2_with_registers": 3, "ijepa": 0}[name]
    rows = attention.read_by_head(net.module)
    assert rows == {"beit": "patches", "deit": "cls", "ijepa": "patches"}.get(name, "both")
    kept = []
    with torch.no_grad(), attention.handing_over(net.module, lambda k, a: kept.append(a)):
        net.logits(given)
    last = kept[-1].mean(1)
    by_row = {"cls": last[:, 0], "patches": last[:, prefix:].mean(1)}
    expected = by_row.get(rows, sum(by_row.values()) / 2)[:, prefix:].reshape(N, 4, 4)
    found = maps.make(net, given, ["attention"], question(net, given))["attention"]
    assert found == pytest.approx(expected.numpy(), abs=1e-6)


def test_gradient_attention_as_published_step_by_step():
    net = transformer("beit", unfreeze="all")
    given, target = pixels(net), torch.tensor([0, 1, 0])
    net.module.model.set_attn_implementation("eager")
    out = net.module.model(pixel_values=given.clone().requires_grad_(), output_attentions=True)
    logits = out.logits
    score = sum(logits[i, t] - logits[i, 1 - t] for i, t in enumerate(target.tolist()))
    slopes = torch.autograd.grad(score, out.attentions)
    relevance = torch.eye(17).expand(N, 17, 17)
    for values, slope in zip(out.attentions, slopes, strict=True):
        relevance = relevance + (values * slope).clamp(min=0).mean(1) @ relevance
    expected = (relevance - torch.eye(17))[:, 1:, 1:].mean(1).reshape(N, 4, 4).detach().numpy()
    net.module.model.set_attn_implementation("sdpa")
    asked = Question(target, torch.zeros_like(given), 3, "patches")
    found = maps.make(net, given, ["gradient_attention"], asked)["gradient_attention"]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-9)


def test_integrated_gradients_add_up_to_the_score():
    for net in (transformer(), resnet()):
        given = pixels(net)
        asked = question(net, given)
        asked = Question(asked.target, given + 0.3 * torch.randn_like(given))
        found = maps.make(net, given, ["integrated_gradients"], asked)["integrated_gradients"]
        with torch.no_grad():
            change = net.score(given, asked.target) - net.score(asked.baseline, asked.target)
        assert found.sum((1, 2)) == pytest.approx(change.numpy(), rel=0.02, abs=2e-3)
        cells = maps.on_cells(found, net.cells(given))
        assert cells.sum((1, 2)) == pytest.approx(found.sum((1, 2)))


def test_occlusion_is_captums():
    for net in (transformer(), resnet()):
        given = pixels(net)
        asked = question(net, given)
        size = given.shape[2] // net.cells(given)[0]
        window = (given.shape[1], size, size)
        expected = Occlusion(net.score).attribute(
            given, window, strides=window, baselines=asked.baseline,
            additional_forward_args=asked.target,
        )[:, 0, ::size, ::size]  # fmt: skip
        found = maps.make(net, given, ["occlusion"], asked)["occlusion"]
        assert found == pytest.approx(expected.numpy(), abs=1e-5)


def test_gradcam_is_captums():
    net = resnet()
    given = pixels(net)
    asked = question(net, given)
    expected = LayerGradCam(net.score, net.module.layer4).attribute(
        given.clone().requires_grad_(), additional_forward_args=asked.target, relu_attributions=True
    )
    found = maps.make(net, given, ["gradcam"], asked)["gradcam"]
    assert found == pytest.approx(expected[:, 0].detach().numpy(), rel=1e-4, abs=1e-7)
    assert maps.on_cells(found, net.cells(given)).shape == (N, 4, 4)


def test_the_score_is_the_log_odds():
    net = transformer()
    given, target = pixels(net), torch.tensor([0, 1, 0])
    p = torch.softmax(net.logits(given), 1).gather(1, target[:, None])[:, 0]
    assert torch.allclose(net.score(given, target), torch.logit(p), atol=1e-5)
    assert net.probabilities([given, given + 1], target)[0] == pytest.approx(p.numpy(), abs=1e-6)
    several = transformer(several=True)
    own = several.logits(given).gather(1, target[:, None])[:, 0]
    assert torch.equal(several.score(given, target), own)


def test_a_lora_network_can_be_explained():
    net = transformer("beit", unfreeze=2)
    cfg = resolve("backbone=beit_tiny", "adapter=lora")
    adapted = adapters.adapt(cfg, net.module).eval()
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.3)
    lora = Transformer(adapted.requires_grad_(False), False, None)
    given = pixels(lora)
    made = maps.make(lora, given, list(METHODS), question(lora, given))
    plain = maps.make(transformer("beit", unfreeze=2), given, list(METHODS), question(lora, given))
    assert all(np.abs(made[name] - plain[name]).max() > 1e-9 for name in METHODS)


@pytest.mark.parametrize("make", [transformer, resnet])
def test_a_network_is_redrawn_from_the_head_down(make):
    net = make()
    given = pixels(net)
    before = {name: p.clone() for name, p in net.module.named_parameters()}
    changed: list[set[str]] = []
    for _, twin in net.redrawn(given, seed=0):
        now = dict(twin.module.named_parameters())
        assert all(  # the same values, in another order
            torch.allclose(before[name].square().sum(), p.square().sum(), rtol=1e-4)
            for name, p in now.items()
        )
        changed.append({name for name, p in now.items() if not torch.equal(p, before[name])})
        assert torch.isfinite(twin.logits(given)).all()
    assert all(len(a) < len(b) for a, b in pairwise(changed))
    assert all("classifier" in name or "fc" in name or "norm" in name for name in changed[0])
    varied = {n for n, p in before.items() if p.numel() > 3 and p.std() > 0}
    assert varied <= changed[-1]  # all that could change has
    assert all(torch.equal(p, before[name]) for name, p in net.module.named_parameters())
    again = [twin.logits(given) for _, twin in net.redrawn(given, seed=0)][-1]
    other = [twin.logits(given) for _, twin in net.redrawn(given, seed=1)][-1]
    assert not torch.equal(again, other)


def test_what_stands_for_nothing():
    net = resnet()
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28), dtype=np.uint8)
    given = net.pixels(images)
    mean, blur, black = (maps.baseline(net, images, kind) for kind in choice.BASELINES)
    assert torch.allclose(mean, given.mean((2, 3), keepdim=True).expand_as(given))
    assert torch.equal(black, torch.full_like(given, -1))
    assert blur.std() < given.std() / 2 and not torch.allclose(blur, mean, atol=1e-2)
    chosen = torch.zeros(2, 49, dtype=torch.bool)
    chosen[0, 8] = True  # the second row's second cell
    changed = maps.with_cells(given, black, chosen, (7, 7))
    assert torch.equal(changed[0, :, 4:8, 4:8], black[0, :, 4:8, 4:8])
    assert (changed != given).sum() <= 16 and torch.equal(changed[1], given[1])


@pytest.mark.parametrize(
    ("side", "cells"), [(28, 7), (64, 8), (128, 8), (224, 14), (29, 7), (3, 1)]
)
def test_cells_divide_the_image(side, cells):
    assert network._cells(side) == cells


def test_maps_come_to_cells():
    fine = np.arange(16.0).reshape(1, 4, 4)
    assert maps.on_cells(fine, (2, 2)).tolist() == [[[10, 18], [42, 50]]]
    assert maps.on_cells(fine, (4, 4)).tolist() == fine.tolist()
    coarse = maps.on_cells(np.array([[[0.0, 1.0], [0.0, 1.0]]]), (2, 4))
    assert [row.tolist() for row in coarse[0]] == [[0, 0.25, 0.75, 1]] * 2
    for rows, columns in product((2, 4), repeat=2):
        assert maps.on_cells(fine, (rows, columns)).shape == (1, rows, columns)
