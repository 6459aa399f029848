"""What can be configured of the evaluation. Imports no torch."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from beitmed.config.fields import FUNCTION_PATH, Decides, Strict

_NAME = r"[A-Za-z]\w{0,60}"


class EvaluateConfig(Strict):
    """n_resamples: of each bootstrap. metrics: from outside the package, by name.

    A metric is a `module.function`; its contract is that of `evaluation.own_metrics`.
    """

    n_resamples: Annotated[int, Field(ge=100), Decides.EVALUATION]
    # Hydra fills a null with a mapping from the command line, but no empty mapping.
    metrics: Annotated[
        dict[str, str], BeforeValidator(lambda found: found or {}), Decides.EVALUATION
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_and_functions(self) -> EvaluateConfig:
        for name, path in self.metrics.items():
            if not re.fullmatch(_NAME, name):
                raise ValueError(
                    f"evaluate.metrics: found the name {name!r}; allowed: a letter, then letters, "
                    "digits and _, 61 in all"
                )
            if not re.fullmatch(FUNCTION_PATH, path):
                raise ValueError(
                    f"evaluate.metrics.{name}: found {path!r}; allowed: module.function, such as "
                    "my_metrics.youden"
                )
        return self
