"""The kinds of values that a configuration has."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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


class Strict(BaseModel):
    """A part of the configuration: no unknown key, no conversion of a wrong type, no change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
