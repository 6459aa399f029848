"""Images without labels and finished runs -> a table with a row an image, and what it means."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from beitmed.data import new_images
from beitmed.data.ahead import ahead
from beitmed.data.new_images import Block
from beitmed.errors import UserError, disk_error
from beitmed.predict import said, table, unlikeness
from beitmed.predict.request import Asked, Counted
from beitmed.predict.rules import Decided
from beitmed.predict.unlikeness import Unlikeness
from beitmed.storage import files
from beitmed.storage.rows import Rows
from beitmed.trained import Trained

_AT_ONCE = 512  # images that are held; about as many, so that blocks of a run's passes fit
_MOST_AT_ONCE = 4096
_TRUNK_BLOCK = 32  # `trunk_cache.rows.BLOCK`, without torch


def predict(asked: Asked, to: Path) -> tuple[Asked, Counted]:
    """Write the table `to`, and beside it what it means as JSON; how it went.

    Raises UserError where no image can be read, or the files cannot be written.
    """
    for run in asked.runs:
        _ = run.model  # loaded before the first image is read
    asked = replace(asked, unlike=_unlike(asked))
    counted = Counted(called=np.zeros(len(asked.rules.class_names), np.int64))
    try:
        with table.writing(to) as add:
            start = time.perf_counter()
            with tqdm(total=len(asked.images), unit="image", disable=None) as bar:
                for block in ahead(
                    new_images.blocks(asked.images, asked.form, at_once(asked.runs))
                ):
                    _one_block(asked, block, counted, add, bar)
            counted.seconds = time.perf_counter() - start
            if not counted.images:
                raise UserError(said.nothing(counted))
            text = json.dumps(said.described(asked, counted), indent=2, ensure_ascii=False,
                              allow_nan=False)  # fmt: skip
            files.write_atomic(to.with_suffix(".json"), text + "\n")
    except OSError as e:
        raise disk_error(e, to) or e from e
    return asked, counted


def at_once(runs: Sequence[Trained]) -> int:
    """How many images are asked about together: a number that no run's passes are cut by."""
    sizes = [_TRUNK_BLOCK]
    for run in runs:
        sizes += [run.cfg.train.eval_batch_size, getattr(run.cfg.method, "batch_size", 1)]
    together = math.lcm(*sizes)
    if together > _MOST_AT_ONCE:
        together = _TRUNK_BLOCK
    # Some take half a minute to start, and say so.
    least = max([_AT_ONCE, *(getattr(run.model, "at_once", 0) for run in runs)])
    return together * math.ceil(least / together)


def _unlike(asked: Asked) -> tuple[Unlikeness, ...] | str:
    if asked.choice.percentile is None:
        return "it was not asked for (unlike=off)"
    found = [unlikeness.of_run(run) for run in asked.runs]
    for one in found:
        if isinstance(one, str):
            return one
    return tuple(one for one in found if isinstance(one, Unlikeness))


def _one_block(
    asked: Asked, block: Block, counted: Counted, add: Callable[[table.Columns], None], bar: Any
) -> None:
    taken = 0

    def tell(count: int) -> None:
        nonlocal taken
        taken += count  # of some methods more than once
        bar.update(counted.seen + min(taken // len(asked.runs), block.seen) - bar.n)

    if block.names:
        watched = [_Watched(block.images, tell) for _ in asked.runs]
        logits, features = zip(
            *(
                unlikeness.ask(run.model, rows)
                for run, rows in zip(asked.runs, watched, strict=True)
            ),
            strict=True,
        )
        decided = asked.rules.decide(logits)
        add(_columns(asked, block, decided, logits, features, counted))
    counted.problems |= block.problems
    counted.seen += block.seen
    bar.update(counted.seen - bar.n)


class _Watched(Rows):
    """Images in memory, of which is told how many were taken: a pass may take minutes."""

    def __init__(self, images: np.ndarray, taken: Callable[[int], None]) -> None:
        self.shape, self.dtype = images.shape, images.dtype
        self._images, self._taken = images, taken

    def read(self, row: int, out: np.ndarray) -> None:
        parts = out.reshape(-1, *self.shape[1:])
        parts[...] = self._images[row : row + len(parts)]
        self._taken(len(parts))


def _columns(
    asked: Asked,
    block: Block,
    decided: Decided,
    logits: Sequence[np.ndarray],
    features: Sequence[np.ndarray],
    counted: Counted,
) -> dict[str, Any]:
    names = asked.rules.class_names
    none = asked.runs[0].cfg.dataset.none_label or "none"
    columns: dict[str, Any] = {
        "file": block.names,
        "predicted": _named(decided.called, names, none),
        **{f"probability_{name}": decided.mean.p[:, c] for c, name in enumerate(names)},
    }
    if decided.mean.sd is not None:
        for what, values in (("sd", decided.mean.sd), ("lowest", decided.mean.low),
                             ("highest", decided.mean.high)):  # fmt: skip
            columns |= {f"{what}_{name}": values[:, c] for c, name in enumerate(names)}
    if decided.possible is not None and decided.abstains is not None:
        columns["abstains"] = decided.abstains
        columns["possible"] = _named(decided.possible, names, "")
        counted.abstained += int(decided.abstains.sum())
    columns |= _unlike_columns(asked, features, counted)
    columns["note"] = block.notes
    if asked.choice.logits:
        for run, own in enumerate(logits):
            ending = f"_run{run}" if len(logits) > 1 else ""
            columns |= {f"logit_{name}{ending}": own[:, c] for c, name in enumerate(names)}
    counted.images += len(block.names)
    counted.called += decided.called.sum(axis=0)
    for note in filter(None, block.notes):
        counted.noted[note] = counted.noted.get(note, 0) + 1
    return columns


def _unlike_columns(
    asked: Asked, features: Sequence[np.ndarray], counted: Counted
) -> dict[str, np.ndarray]:
    """The mean percentile over the runs, and whether at least half of them flag the image."""
    limit = asked.choice.percentile
    if isinstance(asked.unlike, str) or limit is None:
        return {}
    each = list(zip(asked.unlike, features, strict=True))
    unlike = np.mean([one.beyond(own, limit) for one, own in each], axis=0) >= 0.5
    counted.unlike += int(unlike.sum())
    percentile = np.mean([one.percentiles(own) for one, own in each], axis=0)
    return {"unlike_percentile": percentile, "unlike": unlike}


def _named(which: np.ndarray, names: Sequence[str], none: str) -> list[str]:
    """Rows of true and false [n, classes] as the classes' names, joined by |."""
    return ["|".join(n for n, yes in zip(names, row, strict=True) if yes) or none for row in which]
