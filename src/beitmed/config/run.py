"""What can be configured: names, types and rules. The values stand in `conf/*.yaml`.

Pydantic in strict mode stands where OmegaConf's structured configs would: those take `balanced=2`
for true, know no `Literal`, and let `+unknown=1` through. No module of this folder imports torch or
transformers, so a mistake costs a second.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar, overload

from pydantic import Field, ValidationError, model_validator

from beitmed import tasks
from beitmed.config import balancing, key_errors
from beitmed.config.backbone import BackboneConfig
from beitmed.config.balancing import BalancingConfig
from beitmed.config.dataset import DatasetConfig
from beitmed.config.evaluate import EvaluateConfig
from beitmed.config.fields import (
    Count,
    Decides,
    Finite,
    Momentum,
    NonNegative,
    Positive,
    Ratio,
    Seed,
    Strict,
    Word,
)
from beitmed.config.lora import LoraConfig
from beitmed.config.method import BackboneMethod, Method, ResNetMethod, unread
from beitmed.errors import UserError

Size = Literal[28, 64, 128, 224]


class TrainConfig(Strict):
    epochs: Count
    max_steps: Count | None
    batch_size: Count
    weight_decay: Finite
    eval_batch_size: Annotated[Count, Decides.NOTHING]
    learning_rate: Positive
    schedule: Literal["linear", "cosine", "constant"]
    warmup_steps: NonNegative
    max_grad_norm: Finite
    adam_beta1: Momentum
    adam_beta2: Momentum
    adam_epsilon: Positive


class DataConfig(Strict):
    root: Annotated[str, Decides.NOTHING]
    download: Annotated[bool, Decides.NOTHING]
    mirror: Annotated[str | None, Decides.NOTHING]
    allow_unofficial: Annotated[bool, Decides.NOTHING]
    limit: Count | None
    folds: Annotated[int, Field(ge=2, le=100)] | None
    fold: NonNegative | None

    def unused(self) -> set[str]:
        return {"folds", "fold"} if self.folds is None else set()

    @model_validator(mode="after")
    def _a_fold_of_the_folds(self) -> DataConfig:
        if self.folds is None and self.fold is not None:
            raise ValueError(
                f"data.fold: found {self.fold} without data.folds; give their number, as in "
                "data.folds=5, or leave it out"
            )
        if self.folds is not None and (self.fold is None or self.fold >= self.folds):
            every = ",".join(map(str, range(self.folds)))
            raise ValueError(
                f"data.fold: found {self.fold} with data.folds={self.folds}; allowed: 0 to "
                f"{self.folds - 1}, the fold that is the test set (all: -m data.fold={every})"
            )
        return self


class CacheConfig(Strict):
    """Where the frozen trunk's features are kept, how exactly, and how much disk they get.

    depths: values of `unfreeze` whose features one pass through the trunk computes besides.
    """

    root: Annotated[str, Field(min_length=1), Decides.NOTHING]
    dtype: Literal["fp16", "fp32", "int8", "fp8"]
    limit_gb: Annotated[Positive, Decides.NOTHING]
    depths: Annotated[list[NonNegative], Decides.NOTHING] = Field(default_factory=list)


class Config(Strict):
    """One run. Built by `resolve` or `check` only, so that every rule has been checked.

    COMMAND: what asks for one. FILE: of conf/, with which its composition begins.
    """

    COMMAND: ClassVar[str] = "train"
    FILE: ClassVar[str] = "config"

    dataset: DatasetConfig
    backbone: BackboneConfig
    size: Size
    balanced: bool
    unfreeze: Annotated[int, Field(ge=0)] | Literal["all"]
    trunk_mode: Literal["eval", "train"]
    adapter: Literal["none", "lora"]
    lora: LoraConfig
    features: Literal["auto", "cached", "live"]
    precision: Literal["fp32", "bf16", "fp16"]
    device: Annotated[Literal["auto", "cpu", "cuda"], Decides.NOTHING]
    processes: Annotated[Count | Literal["auto"], Decides.NOTHING] = 1
    seed: Annotated[Seed, Decides.SEED]
    label_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    shots: Count | None = None
    majority_ratio: Ratio | None
    balancing: BalancingConfig
    method: Method
    train: TrainConfig
    evaluate: EvaluateConfig
    data: DataConfig
    cache: CacheConfig
    output_dir: Annotated[str, Field(min_length=1), Decides.NOTHING]
    name: Annotated[Word | None, Decides.NOTHING]
    export: Annotated[bool, Decides.NOTHING]

    def unused(self) -> set[str]:
        keys = set(unread(self.method.model_dump()))
        if self.adapter == "none":
            keys.add("lora")
        if not self.balanced:
            keys |= {"balancing", "majority_ratio"}
        if self.shots is None:  # so a run of all labels is what it was before there were parts
            keys.add("shots")
        if self.label_fraction == 1:
            keys.add("label_fraction")
        if self.feature_mode == "live" or self.unfreeze == 0:  # pooled features are kept exactly
            keys.add("cache.dtype")
        return keys

    @property
    def part_of_labels(self) -> bool:
        """Whether only a part of the train split counts as labelled."""
        return self.label_fraction < 1 or self.shots is not None

    @property
    def feature_mode(self) -> Literal["cached", "live"]:
        """What `features` comes to: cached wherever a frozen part gives the same at every step."""
        return "live" if self.features == "live" or self.no_trunk else "cached"

    @property
    def reads_backbone(self) -> bool:
        """Whether the method needs the backbone's weights."""
        return "backbone" not in unread(self.method.model_dump())

    @property
    def trains_backbone(self) -> bool:
        return isinstance(self.method, BackboneMethod)

    def undivided(self, processes: int) -> str | None:
        """What is wrong with sharing a training's batches among so many processes, if anything."""
        batch = self.train.batch_size
        if not self.trains_backbone or batch % processes == 0:
            return None
        divisors = ", ".join(str(n) for n in range(1, min(batch, 64) + 1) if batch % n == 0)
        return (
            f"processes: found {processes}{' (auto)' if self.processes == 'auto' else ''}, but a "
            f"batch of train.batch_size={batch} images cannot be split evenly among so many; "
            f"allowed: {divisors}, or another train.batch_size"
        )

    @property
    def no_trunk(self) -> str | None:
        """The setting for which there are no features to keep, or None."""
        if self.trunk_mode == "train":
            return "trunk_mode=train"
        return "unfreeze=all" if self.unfreeze == "all" else None

    @model_validator(mode="after")
    def _rules_of_a_backbones_training(self) -> Config:
        if not self.trains_backbone:  # defaults that mean nothing there break no rule
            return self
        geometry = self.backbone.geometry
        layers = geometry.num_hidden_layers if geometry else None
        if layers is not None and self.unfreeze != "all" and self.unfreeze > layers:
            raise ValueError(
                f"unfreeze: found {self.unfreeze}, but {self.backbone.name} has {layers} layers; "
                f"allowed: 0 to {layers}, or all"
            )
        if self.adapter == "lora" and self.unfreeze in (0, "all"):
            raise ValueError(
                f"adapter: found lora with unfreeze={self.unfreeze}; it stands in the top layers "
                "instead of training them, so give their number, 1 or more (all layers: "
                f"unfreeze={layers or 'their number'}), or set adapter=none"
            )
        if self.features == "cached" and (why := self.no_trunk) is not None:
            raise ValueError(
                f"features: found cached with {why}, where a frozen part that gives the same for "
                "an image at every step does not exist; use features=live, or auto"
            )
        if self.processes != "auto" and (problem := self.undivided(self.processes)) is not None:
            raise ValueError(problem)
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError(
                "precision: found fp16 with device=cpu; fp16 needs a GPU, use fp32 or bf16"
            )
        return self

    @model_validator(mode="after")
    def _rules_of_a_resnets_training(self) -> Config:
        if isinstance(self.method, ResNetMethod) and self.precision == "fp16":
            raise ValueError(
                f"precision: found fp16 with method={self.method.name}, whose gradients are not "
                "scaled; use fp32 or bf16"
            )
        return self

    @model_validator(mode="after")
    def _rules_across_fields(self) -> Config:
        if self.data.folds is not None and not self.dataset.own:
            raise ValueError(
                f"data.folds: found {self.data.folds} with dataset={self.dataset.name}, whose "
                "splits are fixed; allowed: null, or images of your own (dataset=folder)"
            )
        if self.label_fraction < 1 and self.shots is not None:
            raise ValueError(
                f"shots: found {self.shots} with label_fraction={self.label_fraction:g}; each says "
                "which part of the train split is labelled, so give one of them only"
            )
        if self.evaluate.tta == "flip" and not self.dataset.flip:
            raise ValueError(
                f"evaluate.tta: found flip, but a mirror image is none of {self.dataset.name} "
                "(dataset.flip=false); allowed: crops, null, or dataset.flip=true where you know "
                "that left and right mean the same"
            )
        wrong = balancing.contradiction(
            self.balanced, self.majority_ratio, self.dataset.task, self.balancing
        )
        if wrong is not None:
            raise ValueError(wrong)
        task = self.dataset.task
        if task != "auto" and not tasks.of(task).has_positive:
            for key in ("prevalence", "operating_point"):
                if (found := getattr(self.evaluate, key)) is not None:
                    raise ValueError(
                        f"evaluate.{key}: found {found} with task {task}, which has no positive "
                        "class; allowed: null"
                    )
        return self


Kind = TypeVar("Kind", bound=Config)


@overload
def check(values: Any) -> Config: ...
@overload
def check(values: Any, kind: type[Kind]) -> Kind: ...
def check(values: Any, kind: type[Config] = Config) -> Config:
    """The configuration of plain values, as YAML holds them; kind: a run's, or another command's.

    Raises UserError that lists every wrong key with what was found and what is allowed.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as e:
        raise UserError(
            "configuration:\n" + "\n".join(f"  {p}" for p in key_errors.explain(kind, e))
        ) from e


def unknown_key(parent: str, key: str, kind: type[Config] = Config) -> str:
    """Say that `parent.key` does not exist, which key was probably meant, and which exist."""
    return key_errors.unknown_key(kind, parent, key)
