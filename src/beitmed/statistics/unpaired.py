"""The difference of a measure between two sets of cases that have no case in common."""

from __future__ import annotations

import math

Triple = tuple[float, float, float]  # value, low, high

METHOD = "of both intervals (MOVER)"


def difference(first: Triple, second: Triple) -> Triple:
    """Return first less second with its 95 % limits, from each one's value and 95 % limits.

    On either side of the difference, the distances to the limits that lie there are added as the
    sides of a right angle ("method of variance estimates recovery": Zou and Donner 2008, Stat. Med.
    27:1693). Of two proportions with Wilson's limits this is Newcombe's hybrid score interval
    (1998, Stat. Med. 17:873, method 10). Of two areas it is that of the sum of DeLong's variances,
    but not symmetrical where theirs are not. Patients, classes and labels are counted as in the
    intervals that it is made of.
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    middle = a - b
    return (
        middle,
        middle - math.hypot(a - a_low, b_high - b),
        middle + math.hypot(a_high - a, b - b_low),
    )
