"""The kinds of values that a configuration has, and what a field of it decides."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Ratio = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Triple = Annotated[list[float], Field(min_length=3, max_length=3)]
FUNCTION_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"  # module.function
MODULE_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"
ModulePath = Annotated[str, Field(pattern=MODULE_PATH)]
FunctionPath = Annotated[str, Field(pattern=FUNCTION_PATH)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=150)]


class Decides(Enum):
    """What a field decides, said once, where the field is declared, as `Annotated[type, ...]`.

    A field that says nothing decides predictions: one that was forgotten may then keep two equal
    runs apart, but never pass two different ones off as the same.
    """

    PREDICTIONS = "predictions"
    SEED = "predictions, as one repetition of a variant"
    EVALUATION = "only what is computed from predictions"
    NOTHING = "no number: a place, a name, or a matter of speed"


def decides(field: FieldInfo) -> Decides:
    """What a field says that it decides."""
    said = (item for item in field.metadata if isinstance(item, Decides))
    return next(said, Decides.PREDICTIONS)


class Strict(BaseModel):
    """A part of the configuration: no unknown key, no conversion of a wrong type, no change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def unused(self) -> set[str]:
        """Keys below this part that decide nothing beside the values of the others."""
        return set()
