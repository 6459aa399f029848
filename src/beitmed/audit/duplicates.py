"""Images that occur more than once, exactly or nearly, within splits and across them.

Exact: the same pixels, found by their SHA-256. Near: see `near_duplicates`.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from beitmed.audit import near_duplicates
from beitmed.data import Data, Split

Indices = NDArray[np.int64]


@dataclass(frozen=True, order=True)
class Place:
    """Where an image stands."""

    split: str
    index: int


Groups = Sequence[Sequence[Place]]


@dataclass(frozen=True)
class NearPair:
    """Two images that are nearly the same; `first` is the earlier one.

    correlation: of their pixels, at the best alignment, as in `near_duplicates.search`.
    """

    first: Place
    second: Place
    correlation: float


@dataclass(frozen=True)
class Duplicates:
    """What `find` found. Places in a group are in the order of the splits, groups by their first.

    exact: groups of at least two; near: pairs, without those that are exact; near_groups: what near
    and exact pairs connect, where at least one pair is near; method: how it was searched, JSON
    values; limit: what the search for near ones left out, or None.
    """

    exact: tuple[tuple[Place, ...], ...]
    near: tuple[NearPair, ...]
    near_groups: tuple[tuple[Place, ...], ...]
    method: dict[str, Any]
    limit: str | None


@dataclass(frozen=True)
class Seen:
    """Indices of the test split, sorted, that stand in train or val: exactly; only nearly."""

    exact: Indices
    near: Indices


def test_images_seen_before(data: Data) -> Seen:
    """Return which test images also stand in train or val."""
    found = find(data.splits)
    exact = {
        place.index
        for group in found.exact
        if any(p.split != "test" for p in group)
        for place in group
        if place.split == "test"
    }
    near = {
        pair.second.index
        for pair in found.near
        if pair.second.split == "test" and pair.first.split != "test"
    }
    return Seen(*(np.array(sorted(s), np.int64) for s in (exact, near - exact)))


def find(splits: Mapping[str, Split]) -> Duplicates:
    """Search all splits together; the order of `splits` says which of two images is the earlier.

    Images are uint8 [n, size, size] or [n, size, size, 3], of one size in all splits.
    """
    places = [Place(name, i) for name, split in splits.items() for i in range(len(split.images))]
    equal = _equal(image for split in splits.values() for image in split.images)
    # The first of each group stands for all, so that exact duplicates do not multiply the search.
    firsts = np.array([group[0] for group in equal], np.int64)
    images = np.concatenate([near_duplicates.reduced(s.images) for s in splits.values()])[firsts]
    result = near_duplicates.search(images)
    correlation = {
        (min(i, j), max(i, j)): float(r)
        for a, b, r in zip(result.a, result.b, result.correlation, strict=True)
        for i in equal[a]
        for j in equal[b]
    }
    near = tuple(NearPair(places[i], places[j], correlation[i, j]) for i, j in sorted(correlation))
    exact = [group for group in equal if len(group) > 1]
    links = [*correlation, *((g[0], other) for g in exact for other in g[1:])]
    touched = {i for pair in correlation for i in pair}
    connected = [g for g in _connected(links, len(places)) if touched.intersection(g)]
    method = {"exact": "SHA-256 of the pixels", "near": {**result.method, "limit": result.limit}}
    return Duplicates(_named(exact, places), near, _named(connected, places), method, result.limit)


def _equal(images: Iterable[np.ndarray]) -> list[list[int]]:
    """Group positions by content, every position in one group, in the order of the first."""
    groups = defaultdict(list)
    for i, image in enumerate(images):
        groups[hashlib.sha256(image.tobytes()).digest()].append(i)
    return list(groups.values())


def _connected(links: Sequence[tuple[int, int]], n: int) -> list[list[int]]:
    """Group the positions that links connect; those without a link are left out."""
    if not links:
        return []
    a, b = np.array(links).T
    _, of = connected_components(coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n)))
    groups = defaultdict(list)
    for i in np.unique(np.concatenate([a, b])).tolist():
        groups[of[i]].append(i)
    return list(groups.values())


def _named(
    groups: Iterable[Iterable[int]], places: Sequence[Place]
) -> tuple[tuple[Place, ...], ...]:
    return tuple(tuple(places[i] for i in group) for group in groups)


def beyond_first(groups: Groups) -> dict[str, int]:
    """Return, by split, how many images repeat an earlier one of the same split."""
    counts: Counter[str] = Counter()
    for group in groups:
        for split, n in Counter(place.split for place in group).items():
            counts[split] += n - 1
    return {split: n for split, n in counts.items() if n}


def across(groups: Groups, splits: Iterable[str]) -> dict[tuple[str, str], dict[str, int]]:
    """Return, for each two splits, what they share: `pairs`, and the images of either in them."""
    counts = {names: {"pairs": 0, "first": 0, "second": 0} for names in combinations(splits, 2)}
    for group in groups:
        n = Counter(place.split for place in group)
        for (a, b), count in counts.items():
            if n[a] and n[b]:
                count["pairs"] += n[a] * n[b]
                count["first"] += n[a]
                count["second"] += n[b]
    return counts
