"""Plain vision transformers saved in timm's layout, read as transformers' ViT.

timm names the tensors of a ViT in its own way and keeps query, key and value in one. Besides
timm's own, other checkpoints are published so, MoCo v3 among them. Only what both libraries compute
alike is read: a CLS token that is classified, learnt or fixed position embeddings, GELU, LayerNorm
with an epsilon of 1e-6. Everything else is refused by the name of the tensor or key that asks
for it.

Source: R. Wightman, PyTorch Image Models, vision_transformer.py and the config.json that its
save_for_hf writes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import ViTConfig, ViTImageProcessorPil

from beitmed.errors import UserError

_LAYER_NORM_EPS = 1e-6  # of every model that `_PLAIN` matches; transformers' own default is 1e-12
_PLAIN = re.compile(r"(?:vit|deit)_(tiny|small|base|large|huge)_patch\d+_\d+")
_DEPTH_AND_HEADS = {
    "tiny": (12, 3), "small": (12, 6), "base": (12, 12), "large": (24, 16), "huge": (32, 16),
}  # fmt: skip
# Arguments of timm's VisionTransformer that change what is computed, though not the tensors' names,
# with the values under which it is the plain one.
_NEEDED: dict[str, tuple[Any, ...]] = {
    "global_pool": ("token",), "in_chans": (3,), "class_token": (True,), "no_embed_class": (False,),
    **dict.fromkeys(
        ("act_layer", "norm_layer", "embed_layer", "mlp_layer", "attn_layer", "block_fn"), (None,)
    ),
}  # fmt: skip
_OUTSIDE = {
    "cls_token": "vit.embeddings.cls_token",
    "pos_embed": "vit.embeddings.position_embeddings",
    "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
    "norm": "vit.layernorm",
}
_IN_A_BLOCK = {
    "norm1": ["layernorm_before"],
    "attn.qkv": ["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    "attn.proj": ["attention.o_proj"],
    "norm2": ["layernorm_after"],
    "mlp.fc1": ["mlp.fc1"],
    "mlp.fc2": ["mlp.fc2"],
}
_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # PIL's numbers


def found(folder: Path) -> bool:
    """Whether a checkpoint is in timm's layout: by its config.json, or by its tensors' names."""
    values = _values(folder)
    if "model_type" in values:  # transformers' own
        return False
    if "architecture" in values:  # timm's own
        return True
    file = _file(folder)
    wanted = {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight"}
    return file is not None and wanted <= _shapes(file).keys()


def config(folder: Path, heads: int | None) -> ViTConfig:
    """transformers' configuration of a plain ViT in timm's layout.

    heads: how many a layer has, where config.json does not say so; no tensor's shape tells it.
    Raises UserError where the model is no plain ViT, or is not what its config.json says.
    """
    said, shapes = _said(folder), _shapes(_weights(folder))
    _check_names(folder, shapes)
    try:
        hidden, channels, patch, _ = shapes["patch_embed.proj.weight"]
        tokens, side = shapes["pos_embed"][1], math.isqrt(shapes["pos_embed"][1] - 1)
        intermediate = shapes["blocks.0.mlp.fc1.weight"][0]
    except (KeyError, ValueError, IndexError) as e:
        raise UserError(
            f"backbone.weights: the tensors of {folder} are not those of a plain ViT of timm's "
            f"({e}). The file is incomplete or of another model; fetch it again."
        ) from e
    depth = 1 + max(int(n.split(".")[1]) for n in shapes if n.startswith("blocks."))
    heads = said.get("num_heads", heads)
    if heads is None:
        raise UserError(
            f"backbone.weights: nothing in {folder} says how many attention heads the model has. "
            'Write it into its config.json, such as {"num_heads": 12}, or choose a backbone whose '
            "YAML says it (not auto)."
        )
    _agree(folder, said, {"embed_dim": hidden, "depth": depth, "patch_size": patch})
    if tokens != side**2 + 1 or channels != 3 or hidden % heads:
        raise UserError(
            f"backbone.weights: {folder} holds a ViT with {tokens} position embeddings, {channels} "
            f"colour channels, {heads} heads and a width of {hidden}. What is read has one for the "
            "CLS token and one for each patch of a square image, 3 channels, and a width that its "
            "heads divide."
        )
    return ViTConfig(
        hidden_size=hidden, num_hidden_layers=depth, num_attention_heads=heads,
        intermediate_size=intermediate, image_size=side * patch, patch_size=patch,
        qkv_bias="blocks.0.attn.qkv.bias" in shapes, layer_norm_eps=_LAYER_NORM_EPS,
    )  # fmt: skip


def processor(folder: Path) -> ViTImageProcessorPil | None:
    """The image processor of a checkpoint in timm's layout, as timm evaluates; None: unsaid.

    A preprocessor_config.json goes first, then the `pretrained_cfg` of timm's config.json: scaled
    to its size / crop_pct, of which the middle is taken (where a margin is odd, perhaps a pixel
    beside timm's).
    """
    if (folder / "preprocessor_config.json").is_file():
        return ViTImageProcessorPil.from_pretrained(folder)
    values = _values(folder)
    values = values.get("pretrained_cfg", values)  # older files have its keys at the top
    if "mean" not in values or "std" not in values:
        return None
    resample, mode = values.get("interpolation", "bicubic"), values.get("crop_mode", "center")
    size, crop_pct = values["input_size"][-1], values.get("crop_pct") or 1.0
    if resample not in _RESAMPLE or mode != "center" or values["input_size"][:2] != [3, size]:
        raise UserError(
            f"backbone.weights: the config.json of {folder} has interpolation={resample}, "
            f"crop_mode={mode} and input_size={values['input_size']}; read are bilinear and "
            "bicubic, center, and [3, n, n]. Give the folder a preprocessor_config.json instead."
        )
    return ViTImageProcessorPil(
        size={"shortest_edge": math.floor(size / crop_pct)},
        do_center_crop=True,
        crop_size={"height": size, "width": size},
        resample=_RESAMPLE[resample],
        image_mean=list(values["mean"]),
        image_std=list(values["std"]),
    )


def state_dict(folder: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors under the names of transformers' ViT, without its classifier."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in _tensors(_weights(folder)).items():
        new = _renamed(name) or []
        renamed |= zip(new, tensor.chunk(len(new)) if len(new) > 1 else [tensor], strict=False)
    return renamed


def _renamed(name: str) -> list[str] | None:
    """The names of a tensor in transformers' ViT, [] for the classifier; None: it has none."""
    if name in ("head.weight", "head.bias"):
        return []
    if name in ("cls_token", "pos_embed"):
        return [_OUTSIDE[name]]
    module, _, kind = name.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if module in _OUTSIDE:
        return [f"{_OUTSIDE[module]}.{kind}"]
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", module)
    if block is None or block[2] not in _IN_A_BLOCK:
        return None
    return [f"vit.layers.{block[1]}.{new}.{kind}" for new in _IN_A_BLOCK[block[2]]]


def _check_names(folder: Path, shapes: Mapping[str, Any]) -> None:
    wrong = [name for name in shapes if _renamed(name) is None]
    if wrong:
        raise UserError(
            f"backbone.weights: {folder} is in timm's layout and has {len(wrong)} tensors that a "
            f"plain ViT has no place for, among them {', '.join(sorted(wrong)[:3])}. Layer scale, "
            "registers, distillation tokens and the like are read from checkpoints in "
            "transformers' format only."
        )


def _said(folder: Path) -> dict[str, Any]:
    """The arguments of timm's VisionTransformer that config.json gives.

    timm writes an architecture and what differs from it; huggingface_hub's PyTorchModelHubMixin
    the arguments alone, and no architecture.
    """
    values = _values(folder)
    said = values
    if (name := values.get("architecture")) is not None:
        if (plain := _PLAIN.fullmatch(name.partition(".")[0])) is None:
            raise UserError(
                f"backbone.weights: {folder} holds timm's {name}; of timm's models the plain ViTs "
                "are read, such as vit_base_patch16_224 (vit or deit, tiny to huge)."
            )
        depth, heads = _DEPTH_AND_HEADS[plain[1]]
        pool = {k: v for k, v in values.items() if k == "global_pool"}
        said = {"depth": depth, "num_heads": heads, **pool, **values.get("model_args", {})}
    for key, allowed in _NEEDED.items():
        if key in said and said[key] not in allowed:
            raise UserError(
                f"backbone.weights: the config.json of {folder} says {key}={said[key]!r}; read is "
                f"a plain ViT, with {key}={allowed[0]!r} or nothing said of it."
            )
    return said


def _agree(folder: Path, said: Mapping[str, Any], read: Mapping[str, int]) -> None:
    for key, value in read.items():
        if said.get(key, value) not in (value, [value, value]):
            raise UserError(
                f"backbone.weights: the config.json of {folder} says {key}={said[key]}, its "
                f"weights have {value}. The file is incomplete, or the two belong to different "
                "models; fetch them again."
            )


def _values(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _file(folder: Path) -> Path | None:
    files = (folder / name for name in ("model.safetensors", "pytorch_model.bin"))
    return next((file for file in files if file.is_file()), None)


def _weights(folder: Path) -> Path:
    if (file := _file(folder)) is None:
        raise FileNotFoundError(f"{folder} has no model.safetensors")
    return file


def _shapes(file: Path) -> dict[str, list[int]]:
    if file.suffix == ".safetensors":  # its header says them
        with safe_open(file, framework="pt") as f:
            return {name: f.get_slice(name).get_shape() for name in f.keys()}  # noqa: SIM118
    return {name: list(tensor.shape) for name, tensor in _tensors(file).items()}


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    found = torch.load(file, map_location="cpu", weights_only=True)
    tensors = {name: t for name, t in found.items() if isinstance(t, torch.Tensor)}
    if len(tensors) < len(found):
        raise ValueError(f"{file.name} holds more than tensors by name")
    return tensors
