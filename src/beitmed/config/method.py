"""What can be configured of a method: a backbone's training, or a baseline. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from beitmed.config.fields import Count, Decides, ModulePath, Positive, Strict, Word

#: Keys that a method may or may not read. All read the data, balanced, seed, device and evaluate.
OPTIONAL = ("backbone", "unfreeze", "trunk_mode", "adapter", "lora", "features", "precision",
            "processes", "train", "export", "cache.dtype")  # fmt: skip
Key = Literal["backbone", "unfreeze", "trunk_mode", "adapter", "lora", "features", "precision",
              "processes", "train", "export", "cache.dtype"]  # fmt: skip
_OF_FEATURES = ("backbone", "features", "precision", "processes", "train.eval_batch_size")
Share = Annotated[float, Field(gt=0, lt=1)]
Positives = Annotated[list[Positive], Field(min_length=1)]


class _Method(Strict):
    """What every method says of itself, once.

    name: on the command line and in the run's name. title: in tables and figures; that of a method
    that reads `backbone` stands after it. module: its implementation, imported when it is used;
    the contract is that of `beitmed.methods`.
    reads: which of `OPTIONAL`, or of their parts, decide something; others are refused where they
    are given.
    """

    reads: ClassVar[tuple[str, ...]] = ()

    name: Word


class _OwnMethod(_Method):
    """A method of this package: what a user's method configures is fixed here."""

    title: ClassVar[str | None]
    module: ClassVar[str]


class BackboneMethod(_OwnMethod):
    title = None  # a table names the backbone and its depth
    module = "beitmed.methods.backbone"
    reads = OPTIONAL
    name: Literal["backbone"]


class MajorityMethod(_OwnMethod):
    title = "majority class"
    module = "beitmed.methods.majority"
    name: Literal["majority"]


class LogisticMethod(_OwnMethod):
    """C: candidates for the inverse of the L2 penalty."""

    title = "logistic regression on pixels"
    module = "beitmed.methods.linear"
    name: Literal["pixels_logistic"]
    C: Positives
    max_iter: Count


class FeaturesLogisticMethod(LogisticMethod):
    title = "features, logistic regression"
    reads = _OF_FEATURES
    name: Literal["features_logistic"]  # type: ignore[assignment]


class KnnMethod(_OwnMethod):
    """k: candidates for the number of neighbours."""

    title = "features, kNN"
    module = "beitmed.methods.neighbors"
    reads = _OF_FEATURES
    name: Literal["features_knn"]
    k: Annotated[list[Count], Field(min_length=1)]


class ResNetMethod(_OwnMethod):
    """milestones: shares of the epochs after which the learning rate is multiplied by `decay`.

    network: torchvision's. stride: of its first convolution, where it is not the protocol's.
    """

    title = "ResNet-18"
    network: ClassVar[str] = "resnet18"
    stride: ClassVar[int | None] = None
    module = "beitmed.methods.resnet"
    reads = ("precision",)
    name: Literal["resnet18"]
    epochs: Count
    batch_size: Count
    learning_rate: Positive
    milestones: list[Share]
    decay: Annotated[float, Field(gt=0, le=1)]


class ResNet18ShortMethod(ResNetMethod):
    title = "ResNet-18, short"
    stride = 2
    name: Literal["resnet18_short"]  # type: ignore[assignment]


class ResNet50Method(ResNetMethod):
    title = "ResNet-50"
    network = "resnet50"
    name: Literal["resnet50"]  # type: ignore[assignment]


class AutomlMethod(_OwnMethod):
    """time_budget_s: seconds of search, over all labels where an image has several."""

    title = "FLAML on pixels"
    module = "beitmed.methods.automl"
    name: Literal["automl"]
    time_budget_s: Positive


class AutogluonMethod(_OwnMethod):
    """python: the program of the environment that AutoGluon lives in; null is refused by the run.

    time_budget_s: seconds of training. checkpoint: a timm model by its name or in a folder; null:
    what `presets` choose. pretrained: false starts that model from random weights.
    hyperparameters: AutoGluon's own, nested by the parts of their names.
    """

    title = "AutoGluon MultiModal"
    module = "beitmed.methods.autogluon"
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

    module: imported by its name; its contract is that of `beitmed.methods`. title: null: the name.
    reads_keys: which of `OPTIONAL` it reads. options: whatever it wants to know.
    """

    module: ModulePath
    title: Annotated[str | None, Decides.NOTHING] = None
    reads_keys: list[Key] = Field(default_factory=list)
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _own_name(self) -> OtherMethod:
        if self.name in NAMES:
            raise ValueError(
                f"method.name: found {self.name} with a method.module, but that is the name of "
                "a method of beitmed; give the method a name of its own"
            )
        return self


_KINDS: dict[str, type[_OwnMethod]] = {
    "backbone": BackboneMethod,
    "majority": MajorityMethod,
    "pixels_logistic": LogisticMethod,
    "features_logistic": FeaturesLogisticMethod,
    "features_knn": KnnMethod,
    "resnet18": ResNetMethod,
    "resnet18_short": ResNet18ShortMethod,
    "resnet50": ResNet50Method,
    "automl": AutomlMethod,
    "autogluon": AutogluonMethod,
}
NAMES = tuple(_KINDS)


def _tag(value: Any) -> str:
    """The kind of a method by its name; one with a module is a user's, as an unknown name is."""
    if isinstance(value, _Method):
        return type(value).__name__
    values = value if isinstance(value, Mapping) else {}
    kind = None if "module" in values else _KINDS.get(str(values.get("name")))
    return (kind or OtherMethod).__name__


Method = Annotated[
    Annotated[BackboneMethod, Tag("BackboneMethod")]
    | Annotated[MajorityMethod, Tag("MajorityMethod")]
    | Annotated[LogisticMethod, Tag("LogisticMethod")]
    | Annotated[FeaturesLogisticMethod, Tag("FeaturesLogisticMethod")]
    | Annotated[KnnMethod, Tag("KnnMethod")]
    | Annotated[ResNetMethod, Tag("ResNetMethod")]
    | Annotated[ResNet18ShortMethod, Tag("ResNet18ShortMethod")]
    | Annotated[ResNet50Method, Tag("ResNet50Method")]
    | Annotated[AutomlMethod, Tag("AutomlMethod")]
    | Annotated[AutogluonMethod, Tag("AutogluonMethod")]
    | Annotated[OtherMethod, Tag("OtherMethod")],
    Discriminator(_tag),
]


def reads(values: Any) -> tuple[str, ...]:
    """Which of `OPTIONAL`, or of their parts, a method reads, from the plain values of a run."""
    if not isinstance(values, Mapping):
        return OPTIONAL
    if "module" in values:
        return tuple(values.get("reads_keys") or ())
    kind = _KINDS.get(str(values.get("name")))
    return OPTIONAL if kind is None else kind.reads


def unread(values: Any) -> tuple[str, ...]:
    """The keys that decide nothing for a method; a part that it reads is speed only."""
    used = reads(values)
    return tuple(key for key in OPTIONAL if key not in used)
