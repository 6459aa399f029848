"""What a method hands back: the waist between what knows a model and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beitmed.data import Data
from beitmed.errors import UserError

Row = dict[str, float | int]


@dataclass(frozen=True)
class Fit:
    """A fitted method's scores, and what it says about itself.

    logits: float64 [n, classes] of "val" and "test", in the splits' order: log probabilities up to
        a constant of each image; of several labels the log odds of each.
    history: a row an epoch, as `trainer.fit` gives; empty where there are no epochs.
    description: JSON values for model.json; None where the method has written that file.
    parameters, trained_parameters: counts; None where the word means nothing.
    tensors: what to keep of the model, by name; written as model.safetensors.
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
            f"method.function: {method} returned {type(fitted).__name__}, not a beitmed.model.Fit."
        )
    for name in ("val", "test"):
        logits, shape = (
            fitted.logits.get(name),
            (len(data.splits[name].labels), len(data.class_names)),
        )
        found = None if logits is None else (np.shape(logits), getattr(logits, "dtype", None))
        if logits is None or found != (shape, np.dtype(np.float64)):
            raise UserError(
                f"method.function: {method} gave logits of {name} of shape and type {found}, not "
                f"{shape} and float64."
            )
        if not np.isfinite(logits).all():
            raise UserError(f"method.function: {method} gave logits of {name} that are not finite.")
    return fitted
