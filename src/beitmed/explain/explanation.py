"""Maps of a finished run, of its own images or of new ones, and the tests of the methods."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beitmed.explain import answers, request
from beitmed.explain.answers import Answers
from beitmed.explain.choice import Choice
from beitmed.explain.request import Request
from beitmed.explain.selection import Selected
from beitmed.trained import Trained

log = logging.getLogger(__name__)
_APART = 0.1  # between logits here and the run's own, beyond what rounded features explain


@dataclass(frozen=True)
class Explanation:
    """A request and its answers."""

    request: Request
    answers: Answers

    @property
    def run(self) -> Trained:
        return self.request.found

    @property
    def choice(self) -> Choice:
        return self.request.choice

    @property
    def selected(self) -> Selected:
        return self.request.selected

    @property
    def predicted(self) -> np.ndarray:
        """Which classes, bool [n, classes]: the one, or of several labels all that are called."""
        called = self.run.task.called(self.answers.logits)
        return self.run.task.members(called, len(self.run.class_names))


def answer(asked: Request) -> Explanation:
    """Ask the network. Raises UserError where weights are missing or not the run's."""
    for name, why in asked.left_out.items():
        log.info("Without %s: %s.", name, why)
    found = answers.ask(asked)
    _compare(asked, found.logits)
    return Explanation(asked, found)


def explain(
    folders: Sequence[Path], choice: Choice | None = None, changes: Sequence[str] = ()
) -> Explanation:
    """Check, as `request.prepare`, and `answer`."""
    return answer(request.prepare(folders, choice, changes))


def _compare(asked: Request, logits: np.ndarray) -> None:
    """Warn where the network that is explained is not quite the one that the run tested."""
    split, indices = asked.choice.split, asked.selected.indices
    if indices is None or split not in asked.found.predictions:
        return
    told = asked.found.predictions[split].logits[indices]
    apart = np.abs(told - logits).max(1)
    shown = (told.argmax(1) != logits.argmax(1)) | (apart > _APART)
    for index, distance in zip(indices[shown], apart[shown], strict=True):
        log.warning(
            "Note: logits of %s %d are up to %.2g away from the run's predictions.csv; the figures "
            "show what the network predicts here, in fp32.", split, index, distance,
        )  # fmt: skip
