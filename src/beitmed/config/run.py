"""What can be configured: names, types and rules. The values stand in `conf/*.yaml`.

Hydra composes the YAML; `resolve` checks the result against the models below. Pydantic in strict
mode stands where OmegaConf's structured configs would: those take `balanced=2` for true, know no
`Literal`, and let `+unknown=1` through. This module imports neither torch nor transformers, so a
mistake costs a second.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, ValidationError, model_validator

from beitmed.config import balancing, key_errors
from beitmed.config.backbone import BackboneConfig
from beitmed.config.balancing import BalancingConfig
from beitmed.config.dataset import DatasetConfig, OwnImages
from beitmed.config.evaluate import EvaluateConfig
from beitmed.config.fields import Count, Finite, Momentum, NonNegative, Positive, Ratio, Seed, Word
from beitmed.config.fields import Strict as _Strict
from beitmed.config.lora import LoraConfig
from beitmed.config.method import (
    BackboneMethod,
    Method,
    ResNetMethod,
    given_in_vain,
    setting,
    unread,
)
from beitmed.errors import UserError

Size = Literal[28, 64, 128, 224]


class TrainConfig(_Strict):
    epochs: Count
    max_steps: Count | None
    batch_size: Count
    weight_decay: Finite
    eval_batch_size: Count
    learning_rate: Positive
    schedule: Literal["linear", "cosine", "constant"]
    warmup_steps: NonNegative
    max_grad_norm: Finite
    adam_beta1: Momentum
    adam_beta2: Momentum
    adam_epsilon: Positive


class DataConfig(_Strict):
    root: str
    download: bool
    mirror: str | None
    allow_unofficial: bool
    limit: Count | None


class CacheConfig(_Strict):
    """Where the frozen trunk's features are kept, how exactly, and how much disk they get.

    depths: values of `unfreeze` whose features one pass through the trunk stores as well.
    """

    root: Annotated[str, Field(min_length=1)]
    dtype: Literal["fp16", "fp32"]
    limit_gb: Positive
    depths: list[NonNegative] = Field(default_factory=list)


class Config(_Strict):
    """One run. Built by `resolve` or `check` only, so that every rule has been checked."""

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
    device: Literal["auto", "cpu", "cuda"]
    seed: Seed
    majority_ratio: Ratio | None
    balancing: BalancingConfig = BalancingConfig()
    method: Method = BackboneMethod(name="backbone")
    train: TrainConfig
    evaluate: EvaluateConfig
    data: DataConfig
    cache: CacheConfig
    output_dir: Annotated[str, Field(min_length=1)]
    name: Word | None
    export: bool

    @property
    def reads_backbone(self) -> bool:
        """Whether the method needs the backbone's weights."""
        return "backbone" not in unread(self.method.model_dump())

    @property
    def trains_backbone(self) -> bool:
        return isinstance(self.method, BackboneMethod)

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
        wrong = balancing.contradiction(
            self.balanced, self.majority_ratio, self.dataset.task, self.balancing
        )
        if wrong is not None:
            raise ValueError(wrong)
        return self


# Where a run reads and writes, and how fast: two runs that differ in these alone are the same run.
_LOCATIONS = (
    "output_dir",
    "name",
    "export",
    "device",
    "data.root",
    "data.download",
    "data.mirror",
    "data.allow_unofficial",
    "dataset.path",  # what lies there stands in `dataset.content`
    "dataset.image_root",
    "cache.root",
    "cache.limit_gb",
    "cache.depths",
    "train.eval_batch_size",
    "dataset.recipe",  # what it chose stands in `train` and `majority_ratio`
    "method.title",
    "method.python",
)


def identity(cfg: Config) -> dict[str, Any]:
    """Everything in a configuration that its results depend on, as plain JSON values."""
    return without_locations(cfg.model_dump(mode="json"))


def without_locations(values: Any) -> dict[str, Any]:
    """The same for a configuration that was read from a file, of whatever version."""
    kept = copy.deepcopy(values) if isinstance(values, dict) else {}
    for path in (*_LOCATIONS, *unread(kept.get("method"))):
        *parents, last = path.split(".")
        node = kept
        for parent in parents:
            node = node.get(parent, {})
        node.pop(last, None)
    if kept.get("method", {}).get("name") == "backbone":  # as before there were other methods
        kept.pop("method")
    dataset = kept.get("dataset")
    if isinstance(dataset, dict) and dataset.get("source") != "folder":
        for key in OwnImages.model_fields:
            dataset.pop(key, None)
    if kept.get("adapter", "none") == "none":  # then its settings decide nothing
        kept.pop("adapter", None)
        kept.pop("lora", None)
    if not balancing.decides(kept):
        kept.pop("balancing", None)
    evaluate = kept.get("evaluate")
    if isinstance(evaluate, dict) and not evaluate.get("metrics"):
        evaluate.pop("metrics", None)
    return kept


def run_name(cfg: Config) -> str:
    """The run folder's name: what a reader asks for first, then a digest of the rest."""
    if cfg.name is not None:
        return cfg.name
    digest = hashlib.sha256(json.dumps(identity(cfg), sort_keys=True).encode()).hexdigest()[:8]
    balance = "full"
    if cfg.balanced:
        balance = "balanced" if cfg.balancing.papers else cfg.balancing.name
    if cfg.trains_backbone:
        depth = "all" if cfg.unfreeze == "all" else f"top{cfg.unfreeze}"
        model = f"{cfg.backbone.name}_{depth}"
    else:
        model = cfg.method.name + (f"_{cfg.backbone.name}" if cfg.reads_backbone else "")
    return f"{cfg.dataset.name}_{cfg.size}_{balance}_{model}_seed{cfg.seed}_{digest}"


def check_given(cfg: Config, overrides: Sequence[str]) -> None:
    """Raise UserError where the command line sets what the run's method does not read.

    overrides: as Hydra lists them, `key=value`.
    """
    if vain := given_in_vain(cfg.method.model_dump(), overrides):
        raise UserError(
            f"{', '.join(vain)}: found with method={cfg.method.name}, which does not read "
            f"{'it' if len(vain) == 1 else 'them'}; leave out what does not apply (the method's "
            f"own settings: {_own_settings(cfg)}), or set method=backbone."
        )
    if not cfg.balanced and (vain := setting(["balancing"], overrides)):
        raise UserError(
            f"{', '.join(vain)}: found with balanced=false, which balances nothing; set "
            "balanced=true, or leave it out."
        )


def _own_settings(cfg: Config) -> str:
    own = [key for key in type(cfg.method).model_fields if key not in ("name", "title")]
    return ", ".join(f"method.{key}" for key in own) or "none"


def conf_dir() -> Path:
    """The folder of YAML files: inside an installed wheel, else at the top of the repository."""
    packaged = Path(__file__).parents[1] / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "conf"


def _recipe(key: str, *, _root_: DictConfig) -> Any:
    # `${recipe:...}`: an interpolation key cannot be a bool, so the choice is made here. A value
    # of `balanced` that is no bool is reported by `resolve`, with its key.
    recipes = _root_.dataset.recipe
    balanced = _root_.balanced is True and recipes.balanced is not None
    return recipes["balanced" if balanced else "full"][key]


def register_resolvers() -> None:
    """Make `${recipe:...}` known to OmegaConf; calling it again does nothing."""
    OmegaConf.register_new_resolver("recipe", _recipe, replace=True)


def resolve(composed: DictConfig) -> Config:
    """Check a composed configuration and freeze it.

    Raises UserError that lists every wrong key with what was found and what is allowed.
    """
    try:
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as e:
        raise UserError(f"configuration: {e}") from e
    assert isinstance(values, dict)
    return check(values)


def with_backbone(cfg: Config, backbone: BackboneConfig) -> Config:
    """The same run with another backbone, or a completed one; all rules are checked again."""
    return check(cfg.model_dump() | {"backbone": backbone.model_dump()})


def check(values: Any) -> Config:
    """The same for plain values, as a run's own `config.yaml` holds them."""
    try:
        return Config.model_validate(values)
    except ValidationError as e:
        raise UserError(
            "configuration:\n" + "\n".join(f"  {p}" for p in key_errors.explain(Config, e))
        ) from e


def unknown_key(parent: str, key: str) -> str:
    """Say that `parent.key` does not exist, which key was probably meant, and which exist."""
    return key_errors.unknown_key(Config, parent, key)
