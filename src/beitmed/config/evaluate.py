"""What can be configured of the evaluation. Imports no torch."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from beitmed.config.fields import FUNCTION_PATH, Decides, Strict

_POINT = r"(sensitivity|specificity):0?\.\d*[1-9]\d*"
_NAME = r"[A-Za-z]\w{0,60}"


class EvaluateConfig(Strict):
    """n_resamples: of each bootstrap. metrics: from outside the package, by name.

    prevalence: the share of positive images that PPV and NPV are stated for. operating_point: the
    rate that the threshold shall reach on the validation set, such as "sensitivity:0.95". Both are
    of binary tasks; null: neither is stated.

    tta: the views of each test image over which a second set of predictions is averaged, to be
    compared with the plain ones, which stay the run's.

    A metric is a `module.function`; its contract is that of `evaluation.own_metrics`.
    """

    n_resamples: Annotated[int, Field(ge=100), Decides.EVALUATION]
    prevalence: Annotated[float | None, Field(gt=0, lt=1), Decides.EVALUATION] = None
    operating_point: Annotated[
        str | None, BeforeValidator(lambda x: x if x is None else str(x)), Decides.EVALUATION
    ] = None
    tta: Annotated[Literal["flip", "crops"] | None, Decides.EVALUATION] = None
    # Hydra fills a null with a mapping from the command line, but no empty mapping.
    metrics: Annotated[
        dict[str, str], BeforeValidator(lambda found: found or {}), Decides.EVALUATION
    ] = Field(default_factory=dict)

    @property
    def point(self) -> tuple[Literal["sensitivity", "specificity"], float] | None:
        """The rate of the operating point and its level."""
        if self.operating_point is None:
            return None
        kind, _, level = self.operating_point.partition(":")
        return ("sensitivity" if kind == "sensitivity" else "specificity"), float(level)

    @model_validator(mode="after")
    def _an_operating_point(self) -> EvaluateConfig:
        found = self.operating_point
        if found is not None and not re.fullmatch(_POINT, found):
            raise ValueError(
                f"evaluate.operating_point: found {found!r}; allowed: sensitivity:LEVEL or "
                "specificity:LEVEL with a level between 0 and 1, such as sensitivity:0.95, or null"
            )
        return self

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
