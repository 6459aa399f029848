"""Runs, the images that they are asked about, and what was met with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from beitmed import trained
from beitmed.data.new_image_sources import NewImages
from beitmed.data.new_images import Form
from beitmed.predict import rules as predicted_by
from beitmed.predict.choice import Choice
from beitmed.predict.rules import Rules
from beitmed.predict.unlikeness import Unlikeness
from beitmed.trained import Trained


@dataclass
class Counted:
    """What was met with, counted as it goes. seconds: of reading, computing and writing."""

    images: int = 0
    seen: int = 0
    called: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    abstained: int = 0
    unlike: int = 0
    noted: dict[str, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Asked:
    """Runs, what they are asked about, and how.

    unlike: of each run, where the training images lie; or why that is not known.
    """

    rules: Rules
    images: NewImages
    choice: Choice
    form: Form
    unlike: tuple[Unlikeness, ...] | str = ()

    @property
    def runs(self) -> Sequence[Trained]:
        return self.rules.runs


def ask(
    folders: Sequence[Path], images: NewImages, choice: Choice, changes: Sequence[str] = ()
) -> Asked:
    """Open the runs and check all that can be known without weights.

    changes: as for `reader.read_config`. Raises UserError for what cannot be asked.
    """
    runs = [trained.open_run(folder, changes) for folder in folders]
    predicted_by.check_alike(runs)
    rules = Rules(runs, choice)
    _ = rules.threshold, rules.abstention  # fitted here, and so refused in time
    form = replace(runs[0].form, refuses_colour=choice.colour == "refuse")
    return Asked(rules, images, choice, form)
