"""The families of vision transformers, each as one spec: how it embeds, what a layer reads, how it
ends in a classification.

A new family is one entry in FAMILIES (and its name in `config.backbone.FamilyName`); freezing,
splitting, caching and their tests go by the spec. Pooling is each family's own, as its authors or
transformers' ForImageClassification have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import transformers as hf

from beitmed.backbones.beit_training import beit_layer, mean_of_beit_layer
from beitmed.backbones.family import Family, Shared, side, submodule
from beitmed.backbones.heads import DINOv3ViTForImageClassification, ViTMAEForImageClassification


def _position_bias(path: str) -> Callable[[Any], dict[str, torch.Tensor]]:
    def gather(model: Any) -> dict[str, torch.Tensor]:
        shared: Any = submodule(model, path)
        if shared is None or shared.relative_position_bias_table.is_meta:
            # On the meta device there is nothing to gather, and transformers would keep the index
            # that it makes there for every later model of this process: garbage, seen as NaN.
            return {}
        n = side(model.config.image_size) // side(model.config.patch_size)
        return {"position_bias": shared((n, n), dim_size=1 + n * n)}

    return gather


def _beit_layer(layer: Any, tokens: torch.Tensor, shared: Shared, side: int) -> torch.Tensor:
    return beit_layer(layer, tokens, shared.get("position_bias"), (side, side))


def _mean_of_beit_layer(
    layer: Any, tokens: torch.Tensor, shared: Shared, side: int
) -> torch.Tensor:
    return mean_of_beit_layer(layer, tokens, shared.get("position_bias"), (side, side))


def _data2vec_layer(layer: Any, tokens: torch.Tensor, shared: Shared, side: int) -> torch.Tensor:
    bias = shared.get("position_bias")
    return layer(tokens, relative_position_bias=bias, resolution=(side, side))[0]


def _rotary(model: Any) -> dict[str, torch.Tensor]:
    rope = model.dinov3_vit.rope_embeddings
    assert not rope.training, "in train mode its coordinates are random"
    if rope.inv_freq.is_meta:
        return {}
    n = side(model.config.image_size)
    cos, sin = rope(torch.empty(1, 1, n, n, device=rope.inv_freq.device))
    return {"rotary_cos": cos, "rotary_sin": sin}


def _rotary_layer(layer: Any, tokens: torch.Tensor, shared: Shared, side: int) -> torch.Tensor:
    return layer(tokens, position_embeddings=(shared["rotary_cos"], shared["rotary_sin"]))


def _with_registers(config: Any) -> int:
    return 1 + config.num_register_tokens


def _vit(classifier: Any, body: str, **other: Any) -> Family:
    defaults: dict[str, Any] = {
        "layers": f"{body}.layers",
        "below": (f"{body}.embeddings",),
        "norm": f"{body}.layernorm",
        "pooled": ("cls",),
        "processor": hf.ViTImageProcessorPil,
    }
    return Family(classifier, **defaults | other)


def _dinov2(classifier: Any, body: str, **other: Any) -> Family:
    # CLS beside the mean of the patches, as in the authors' linear evaluation and in transformers.
    # Released with position embeddings for 518 px and an image processor that gives 224 px.
    return _vit(
        classifier, body, layers=f"{body}.encoder.layer", pooled=("cls", "mean"),
        processor=hf.BitImageProcessorPil, interpolates=True, layer_scale="layerscale_value",
        **other,
    )  # fmt: skip


# As the checkpoints are that were trained without labels.
_SHARED_BIAS = {
    "use_shared_relative_position_bias": True,
    "use_mask_token": True,
    "use_mean_pooling": True,
}
_BEIT = Family(
    hf.BeitForImageClassification,
    layers="beit.layers",
    below=("beit.embeddings", "beit.shared_position_bias"),
    norm="beit.pooler.layernorm",
    norm_first=False,
    pooled=("mean",),
    shared=_position_bias("beit.shared_position_bias"),
    layer=_beit_layer,
    mean_of_layer=_mean_of_beit_layer,
    processor=hf.BeitImageProcessorPil,
    fixed=_SHARED_BIAS,
    layer_scale="layer_scale_init_value",
    zero_at_first=(
        "beit.shared_position_bias.relative_position_bias_table",
        "beit.embeddings.cls_token",
    ),
)
_DATA2VEC = Family(
    hf.Data2VecVisionForImageClassification,
    layers="data2vec_vision.encoder.layer",
    below=("data2vec_vision.embeddings", "data2vec_vision.encoder.relative_position_bias"),
    norm="data2vec_vision.pooler.layernorm",
    norm_first=False,
    pooled=("mean",),
    embed=lambda model, pixels: model.data2vec_vision.embeddings(pixels)[0],
    shared=_position_bias("data2vec_vision.encoder.relative_position_bias"),
    layer=_data2vec_layer,
    # Checkpoints trained without labels say false, and would give a CLS token that no loss has
    # trained; the authors fine-tune with the mean.
    always={"use_mean_pooling": True},
    processor=hf.BeitImageProcessorPil,
    fixed=_SHARED_BIAS,
    layer_scale="layer_scale_init_value",
    zero_at_first=(
        "data2vec_vision.encoder.relative_position_bias.relative_position_bias_table",
        "data2vec_vision.embeddings.cls_token",
    ),
)
# By config.json's model_type.
FAMILIES: dict[str, Family] = {
    "beit": _BEIT,
    "data2vec-vision": _DATA2VEC,
    "vit": _vit(hf.ViTForImageClassification, "vit"),  # supervised ViT, and DINO
    "deit": _vit(
        hf.DeiTForImageClassification, "deit", prefix=lambda config: 2,
        processor=hf.DeiTImageProcessorPil,
        zero_at_first=tuple(
            f"deit.embeddings.{name}"
            for name in ("cls_token", "distillation_token", "position_embeddings")
        ),
    ),
    "vit_mae": _vit(
        ViTMAEForImageClassification, "vit", norm="fc_norm", norm_first=False, pooled=("mean",),
        embed=ViTMAEForImageClassification.embed,
    ),
    "vit_msn": _vit(
        hf.ViTMSNForImageClassification, "vit",
        zero_at_first=("vit.embeddings.cls_token", "vit.embeddings.position_embeddings"),
    ),
    "ijepa": _vit(
        hf.IJepaForImageClassification, "ijepa", pooled=("mean",), prefix=lambda config: 0
    ),
    "dinov2": _dinov2(hf.Dinov2ForImageClassification, "dinov2"),
    "dinov2_with_registers": _dinov2(
        hf.Dinov2WithRegistersForImageClassification, "dinov2_with_registers",
        prefix=_with_registers,
        zero_at_first=("dinov2_with_registers.embeddings.register_tokens",),
    ),
    "dinov3_vit": Family(
        DINOv3ViTForImageClassification,
        layers="dinov3_vit.model.layer",
        below=("dinov3_vit.embeddings", "dinov3_vit.rope_embeddings"),
        norm="dinov3_vit.norm",
        pooled=("cls", "mean"),
        prefix=_with_registers,
        shared=_rotary,
        layer=_rotary_layer,
        processor=hf.DINOv3ViTImageProcessor,
        layer_scale="layerscale_value",
    ),
}  # fmt: skip
# Configurations of BEiT and Data2Vec may ask for the CLS token instead; the norm then comes first.
_OF_THE_CLS_TOKEN = {"beit": "beit", "data2vec-vision": "data2vec_vision"}


def of(config: Any) -> Family:
    """The spec for a model of this configuration, whose model_type is in FAMILIES."""
    family = FAMILIES[config.model_type]
    body = _OF_THE_CLS_TOKEN.get(config.model_type)
    if body is None or config.use_mean_pooling:
        return family
    return replace(
        family, norm=f"{body}.layernorm", norm_first=True, pooled=("cls",), mean_of_layer=None
    )


def random_config(
    name: str, geometry: Mapping[str, int], layer_scale: float | None, drop_path: float | None
) -> Any:
    """The configuration of a model with random weights, from what `geometry` reads of one."""
    family, values = FAMILIES[name], dict(geometry)
    if name.startswith("dinov2"):
        values["mlp_ratio"] = values.pop("intermediate_size") // values["hidden_size"]
    if layer_scale is not None and family.layer_scale is not None:
        values[family.layer_scale] = layer_scale  # type: ignore[assignment]
    if drop_path is not None:
        values["drop_path_rate"] = drop_path  # type: ignore[assignment]
    return family.classifier.config_class(**values, **family.fixed)


def geometry(config: Any) -> dict[str, int | None]:
    """What a configuration says of `config.backbone.Geometry`; None: its family has no such."""
    hidden = config.hidden_size
    has_ratio = config.model_type.startswith("dinov2")
    return {
        "hidden_size": hidden,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": int(hidden * config.mlp_ratio)
        if has_ratio
        else config.intermediate_size,
        "image_size": side(config.image_size),
        "patch_size": side(config.patch_size),
        "num_register_tokens": getattr(config, "num_register_tokens", None),
    }
