"""What a method hands over: the waist between what knows a model and what does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from beitmed.data import Data
from beitmed.errors import UserError
from beitmed.storage.rows import Rows

Row = dict[str, float | int]


class Model(Protocol):
    """A fitted model that can be asked again."""

    def logits(self, images: np.ndarray | Rows) -> np.ndarray:
        """Images as a dataset stores them, uint8 [n, h, w] or [n, h, w, 3] -> float64 [n, classes].

        For all images of a split, in their order, those are the run's predictions to the bit. Part
        of them, or another order, may move the last digits: sums are made over other blocks.
        """
        ...


@runtime_checkable
class Describing(Model, Protocol):
    """A model that also says what it makes of an image on its way to the logits.

    features_are: what they are, in words.
    """

    @property
    def features_are(self) -> str: ...

    def with_features(self, images: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
        """The logits, and float32 [n, features] of the same pass."""
        ...

    def features_of(self, data: Data, split: str, rows: np.ndarray) -> np.ndarray:
        """The features of these images of a split of the run's data, stored ones if there are."""
        ...


@dataclass(frozen=True)
class Fit:
    """A fitted method's scores, and what it says about itself.

    logits: float64 [n, classes] of "val" and "test", in the splits' order: log probabilities up to
        a constant of each image; of several labels the log odds of each.
    history: a row an epoch, as `trainer.fit` gives; empty where there are no epochs.
    description: JSON values for model.json; None where the method has written that file.
    parameters, trained_parameters: counts; None where the word means nothing.
    tensors: what to keep of the model, by name; written as model.safetensors, for `read_tensors`.
    """

    logits: Mapping[str, np.ndarray]
    history: list[Row] = field(default_factory=list)
    description: Mapping[str, Any] | None = None
    parameters: int | None = None
    trained_parameters: int | None = None
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict)


def check(fitted: Any, data: Data, method: str) -> Fit:
    """The same, if it keeps the contract; else a UserError that names the method."""
    if not isinstance(fitted, Fit):
        raise UserError(
            f"method.module: {method} returned {type(fitted).__name__}, not a beitmed.model.Fit."
        )
    for name in ("val", "test"):
        logits, shape = (
            fitted.logits.get(name),
            (len(data.splits[name].labels), len(data.class_names)),
        )
        found = None if logits is None else (np.shape(logits), getattr(logits, "dtype", None))
        if logits is None or found != (shape, np.dtype(np.float64)):
            raise UserError(
                f"method.module: {method} gave logits of {name} of shape and type {found}, not "
                f"{shape} and float64."
            )
        if not np.isfinite(logits).all():
            raise UserError(f"method.module: {method} gave logits of {name} that are not finite.")
    return fitted


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of a run's `Fit`. Raises UserError where the file is missing or damaged."""
    file = folder / "model.safetensors"
    try:
        return load_file(file)
    except (OSError, SafetensorError) as e:
        raise unreadable(file, e) from e


def read_description(folder: Path) -> dict[str, Any]:
    """The same for what a method says about itself, in model.json."""
    file = folder / "model.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise unreadable(file, e) from e


def unreadable(file: Path, error: Exception) -> UserError:
    """That a file of a saved model cannot be read."""
    return UserError(f"{file}: cannot be read ({error}). Restore it, or train the run anew.")
