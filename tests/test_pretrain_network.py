"""What is learnt: BEiT's objective as transformers has it, and masked pixels of every family."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
from conftest import randomise
from pretrain_runs import TINY, resolve
from test_families import LAYERS, SIDE, tiny, tiny_config

from beitmed.backbones import weights
from beitmed.backbones.families import FAMILIES
from beitmed.config.pretrain import HybridObjective, PixelsObjective
from beitmed.data.pixels import PixelDataset
from beitmed.errors import UserError
from beitmed.pretraining import checkpoint, views
from beitmed.pretraining.network import MaskedNetwork, standardised
from beitmed.pretraining.views import Pixels
from beitmed.training import parts, unlabelled

PIXELS = {"masking": "random", "mask_ratio": 0.5, "target": "mae"}
MAE = PixelsObjective(name="pixels", **PIXELS)
every_family = pytest.mark.parametrize("name", FAMILIES)


def processor(name: str):
    size = {"height": SIDE, "width": SIDE}
    return FAMILIES[name].processor(size=size, do_center_crop=False, resample=2)


def network_of(name: str, objective=MAE, **changes) -> MaskedNetwork:
    config = tiny_config(name)
    for key in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout",
                "drop_path_rate"):  # fmt: skip
        if hasattr(config, key):
            setattr(config, key, 0.0)
    torch.manual_seed(0)
    model = FAMILIES[name].classifier(config)
    randomise(model)
    return MaskedNetwork(model, objective, Pixels(processor(name), SIDE, 28), None, seed=0)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    patches = (SIDE // 8) ** 2
    images = torch.randint(0, 256, (4, 1, 28, 28), generator=generator, dtype=torch.uint8)
    masks = torch.rand(4, patches, generator=generator).argsort(1) < patches // 2
    return {"images": images, "masks": masks}


@pytest.fixture(scope="module")
def beit(tmp_path_factory) -> Path:
    """A tiny BEiT as it was pre-trained: with a mask token and 16 visual words."""
    torch.manual_seed(1)
    config = tiny_config("beit")
    config.update({"vocab_size": 16, "drop_path_rate": 0.0, "hidden_dropout_prob": 0.0,
                   "attention_probs_dropout_prob": 0.0})  # fmt: skip
    model = hf.BeitForMaskedImageModeling(config)
    randomise(model)
    folder = tmp_path_factory.mktemp("beit") / "tiny"
    model.save_pretrained(folder)
    processor("beit").save_pretrained(folder)
    return folder


def tokens(*overrides: str):
    return resolve(
        "objective=tokens", "objective.tokenizer=random", "objective.random.hidden_size=8",
        "objective.random.vocab_size=16", *overrides,
    )  # fmt: skip


def test_beits_objective_is_that_of_transformers_in_loss_and_every_gradient(beit, batch):
    theirs = hf.BeitForMaskedImageModeling.from_pretrained(beit).train()
    ours, _ = checkpoint.begin(tokens("backbone=auto", f"backbone.weights={beit}"))
    ours.train()
    pixels, codes = ours.pixels(batch["images"]), ours.codes(batch["images"])
    assert codes.shape == batch["masks"].shape and len(codes.unique()) > 1
    masks = batch["masks"]
    expected = theirs(pixels, bool_masked_pos=masks, labels=codes[masks]).loss
    found = ours(**batch, codes=codes)["loss"]
    assert abs(found.item() - expected.item()) <= 1e-6
    expected.backward()
    found.backward()
    own = {f"{n}": p for n, p in ours.model.named_parameters()}
    own |= {f"lm_head.{n}": p for n, p in ours.head.named_parameters()}
    own |= {f"layernorm.{n}": p for n, p in ours.layernorm.named_parameters()}
    for n, p in theirs.named_parameters():
        assert torch.equal(own[n], p), n  # its own lm_head and mask token, too
        torch.testing.assert_close(own[n].grad, p.grad, atol=1e-6, rtol=0, msg=n)
    trained = {n for n, p in own.items() if p.requires_grad}
    assert trained == {n for n, _ in theirs.named_parameters()}


def test_a_vocabulary_or_a_mask_token_that_does_not_fit_is_refused(beit, tmp_path):
    given = ("backbone=auto", f"backbone.weights={beit}")
    with pytest.raises(UserError, match=r"objective\.tokenizer: has 32 visual words.*on 16"):
        checkpoint.begin(tokens(*given, "objective.random.vocab_size=32"))
    config = tiny_config("beit")
    config.use_mask_token = False
    hf.BeitForImageClassification(config).save_pretrained(tmp_path)
    processor("beit").save_pretrained(tmp_path)
    given = ("backbone=auto", f"backbone.weights={tmp_path}")
    with pytest.raises(UserError, match=r"has no mask token.*objective=pixels"):
        checkpoint.begin(tokens(*given))
    network, _ = checkpoint.begin(resolve(*given))  # which makes one
    assert network.token.requires_grad and network.token.abs().sum() > 0


def test_a_tokenizer_of_another_grid_is_refused():
    with pytest.raises(UserError, match=r"reads 112 px and gives 14 x 14.*4 x 4 patches.*=32"):
        checkpoint.begin(tokens(*TINY, "objective.tokenizer_px=112"))


def test_a_saved_tokenizer_gives_its_own_words(tmp_path):
    torch.manual_seed(5)
    book = hf.FlavaImageCodebook(hf.FlavaImageCodebookConfig(hidden_size=8, vocab_size=16))
    book.save_pretrained(tmp_path)
    network, _ = checkpoint.begin(tokens(*TINY, f"objective.tokenizer={tmp_path}"))
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    levels = network.pixels.levels(images, None, 32).expand(-1, 3, -1, -1)
    expected = book.eval().get_codebook_indices(0.8 * levels + 0.1).flatten(1)
    assert torch.equal(network.codes(images), expected)
    (tmp_path / "preprocessor_config.json").write_text('{"codebook_size": {"height": 112}}')
    with pytest.raises(UserError, match=r"reads 112 px"):
        checkpoint.begin(tokens(*TINY, f"objective.tokenizer={tmp_path}"))
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"objective\.tokenizer: .* cannot be read"):
        checkpoint.begin(tokens(*TINY, f"objective.tokenizer={tmp_path}"))


def by_hand(network: MaskedNetwork, images: torch.Tensor, masks: torch.Tensor) -> np.ndarray:
    """Targets of MAE patch by patch, from loops: [masked, 3 * 64]."""
    pixels, rows = network.pixels(images).numpy().astype(np.float64), []
    for image, mask in zip(pixels, masks.numpy(), strict=True):
        for i in np.flatnonzero(mask):
            y, x = 8 * (i // network.side), 8 * (i % network.side)
            patch = image[:, y : y + 8, x : x + 8].transpose(1, 2, 0).ravel()
            rows.append((patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6))
    return np.array(rows)


@every_family
def test_masked_pixels_of_every_family(name, batch):
    network = network_of(name).train()
    images, masks = batch["images"], batch["masks"]
    loss = network(images, masks)["loss"]
    loss.backward()
    with torch.no_grad():
        predicted = network.predict(images, masks)
    expected = ((predicted.numpy() - by_hand(network, images, masks)) ** 2).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    for n, p in network.named_parameters():
        reached = p.grad is not None and p.grad.abs().sum() > 0
        # Keys of attention have a bias that a softmax does not see; CLS tokens of the last layer.
        assert reached or not p.requires_grad or "k_proj.bias" in n or "key.bias" in n, n
    assert network.token.grad.abs().sum() > 0
    layers = network.family.layer_list(network.model)
    assert len(layers) == LAYERS
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert all(n.startswith("model.classifier") or "norm" in n or "position_embeddings" in n
               for n in frozen)  # fmt: skip


@every_family
def test_what_is_masked_is_not_seen(name, batch):
    network = network_of(name).eval()
    pixels = network.pixels(batch["images"])
    masked = batch["masks"].view(4, network.side, network.side)
    hidden = masked.repeat_interleave(8, 1).repeat_interleave(8, 2).unsqueeze(1)
    other = torch.where(hidden, torch.randn_like(pixels), pixels)
    with torch.no_grad():
        same = [network.encode(p, batch["masks"]) for p in (pixels, other)]
        seen = [network.encode(p) for p in (pixels, other)]
    assert torch.equal(*same)
    assert not torch.equal(*seen)


@every_family
def test_unmasked_it_is_the_classifiers_own_trunk(name, batch):
    network = network_of(name).eval()
    with torch.no_grad():
        tokens_ = network.encode(network.pixels(batch["images"]))
        logits = network.family.finish(network.model, tokens_)
        expected = network.model(pixel_values=network.pixels(batch["images"])).logits
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=0)


def test_simmims_target_is_the_pixels_as_the_network_reads_them(batch):
    objective = PixelsObjective(name="pixels", **{**PIXELS, "target": "simmim"})
    network = network_of("vit", objective).eval()
    with torch.no_grad():
        loss = network(**batch)["loss"]
        target = network.patches_of(network.pixels(batch["images"]))[batch["masks"]]
        predicted = network.predict(**batch)
    assert loss.item() == pytest.approx((predicted - target).abs().mean().item(), rel=1e-6)


def test_the_contrast_is_infonce_both_ways(batch):
    objective = HybridObjective(name="hybrid", **PIXELS, weight=0.5, temperature=0.2, projection=8)
    network = network_of("beit", objective).eval()
    other = views.draw(np.random.default_rng(0), np.zeros(4, bool), 0.5, 0.1)
    with torch.no_grad():
        found = network(**batch, other=other)
        plain = network(**batch)["loss"]
        two = (network.encode(network.pixels(batch["images"]), batch["masks"]),
               network.encode(network.pixels(batch["images"], other)))  # fmt: skip
        a, b = (network.projector(network.family.pool(network.model, t)).double().numpy()
                for t in two)  # fmt: skip
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    scores = a @ b.T / 0.2
    each = [np.log(np.exp(s).sum(1)) - np.diag(s) for s in (scores, scores.T)]
    assert found["contrast"].item() == pytest.approx(np.mean(each), rel=1e-4)
    expected = plain.item() + 0.5 * np.mean(each)
    assert found["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert found["regression"].item() == pytest.approx(plain.item())


@pytest.mark.parametrize("name", ["beit", "dinov2"])
@pytest.mark.parametrize("colour", [False, True])
def test_a_whole_image_has_the_image_processors_pixels(name, colour):
    shape = (3, 28, 28, 3) if colour else (3, 28, 28)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    own = processor(name)
    expected = PixelDataset(images, np.zeros(3, np.int64), own).batch(0, 3)
    channels = images.transpose(0, 3, 1, 2) if colour else images[:, None]
    found = Pixels(own, SIDE, 28)(torch.from_numpy(channels))
    level = 1 / 255 / min(own.image_std)
    assert (found - expected).abs().max() <= 1.01 * level


def test_views_keep_to_what_is_allowed():
    images = torch.arange(28 * 28).view(1, 1, 28, 28).remainder(251).byte().expand(200, -1, -1, -1)
    pixels = Pixels(processor("beit"), 28, 28)
    rng = np.random.default_rng(0)
    whole = views.draw(rng, np.zeros(200, bool), 1.0, 0.0)
    torch.testing.assert_close(pixels(images, whole), pixels(images), atol=1e-4, rtol=0)
    flipped = views.draw(rng, np.ones(200, bool), 1.0, 0.0)
    found, mirror = pixels(images, flipped), pixels(images).flip(-1)
    which = flipped["boxes"][:, 2] < 0
    assert 60 < which.sum() < 140
    torch.testing.assert_close(found[which], mirror[which], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[~which], pixels(images)[~which], atol=1e-4, rtol=0)
    drawn = views.draw(rng, np.zeros(200, bool), 0.3, 0.2)
    x, y, width, height = drawn["boxes"].unbind(1)
    assert (width * height).min() >= 0.3 - 1e-6 and max(width.max(), height.max()) <= 1
    assert max((x.abs() + width).max(), (y.abs() + height).max()) <= 1 + 1e-6
    assert (drawn["gains"] - 1).abs().max() <= 0.2 and drawn["offsets"].abs().max() <= 0.2
    colour = torch.randint(60, 190, (200, 3, 28, 28), dtype=torch.uint8)
    grey = colour.float().mean((2, 3))
    changed = pixels.levels(colour, {**whole, "gains": drawn["gains"]}, 28).mean((2, 3))
    assert torch.equal(changed.argsort(1), grey.argsort(1))  # gain and offset are not a colour's


def test_a_batch_passed_in_parts_has_the_loss_and_the_gradients_of_the_whole(batch, monkeypatch):
    network = network_of("beit").train()
    masks = torch.arange(16).expand(4, -1) % 2 == 0
    whole = {**batch, "masks": masks, "view": views.draw(
        np.random.default_rng(0), np.zeros(4, bool), 0.5, 0.1)}  # fmt: skip
    network(**whole)["loss"].backward()
    expected = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    monkeypatch.setattr(parts, "_NUMBERS_AT_ONCE_ON_A_CPU", 2 * network.numbers)
    found = unlabelled._Trainer.parts(SimpleNamespace(model=network), whole)
    assert [(share, len(part["view"]["boxes"])) for share, part in found] == [(0.5, 2)] * 2
    for share, part in found:
        (share * network(**part)["loss"]).backward()
    for n, p in network.named_parameters():
        if n in expected:
            torch.testing.assert_close(p.grad, expected[n], atol=1e-6, rtol=1e-4, msg=n)


def test_a_patch_is_standardised_by_its_own_pixels():
    patches = torch.rand(5, 48) * 3 + 2
    found, mean, deviation = standardised(patches)
    torch.testing.assert_close(found * deviation + mean, patches)
    torch.testing.assert_close(found.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(1), torch.ones(5), atol=1e-4, rtol=0)


def test_what_was_learnt_comes_back_from_its_folder(tmp_path, batch):
    network = network_of("vit").eval()
    checkpoint.write(network, processor("vit"), {}, "# card\n", tmp_path / "huggingface")
    cfg = resolve("backbone=auto", f"backbone.weights={tmp_path / 'huggingface'}")
    again, _ = checkpoint.begin(cfg)
    with torch.no_grad():
        assert torch.equal(again.eval()(**batch)["loss"], network(**batch)["loss"])
    loaded, _ = weights.load(cfg.backbone, ("a", "b"), seed=0)
    for (n, a), (m, b) in zip(
        loaded.vit.named_parameters(), network.model.vit.named_parameters(), strict=True
    ):
        assert n == m and torch.equal(a, b)
    assert tiny("vit")  # the same class
