"""What can be fitted to a train split: a backbone's top layers, or a baseline.

Each method is a module with two functions, and stands once in `beitmed.config.method`:

    fit(cfg, data, indices, folder) -> beitmed.model.Fit
        data: the splits. indices: which images of "train" to learn from, int64, sorted; an index
        may repeat. folder: the run's claimed folder. Chooses by the validation split and uses no
        test label; is seeded before; keeps what it needs to go on in `folder.checkpoints`; leaves
        in the folder all that `load` needs; raises UserError for what the user can put right.
    load(cfg, folder, class_names) -> beitmed.model.Model
        folder: the path of the finished run. The model of the run, which gives for the images of
        val and test the logits that `fit` gave, to the bit. Nothing is unpickled.

and, where it reads what several runs share of the cache, a third:

    fill(cfg, data) -> None
        Puts there what `fit` would.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from beitmed import extension
from beitmed.config import Config
from beitmed.config.method import OtherMethod
from beitmed.data import Data
from beitmed.model import Model


def module_of(cfg: Config) -> Any:
    """The module of a configuration's method: with `fit` and `load`.

    Raises UserError where it is one from outside the package that cannot be imported.
    """
    if isinstance(cfg.method, OtherMethod):
        return extension.load_module("method.module", cfg.method.module, ("fit", "load"))
    return importlib.import_module(cfg.method.module)


def fill(cfg: Config, data: Data) -> None:
    """Put into the cache what the method would put there, if it uses it. Raises as its `fit`."""
    if (filling := getattr(module_of(cfg), "fill", None)) is not None:
        filling(cfg, data)


def load(cfg: Config, folder: Path, class_names: tuple[str, ...]) -> Model:
    """The model that a finished run has fitted; `folder` is the run's.

    Raises UserError where a file of it is missing or damaged, or the backbone's weights are not
    those that the run had.
    """
    return module_of(cfg).load(cfg, folder, class_names)
