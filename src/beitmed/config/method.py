"""What can be configured of a method: a backbone's training, or a baseline. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from beitmed.config.fields import Count, Decides, FunctionPath, Positive, Strict, Word

#: Keys that a method may or may not read. All read the data, balanced, seed, device and evaluate.
OPTIONAL = ("backbone", "unfreeze", "trunk_mode", "adapter", "lora", "features", "precision",
            "train", "export", "cache.dtype")  # fmt: skip
Key = Literal["backbone", "unfreeze", "trunk_mode", "adapter", "lora", "features", "precision",
              "train", "export", "cache.dtype"]  # fmt: skip
_OF_FEATURES = ("backbone", "features", "precision")
Share = Annotated[float, Field(gt=0, lt=1)]
Positives = Annotated[list[Positive], Field(min_length=1)]


class _Method(Strict):
    """name: also the run's name. title: in tables; a method that reads `backbone` stands after it.

    reads: which of `OPTIONAL` decide something; the others are refused where they are given.
    """

    reads: ClassVar[tuple[str, ...]] = ()

    name: Word
    title: Annotated[str | None, Decides.NOTHING]


class BackboneMethod(_Method):
    reads = OPTIONAL
    name: Literal["backbone"]


class MajorityMethod(_Method):
    name: Literal["majority"]


class LogisticMethod(_Method):
    """C: candidates for the inverse of the L2 penalty."""

    name: Literal["pixels_logistic"]
    C: Positives
    max_iter: Count


class FeaturesLogisticMethod(LogisticMethod):
    reads = _OF_FEATURES
    name: Literal["features_logistic"]  # type: ignore[assignment]


class KnnMethod(_Method):
    """k: candidates for the number of neighbours."""

    reads = _OF_FEATURES
    name: Literal["features_knn"]
    k: Annotated[list[Count], Field(min_length=1)]


class ResNetMethod(_Method):
    """milestones: shares of the epochs after which the learning rate is multiplied by `decay`."""

    reads = ("precision",)
    name: Literal["resnet18", "resnet50"]
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    milestones: list[Share]
    decay: Annotated[float, Field(gt=0, le=1)]


class AutomlMethod(_Method):
    """time_budget_s: seconds of search, over all labels where an image has several."""

    name: Literal["automl"]
    time_budget_s: Positive


class AutogluonMethod(_Method):
    """python: the program of the environment that AutoGluon lives in; null is refused by the run.

    time_budget_s: seconds of training. checkpoint: a timm model by its name or in a folder; null:
    what `presets` choose. pretrained: false starts that model from random weights.
    hyperparameters: AutoGluon's own, nested by the parts of their names.
    """

    name: Literal["autogluon"]
    python: Annotated[Annotated[str, Field(min_length=1)] | None, Decides.NOTHING]
    time_budget_s: Count
    presets: Literal["medium_quality", "high_quality", "best_quality"]
    checkpoint: Annotated[str, Field(min_length=1)] | None
    pretrained: bool
    hyperparameters: dict[str, Any]

    @model_validator(mode="after")
    def _random_weights_of_what(self) -> AutogluonMethod:
        if not self.pretrained and self.checkpoint is None:
            raise ValueError(
                "method.pretrained: found false without a method.checkpoint; say of which timm "
                "model, such as method.checkpoint=resnet18"
            )
        return self


class OtherMethod(_Method):
    """A baseline from outside the package.

    function: `module.function`, imported by name; its contract is that of `pipeline.METHODS`.
    reads_keys: which of `OPTIONAL` it reads. options: whatever it wants to know.
    """

    function: FunctionPath
    reads_keys: list[Key] = Field(default_factory=list)
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _own_name(self) -> OtherMethod:
        if self.name in NAMES:
            raise ValueError(
                f"method.name: found {self.name} with a method.function, but that is the name of "
                "a method of beitmed; give the method a name of its own"
            )
        return self


_KINDS: dict[str, type[_Method]] = {
    "backbone": BackboneMethod,
    "majority": MajorityMethod,
    "pixels_logistic": LogisticMethod,
    "features_logistic": FeaturesLogisticMethod,
    "features_knn": KnnMethod,
    "resnet18": ResNetMethod,
    "resnet50": ResNetMethod,
    "automl": AutomlMethod,
    "autogluon": AutogluonMethod,
}
NAMES = tuple(_KINDS)


def _tag(value: Any) -> str:
    """The kind of a method by its name; one with a function is another's, as an unknown name is."""
    if isinstance(value, _Method):
        return type(value).__name__
    values = value if isinstance(value, Mapping) else {}
    kind = None if "function" in values else _KINDS.get(str(values.get("name")))
    return (kind or OtherMethod).__name__


Method = Annotated[
    Annotated[BackboneMethod, Tag("BackboneMethod")]
    | Annotated[MajorityMethod, Tag("MajorityMethod")]
    | Annotated[LogisticMethod, Tag("LogisticMethod")]
    | Annotated[FeaturesLogisticMethod, Tag("FeaturesLogisticMethod")]
    | Annotated[KnnMethod, Tag("KnnMethod")]
    | Annotated[ResNetMethod, Tag("ResNetMethod")]
    | Annotated[AutomlMethod, Tag("AutomlMethod")]
    | Annotated[AutogluonMethod, Tag("AutogluonMethod")]
    | Annotated[OtherMethod, Tag("OtherMethod")],
    Discriminator(_tag),
]


def reads(values: Any) -> tuple[str, ...]:
    """Which of `OPTIONAL` a method reads, from plain values of whatever version."""
    if not isinstance(values, Mapping):
        return OPTIONAL  # written before there were other methods
    if "function" in values:
        return tuple(values.get("reads_keys") or ())
    kind = _KINDS.get(str(values.get("name")))
    return OPTIONAL if kind is None else kind.reads


def unread(values: Any) -> tuple[str, ...]:
    """The keys that mean nothing for a method."""
    used = reads(values)
    return tuple(key for key in OPTIONAL if key not in used)
