"""Attention maps of a finished run: which images, and what its folder says about them.

Whatever can be wrong with the choice is said before torch is imported.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from beitmed import trained
from beitmed.errors import UserError
from beitmed.plots.attention_maps import Explained
from beitmed.trained import Trained

log = logging.getLogger(__name__)
MOST_IMAGES = 48  # of one command
_AT_ONCE = 8  # images in a pass
_SPLITS = ("test", "val", "train")
_ROWS = ("head", "patches", "cls")
_APART = 0.1  # between logits here and the run's own, beyond what rounded features explain


@dataclass(frozen=True)
class Choice:
    """Which images, and which rows of which layer, as on the command line."""

    images: str = "each:3"
    split: str = "test"
    layer: str = "last"
    rows: str = "head"

    def __post_init__(self) -> None:
        for key, found, allowed in (
            ("split", self.split, _SPLITS),
            ("rows", self.rows, _ROWS),
        ):
            if found not in allowed:
                raise UserError(f"{key}: found {found!r}; allowed: {', '.join(allowed)}")
        if not re.fullmatch(r"(each|errors):[1-9]\d*|\d+(,\d+)*", self.images):
            raise UserError(
                f"images: found {self.images!r}; allowed: indices such as 0,5,9, or each:N for the "
                "first N of each class, or errors:N for the N errors that the run was most sure of"
            )

    def number(self, layers: int) -> int:
        """The layer, from 1."""
        if self.layer == "last":
            return layers
        if not self.layer.isdecimal() or not 1 <= int(self.layer) <= layers:
            raise UserError(f"layer: found {self.layer!r}; allowed: 1 to {layers}, or last")
        return int(self.layer)


def explain(
    folder: Path, choice: Choice | None = None, changes: Sequence[str] = ()
) -> tuple[Explained, np.ndarray]:
    """Attention maps of a finished run's images, and the logits [n, classes] of the same pass.

    changes: as for `reader.read_config`. Raises UserError where the folder holds no finished
    run, data or weights are missing or not the run's, or the choice is not in it.
    """
    choice = choice or Choice()
    found = trained.open_run(folder, changes)
    _check_method(found)
    if found.cfg.backbone.family != "beit" or found.cfg.adapter != "none":
        raise UserError(
            f"{folder}: a {found.cfg.backbone.family} with adapter={found.cfg.adapter}, but "
            "attention maps are drawn for BEiT without an adapter only."
        )
    layer = choice.number(found.cfg.backbone.known_geometry.num_hidden_layers)
    if choice.split in found.predictions:  # before anything is loaded
        _select(choice, found, found.predictions[choice.split].labels)
    indices, chosen = _select(choice, found, found.data.splits[choice.split].labels)
    explained, logits = _read(found, choice, layer, indices, chosen)
    _compare(found, choice.split, indices, logits)
    return explained, logits


def _read(
    found: Trained, choice: Choice, layer: int, indices: np.ndarray, chosen: str
) -> tuple[Explained, np.ndarray]:
    from beitmed.data import pixels  # torch: seconds, so after the checks
    from beitmed.explain import attention
    from beitmed.methods.backbone import BackboneModel

    cfg, split, model = found.cfg, found.data.splits[choice.split], found.model
    assert isinstance(model, BackboneModel)
    network, processor = model.network, model.processor
    device = next(network.parameters()).device
    dataset = pixels.PixelDataset(split.images, split.labels, processor, indices)
    rows = attention.rows_shown(network, choice.rows)
    parts = [
        attention.read(network, dataset.batch(start, start + _AT_ONCE).to(device), layer, rows)
        for start in range(0, len(indices), _AT_ONCE)
    ]
    heads, rollout, logits = (
        np.concatenate([getattr(part, name).numpy() for part in parts]).astype(np.float64)
        for name in ("heads", "rollout", "logits")
    )
    explained = Explained(
        title="; ".join([found.run.path.resolve().name, *found.run.metrics["caveats"]]),
        split=choice.split,
        chosen=chosen,
        indices=indices,
        images=split.images[indices],
        labels=split.labels[indices],
        predictions=logits.argmax(1),
        class_names=found.class_names,
        layer=layer,
        layers=cfg.backbone.known_geometry.num_hidden_layers,
        rows=rows,
        read_by_head=attention.read_by_head(network),
        heads=heads,
        rollout=rollout,
        covered=pixels.covered(processor, split.images.shape[1:3]),
    )
    return explained, logits


def _check_method(found: Trained) -> None:
    folder, cfg = found.run.path, found.cfg
    if not cfg.trains_backbone:
        raise UserError(
            f"{folder}: a run with method={cfg.method.name}, which has no attention; give a run "
            "with method=backbone."
        )
    if found.task.several_labels:
        raise UserError(
            f"{folder}: an image of {cfg.dataset.name} has several labels, for which attention "
            "maps are not drawn; give a run of a dataset with one label an image."
        )


def _select(choice: Choice, found: Trained, labels: np.ndarray) -> tuple[np.ndarray, str]:
    """Indices of the chosen images, and how they were chosen."""
    kind, colon, number = choice.images.partition(":")
    if not colon:
        indices = np.array(list(dict.fromkeys(int(i) for i in choice.images.split(","))))
        if (outside := indices[indices >= len(labels)]).size:
            raise UserError(
                f"images: found {outside[0]}, but {choice.split} has {len(labels)} images; "
                f"allowed: 0 to {len(labels) - 1}"
            )
        how = "named by index"
    elif kind == "each":
        per_class = [np.flatnonzero(labels == c)[: int(number)] for c in np.unique(labels)]
        indices, how = np.concatenate(per_class), f"the first {number} of each class"
    else:
        indices = _errors(choice, found)[: int(number)]
        how = f"the {len(indices)} errors that the run was most sure of"
    if len(indices) > MOST_IMAGES:
        raise UserError(
            f"images: {choice.images} means {len(indices)} images; allowed: at most {MOST_IMAGES} "
            "in one command"
        )
    return indices, how


def _errors(choice: Choice, found: Trained) -> np.ndarray:
    """The run's errors, by falling margin of the predicted class over the right one."""
    if choice.split not in found.predictions:
        raise UserError(
            f"images: found {choice.images} with split={choice.split}, of which the run keeps no "
            f"predictions; allowed: split={' or '.join(found.predictions)}, or indices, or each:N"
        )
    labels, logits = found.predictions[choice.split].labels, found.predictions[choice.split].logits
    margin = logits.max(1) - logits[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(logits.argmax(1) != labels)
    if not wrong.size:
        raise UserError(
            f"images: found {choice.images}, but the run makes no error in {choice.split}; "
            "allowed here: indices, or each:N"
        )
    return wrong[np.argsort(-margin[wrong], kind="stable")]


def _compare(found: Trained, split: str, indices: np.ndarray, logits: np.ndarray) -> None:
    """Warn where the network that is explained is not quite the one that the run tested."""
    if split not in found.predictions:
        return
    told = found.predictions[split].logits[indices]
    apart = np.abs(told - logits).max(1)
    shown = (told.argmax(1) != logits.argmax(1)) | (apart > _APART)
    for index, distance in zip(indices[shown], apart[shown], strict=True):
        log.warning(
            "Note: logits of %s %d are up to %.2g away from the run's predictions.csv; the figures "
            "show what the network predicts here, in fp32.", split, index, distance,
        )  # fmt: skip
