"""What must be said wherever a run's numbers appear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beitmed import tasks
from beitmed.config import Config


def of(cfg: Config, provenance: Mapping[str, Any]) -> list[str]:
    """The caveats of a run; provenance: what its data.json says of where the images are from."""
    said = []
    if cfg.dataset.synthetic:
        said.append("SYNTHETIC images")
    elif cfg.dataset.own:
        said.append("the user's own images, not a published dataset")
        if provenance["patients"] is None and "drawn" in provenance["splits"]:
            said.append("splits drawn by image: those of one patient may be in several")
    elif cfg.dataset.classes is not None:
        said.append("the user's own file, not a published dataset")
    elif not provenance["official"]:
        said.append("data file is not the official one")
    if "official_split_sizes" in provenance:
        said.append("its splits are not of the official sizes")
    if cfg.dataset.several_images_per_patient:
        said.append("patients not known: intervals may be too narrow")
    if cfg.reads_backbone and cfg.backbone.random_weights:
        said.append("RANDOM weights, not pre-trained")
    if cfg.data.limit is not None:
        said.append(tasks.of(cfg.dataset.task).limit_caveat.format(cfg.data.limit))
    if cfg.part_of_labels:
        said.append("part of the training labels, but all validation labels")
    if cfg.trains_backbone and cfg.train.max_steps is not None:
        said.append(f"at most {cfg.train.max_steps} training steps")
    return said


def gravest_first(caveats: Sequence[str]) -> list[str]:
    """The same with those of what is no real model or no real image first: RANDOM, SYNTHETIC."""
    return sorted(caveats, key=lambda caveat: not is_grave(caveat))


def is_grave(caveat: str) -> bool:
    """Whether a caveat says that the numbers are of no real model or no real image."""
    return caveat.split()[0].isupper()
