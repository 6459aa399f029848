"""Does a map point at what is known to decide? Where masks of it exist, such as the phantom's.

The area under the ROC curve of a map as a score for being inside the mask, over the pixels of the
stored image; 0.5 is chance. And the pointing game (J. Zhang et al., ECCV 2016): how often the map's
highest place is inside; by chance that is the mask's share of the image.
A method passes where both are above chance, and the area above that of the maps of wholly re-drawn
networks, which an eye-catching mask attracts too; all by the interval over images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beitmed.explain.tested import Result, Tested, above
from beitmed.statistics.maps import area_inside, mean, points_inside

_SHARE = (0.0, 1.0)
NO_MASKS = "there are no masks for these images"


def test(tested: Tested, random: Sequence[dict[str, np.ndarray]]) -> dict[str, Result]:
    """By method. random: maps of wholly re-drawn networks of the same images."""
    masks = tested.masks
    if masks is None or not (marked := masks.any((1, 2)) & ~masks.all((1, 2))).any():
        return {name: Result(None, reason=NO_MASKS) for name in tested.maps}
    places = tested.images.shape[1:3]
    shares = tested.network.covered(places)
    groups = None if tested.groups is None else np.asarray(tested.groups)[marked]

    def scored(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shown = on_image(values[marked], places, shares)
        seen = np.isfinite(shown[0])
        maps, inside = shown[:, seen], masks[marked][:, seen]
        return area_inside(maps, inside), points_inside(maps, inside)

    found = {}
    share = masks[marked].mean((1, 2))
    for name, values in tested.maps.items():
        areas, pointing = scored(values)
        by_chance = np.mean([scored(other[name])[0] for other in random], axis=0)
        area, more = mean(areas, groups, _SHARE), mean(areas - by_chance, groups)
        points = mean(pointing - share, groups)
        found[name] = Result(
            above(area, 0.5) and above(more, 0) and above(points, 0),
            {
                "area": area,
                "better_than_random_networks": more,
                "pointing": mean(pointing, groups, _SHARE),
                "pointing_by_chance": mean(share, groups, _SHARE),
            },
            told="area",
        )
    return found


def on_image(
    values: np.ndarray, shape: tuple[int, int], covered: tuple[float, float]
) -> np.ndarray:
    """Maps [n, rows, columns] on the stored image [n, h, w]; NaN where the network saw nothing.

    covered: the shares of its height and width that the maps are of, from its centre.
    """
    places = []
    for count, side, share in zip(values.shape[1:], shape, covered, strict=True):
        at = ((np.arange(side) + 0.5) / side - 0.5) / share + 0.5
        places.append(np.where((at >= 0) & (at < 1), (at * count).astype(int), count))
    padded = np.pad(values, ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    return padded[:, places[0][:, None], places[1]]
