"""What is asked for on the command line, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

from beitmed.errors import UserError

OFF = "off"


@dataclass(frozen=True)
class Choice:
    """As on the command line.

    threshold: 0.5, operating_point, or a probability. risk: of ruling out an image's own class;
    unlike: the percentile of the validation images beyond which an image is flagged; "off" for
    neither. colour: "luminance" or "refuse", of images in colour for a run of grey images.
    """

    threshold: str = "0.5"
    risk: str = "0.1"
    unlike: str = "99"
    colour: str = "luminance"
    logits: bool = False

    def __post_init__(self) -> None:
        if self.threshold != "operating_point":
            _number("threshold", self.threshold, 1, "operating_point, or a probability such as 0.5")
        if self.risk != OFF:
            _number("risk", self.risk, 0.5, f"a share such as 0.1, up to 0.5, or {OFF}")
        if self.unlike != OFF:
            _number("unlike", self.unlike, 100, f"a percentile such as 99, or {OFF}")

    @property
    def cut(self) -> float | None:
        """The probability of the threshold; None for the run's operating point."""
        return None if self.threshold == "operating_point" else float(self.threshold)

    @property
    def level(self) -> float | None:
        """The risk; None where nothing is ruled out."""
        return None if self.risk == OFF else float(self.risk)

    @property
    def percentile(self) -> float | None:
        """The percentile beyond which an image is flagged; None where none is."""
        return None if self.unlike == OFF else float(self.unlike)


def _number(key: str, text: str, most: float, allowed: str) -> None:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < most and not (key == "risk" and value == most):
        raise UserError(f"{key}: found {text!r}; allowed: {allowed}")
