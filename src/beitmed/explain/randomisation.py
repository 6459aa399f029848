"""Does a map show what the network has learnt? Its parts re-drawn, from the head downwards.

A map that stays as it was when the weights are gone shows the image or the architecture. How alike
maps are is the rank correlation of their absolute values, as a sign may turn with the head. A
method passes where its map is unlike those of wholly re-drawn networks: below 0.5 by its interval,
or less than these are like one another.

Source: J. Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from beitmed.explain.tested import Result, Tested, above, below, flat
from beitmed.statistics.maps import mean, rank_correlation

ALIKE = 0.5
NETWORKS = 3  # wholly re-drawn ones; the first is the end of the cascade
Maps = dict[str, np.ndarray]


def test(tested: Tested, seed: int) -> tuple[dict[str, Result], list[Maps]]:
    """By method; and the maps of the wholly re-drawn networks.

    more["stages"]: for the network re-drawn down to each of its parts, the mean similarity.
    """
    cascade: dict[str, Maps] = {}
    random: list[Maps] = []
    for k in range(NETWORKS):
        twins = list(tested.network.stages())
        for number, (name, twin) in enumerate(tested.network.redrawn(tested.pixels, seed + k), 1):
            if k == 0:
                cascade[name] = tested.maps_of(twin)
            if number == len(twins):
                random.append(cascade[name] if k == 0 else tested.maps_of(twin))
    return {name: _judge(tested, name, cascade, random) for name in tested.maps}, random


def _judge(tested: Tested, name: str, cascade: dict[str, Maps], random: list[Maps]) -> Result:
    own = tested.maps[name]
    end = np.mean([_alike(own, other[name]) for other in random], axis=0)
    among = np.mean([_alike(a[name], b[name]) for a, b in combinations(random, 2)], axis=0)
    similarity, less = mean(end, tested.groups), mean(among - end, tested.groups, (-2.0, 2.0))
    return Result(
        below(similarity, ALIKE) or above(less, 0),
        {
            "similarity": similarity,
            "among_random_networks": mean(among, tested.groups),
            "less_than_among": less,
        },
        told="similarity",
        more={
            "stages": [
                {"part": part, "similarity": float(_alike(own, found[name]).mean())}
                for part, found in cascade.items()
            ]
        },
    )


def _alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return rank_correlation(np.abs(flat(a)), np.abs(flat(b)))
