"""Which images of the train split a run trains on. Works on indices; images are never copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from beitmed import extension
from beitmed.config.balancing import STRATEGIES, BalancingConfig
from beitmed.errors import UserError

#: Labels int64 [n] of the train split, options by name and a seed -> indices int64 [m] of the
#: images to train on in every epoch, in any order. An index may repeat, which repeats its image;
#: every class must be among them. Options always hold `majority_ratio`, a float of 1 or more (for
#: one from outside the package it may be None), and `balancing.options`. What is drawn is drawn
#: from the seed alone: a run that is interrupted asks again.
Strategy = Callable[[np.ndarray, Mapping[str, Any], int], np.ndarray]


def undersample(labels: np.ndarray, options: Mapping[str, Any], seed: int) -> np.ndarray:
    """Keep at most `majority_ratio` images of each class per image of the smallest class.

    Returns sorted indices, none twice. The count is rounded down, as in the paper: 1.5 x 147 keeps
    220 (Baietti and Carlesso, section 5). Which ones stay is drawn without replacement.
    """
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    most = int(counts.min() * options["majority_ratio"])
    kept = [
        members if len(members) <= most else rng.choice(members, size=most, replace=False)
        for members in (np.flatnonzero(labels == c) for c in classes)
    ]
    return np.sort(np.concatenate(kept))


def oversample(labels: np.ndarray, options: Mapping[str, Any], seed: int) -> np.ndarray:
    """Repeat images until the largest class has at most `majority_ratio` per image of any other.

    Returns sorted indices, every image at least once. A smaller class gets the largest one's count
    over the ratio, rounded up: 399 / 1.5 makes 266 of 147. Its images repeat equally often, but
    for a rest that is drawn without replacement.
    """
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    least = int(np.ceil(counts.max() / options["majority_ratio"]))
    kept = []
    for members in (np.flatnonzero(labels == c) for c in classes):
        times, rest = divmod(max(least, len(members)), len(members))
        kept += [np.repeat(members, times), rng.choice(members, size=rest, replace=False)]
    return np.sort(np.concatenate(kept))


def strategy(chosen: BalancingConfig) -> Strategy:
    """The function of a strategy's name, or the one from outside the package that it names."""
    if chosen.function is None:
        return extension.load("balancing.name", STRATEGIES[chosen.name])
    function = extension.load("balancing.function", chosen.function)

    def checked(labels: np.ndarray, options: Mapping[str, Any], seed: int) -> np.ndarray:
        found = extension.call("balancing.function", function, labels.copy(), dict(options), seed)
        return check(found, labels, str(chosen.function))

    return checked


def check(found: Any, labels: np.ndarray, function: str) -> np.ndarray:
    """The same indices, sorted, if they keep the contract; else a UserError that names `function`.

    labels: int64 [n], of the whole train split.
    """
    n = len(labels)
    problem = None
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iu":
        form = f"{getattr(found, 'dtype', '')} {getattr(found, 'shape', '')}".strip()
        problem = f"{type(found).__name__} {form}".strip()
    elif not found.size:
        problem = "no index"
    elif found.min() < 0 or found.max() >= n:
        problem = f"indices from {found.min()} to {found.max()}"
    elif (lost := np.setdiff1d(labels, labels[found])).size:
        problem = f"no image of class {', '.join(map(str, lost))}"
    if problem is not None:
        raise UserError(
            f"balancing.function: {function} returned {problem}; allowed: a numpy array of "
            f"integers [m] from 0 to {n - 1}, with each class of the train split among them."
        )
    return np.sort(found).astype(np.int64)
