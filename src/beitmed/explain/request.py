"""What is asked of a finished run: whatever can be wrong is said before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from beitmed import config, trained
from beitmed.errors import UserError
from beitmed.explain import selection
from beitmed.explain.choice import ATTENDING, Choice
from beitmed.explain.selection import Selected
from beitmed.trained import Trained


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
    if choice.tests:  # of images of the split, also where new ones are explained
        selection.masks(choice, found.data.splits[choice.split])
    return Request(choice, found, others, names, left_out, layer, selected)


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
