"""`beitmed power`: how many test images and training seeds a difference needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from beitmed.commands import arguments as parser
from beitmed.commands import cli
from beitmed.commands.arguments import Key
from beitmed.errors import UserError
from beitmed.statistics import planning
from beitmed.statistics.planning import Design

USAGE = """
How many test images, and training seeds of each variant, a true difference needs to be found at
p < 0.05 between two variants on the same test images: `beitmed power key=value ...`.

  beitmed power difference=0.03 value=0.90 positives=0.27
  beitmed power metric=accuracy difference=0.05 value=0.85 seeds=5,10 comparisons=3

{keys}

What is assumed is best taken from runs of your own: `beitmed report` shows the values and their
standard deviation over seeds. Exit codes: 0 done; 2 bad input.
"""
KEYS = {
    "metric": Key("what is compared", "auc", ("auc", "accuracy")),
    "difference": Key("the true difference that is to be found", "0.03"),
    "value": Key("the value of the lower of the two", "0.9"),
    "positives": Key("share of positive test images; of the AUC only", "0.5"),
    "correlation": Key(
        "between the two variants, as both are tested on the same images: of their AUCs over test "
        "sets, or of being right over images", "0.5",
    ),
    "seeds": Key("training seeds of each variant, one number or several", "1,3,5,10"),
    "seed_sd": Key("standard deviation of the metric over training seeds", "0.01"),
    "power": Key("the chance of finding the difference", "0.8"),
    "comparisons": Key("how many comparisons are corrected for", "1"),
}  # fmt: skip


def _power(arguments: Sequence[str]) -> int:
    given = parser.parse(arguments, KEYS)
    if given.folders:
        raise UserError(f"found {given.folders[0]}; allowed: {', '.join(KEYS)}, as key=value.")
    values = {key: value or "" for key, value in given.values.items()}
    value = _number(values, "value", 0, 1)
    gap = _number(values, "difference", 0, 1 - value)
    sd = _number(values, "seed_sd", 0, 1, zero=True)
    wanted = _number(values, "power", 0.05, 1)
    comparisons, *more = _counts(values, "comparisons")
    if more:
        raise UserError(f"comparisons: found {values['comparisons']}; allowed: one number")
    design = Design(_image_variance(values, value + gap, value), 2 * sd**2)
    name = {"auc": "AUC", "accuracy": "accuracy"}[values["metric"]]
    print(
        f"A difference in {name} of {gap:g} ({value:g} against {value + gap:g}) is found at "
        f"p < 0.05" + (f", corrected for {comparisons} comparisons," if comparisons > 1 else "")
        + f" with a power of {wanted:.0%} by"
    )  # fmt: skip
    print(f"{'seeds of each':>15}{'test images':>14}")
    for seeds in _counts(values, "seeds"):
        images = planning.images_needed(gap, design, seeds, wanted, comparisons)
        said = "  (speaks of two models as trained, not of the variants)" if seeds == 1 else ""
        many = f"{images:,}" if images is not None else "no number"
        said = said if images is not None else "  (it takes more seeds)"
        print(f"{seeds:>15}{many:>14}{said}")
    share = f"{values['positives']} of the images positive, " if values["metric"] == "auc" else ""
    print(f"Assumed: {share}correlation {values['correlation']}, SD over seeds {sd:g}.")
    return 0


def _image_variance(values: Mapping[str, str], first: float, second: float) -> float:
    if values["metric"] == "auc":
        correlation = _number(values, "correlation", 0, 1, zero=True)
        positives = _number(values, "positives", 0, 1)
        return planning.auc_variance(first, second, positives, correlation)
    most = planning.most_correlated(first, second)
    correlation = _number(values, "correlation", 0, most, zero=True)
    differing = planning.differing_share(first, second, correlation)
    return planning.accuracy_variance(first, second, differing)


def _number(
    values: Mapping[str, str], key: str, low: float, high: float, *, zero: bool = False
) -> float:
    """The value of a key, between low and high; zero: whether low itself is allowed."""
    try:
        found = float(values[key])
    except ValueError:
        found = float("nan")
    if not (low < found < high or (zero and found == low)):
        least = f"{low:g} or more" if zero else f"above {low:g}"
        raise UserError(
            f"{key}: found {values[key]}; allowed: a number {least} and below {high:.4g}"
        )
    return found


def _counts(values: Mapping[str, str], key: str) -> list[int]:
    parts = [part.strip() for part in values[key].split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        example = KEYS[key].default
        raise UserError(
            f"{key}: found {values[key]}; allowed: whole numbers from 1, such as {example}"
        )
    return [int(part) for part in parts]


def main() -> None:
    """Print the numbers that the command line asks for."""
    cli.run(_power, USAGE.replace("{keys}", parser.described(KEYS)))
