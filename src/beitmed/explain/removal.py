"""Does the network need what a map points at? Deletion and insertion of cells, in its order.

Deletion replaces cells by the baseline, the map's highest first, and insertion puts them into it;
a faithful order loses, or gains, the probability of the class soon. A method passes a test where
its area is better than that of random orders and than that of a map of nothing but the distance to
the centre, by the interval of the paired difference over images, and both times by 0.01 or more: of
a network that has learnt nothing, whose probabilities hardly move, a map can be faithful, too.

Source: V. Petsiuk, A. Das and K. Saenko, RISE, BMVC 2018, section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from beitmed.explain import maps
from beitmed.explain.tested import Result, Tested, above, flat
from beitmed.statistics.maps import area, mean

STEPS = 10
RANDOM_ORDERS = 4
LEAST = 0.01  # of a gain that counts, in probability
KINDS = ("deletion", "insertion")
_SHARE = (0.0, 1.0)


def test(tested: Tested, seed: int) -> dict[str, dict[str, Result]]:
    """By test and method. more["curve"]: mean probability at 0, 1/10, ... of the cells."""
    rng = np.random.default_rng(seed)
    n, cells = len(tested.images), tested.cells
    ends = tested.network.probabilities(
        (tested.pixels, tested.question.baseline), tested.question.target
    )
    drawn = [
        _curve(tested, rng.random((n, cells[0] * cells[1])), "deletion", ends, rng)
        for _ in range(RANDOM_ORDERS)
    ]
    random = np.mean(drawn, axis=0)
    # To insert in an order is to delete in the reverse one, seen from its end.
    of_random = {"deletion": random, "insertion": random[:, ::-1]}
    centre = np.tile(-_distance(cells).ravel(), (n, 1))
    found: dict[str, dict[str, Result]] = {kind: {} for kind in KINDS}
    for kind in KINDS:
        of_centre = _curve(tested, centre, kind, ends, rng)
        for name, values in tested.maps.items():
            curve = _curve(tested, flat(values), kind, ends, rng)
            found[kind][name] = _judge(tested, kind, curve, of_random[kind], of_centre)
    return found


def _judge(
    tested: Tested, kind: str, curve: np.ndarray, random: np.ndarray, centre: np.ndarray
) -> Result:
    sign = -1 if kind == "deletion" else 1
    gains = {
        f"better_than_{name}": mean(sign * (area(curve) - area(other)), tested.groups)
        for name, other in (("random", random), ("centre", centre))
    }
    return Result(
        all(above(gain, 0) and (gain.value or 0) >= LEAST for gain in gains.values()),
        {"area": mean(area(curve), tested.groups, _SHARE), **gains},
        told=min(gains, key=lambda name: gains[name].value or 0),
        more={
            "curve": curve.mean(0).tolist(),
            "curve_random": random.mean(0).tolist(),
            "curve_centre": centre.mean(0).tolist(),
        },
    )


def _curve(
    tested: Tested, values: np.ndarray, kind: str, ends: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Probabilities [n, steps + 1] as cells of values [n, cells] go, or come, the highest first."""
    # Equal values in random order: by place would be an order of its own.
    order = np.lexsort((rng.random(values.shape), -values), axis=1)
    rank = torch.from_numpy(order.argsort(1))
    before, after = tested.pixels, tested.question.baseline
    if kind == "insertion":
        before, after, ends = after, before, ends[::-1]

    def steps() -> Iterator[torch.Tensor]:
        for step in range(1, STEPS):
            count = round(step / STEPS * values.shape[1])
            yield maps.with_cells(before, after, rank < count, tested.cells)

    inner = tested.network.probabilities(steps(), tested.question.target)
    return np.concatenate([ends[:1], inner, ends[1:]]).T


def _distance(cells: tuple[int, int]) -> np.ndarray:
    """Of each cell's centre from the image's, in shares of its sides."""
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in cells)
    return np.hypot(y[:, None], x)
