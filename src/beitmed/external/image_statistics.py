"""Simple properties of images, by which two hospitals' pictures can be told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beitmed.data import colour
from beitmed.statistics import areas
from beitmed.statistics.clusters import Groups, codes
from beitmed.statistics.level import Floats
from beitmed.storage.rows import Rows

_AT_ONCE = 256  # images
#: What is measured of each image, in the order of `measure`, with its unit.
TITLES = {
    "brightness": "Brightness: mean grey level (0 to 255)",
    "contrast": "Contrast: standard deviation of grey levels",
    "sharpness": "Sharpness: mean size of the Laplacian (grey levels)",
    "black": "Share of pixels at 0",
    "white": "Share of pixels at 255",
}


@dataclass(frozen=True)
class Property:
    """A property of the internal and the external images.

    Medians with the quartiles beside them. higher: the probability that an external image has more
    of it than an internal one, with its 95 % interval; 0.5 where they do not differ.
    """

    name: str
    internal: tuple[float, float, float]  # lower quartile, median, upper quartile
    external: tuple[float, float, float]
    higher: float
    ci_low: float
    ci_high: float


def measure(images: np.ndarray | Rows) -> Floats:
    """Return the properties of `TITLES` of images uint8 [n, h, w] or [n, h, w, 3]: [n, 5].

    Of colour the luminance is measured. The Laplacian is four times a pixel less its neighbours.
    """
    found = np.empty((len(images), len(TITLES)))
    for start in range(0, len(images), _AT_ONCE):
        block = np.asarray(images[start : start + _AT_ONCE])
        grey = (colour.to_grey(block) if colour.is_colour(block) else block).astype(np.float64)
        flat = grey.reshape(len(grey), -1)
        inner = 4 * grey[:, 1:-1, 1:-1]
        edges = inner - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2]
        edges -= grey[:, 1:-1, 2:]
        found[start : start + len(grey)] = np.column_stack([
            flat.mean(axis=1),
            flat.std(axis=1),
            np.abs(edges).mean(axis=(1, 2)),
            (flat == 0).mean(axis=1),
            (flat == 255).mean(axis=1),
        ])  # fmt: skip
    return found


def compare(internal: Floats, external: Floats, groups: tuple[Groups, Groups]) -> list[Property]:
    """Return the comparison of each property; groups: the patients of either, or None."""
    outside = np.repeat([False, True], [len(internal), len(external)])
    together = None
    if groups[0] is not None or groups[1] is not None:
        first, second = codes(groups[0], len(internal)), codes(groups[1], len(external))
        together = np.concatenate([first, second + first.max() + 1])
    result = []
    for i, name in enumerate(TITLES):
        values = np.concatenate([internal[:, i], external[:, i]])
        area = areas.delong(outside, values)[0]
        low, high, _ = areas.auc_interval(outside, values, together)
        result.append(
            Property(name, _quartiles(internal[:, i]), _quartiles(external[:, i]), area, low, high)
        )
    return result


def _quartiles(values: Floats) -> tuple[float, float, float]:
    low, middle, high = map(float, np.quantile(values, [0.25, 0.5, 0.75]))
    return low, middle, high
