"""An estimate: a value, its interval, or the reason for having none."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; what is undefined is None and has a reason.

    `n` counts the cases that the value rests on (for sensitivity the positives; 0 if the value is
    None), and `groups` the patients that these are of, None where no grouping is known. `interval`
    names the method; without an interval it is None and `reason` says why. `no_skill` is what the
    best constant prediction reaches on the same cases, None where that is not asked.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    interval: str | None
    reason: str | None
    groups: int | None = None
    no_skill: float | None = None

    def __post_init__(self) -> None:
        numbers = [x for x in (self.value, self.ci_low, self.ci_high) if x is not None]
        assert all(math.isfinite(x) for x in numbers), self
        assert (self.ci_low is None) == (self.ci_high is None) == (self.interval is None), self
        assert (self.reason is None) == (self.interval is not None), self
        assert self.interval is None or (self.value is not None and self.n > 0), self

    @classmethod
    def undefined(cls, reason: str) -> Estimate:
        """Return the estimate of something that has no value."""
        return cls(None, None, None, 0, None, reason)

    def text(self) -> str:
        """The estimate as it stands in a sentence: value, interval and n, or why there is none."""
        if self.value is None:
            return f"undefined: {self.reason}"
        n = f"n = {self.n}" + ("" if self.groups is None else f" of {self.groups} patients")
        if self.ci_low is None:
            return f"{self.value:.3f} ({n})"
        return (
            f"{self.value:.3f} [{self.ci_low:.3f}, {self.ci_high:.3f}] (95 %, {self.interval}, {n})"
        )

    def as_dict(self) -> dict[str, float | int | str | None]:
        """Return the fields by name, ready for JSON."""
        return asdict(self)
