"""Does the map come again? Over seeds of the same training, or else under a little noise.

Over seeds, the rank correlation of the maps of each two runs, of the same images and class; passes
at 0.5 or more by its interval, which is over images, not over seeds. Of a single run that cannot
be told; the image is then changed by noise with a standard deviation of 1 % of the grey scale,
which no reader sees; passes at 0.8 or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from beitmed.explain.network import Network
from beitmed.explain.tested import Result, Tested, above, flat
from beitmed.statistics.maps import mean, rank_correlation

OVER_SEEDS, UNDER_NOISE = 0.5, 0.8
_NOISE = 2.55  # grey values


def test(tested: Tested, others: Sequence[Network], seed: int) -> dict[str, Result]:
    """By method. others: the networks of further seeds, where there are some."""
    if others:
        again = [tested.maps_of(network, network.pixels(tested.images)) for network in others]
        sets, limit, over = [tested.maps, *again], OVER_SEEDS, f"{1 + len(others)} seeds"
    else:
        noise = np.random.default_rng(seed).normal(0, _NOISE, tested.images.shape)
        noisy = np.clip(np.rint(tested.images + noise), 0, 255).astype(np.uint8)
        again = [tested.maps_of(tested.network, tested.network.pixels(noisy))]
        sets, limit, over = [tested.maps, *again], UNDER_NOISE, "noise of 1 % of the grey scale"
    found = {}
    for name in tested.maps:
        pairs = [rank_correlation(flat(a[name]), flat(b[name])) for a, b in combinations(sets, 2)]
        similarity = mean(np.mean(pairs, axis=0), tested.groups)
        found[name] = Result(
            above(similarity, limit), {"similarity": similarity}, "similarity", more={"over": over}
        )
    return found
