"""Maps of a finished run, of its own images or of new ones, and the tests of the methods.

Whatever can be wrong with the choice is said before torch is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from beitmed import config, trained
from beitmed.errors import UserError
from beitmed.explain import selection
from beitmed.explain.choice import ATTENDING, Choice
from beitmed.explain.selection import Selected
from beitmed.trained import Trained

if TYPE_CHECKING:
    from beitmed.explain.answers import Answers

log = logging.getLogger(__name__)
_APART = 0.1  # between logits here and the run's own, beyond what rounded features explain


@dataclass(frozen=True)
class Request:
    """What is asked of which images of a run, checked.

    others: runs of further seeds. names: of the methods; left_out: those that "all" does not mean
    here, and why. layer: whose attention is shown, None where no method reads any.
    """

    choice: Choice
    found: Trained
    others: Sequence[Trained]
    names: tuple[str, ...]
    left_out: Mapping[str, str]
    layer: int | None
    selected: Selected


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


def prepare(
    folders: Sequence[Path], choice: Choice | None = None, changes: Sequence[str] = ()
) -> Request:
    """Check what is asked of a finished run, the first; further seeds of it show what repeats.

    changes: as for `reader.read_config`. Raises UserError where a folder holds no finished run,
    data are missing or not the run's, the runs are not seeds of one variant, or the choice is not
    in the run.
    """
    choice = choice or Choice()
    found = trained.open_run(folders[0], changes)
    names, left_out = choice.of(folders[0], found.cfg)
    choice.target_class(found.class_names)
    layer = None
    if not set(names).isdisjoint(ATTENDING):
        layer = choice.number(found.cfg.backbone.known_geometry.num_hidden_layers)
        if choice.rows == "cls" and found.cfg.backbone.family == "ijepa":
            raise UserError("rows: found cls, but ijepa has no CLS token; allowed: head, patches")
    elif choice.heads:
        raise UserError("heads: found true, but no method here reads attention; leave it out.")
    others = _of_other_seeds(found, [trained.open_run(path, changes) for path in folders[1:]])
    selection.check(choice, found)  # before anything is loaded
    selected = selection.select(choice, found)
    return Request(choice, found, others, names, left_out, layer, selected)


def answer(request: Request) -> Explanation:
    """Ask the network. Raises UserError where weights are missing or not the run's."""
    from beitmed.explain import answers  # torch: seconds, so after the checks

    for name, why in request.left_out.items():
        log.info("Without %s: %s.", name, why)
    found = answers.ask(request)
    _compare(request, found.logits)
    return Explanation(request, found)


def explain(
    folders: Sequence[Path], choice: Choice | None = None, changes: Sequence[str] = ()
) -> Explanation:
    """`prepare` and `answer`."""
    return answer(prepare(folders, choice, changes))


def _of_other_seeds(found: Trained, others: Sequence[Trained]) -> Sequence[Trained]:
    """The same, if each run is another seed of the same variant."""
    seeds = {found.cfg.seed}
    for other in others:
        wrong = config.differences(config.variant(found.cfg), config.variant(other.cfg))
        if not wrong and other.cfg.seed in seeds:
            wrong = [f"seed {other.cfg.seed} was given before"]
        if not wrong and other.run.data["digests"] != found.run.data["digests"]:
            wrong = ["its images differ"]
        if wrong:
            raise UserError(
                f"{other.run.path}: is not another seed of {found.run.path}: "
                f"{'; '.join(wrong)}. Give runs that differ in the seed alone; whether the maps of "
                "these agree is part of the tests."
            )
        seeds.add(other.cfg.seed)
    return others


def _compare(request: Request, logits: np.ndarray) -> None:
    """Warn where the network that is explained is not quite the one that the run tested."""
    split, indices = request.choice.split, request.selected.indices
    if indices is None or split not in request.found.predictions:
        return
    told = request.found.predictions[split].logits[indices]
    apart = np.abs(told - logits).max(1)
    shown = (told.argmax(1) != logits.argmax(1)) | (apart > _APART)
    for index, distance in zip(indices[shown], apart[shown], strict=True):
        log.warning(
            "Note: logits of %s %d are up to %.2g away from the run's predictions.csv; the figures "
            "show what the network predicts here, in fp32.", split, index, distance,
        )  # fmt: skip
