"""A finished run's model, opened to be used again: the start of every command that asks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from beitmed import data, methods
from beitmed.config import Config
from beitmed.data import Data
from beitmed.data.colour import is_colour
from beitmed.data.new_images import Form
from beitmed.errors import UserError
from beitmed.model import Model
from beitmed.runs import reader
from beitmed.runs.predictions import Predictions
from beitmed.runs.reader import FinishedRun
from beitmed.tasks import Task


@dataclass(frozen=True)
class Trained:
    """A finished run and, where they are asked for, its model and the data that it was made from.

    cfg: the run's configuration, with the changes that this machine needs.
    """

    run: FinishedRun
    cfg: Config

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.run.data["class_names"])

    @property
    def task(self) -> Task:
        return self.run.task

    @property
    def predictions(self) -> dict[str, Predictions]:
        """What the run predicted, of the splits of which that is kept."""
        return {"val": self.run.val, "test": self.run.test}

    @cached_property
    def form(self) -> Form:
        """What the run's images are, and so what it can be asked about.

        Raises UserError where its folder does not say so and its data are not there.
        """
        colour = self.run.data.get("colour")
        if colour is None:  # a folder of before this was noted
            colour = is_colour(self.data.train.images)
        dataset = self.cfg.dataset
        return Form(self.cfg.size, colour, dataset.fit, dataset.intensity, dataset.min_side)

    @cached_property
    def model(self) -> Model:
        """The fitted model. Raises UserError where its files or the backbone's weights are not."""
        return methods.load(self.cfg, self.run.path, self.class_names)

    @cached_property
    def data(self) -> Data:
        """The splits that the run was made from. Raises UserError where they are others now."""
        loaded = data.load(self.cfg)
        recorded = self.run.data
        wrong = [
            f"{key} was {recorded.get(key)!r}, now {value!r}"
            for key, value in loaded.provenance.items()
            if recorded.get(key) != value
        ] or [
            f"the images or labels of {name} differ"
            for name, split in loaded.splits.items()
            if recorded["digests"][name] != split.digest
        ]
        if wrong:
            raise UserError(
                f"{self.run.path}: this run was made from other data: {'; '.join(wrong)}. Give "
                "the file that it used with data.root=FOLDER."
            )
        return loaded


def open_run(folder: Path, changes: Sequence[str] = ()) -> Trained:
    """Open a finished run without loading its model or its data yet.

    changes: as for `reader.read_config`. Raises UserError where the folder holds no finished run.
    """
    cfg = reader.read_config(folder, changes)
    if not (folder / reader.METRICS).is_file():
        raise UserError(
            f"{folder}: this run is not finished (it has no {reader.METRICS}). Give its training "
            "command again, which goes on where it was, and then this one."
        )
    return Trained(reader.read(folder), cfg)
