"""Checkpoints in timm's layout: what timm itself computes from them, or a message."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import FAST, beitmed, randomise, resolve
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

from beitmed import data, pipeline
from beitmed.backbones import weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.data.pixels import PixelDataset, to_rgb
from beitmed.errors import UserError
from beitmed.trunk_cache import features

LAYERS, SIDE, CLASSES = 3, 32, 5
GEOMETRY = {
    "img_size": SIDE, "patch_size": 8, "embed_dim": 48, "depth": LAYERS, "num_heads": 4,
    "mlp_ratio": 2.0,
}  # fmt: skip
# The same in a backbone's YAML, for a folder that does not say it.
YAML = [
    "backbone=mocov3_base", "backbone.geometry.hidden_size=48",
    f"backbone.geometry.num_hidden_layers={LAYERS}", "backbone.geometry.num_attention_heads=4",
    "backbone.geometry.intermediate_size=96", f"backbone.geometry.image_size={SIDE}",
    "backbone.geometry.patch_size=8", "unfreeze=1",
]  # fmt: skip
NAMES = tuple("abcde")


def of_timm(**changes):
    """A ViT of timm's with random values in all its parameters."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", **{**GEOMETRY, "num_classes": CLASSES, **changes}
    ).eval()
    randomise(model)
    return model


def saved(folder: Path, model, **arguments) -> Path:
    """As timm publishes a model: model.safetensors, and a config.json of its own form."""
    save_for_hf(model, str(folder), model_args={**GEOMETRY, **arguments}, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("timm") / "tiny-timm", of_timm())


@pytest.fixture
def copy_of(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def auto(folder: Path, *overrides: str):
    return resolve("dataset=phantom", "backbone=auto", f"backbone.weights={folder}", *overrides)


def by_yaml(folder: Path, *overrides: str):
    return resolve("dataset=phantom", *YAML, f"backbone.weights={folder}", *overrides)


def with_head(model, head):
    with torch.no_grad():
        model.classifier.weight.copy_(head.weight)
        model.classifier.bias.copy_(head.bias)
    return model


def edit(folder: Path, change: Callable[[dict], dict]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def edit_tensors(folder: Path, change: Callable[[dict], dict]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


PIXELS = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("unfreeze", [*range(LAYERS + 1), "all"])
def test_logits_at_every_depth_are_timms(unfreeze, qkv_bias, tmp_path):
    theirs = of_timm(qkv_bias=qkv_bias)
    folder = saved(tmp_path / "checkpoint", theirs, qkv_bias=qkv_bias)
    model, _ = weights.load(auto(folder).backbone, NAMES, seed=0)
    assert not torch.equal(model.classifier.weight, theirs.head.weight)  # it is new
    network = FreezableBackbone(with_head(model, theirs.head), unfreeze).eval()
    with torch.no_grad():
        expected = theirs(PIXELS)
        tokens = model.vit(pixel_values=PIXELS).last_hidden_state
        torch.testing.assert_close(tokens, theirs.forward_features(PIXELS), atol=1e-5, rtol=0)
        whole, out = model(pixel_values=PIXELS).logits, network(PIXELS)["logits"]
    torch.testing.assert_close(whole, expected, atol=1e-5, rtol=0)
    assert torch.equal(out, whole)


def test_the_epsilon_of_its_norms_is_timms(checkpoint):
    # With small activations 1e-12, transformers' default, would give other numbers.
    model, _ = weights.load(auto(checkpoint).backbone, NAMES, seed=0)
    theirs = of_timm()
    norms = [m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert norms == [m.eps for m in theirs.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert set(norms) == {1e-6}


@pytest.mark.parametrize("crop_pct", [1.0, 0.8])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(28, 28), (224, 224), (60, 40)])  # even margins of the crop
def test_pixels_are_those_of_timms_own_evaluation(crop_pct, interpolation, shape, copy_of):
    changes = {"crop_pct": crop_pct, "interpolation": interpolation, "mean": [0.1, 0.2, 0.3]}
    edit(copy_of, lambda c: {**c, "pretrained_cfg": {**c["pretrained_cfg"], **changes}})
    settings = json.loads((copy_of / "config.json").read_text())["pretrained_cfg"]
    theirs = timm.data.create_transform(
        **timm.data.resolve_data_config(settings), is_training=False
    )
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    _, processor = weights.load(auto(copy_of).backbone, NAMES, seed=0)
    ours = PixelDataset(image[None], np.zeros(1, int), processor)[0]["pixel_values"]
    expected = theirs(to_rgb(image))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def mixin(folder: Path, **changes) -> Path:
    """As PyTorchModelHubMixin publishes a model, MoCo v3 for one: the arguments, and no more."""
    arguments = {
        "depth": LAYERS, "embed_dim": 48, "mlp_ratio": 2, "num_heads": 4, "patch_size": 8,
        "qkv_bias": True, "stop_grad_conv1": False, **changes,
    }  # fmt: skip
    edit(folder, lambda _: arguments)
    return folder


@pytest.mark.parametrize("says", ["nothing", "its arguments", "all"])
def test_what_a_folder_does_not_say_is_the_yamls(says, copy_of):
    if says == "nothing":
        (copy_of / "config.json").unlink()
    elif says == "its arguments":
        mixin(copy_of)
    theirs = of_timm()
    model, processor = weights.load(by_yaml(copy_of).backbone, NAMES, seed=0)
    with torch.no_grad():
        ours = with_head(model, theirs.head)(pixel_values=PIXELS).logits
        torch.testing.assert_close(ours, theirs(PIXELS), atol=1e-5, rtol=0)
    white = PixelDataset(np.full((1, 28, 28), 255, np.uint8), np.zeros(1, int), processor)[0]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = np.ones(3) if says == "all" else (1 - mean) / std
    np.testing.assert_allclose(white["pixel_values"].mean(dim=(1, 2)), expected, rtol=1e-5)


def test_auto_reads_its_name_family_and_geometry(checkpoint):
    found = weights.complete(auto(checkpoint).backbone)
    assert (found.name, found.family) == ("vit_48x3", "vit")
    assert found.geometry.model_dump(exclude_none=True) == {
        "hidden_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "intermediate_size": 96, "image_size": SIDE, "patch_size": 8,
    }  # fmt: skip


def test_an_image_processor_in_the_folder_goes_first(copy_of):
    _, ours = weights.load(by_yaml(copy_of).backbone, NAMES, seed=0)
    ours.image_mean = [0.3, 0.3, 0.3]
    ours.save_pretrained(mixin(copy_of))
    _, found = weights.load(auto(copy_of).backbone, NAMES, seed=0)
    assert list(found.image_mean) == [0.3, 0.3, 0.3]


@pytest.mark.parametrize("form", ["bin", "half"])
def test_the_old_file_format_and_half_precision_are_read(form, copy_of):
    expected, _ = weights.load(auto(copy_of).backbone, NAMES, seed=0)
    if form == "half":
        edit_tensors(copy_of, lambda tensors: {n: t.half() for n, t in tensors.items()})
    else:
        torch.save(load_file(copy_of / "model.safetensors"), copy_of / "pytorch_model.bin")
        (copy_of / "model.safetensors").unlink()
    found, _ = weights.load(auto(copy_of).backbone, NAMES, seed=0)
    for (n, p), q in zip(expected.named_parameters(), found.parameters(), strict=True):
        assert q.dtype is torch.float32
        assert torch.equal(p.half().float() if form == "half" and "classifier" not in n else p, q)


class _RunsCode:
    def __reduce__(self):
        return (Path("executed").touch, ())


def test_code_in_a_weights_file_is_refused_and_not_run(copy_of, monkeypatch):
    monkeypatch.chdir(copy_of)
    torch.save({"cls_token": _RunsCode()}, copy_of / "pytorch_model.bin")
    (copy_of / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        weights.load(auto(copy_of).backbone, NAMES, seed=0)
    assert not (copy_of / "executed").exists()


# Models of timm's that are no plain ViT: what is said where config.json says so, and where only
# the tensors can (None: they are those of a plain one).
OTHERS = [
    ({"init_values": 0.1}, "blocks.0.ls1.gamma", "blocks.0.ls1.gamma"),
    ({"qk_norm": True}, "blocks.0.attn.k_norm", "blocks.0.attn.k_norm"),
    ({"scale_attn_norm": True}, "blocks.0.attn.norm", "blocks.0.attn.norm"),
    ({"reg_tokens": 2}, "reg_token", "reg_token"),
    ({"pre_norm": True}, "norm_pre", "norm_pre"),
    ({"global_pool": "avg"}, "global_pool='avg'", "fc_norm"),
    ({"global_pool": "avg", "fc_norm": False}, "global_pool='avg'", None),
    ({"class_token": False, "global_pool": "avg"}, "global_pool='avg'", None),
    ({"no_embed_class": True}, "no_embed_class=True", "16 position embeddings"),
    ({"in_chans": 1}, "in_chans=1", "1 colour channels"),
    ({"act_layer": "quick_gelu"}, "act_layer='quick_gelu'", None),
]


@pytest.mark.parametrize(("arguments", "said", "said_by_tensors"), OTHERS)
def test_a_vit_that_is_not_plain_is_refused(arguments, said, said_by_tensors, tmp_path):
    folder = saved(tmp_path / "other", of_timm(**arguments), **arguments)
    for write, expected in (
        (lambda: None, said),
        (lambda: mixin(folder, **arguments), said),
        ((folder / "config.json").unlink, said_by_tensors),
    ):
        write()
        if expected is None:
            continue
        with pytest.raises(UserError) as e:
            weights.load(by_yaml(folder).backbone, NAMES, seed=0)
        for part in ("backbone.weights: ", str(folder), expected):
            assert part in str(e.value)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_r_s16_p8_224", "vit_base_patch16_clip_224"])
def test_another_architecture_of_timms_is_named(name, copy_of):
    edit(copy_of, lambda values: {**values, "architecture": name})
    with pytest.raises(UserError, match=f"timm's {name}; .* vit_base_patch16_224"):
        weights.complete(auto(copy_of).backbone)


def _drop(name: str):
    return lambda folder: edit_tensors(
        folder, lambda tensors: {n: t for n, t in tensors.items() if n != name}
    )


DAMAGES = [
    (_drop("blocks.1.mlp.fc2.weight"), ["lacks 1 tensors", "vit.layers.1.mlp.fc2.weight"]),
    (_drop("blocks.2.attn.qkv.weight"), ["lacks 3 tensors", "vit.layers.2.attention.k_proj"]),
    (_drop("pos_embed"), ["pos_embed", "fetch it again"]),
    (lambda f: edit_tensors(f, lambda t: {**t, "cls_token": torch.zeros(1, 1, 4)}),
     ["another shape", "cls_token"]),
    (lambda f: edit_tensors(f, lambda t: {n: v for n, v in t.items() if "blocks.2" not in n}),
     ["depth=3", "weights have 2"]),
    (lambda f: edit(f, lambda c: {**c, "model_args": {**c["model_args"], "num_heads": 5}}),
     ["5 heads", "48"]),
    (lambda f: edit(f, lambda c: {**c, "pretrained_cfg": {**c["pretrained_cfg"],
                                                          "input_size": [3, 64, 64]}}),
     ["64 x 64", "32 px"]),
    (lambda f: edit(f, lambda c: {**c, "pretrained_cfg": {**c["pretrained_cfg"],
                                                          "crop_mode": "squash"}}),
     ["crop_mode=squash", "preprocessor_config.json"]),
    (lambda f: (f / "config.json").write_text("{"), ["cannot be read"]),
    (lambda f: (f / "model.safetensors").unlink(), ["model.safetensors"]),
    (lambda f: (f / "model.safetensors").write_bytes(b"1234567890"), ["cannot be read"]),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_damaged_files_are_refused(damage, said, copy_of):
    damage(copy_of)
    with pytest.raises(UserError) as e:
        weights.load(by_yaml(copy_of).backbone, NAMES, seed=0)
    for part in ("backbone.weights", str(copy_of), *said):
        assert part in str(e.value)


def test_auto_says_what_the_folder_leaves_open(copy_of):
    mixin(copy_of)
    with pytest.raises(UserError, match=r"how images are scaled .* preprocessor_config\.json"):
        weights.complete(auto(copy_of).backbone)
    edit(copy_of, lambda values: {k: v for k, v in values.items() if k != "num_heads"})
    with pytest.raises(UserError, match=r"how many attention heads .* \{\"num_heads\": 12\}"):
        weights.complete(auto(copy_of).backbone)


def test_another_family_or_geometry_than_the_yamls_is_refused(checkpoint):
    cfg = resolve("backbone=beit_tiny", f"backbone.weights={checkpoint}")
    with pytest.raises(UserError, match=r"'vit'; allowed: beit\. Or set backbone=auto"):
        weights.load(cfg.backbone, NAMES, seed=0)
    cfg = by_yaml(checkpoint, "backbone.geometry.num_attention_heads=8")
    with pytest.raises(UserError, match=r"num_attention_heads=4, but backbone=mocov3_base has 8"):
        weights.load(cfg.backbone, NAMES, seed=0)


@pytest.mark.parametrize("unfreeze", [0, 1])
def test_features_on_disk_are_those_of_timm(unfreeze, checkpoint, tmp_path):
    cfg = auto(checkpoint, f"unfreeze={unfreeze}", "data.limit=2", "cache.dtype=fp32",
               f"cache.root={tmp_path}")  # fmt: skip
    cfg = pipeline.complete(cfg)
    loaded = data.load(cfg)
    _, processor = weights.load(cfg.backbone, loaded.class_names, cfg.seed)
    pixels = PixelDataset(loaded.val.images, loaded.val.labels, processor)
    batch = torch.stack([pixels[i]["pixel_values"] for i in range(len(pixels))])
    theirs = of_timm()
    theirs.reset_classifier(len(loaded.class_names))
    for _ in range(2):  # filled, then found
        cached = features.prepare(cfg, loaded)
        with_head(cached.network.model, theirs.head)
        rows = torch.from_numpy(cached.rows["val"][0 : len(pixels)])
        with torch.no_grad():
            ours = cached.network.eval()(features=rows)["logits"]
            torch.testing.assert_close(ours, theirs(batch), atol=1e-5, rtol=1e-5)


def test_what_the_files_do_not_say_is_part_of_the_features_identity(copy_of):
    mixin(copy_of)
    edit(copy_of, lambda values: {k: v for k, v in values.items() if k != "num_heads"})
    changes = [
        [], ["backbone.random.image_mean=[0.1,0.1,0.1]"], ["backbone.random.resample=bicubic"],
        ["backbone.geometry.num_attention_heads=6"],
    ]  # fmt: skip
    found = [json.dumps(weights.identity(by_yaml(copy_of, *more).backbone)) for more in changes]
    assert len(set(found)) == len(changes)
    assert found[0] == json.dumps(weights.identity(by_yaml(copy_of).backbone))


def test_a_checkpoint_in_the_hubs_cache_is_found_without_a_network(
    checkpoint, tmp_path, monkeypatch
):
    # As MoCo v3 is there: no preprocessor_config.json, a commit by its name.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--nyu-visionx--moco-v3-vit-b"
    revision = resolve("backbone=mocov3_base").backbone.revision
    mixin(Path(shutil.copytree(checkpoint, cache / "snapshots" / revision)))
    done = beitmed("dataset=phantom", *YAML, cwd=tmp_path, module="prepare")
    assert done.returncode == 0, done.stderr
    assert "there, complete" in done.stdout


def test_a_run_on_such_a_checkpoint_exports_it_in_transformers_format(copy_of, tmp_path):
    done = beitmed(
        *FAST, *YAML, f"backbone.weights={mixin(copy_of)}", f"cache.root={tmp_path / 'cache'}",
        "train.max_steps=1", "name=run", "export=true", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model, _ = weights.load(auto(tmp_path / "outputs/run/huggingface").backbone, ("a", "b"), 0)
    frozen = of_timm().blocks[0]
    ours = model.vit.layers[0]
    assert torch.equal(ours.mlp.fc1.weight, frozen.mlp.fc1.weight)
    assert torch.equal(ours.attention.v_proj.bias, frozen.attn.qkv.bias[-48:])
    assert model.config.layer_norm_eps == 1e-6
