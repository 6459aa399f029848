"""What can be configured of a backbone: names, types and rules. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from beitmed.config.fields import (
    Count,
    Decides,
    Finite,
    Momentum,
    NonNegative,
    Seed,
    Strict,
    Triple,
    Word,
)

# The model types of `config.json` that `families.FAMILIES` has a spec for.
FamilyName = Literal[
    "beit", "data2vec-vision", "vit", "deit", "vit_mae", "vit_msn", "ijepa", "dinov2",
    "dinov2_with_registers", "dinov3_vit",
]  # fmt: skip


class Geometry(Strict):
    """What must agree between a backbone's YAML and a checkpoint's `config.json`.

    input_size: the side of what its image processor gives, where that is not image_size.
    """

    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    intermediate_size: Count
    image_size: Count
    patch_size: Count
    num_register_tokens: NonNegative | None = None
    input_size: Count | None = None

    @property
    def patches(self) -> int:
        return ((self.input_size or self.image_size) // self.patch_size) ** 2


class RandomBackbone(Strict):
    """Configuration and image processor of a backbone with random weights.

    layer_scale_init_value and drop_path_rate: null for families that have none.
    """

    init_seed: Seed
    layer_scale_init_value: Finite | None = None
    drop_path_rate: Momentum | None = None
    image_mean: Triple
    image_std: Triple
    resample: Literal["bilinear", "bicubic"]


class About(Strict):
    """What is known of a checkpoint, in sentences: a report prints it.

    overlap: with test sets of this project.
    """

    licence: str
    source: str
    trained_on: str
    overlap: str


class BackboneConfig(Strict):
    """A model and where its weights come from.

    family, geometry: null where the checkpoint is to say it (backbone=auto); `weights.complete`
        then fills them in before anything else asks.
    random: null for a backbone that needs a checkpoint.
    content: digest of what decides its weights and pixels, which `weights.complete` fills in; null
        for random weights.
    about: null where nothing is said; of a pre-training of this project its own folder says it.
    """

    name: Annotated[Word, Decides.NOTHING]
    family: FamilyName | None
    weights: Annotated[str, Field(min_length=1), Decides.NOTHING]
    revision: Annotated[str | None, Decides.NOTHING]
    geometry: Geometry | None
    random: RandomBackbone | None
    content: str | None = None
    about: Annotated[About | None, Decides.NOTHING] = None

    def unused(self) -> set[str]:
        # A checkpoint's files say all of it; random weights are drawn by what is said here.
        return {"content"} if self.random_weights else {"family", "geometry", "random"}

    @property
    def random_weights(self) -> bool:
        return self.weights == "random"

    @property
    def known_geometry(self) -> Geometry:
        assert self.geometry is not None, "weights.complete comes first"
        return self.geometry

    @model_validator(mode="before")
    @classmethod
    def _auto_needs_weights(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("weights", "") is None:
            raise ValueError(
                "backbone.weights: found null; this backbone is whatever a checkpoint says, so "
                "set backbone.weights to a hub name (owner/model) or to a folder"
            )
        return values

    @model_validator(mode="after")
    def _rules_across_fields(self) -> BackboneConfig:
        if (self.family is None) != (self.geometry is None):
            raise ValueError(
                f"backbone.family: found {self.family} with geometry {self.geometry}; give both, "
                "or null for both (backbone=auto)"
            )
        if self.random_weights and (self.random is None or self.geometry is None):
            raise ValueError(
                f"backbone.weights: found random, but backbone={self.name} does not say what a "
                "random model of it is; give a hub name or a folder"
            )
        return self
