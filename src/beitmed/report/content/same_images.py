"""Which runs were tested on the same images, and why others of one dataset were not.

Only predictions of the same cases, in the same order, are pairs. What says so is the digest of the
test split over images, labels and order (`data.json`). Images at another size have another digest:
they are the same cases where both files are official, where they were made from the same files of
one's own, or where the images themselves agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beitmed.data import Data
from beitmed.runs.reader import FinishedRun
from beitmed.statistics.level import Floats

#: Gives the data of a run, or the reason for not having them.
Load = Callable[[FinishedRun], Data | str]
_AGREE = 0.9  # correlation over pixels that each single image must reach


def groups(
    runs: Sequence[FinishedRun], load: Load
) -> tuple[list[list[FinishedRun]], list[str], list[str]]:
    """Return runs by test images, each group in the order in which it came, and two lists of words.

    The first: by what images of different digests were found to agree. The second: why groups of
    one dataset stand apart, a text for each group beyond the dataset's first.
    """
    found: list[list[list[FinishedRun]]] = []  # groups, of lists of one digest
    notes: list[str] = []
    by_digest: dict[str, list[FinishedRun]] = {}
    for run in runs:
        key = json.dumps([_facts(run), run.test.labels.tolist(), run.data["digests"]["test"]])
        by_digest.setdefault(key, []).append(run)
    reasons: list[str] = []
    for members in by_digest.values():
        same = [g for g in found if g[0][0].dataset == members[0].dataset]
        why = ""
        for group in same:
            why, note = _apart(group, members[0], load)
            if not why:
                notes += [note] if note else []
                group.append(members)
                break
        else:
            found.append([members])
            reasons.append(why)
    return [[run for of in group for run in of] for group in found], notes, reasons


def _apart(group: Sequence[Sequence[FinishedRun]], run: FinishedRun, load: Load) -> tuple[str, str]:
    """Why a run is not of the images of a group ("" if it is), and what was compared to see it."""
    first = group[0][0]
    one, other = _facts(first), _facts(run)
    why = [f"{key} {_said(one[key])} and {_said(other[key])}" for key in one
           if one[key] != other[key]]  # fmt: skip
    if why:
        return "; ".join(why), ""
    if not np.array_equal(first.test.labels, run.test.labels):
        return "the labels of their test images differ, so the images do, or their order", ""
    if any(of[0].config.size == run.config.size for of in group):
        return "their test images differ, or their order (SHA-256 in data.json)", ""
    official = first.data.get("official") and run.data.get("official")
    if official or run.data.get("phantom_seed") is not None:  # drawn once, at any size
        return "", ""
    own = ("sha256", "splits_sha256")
    if run.config.dataset.own:
        if all(first.data.get(key) == run.data.get(key) for key in own):
            return "", ""
        return "their image files, labels or splits differ (SHA-256 in data.json)", ""
    return _compared(first, run, load)


def _compared(first: FinishedRun, run: FinishedRun, load: Load) -> tuple[str, str]:
    sizes = f"{first.config.size} and {run.config.size} px"
    loaded = []
    for of in (first, run):
        got = load(of)
        if isinstance(got, str):
            return f"not both files are official, and their images at {sizes} could not be " \
                   f"compared: {got}", ""  # fmt: skip
        loaded.append(np.asarray(got.test.images))
    r = correlations(*loaded)
    said = f"correlations over pixels, median {np.median(r):.3f}, smallest {r.min():.3f}"
    if r.min() < _AGREE:
        return f"their test images at {sizes} do not agree one by one ({said})", ""
    return "", (
        f"{run.dataset}: the files of {sizes} are not both official; their test images agree one "
        f"by one once reduced to the smaller size ({said}), so they are compared as the same."
    )


def correlations(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Floats:
    """Return the correlation over pixels of each image [n, ...] of two sizes, at the smaller one.

    Two images without any contrast agree; one of them alone does not.
    """
    small, large = sorted((one, other), key=lambda images: images.shape[1])
    assert len(small) == len(large), (len(small), len(large))
    size, result = small.shape[1], np.empty(len(small))
    for i, (a, b) in enumerate(zip(small, large, strict=True)):
        reduced = Image.fromarray(b).resize((size, size), Image.Resampling.BOX)
        x, y = (np.asarray(v, np.float64).ravel() for v in (a, reduced))
        x, y = x - x.mean(), y - y.mean()
        scale = np.sqrt((x @ x) * (y @ y))
        result[i] = x @ y / scale if scale else float(not x.any() and not y.any())
    return result


def _facts(run: FinishedRun) -> dict[str, Any]:
    return {
        "dataset": run.dataset,
        "task": run.task.name,
        "positive class": run.metrics.get("positive_class"),
        "class names": run.data.get("class_names"),
        "test images": len(run.test.labels),
        "data.limit": run.config.data.limit,
        "phantom seed": run.data.get("phantom_seed"),
        "split seed": run.data.get("split_seed"),
        "patients": run.test.groups,
    }


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return repr(value.get("name"))
    if isinstance(value, tuple):
        return f"of {len(set(value))} in {len(value)} images"
    return "null" if value is None else repr(value)
