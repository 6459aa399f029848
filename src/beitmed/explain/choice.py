"""What is to be explained, how and with which tests; whatever can be wrong is said before torch."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from beitmed.config import Config
from beitmed.config.method import ResNetMethod
from beitmed.errors import UserError, install

METHODS = (
    "attention", "rollout", "gradient_attention", "integrated_gradients", "occlusion", "gradcam",
)  # fmt: skip
ATTENDING = METHODS[:3]  # read self-attention
MOST_IMAGES = 48  # of one command
_MOST_TESTED = 1000
SPLITS = ("test", "val", "train")
ROWS = ("head", "patches", "cls")
BASELINES = ("mean", "blur", "black")


@dataclass(frozen=True)
class Choice:
    """Which images, methods and tests, as on the command line.

    new: files, folders and archives of images without labels; instead of those of the split.
    masks: an archive with the places that are known to decide, of the split's images.
    """

    images: str = "each:3"
    split: str = "test"
    methods: str = "all"
    target: str = "predicted"
    tests: bool = True
    tested_images: str = "24"
    baseline: str = "mean"
    layer: str = "last"
    rows: str = "head"
    heads: bool = False
    masks: Path | None = None
    new: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for key, found, allowed in (
            ("split", self.split, SPLITS),
            ("rows", self.rows, ROWS),
            ("baseline", self.baseline, BASELINES),
        ):
            if found not in allowed:
                raise UserError(f"{key}: found {found!r}; allowed: {', '.join(allowed)}")
        if not re.fullmatch(r"(each|errors):[1-9]\d*|\d+(,\d+)*", self.images):
            raise UserError(
                f"images: found {self.images!r}; allowed: indices such as 0,5,9, or each:N for the "
                "first N of each class, or errors:N for the N errors that the run was most sure of"
            )
        if not self.tested_images.isdecimal() or not 2 <= self.count <= _MOST_TESTED:
            raise UserError(
                f"tested_images: found {self.tested_images!r}; allowed: 2 to {_MOST_TESTED} images "
                "to test the methods on (tests=false leaves that out)"
            )
        unknown = [name for name in self._named if name not in (*METHODS, "all")]
        if unknown or len(set(self._named)) < len(self._named):
            raise UserError(
                f"methods: found {self.methods!r}; allowed: all, or some of {', '.join(METHODS)}, "
                "each once"
            )

    @property
    def _named(self) -> list[str]:
        return self.methods.split(",")

    @property
    def count(self) -> int:
        """How many images the methods are tested on, at most."""
        return int(self.tested_images)

    def of(self, folder: Path, cfg: Config) -> tuple[tuple[str, ...], dict[str, str]]:
        """The methods for a run, and why others are left out of "all".

        Raises UserError where the run has no network, or one that is named cannot be had of it.
        """
        if not cfg.trains_backbone and not isinstance(cfg.method, ResNetMethod):
            raise UserError(
                f"{folder}: a run with method={cfg.method.name}, through which no gradient passes "
                "and which has no attention; give a run with method=backbone or a ResNet."
            )
        refused = _refused(cfg)
        if self.methods == "all":
            return tuple(name for name in METHODS if name not in refused), refused
        for name in self._named:
            if name in refused:
                others = ", ".join(n for n in METHODS if n not in refused)
                raise UserError(
                    f"methods: found {name}, which cannot be had of {folder}: {refused[name]}. "
                    f"Allowed here: {others}."
                )
        return tuple(name for name in METHODS if name in self._named), {}

    def number(self, layers: int) -> int:
        """The layer, from 1."""
        if self.layer == "last":
            return layers
        if not self.layer.isdecimal() or not 1 <= int(self.layer) <= layers:
            raise UserError(f"layer: found {self.layer!r}; allowed: 1 to {layers}, or last")
        return int(self.layer)

    def target_class(self, class_names: Sequence[str]) -> int | None:
        """The class that all maps are of; None for that which is predicted for each image."""
        if self.target == "predicted":
            return None
        if self.target in class_names:
            return list(class_names).index(self.target)
        if self.target.isdecimal() and int(self.target) < len(class_names):
            return int(self.target)
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(class_names))
        raise UserError(f"target: found {self.target!r}; allowed: predicted, or of {known}")


def _refused(cfg: Config) -> dict[str, str]:
    """Why methods cannot be had of a run or on this machine, by name."""
    reason = None
    if not cfg.trains_backbone:
        reason = "a convolutional network has no self-attention"
    elif cfg.backbone.family == "data2vec-vision":
        reason = "transformers does not give the attention of a data2vec-vision"
    found = {} if reason is None else dict.fromkeys(ATTENDING, reason)
    if importlib.util.find_spec("captum") is None:
        found["integrated_gradients"] = f"it needs the captum package: {install('explain')}"
    return found
