"""What can be configured of balancing: which strategy, and how far it goes. Imports no torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from beitmed import tasks
from beitmed.config.fields import FunctionPath, Strict, Word

#: Each strategy's function, imported by name; the first is the paper's.
STRATEGIES = {
    "undersample": "beitmed.data.sampling.undersample",
    "oversample": "beitmed.data.sampling.oversample",
}
NAMES = tuple(STRATEGIES)


class BalancingConfig(Strict):
    """How `balanced=true` chooses the images of the train split that are trained on.

    name: one of `NAMES`, or the name of a strategy from outside the package. That one has a
    function: `module.function`, imported by name; its contract is `sampling.Strategy`.
    options: whatever it wants to know; it also gets `majority_ratio`.
    """

    name: Word = NAMES[0]
    function: FunctionPath | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def papers(self) -> bool:
        return self.name == NAMES[0]

    @model_validator(mode="after")
    def _known_or_with_a_function(self) -> BalancingConfig:
        if self.function is None and self.name not in NAMES:
            raise ValueError(
                f"balancing.name: found {self.name}; allowed: {', '.join(NAMES)}, or a name of "
                "your own with balancing.function=module.function"
            )
        if self.function is not None and self.name in NAMES:
            raise ValueError(
                f"balancing.name: found {self.name} with a balancing.function, but that is the "
                "name of a strategy of beitmed; give the strategy a name of its own"
            )
        if self.function is None and self.options:
            raise ValueError(
                f"balancing.options: found {self.options}, but {self.name} has none; "
                "majority_ratio says how far it goes"
            )
        if "majority_ratio" in self.options:
            raise ValueError(
                "balancing.options: found majority_ratio, which is a key of its own: set "
                "majority_ratio=..."
            )
        return self


def contradiction(
    balanced: bool, ratio: float | None, task: str, strategy: BalancingConfig
) -> str | None:
    """In what these settings contradict one another, or None."""
    if balanced and task in tasks.TASKS and (refusal := tasks.of(task).balance_refusal):
        return f"balanced: found true with a {task} dataset, where {refusal}; use balanced=false"
    if not balanced and ratio is not None:
        return (
            f"majority_ratio: found {ratio} with balanced=false; it says how "
            "to balance, so set balanced=true, or majority_ratio=null"
        )
    if not balanced and not strategy.papers:
        return (
            f"balancing: found {strategy.name} with balanced=false, which balances nothing; set "
            "balanced=true, or leave balancing out"
        )
    if balanced and ratio is None and strategy.function is None:
        return (
            "majority_ratio: found null with balanced=true; give the number of majority "
            "images kept per minority image (1.0 or more), or set balanced=false"
        )
    return None
