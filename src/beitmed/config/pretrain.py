"""What can be configured of a pre-training's objective, and what a configuration of one is.

A pre-training has the keys of a training for its data, backbone, optimizer and place, and its own
besides; the keys of a training that it does not read are refused on its command line.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, model_validator

from beitmed.config.fields import Count, Decides, Finite, Positive, Seed, Strict
from beitmed.config.run import Config

Share = Annotated[float, Field(gt=0, lt=1)]
#: Keys of a training that a pre-training has no use for.
UNREAD = ("unfreeze", "trunk_mode", "adapter", "lora", "features", "label_fraction", "shots",
          "balanced", "majority_ratio", "balancing", "method", "evaluate", "export", "cache.dtype",
          "cache.depths", "data.folds", "data.fold")  # fmt: skip


class _Masked(Strict):
    """masking: blocks, as BEiT masks; or each patch by itself. mask_ratio: of all patches."""

    masking: Literal["blocks", "random"]
    mask_ratio: Share


class RandomTokenizer(Strict):
    """A tokenizer with random weights: its width, its vocabulary, and what they are drawn from."""

    hidden_size: Count
    vocab_size: Count
    init_seed: Seed


class TokensObjective(_Masked):
    """BEiT's: the visual words of masked patches.

    tokenizer: hub name, folder, or random. tokenizer_px: the side of the image that it reads; null:
    8 px a patch, unless its own processor says another. content: digest of its files, filled in.
    """

    name: Literal["tokens"]
    tokenizer: Annotated[str, Field(min_length=1), Decides.NOTHING]
    tokenizer_px: Count | None
    random: RandomTokenizer
    content: str | None = None

    def unused(self) -> set[str]:
        return {"content"} if self.tokenizer == "random" else {"random"}


class PixelsObjective(_Masked):
    """Regression of masked patches.

    target: mae, each patch by its own mean and deviation, squared error; or simmim, pixels as the
    network reads them, absolute error.
    """

    name: Literal["pixels"]
    target: Literal["mae", "simmim"]


class HybridObjective(_Masked):
    """The same, and a contrast between two views of an image, times `weight`."""

    name: Literal["hybrid"]
    target: Literal["mae", "simmim"]
    weight: Finite
    temperature: Positive
    projection: Count


Objective = Annotated[TokensObjective | PixelsObjective | HybridObjective, Discriminator("name")]


class PretrainConfig(Strict):
    """What is learnt from, how it is changed, and what is looked at meanwhile.

    datasets: names of shipped ones; null: the one of `dataset`, unless `images` is given. weights:
    how often an image of each set is seen in an epoch, `images` last; null: once. content: digest
    of `images`, filled in. crop: the least share of the area. flip: null: where the dataset's YAML
    allows it. intensity: the largest change of gain and offset. fit, levels: how a file of `images`
    becomes an image, as dataset.fit and dataset.intensity have it.
    """

    datasets: Annotated[list[str], Field(min_length=1)] | None
    weights: list[Positive] | None
    images: Annotated[Annotated[str, Field(min_length=1)] | None, Decides.NOTHING]
    content: str | None = None
    val: bool
    held_out: Share
    crop: Annotated[float, Field(gt=0, le=1)]
    flip: bool | None
    intensity: Annotated[float, Field(ge=0, lt=1)]
    fit: Literal["pad", "crop", "squash"]
    levels: Literal["dtype", "minmax"]
    probe: Annotated[Literal["knn", "linear", "none"], Decides.NOTHING]
    every: Annotated[Count, Decides.NOTHING]

    def unused(self) -> set[str]:
        return {"fit", "levels", "content"} if self.images is None else set()

    def changes_images(self, flips: bool) -> bool:
        """Whether the network sees an image otherwise each time; flips: of a set at least."""
        return self.crop < 1 or flips or self.intensity > 0


class PretrainRun(Config):
    """One pre-training. Built by `check` only, so that every rule has been checked."""

    COMMAND: ClassVar[str] = "pretrain"
    FILE: ClassVar[str] = "pretrain"

    objective: Objective
    pretrain: PretrainConfig

    def unused(self) -> set[str]:
        unread = set(UNREAD)
        return unread if self.reads_dataset else unread | {"dataset"}

    @property
    def reads_dataset(self) -> bool:
        """Whether it learns from the images of `dataset`."""
        return self.pretrain.datasets is None and self.pretrain.images is None

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of what it learns from, in their order."""
        named = self.pretrain.datasets or ([self.dataset.name] if self.reads_dataset else [])
        return (*named, *([] if self.pretrain.images is None else ["images"]))

    @model_validator(mode="after")
    def _rules_of_a_pretraining(self) -> PretrainRun:
        weights, sets = self.pretrain.weights, self.sets
        if weights is not None and len(weights) != len(sets):
            raise ValueError(
                f"pretrain.weights: found {len(weights)} for {len(sets)} sets ({', '.join(sets)}); "
                "allowed: one of each, in this order, or null"
            )
        objective, size = self.objective, self.train.batch_size
        if isinstance(objective, HybridObjective) and objective.weight > 0 and size < 2:
            raise ValueError(
                f"train.batch_size: found {size} with objective=hybrid, which contrasts the images "
                "of a batch; allowed: 2 or more, or objective.weight=0"
            )
        if len(set(sets)) < len(sets):
            raise ValueError(f"pretrain.datasets: found {list(sets)}; allowed: each set once")
        return self

    def of_dataset(self, values: dict[str, Any]) -> Config:
        """A training's configuration, for who reads a dataset by it; values: of `dataset`."""
        dumped = self.model_dump(include=set(Config.model_fields))
        return Config.model_validate({**dumped, "dataset": values})
