"""Every family in families.FAMILIES: split, frozen, cached and loaded as transformers has it."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import transformers as hf
from conftest import randomise, resolve
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor

from beitmed import config, data, pipeline
from beitmed.backbones import families, weights
from beitmed.backbones.families import FAMILIES
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import backbone
from beitmed.data.pixels import PixelDataset, to_rgb
from beitmed.errors import UserError
from beitmed.trunk_cache import features, keys

LAYERS, SIDE = 3, 32
DEPTHS = [*range(LAYERS + 1), "all"]
# The class that each family's released checkpoints were saved with: none has our classifier.
SAVED_AS = {
    "beit": hf.BeitForMaskedImageModeling,
    "data2vec-vision": hf.Data2VecVisionModel,
    "vit": hf.ViTModel,
    "deit": hf.DeiTForImageClassificationWithTeacher,
    "vit_mae": hf.ViTMAEForPreTraining,
    "vit_msn": hf.ViTMSNModel,
    "ijepa": hf.IJepaModel,
    "dinov2": hf.Dinov2Model,
    "dinov2_with_registers": hf.Dinov2WithRegistersModel,
    "dinov3_vit": hf.DINOv3ViTModel,
}
every_family = pytest.mark.parametrize("name", FAMILIES)
every_depth = pytest.mark.parametrize("unfreeze", DEPTHS)
frozen_depth = pytest.mark.parametrize("unfreeze", DEPTHS[:-1])


def tiny_config(name: str):
    kind = FAMILIES[name].classifier.config_class
    registers = {"num_register_tokens": 2} if "registers" in name or "v3" in name else {}
    found = families.random_config(
        name,
        {
            "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
            "intermediate_size": 64, "image_size": SIDE, "patch_size": 8, **registers,
        },
        layer_scale=0.5,
        drop_path=0.3 if hasattr(kind(), "drop_path_rate") else None,
    )  # fmt: skip
    # Every kind of randomness that a family has: a frozen layer must show none of it.
    for key in ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(found, key):
            setattr(found, key, 0.2)
    if name == "vit_mae":  # a decoder as small as the rest
        found.decoder_hidden_size, found.decoder_num_hidden_layers = 16, 1
        found.decoder_num_attention_heads, found.decoder_intermediate_size = 2, 16
    return found


def tiny(name: str):
    torch.manual_seed(0)
    model = FAMILIES[name].classifier(tiny_config(name))
    randomise(model)
    return model


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """A folder of each family, as its checkpoints on the hub are."""
    found = {}
    for name, saved_as in SAVED_AS.items():
        torch.manual_seed(1)
        settings = tiny_config(name)
        if name == "data2vec-vision":  # as facebook/data2vec-vision-base says
            settings.use_mean_pooling = settings.use_mask_token = False
        model = saved_as(settings)
        randomise(model)
        folder = tmp_path_factory.mktemp(name) / f"tiny-{name}"
        model.save_pretrained(folder)
        size = {"height": SIDE, "width": SIDE}
        if name.startswith("dinov2"):  # position embeddings for 48 px, images of 32
            size = {"shortest_edge": 40}
        crop = {"height": SIDE, "width": SIDE}
        FAMILIES[name].processor(size=size, crop_size=crop).save_pretrained(folder)
        found[name] = folder
    return found


def auto(folder: Path, *overrides: str):
    return resolve("dataset=phantom", "backbone=auto", f"backbone.weights={folder}", *overrides)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "pixel_values": torch.randn(4, 3, SIDE, SIDE, generator=generator),
        "labels": torch.tensor([0, 1, 1, 0]),
    }


def test_the_configuration_names_the_families_that_have_a_spec():
    assert set(get_args(backbone.FamilyName)) == set(FAMILIES) == set(SAVED_AS)


@every_family
@every_depth
def test_the_trained_set_at_every_depth(name, unfreeze):
    model = tiny(name)
    network = FreezableBackbone(model, unfreeze)
    [layers] = [  # the list of layers, found without the spec
        m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == LAYERS
    ]
    embeddings = next(m for n, m in model.named_modules() if n.endswith(".embeddings"))
    shared = [m for n, m in model.named_modules() if n.endswith("position_bias")]
    tops = 0 if unfreeze == "all" else unfreeze
    below = [] if unfreeze == "all" else [embeddings, *shared, *layers[: LAYERS - tops]]
    frozen = {id(p) for module in below for p in module.parameters()}
    frozen |= {id(p) for n, p in model.named_parameters() if n.endswith("mask_token")}
    for parameter_name, p in model.named_parameters():
        assert p.requires_grad == (id(p) not in frozen), parameter_name
    trained, total = network.count()
    assert total == sum(p.numel() for p in model.parameters())
    assert total - trained == sum(p.numel() for p in model.parameters() if id(p) in frozen)


def reference(name: str, model, pixels: torch.Tensor) -> torch.Tensor:
    """Logits by transformers' own forward, put together from its models where it has no head."""
    if name == "vit_mae":
        # MAE's encoder is a plain ViT, which transformers runs without a mask.
        vit = hf.ViTModel(
            hf.ViTConfig(**_vit_settings(model.config)), add_pooling_layer=False
        ).eval()
        tensors = {n: t for n, t in model.vit.state_dict().items() if not n.startswith("layernorm")}
        assert vit.load_state_dict(tensors, strict=False).missing_keys == [
            "layernorm.weight", "layernorm.bias",
        ]  # fmt: skip
        tokens = vit(pixels, output_hidden_states=True).hidden_states[-1]
        return model.classifier(model.fc_norm(tokens[:, 1:].mean(dim=1)))
    if name == "dinov3_vit":
        found = model.dinov3_vit(pixels).last_hidden_state
        registers = model.config.num_register_tokens
        pooled = torch.cat([found[:, 0], found[:, 1 + registers :].mean(dim=1)], dim=1)
        return model.classifier(pooled)
    assert type(model).__module__.startswith("transformers.")
    return model(pixel_values=pixels).logits


def _vit_settings(mae) -> dict:
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "image_size", "patch_size", "layer_norm_eps", "qkv_bias")  # fmt: skip
    return {key: getattr(mae, key) for key in keys}


@every_family
@every_depth
def test_trunk_and_top_are_the_whole_model(name, unfreeze, batch):
    network = FreezableBackbone(tiny(name), unfreeze).eval()
    with torch.no_grad():
        expected = reference(name, network.model, batch["pixel_values"])
        whole, out = network.model(**batch), network(**batch)
    assert torch.equal(whole.logits, expected)
    family = network.family
    if unfreeze == 0 and family.norm_first and "mean" in family.pooled:
        # The mean of scaled tokens is the scaled mean of tokens, but for rounding.
        torch.testing.assert_close(out["logits"], expected, atol=1e-6, rtol=0)
    else:
        assert torch.equal(out["logits"], expected)
        assert torch.equal(out["loss"], whole.loss)


@every_family
@frozen_depth
def test_from_features_without_its_trunk_it_is_the_same_network(name, unfreeze, batch, tmp_path):
    network = FreezableBackbone(tiny(name), unfreeze).eval()
    with torch.no_grad():
        live = network(**batch)["logits"]
        features = network.trunk(batch["pixel_values"])
    facts = network.count(), network.trunk_fingerprint()
    (tmp_path / "top").write_bytes(network.top_snapshot())
    network.release_trunk()
    again = FreezableBackbone.from_snapshot(tmp_path / "top", unfreeze).eval()
    for other in (network, again):
        with torch.no_grad():
            assert torch.equal(other(features=features)["logits"], live)
        assert (other.count(), other.trunk_fingerprint()) == facts
        trained = {n for n, _ in other.trained_parameters()}
        assert {n for n, _ in other.model.named_parameters()} == trained  # nothing else left


@every_family
@frozen_depth
def test_a_step_trains_the_top_and_a_frozen_trunk_is_not_random(name, unfreeze, batch):
    network = FreezableBackbone(tiny(name), unfreeze).train()
    before = copy.deepcopy(dict(network.model.named_parameters()))
    tokens = network.trunk(batch["pixel_values"])
    assert torch.equal(tokens, network.trunk(batch["pixel_values"]))
    logits = [network(batch["pixel_values"])["logits"] for _ in range(2)]
    assert torch.equal(*logits) == (unfreeze == 0)  # what is trained has its dropout
    optimizer = torch.optim.AdamW((p for _, p in network.trained_parameters()), lr=0.1)
    network(**batch)["loss"].backward()
    optimizer.step()
    trained = {n for n, _ in network.trained_parameters()}
    for n, parameter in network.model.named_parameters():
        assert torch.equal(before[n], parameter) == (n not in trained), n
    assert torch.equal(tokens, network.trunk(batch["pixel_values"]))


@every_family
def test_a_checkpoint_saved_for_another_head_brings_all_but_the_head(name, checkpoints, caplog):
    saved = dict(SAVED_AS[name].from_pretrained(checkpoints[name]).named_parameters())
    cfg = auto(checkpoints[name])
    with caplog.at_level("INFO"):
        model, _ = weights.load(cfg.backbone, ("a", "b"), seed=0)
    assert "the classifier is new" in caplog.text
    family = families.of(model.config)
    head = ("classifier.",) if family.norm_first else ("classifier.", family.norm)
    body = family.layers.partition(".")[0]
    loaded = {n: p for n, p in model.named_parameters() if not n.startswith(head)}
    for n, p in loaded.items():
        # Under its own name, or without the prefix where the bare model was saved.
        [source] = [k for k in (n, n.removeprefix(f"{body}.")) if k in saved]
        assert torch.equal(p, saved[source]), n
    first, other, again = (weights.load(cfg.backbone, ("a", "b"), seed)[0] for seed in (0, 1, 0))
    for (n, a), b, c in zip(
        first.named_parameters(), other.parameters(), again.parameters(), strict=True
    ):
        assert torch.equal(a, b) == (n != "classifier.weight"), n
        assert torch.equal(a, c), n


@every_family
def test_what_is_not_the_heads_may_neither_lack_nor_be_left_over(name, checkpoints, tmp_path):
    folder = Path(shutil.copytree(checkpoints[name], tmp_path / "copy"))
    tensors = load_file(folder / "model.safetensors")
    doomed = next(n for n in tensors if ".2." in n and "norm" in n and "decoder" not in n)
    for change, said in (
        ({k: v for k, v in tensors.items() if k != doomed}, "lacks 1 tensors"),
        (tensors | {doomed.replace(".2.", ".7."): tensors[doomed].clone()}, "has 1 tensors that"),
    ):
        save_file(change, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match=said):
            weights.load(auto(folder).backbone, ("a", "b"), seed=0)


@every_family
def test_pixels_are_those_of_the_familys_own_image_processor(name, checkpoints):
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    _, processor = weights.load(auto(checkpoints[name]).backbone, ("a", "b"), seed=0)
    oracle = AutoImageProcessor.from_pretrained(checkpoints[name], backend="pil")
    assert type(processor) is type(oracle) is FAMILIES[name].processor
    for i, item in enumerate(PixelDataset(images, np.zeros(3, int), processor)):
        expected = oracle(to_rgb(images[i]), return_tensors="pt")["pixel_values"][0]
        assert torch.equal(item["pixel_values"], expected)
        if i == 2:
            break


@every_family
@pytest.mark.parametrize("unfreeze", [0, 1])
def test_features_on_disk_are_those_of_the_live_trunk(name, unfreeze, checkpoints, tmp_path):
    cfg = auto(checkpoints[name], f"unfreeze={unfreeze}", "data.limit=2", "cache.dtype=fp32",
               f"cache.root={tmp_path}")  # fmt: skip
    cfg = pipeline.complete(cfg)
    assert (cfg.backbone.name, cfg.backbone.family) == (f"{name}_32x{LAYERS}", name)
    loaded = data.load(cfg)
    model, processor = weights.load(cfg.backbone, loaded.class_names, cfg.seed)
    live = FreezableBackbone(model, unfreeze).eval()
    pixels = PixelDataset(loaded.val.images, loaded.val.labels, processor)
    batch = torch.stack([pixels[i]["pixel_values"] for i in range(len(pixels))])
    for _ in range(2):  # filled, then found
        cached = features.prepare(cfg, loaded)
        rows = torch.from_numpy(cached.rows["val"][0 : len(pixels)])
        with torch.no_grad():
            torch.testing.assert_close(rows, live.trunk(batch), atol=1e-6, rtol=1e-6)
            ours = cached.network.eval()(features=rows)["logits"]
            torch.testing.assert_close(ours, live(batch)["logits"], atol=1e-6, rtol=1e-6)


@every_family
def test_a_whole_model_that_was_saved_is_read_again(name, checkpoints, tmp_path):
    model, processor = weights.load(auto(checkpoints[name]).backbone, ("a", "b"), seed=0)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, _ = weights.load(auto(tmp_path).backbone, ("a", "b"), seed=0)
    for (n, p), q in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q), n


@every_family
def test_another_geometry_or_image_size_than_the_yamls_is_refused(name, checkpoints, tmp_path):
    backbone = weights.complete(auto(checkpoints[name]).backbone)
    for key in ("hidden_size", "intermediate_size", "image_size", "num_register_tokens"):
        other = backbone.geometry.model_copy(update={key: 7})
        with pytest.raises(UserError, match=rf"has {key}=.*but backbone={name}_.* has 7"):
            weights.load(backbone.model_copy(update={"geometry": other}), ("a", "b"), seed=0)
    folder = Path(shutil.copytree(checkpoints[name], tmp_path / "copy"))
    FAMILIES[name].processor(
        size={"height": 64, "width": 64}, crop_size={"height": 64, "width": 64}
    ).save_pretrained(folder)
    moved = backbone.model_copy(update={"weights": str(folder), "content": None})
    with pytest.raises(UserError, match=r"gives 64 x 64 px, but .* reads 32 px"):
        weights.load(moved, ("a", "b"), seed=0)


# The form of the files that these families' checkpoints have on the hub, none since 2022 changed.
OLD_PROCESSORS = {
    "beit": "BeitFeatureExtractor",
    "data2vec-vision": "BeitFeatureExtractor",
    "vit": "ViTFeatureExtractor",
    "deit": "DeiTFeatureExtractor",
    "vit_mae": None,
    "vit_msn": "ViTFeatureExtractor",
}


@pytest.mark.parametrize("name", OLD_PROCESSORS)
def test_the_old_form_of_an_image_processors_file_is_read(name, checkpoints, tmp_path):
    folder = Path(shutil.copytree(checkpoints[name], tmp_path / "copy"))
    values = {
        "do_normalize": True, "do_resize": True, "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": SIDE, "crop_size": SIDE,
    }  # fmt: skip
    if (old := OLD_PROCESSORS[name]) is not None:
        values["feature_extractor_type"] = old
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    _, processor = weights.load(auto(folder).backbone, ("a", "b"), seed=0)
    assert type(processor) is FAMILIES[name].processor
    white = PixelDataset(np.full((1, 28, 28), 255, np.uint8), np.zeros(1, int), processor)[0]
    found = white["pixel_values"].mean(dim=(1, 2))
    torch.testing.assert_close(found, (1 - torch.tensor([0.1, 0.2, 0.3])) / 0.5)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_old_pytorch_format_is_read_as_plain_tensors(name, checkpoints, tmp_path):
    folder = Path(shutil.copytree(checkpoints[name], tmp_path / "copy"))
    expected, _ = weights.load(auto(folder).backbone, ("a", "b"), seed=0)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found, _ = weights.load(auto(folder).backbone, ("a", "b"), seed=0)
    for (n, p), q in zip(expected.named_parameters(), found.parameters(), strict=True):
        assert torch.equal(p, q), n


@pytest.mark.parametrize("name", ["dinov2", "dinov2_with_registers"])
def test_images_of_another_size_than_the_position_embeddings(name, checkpoints, tmp_path):
    # As released: embeddings for 518 px, an image processor that gives 224.
    folder = Path(shutil.copytree(checkpoints[name], tmp_path / "copy"))
    torch.manual_seed(3)
    settings = tiny_config(name)
    settings.image_size = 48
    model = SAVED_AS[name](settings)
    randomise(model)
    model.save_pretrained(folder)
    cfg = auto(folder, "unfreeze=1")
    backbone = weights.complete(cfg.backbone)
    assert (backbone.geometry.image_size, backbone.geometry.input_size) == (48, SIDE)
    loaded, _ = weights.load(backbone, ("a", "b"), seed=0)
    network = FreezableBackbone(loaded, 1).eval()
    x = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.equal(network(x)["logits"], loaded(pixel_values=x).logits)
        names = keys.Keys(
            config.check(cfg.model_dump() | {"backbone": backbone.model_dump()}), data.load(cfg)
        )
        assert names.target("val").shape[1:] == network.trunk(x).shape[1:]


def test_a_family_that_is_not_known_is_named_with_those_that_are(tmp_path, checkpoints):
    folder = Path(shutil.copytree(checkpoints["vit"], tmp_path / "copy"))
    values = json.loads((folder / "config.json").read_text())
    values |= {"model_type": "convnext", "auto_map": {"AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "mine.py").write_text("open('executed', 'w')")
    with pytest.raises(UserError, match=r"'convnext'; allowed: beit, .*dinov2, .*dinov3_vit"):
        weights.load(auto(folder).backbone, ("a", "b"), seed=0)


def test_another_family_than_the_yamls_is_refused(checkpoints):
    cfg = resolve("backbone=dino_base", f"backbone.weights={checkpoints['dinov2']}")
    with pytest.raises(UserError, match=r"'dinov2'; allowed: vit\. Or set backbone=auto"):
        weights.load(cfg.backbone, ("a", "b"), seed=0)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "set backbone.weights to a hub name"),
        (["backbone.weights=random"], "what a random model of it is"),
        (["backbone.weights=x/y", "backbone.family=vit"], "give both"),
    ],
)
def test_auto_says_what_it_needs(overrides, said):
    with pytest.raises(UserError, match=said):
        resolve("backbone=auto", *overrides)


def test_a_depth_beyond_the_checkpoints_layers_is_refused(checkpoints):
    cfg = auto(checkpoints["vit"], "unfreeze=5")
    with pytest.raises(UserError, match=r"unfreeze: found 5, but vit_\d+x3 has 3 layers"):
        pipeline.complete(cfg)


MEDICAL = {
    "rad_dino": "dinov2", "dinov2_xray_base": "dinov2", "biomedclip_base": "vit",
    "usfm_base": "beit",
}  # fmt: skip


@pytest.mark.parametrize(
    "yaml",
    sorted({p.stem for p in (config.conf_dir() / "backbone").glob("*.yaml")} - {"auto", *MEDICAL}),
)
def test_a_shipped_yaml_is_what_its_family_can_be(yaml):
    # Its geometry gives a model with the parameters that its authors say, in millions.
    backbone = resolve(f"backbone={yaml}").backbone
    assert backbone.random is not None
    values = backbone.geometry.model_dump(exclude_none=True, exclude={"input_size"})
    settings = families.random_config(
        backbone.family, values, backbone.random.layer_scale_init_value,
        backbone.random.drop_path_rate,
    )  # fmt: skip
    with torch.device("meta"):
        model = FAMILIES[backbone.family].classifier(settings)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    about = {"tiny": 1, "small": 5.6, "base": 86, "large": 304, "huge": 631}
    expected = next(n for size, n in about.items() if size in yaml)
    assert millions == pytest.approx(expected, rel=0.2 if expected == 1 else 0.01)
    assert values["image_size"] % values["patch_size"] == 0


@pytest.mark.parametrize("name", MEDICAL)
def test_medical_checkpoints_load_as_their_class_and_keep_what_is_known_of_them(name, checkpoints):
    folder = checkpoints[MEDICAL[name]]
    cfg = resolve("dataset=phantom", f"backbone={name}", f"backbone.weights={folder}").backbone
    completed = weights.complete(cfg)
    assert (completed.name, completed.family) == (name, MEDICAL[name])
    assert completed.geometry.hidden_size == 32
    assert completed.about == cfg.about and "huggingface.co" in cfg.about.source
    model, _ = weights.load(completed, ("a", "b"), seed=0)
    assert type(model) is FAMILIES[MEDICAL[name]].classifier
