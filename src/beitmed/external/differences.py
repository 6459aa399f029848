"""Every metric inside and outside, and the difference between the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from beitmed.statistics import unpaired
from beitmed.statistics.estimates import Estimate


@dataclass(frozen=True)
class Difference:
    """External less internal, with its 95 % limits; None, and a reason, where there is none."""

    value: float | None
    ci_low: float | None
    ci_high: float | None
    interval: str | None
    reason: str | None


def between(
    internal: Mapping[str, Estimate], external: Mapping[str, Estimate]
) -> dict[str, Difference]:
    """Return the difference of each metric that both have and that is no fitted constant."""
    return {
        name: of(internal[name], other)
        for name, other in external.items()
        if name in internal and not _constant(internal[name], other)
    }


def of(internal: Estimate, external: Estimate) -> Difference:
    """The difference of two estimates of independent cases; see `statistics.unpaired`."""
    for where, found in (("internal", internal), ("external", external)):
        if found.value is None or found.ci_low is None or found.ci_high is None:
            reason = f"the {where} value has no interval: {found.reason}"
            return Difference(None, None, None, None, reason)
    value, low, high = unpaired.difference(_limits(external), _limits(internal))
    return Difference(value, low, high, unpaired.METHOD, None)


def _limits(found: Estimate) -> unpaired.Triple:
    assert found.value is not None and found.ci_low is not None and found.ci_high is not None
    return found.value, found.ci_low, found.ci_high


def _constant(internal: Estimate, external: Estimate) -> bool:
    """Whether it is what was fitted on val, or a p: a value that has no interval anywhere."""
    return all(e.value is not None and e.interval is None for e in (internal, external))
