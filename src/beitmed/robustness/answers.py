"""What models say of corrupted test images: asked once, and kept in the runs' own folders.

`RUN/corrupted/<at>/<corruption>.npz` holds the logits float64 [n, classes] of each severity, and
what they depend on: with another model, test set or parameters it is asked anew. So a command that
was stopped goes on, and one with more runs asks only those.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from beitmed.data import Data, corruptions
from beitmed.data.corruptions import Corruption
from beitmed.errors import UserError, disk_error
from beitmed.robustness.choice import Choice
from beitmed.runs import reader
from beitmed.statistics.level import Floats
from beitmed.storage import files
from beitmed.storage.rows import HeldRows
from beitmed.trained import Trained

if TYPE_CHECKING:
    from beitmed.methods.backbone import BackboneModel

log = logging.getLogger(__name__)
FOLDER = "corrupted"
_BLOCK = 256  # images that are corrupted and asked about at a time
_APART = 0.1  # between logits here and the run's own, beyond what rounded features explain
_TOLD_EVERY = 20  # seconds


@dataclass
class Progress:
    """Tells how far it is and how long it will still take, also where there is no terminal."""

    total: int
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.bar = tqdm(total=self.total, unit="image", desc="corrupted images", disable=None)

    def add(self, count: int) -> None:
        self.done += count
        self.bar.update(count)
        now = time.monotonic()
        if self.bar.disable and now - self.told > _TOLD_EVERY:
            self.told = now
            left = (now - self.started) / self.done * (self.total - self.done)
            log.info(
                "%s of %s images; about %.0f s left.", f"{self.done:,}", f"{self.total:,}", left
            )


@dataclass(frozen=True)
class Answers:
    """Logits [n, classes] by run's path, corruption and severity."""

    found: Mapping[tuple[Path, str, int], Floats]

    def of(self, run: Path, corruption: str, severity: int) -> Floats:
        return self.found[run, corruption, severity]


def ask(runs: Sequence[Trained], chosen: Mapping[str, Corruption], choice: Choice) -> Answers:
    """Ask every run about every corrupted image that it was not asked about yet.

    runs: of one test set. Raises UserError where a model or the data are not there or not the
    run's, or an own corruption fails.
    """
    found: dict[tuple[Path, str, int], Floats] = {}
    lacking: dict[tuple[str, int], list[Trained]] = {}
    keys = {one.run.path: _key_of_run(one) for one in runs}
    for name, corruption in chosen.items():
        for one in runs:
            kept = _read(_file(one, name, choice), _key(keys[one.run.path], corruption, choice))
            for severity in choice.severities:
                if severity in kept:
                    found[one.run.path, name, severity] = kept[severity]
                else:
                    lacking.setdefault((name, severity), []).append(one)
    if not lacking:
        return Answers(found)
    asked = {one.run.path: one for of_one in lacking.values() for one in of_one}
    for one in asked.values():
        _compare(one)
    together = Together(list(asked.values()))
    data = runs[0].data
    progress = Progress(len(lacking) * len(data.test.labels))
    log.info(
        "The models are asked about %d corrupted copies of %d test images.",
        len(lacking),
        len(data.test.labels),
    )
    for name, corruption in chosen.items():
        answered: dict[Path, dict[int, Floats]] = {}
        for severity in choice.severities:
            of = lacking.get((name, severity), [])
            answers = _ask(of, data, corruption, severity, choice.at, together, progress)
            for path, logits in answers.items():
                answered.setdefault(path, {})[severity] = logits
        for path, of_run in answered.items():
            one = next(o for o in runs if o.run.path == path)
            file, key = _file(one, name, choice), _key(keys[path], corruption, choice)
            kept = {s: found[path, name, s] for s in choice.severities if (path, name, s) in found}
            _write(file, key, {**_read(file, key), **kept, **of_run})
            found |= {(path, name, severity): x for severity, x in of_run.items()}
    progress.bar.close()
    return Answers(found)


def _ask(
    runs: Sequence[Trained], data: Data, corruption: Corruption, severity: int, at: str,
    together: Together, progress: Progress,
) -> dict[Path, Floats]:  # fmt: skip
    """The logits of all test images: each is corrupted once, for all runs."""
    parts: dict[Path, list[Floats]] = {one.run.path: [] for one in runs}
    if not runs:
        return {}
    for start in range(0, len(data.test.labels), _BLOCK):
        stop = min(start + _BLOCK, len(data.test.labels))
        images = np.asarray(data.test.images[start:stop])
        worse = corruptions.corrupt(images, np.arange(start, stop), corruption, severity, at)
        for one, logits in zip(runs, together.logits(runs, worse), strict=True):
            if not np.isfinite(logits).all():
                raise UserError(
                    f"{one.run.path}: its model gives logits that are not finite for test images "
                    f"with {corruption.name}, severity {severity}; leave that out (corruptions=...)"
                )
            parts[one.run.path].append(logits)
        progress.add(stop - start)
    return {path: np.concatenate(of_run) for path, of_run in parts.items()}


class Together:
    """Models that are asked about the same images; a trunk that several have passes them once, and
    stays in the memory of one alone.
    """

    def __init__(self, runs: Sequence[Trained]) -> None:
        self.owners: dict[str, BackboneModel] = {}
        for one in runs:
            if (trunk := _trunk(one)) is None:
                continue
            if trunk in self.owners:
                one.model.network.release_trunk()  # type: ignore[attr-defined]
            else:
                self.owners[trunk] = one.model  # type: ignore[assignment]

    def logits(self, runs: Sequence[Trained], images: np.ndarray) -> Iterator[Floats]:
        """What each of some of the runs says, in their order."""
        held: dict[str, HeldRows] = {}
        for one in runs:
            if (trunk := _trunk(one)) is None:
                yield one.model.logits(images)
                continue
            if trunk not in held:
                held[trunk] = HeldRows(self.owners[trunk].rows(images)[:])
            yield one.model.logits_of(held[trunk])  # type: ignore[attr-defined]


def _trunk(one: Trained) -> str | None:
    """Which trunk a model shares with others, where it has one."""
    return getattr(one.model, "trunk", None)


def _compare(one: Trained) -> None:
    """Warn where the model that is asked is not quite the one that the run tested."""
    told = one.run.test.logits[:_BLOCK]
    here = one.model.logits(np.asarray(one.data.test.images[:_BLOCK]))
    apart = float(np.abs(told - here).max(initial=0.0))
    if apart > _APART:
        log.warning(
            "Note: logits of clean images are up to %.2g away from %s's predictions.csv.",
            apart, one.run.path,
        )  # fmt: skip


def _file(one: Trained, name: str, choice: Choice) -> Path:
    return one.run.path / FOLDER / choice.at / f"{name}.npz"


def _key_of_run(one: Trained) -> str:
    """What tells a run's model and test set from others: what it predicted of them."""
    content = (one.run.path / reader.PREDICTIONS).read_bytes()
    return f"{hashlib.sha256(content).hexdigest()} {one.run.data['digests']['test']}"


def _key(of_run: str, corruption: Corruption, choice: Choice) -> str | None:
    """None for a function of the user's own, whose code may change: it is always asked anew."""
    if corruption.source == "own":
        return None
    return json.dumps([of_run, corruption.name, corruption.source, corruption.said, choice.at])


def _read(file: Path, key: str | None) -> dict[int, Floats]:
    """The logits by severity; none where there are none of this key."""
    if key is None or not file.is_file():
        return {}
    try:
        with np.load(file, allow_pickle=False) as npz:
            if str(npz["of"]) != key:
                return {}
            return {int(name): npz[name] for name in npz.files if name != "of"}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return {}  # damaged: it is asked anew


def _write(file: Path, key: str | None, logits: Mapping[int, Floats]) -> None:
    content = io.BytesIO()
    arrays: dict[str, Any] = {str(severity): logits[severity] for severity in sorted(logits)}
    np.savez(content, of=np.array(key or "own function"), **arrays)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(file, content.getvalue())
    except OSError as e:
        raise disk_error(e, file.parent) or e from e
