"""What the tests of methods share: the images that they are made on, and what one has found.

What a method must show to pass is stated with each test, and in docs/experiments.md. All compare
maps on cells, by their order alone, and take the interval over images (or patients).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from beitmed.explain import maps
from beitmed.explain.maps import Question
from beitmed.explain.network import Network
from beitmed.statistics.clusters import Groups
from beitmed.statistics.estimates import Estimate


@dataclass(frozen=True)
class Tested:
    """A network, images of the run's split, and each method's maps of them on cells.

    images uint8 [n, h, w(, 3)]; groups: patients [n] or None; masks bool [n, h, w] or None: where
    what decides is known to be; maps float64 [n, rows, columns] by method.
    """

    __test__ = False  # not a test, whatever pytest thinks of the name

    network: Network
    images: np.ndarray
    pixels: torch.Tensor
    question: Question
    groups: Groups
    masks: np.ndarray | None
    maps: Mapping[str, np.ndarray]

    @property
    def cells(self) -> tuple[int, int]:
        return self.network.cells(self.pixels)

    def maps_of(
        self, network: Network, pixels: torch.Tensor | None = None
    ) -> dict[str, np.ndarray]:
        """The same of another network, or of other pixels."""
        pixels = self.pixels if pixels is None else pixels
        return cell_maps(network, pixels, tuple(self.maps), self.question)


@dataclass(frozen=True)
class Result:
    """What a test found of a method: estimates by name, and whether it passes.

    passes is None where it could not be made, for the `reason`. told: the estimate that stands for
    the test in a sentence. more: JSON values beside.
    """

    passes: bool | None
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    told: str | None = None
    reason: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        estimates = {name: found.as_dict() for name, found in self.estimates.items()}
        return {"passes": self.passes, "reason": self.reason, **estimates, **self.more}

    def in_numbers(self) -> str:
        """The estimate that stands for the test: `0.06 [0.00, 0.12]`."""
        found = None if self.told is None else self.estimates[self.told]
        if found is None or found.value is None:
            return "n/a"
        if found.ci_low is None or found.ci_high is None:
            return f"{found.value:z.2f}"
        return f"{found.value:z.2f} [{found.ci_low:z.2f}, {found.ci_high:z.2f}]"


def cell_maps(
    network: Network, pixels: torch.Tensor, names: tuple[str, ...], question: Question
) -> dict[str, np.ndarray]:
    """Maps of each method on cells, by name."""
    cells, found = network.cells(pixels), maps.make(network, pixels, names, question)
    return {name: maps.on_cells(values, cells) for name, values in found.items()}


def flat(values: np.ndarray) -> np.ndarray:
    """[n, rows, columns] -> [n, cells]."""
    return values.reshape(len(values), -1)


def above(found: Estimate, limit: float) -> bool:
    """Whether the whole interval lies above."""
    return found.ci_low is not None and found.ci_low > limit


def below(found: Estimate, limit: float) -> bool:
    """Whether the whole interval lies below."""
    return found.ci_high is not None and found.ci_high < limit
