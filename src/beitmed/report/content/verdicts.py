"""What may be said of pairs of variants: never a rank within noise, and of whom it is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from beitmed.report.content.evidence import LEVEL, Evidence, Pair, interval
from beitmed.report.document import Interval, in_sentence, p_value, text
from beitmed.statistics import planning

#: The same, after a number of pairs.
_BRIEFLY = {
    (True, True): "between procedures (several seeds)",
    (False, False): "between two trained models (one seed each: of these two alone)",
    (True, False): "between a procedure and one trained model",
}
NAMED = 10  # that a sentence names one by one
_KINDS = {
    (True, True): "Between procedures (several seeds each)",
    (False, False): "Between these trained models (one seed each: another training may differ)",
    (True, False): "Between a procedure (several seeds) and one trained model",
}


def brief(evidence: Evidence, measure: str) -> list[str]:
    """The verdicts on the pairs by one measure in one sentence, and of whom they are."""
    pairs = evidence.pairs.get(measure, [])
    tested = [(pair, pair.p) for pair in pairs if pair.p is not None]
    if not tested:
        return ["no pair of variants can be tested."] if pairs else []
    several = {v.name: len(v.runs) > 1 for v in evidence.test_set.variants}
    counts = []
    for kind, who in _BRIEFLY.items():
        own = [p for pair, p in tested if _is_of(pair, kind, several)]
        if own:
            counts.append(f"{sum(p < LEVEL for p in own):,} of {len(own):,} {who}")
    apart = [(pair, p) for pair, p in tested if p < LEVEL]
    among = f" among those planned with {evidence.reference}" if evidence.reference else ""
    holm = f" after Holm{among}" if len(tested) > 1 else ""
    if not apart:
        least = _equals(min(p for _, p in tested))
        whom = ", ".join(c.partition(" of ")[2] for c in counts)
        return [
            f"no pair differs beyond noise ({whom}; smallest p {least}{holm}). The order of the "
            "variants is no finding."
        ]
    first = [(pair, p) for pair, p in apart if several[pair.first] and several[pair.second]]
    pair, p = max(first or apart, key=lambda found: abs(found[0].difference.value or 0.0))
    example = "The difference" if len(apart) == 1 else "The largest"
    example += " between procedures" if first and len(counts) > 1 else ""
    rest = "" if len(apart) == len(tested) else " The others' order is no finding."
    return [
        f"pairs that differ beyond noise (p < {LEVEL:g}{holm}): {', '.join(counts)}. {example}: "
        f"{_apart(pair, p)}.{rest}"
    ]


def of(evidence: Evidence, measure: str) -> list[str]:
    """The verdicts on the pairs by one measure."""
    pairs, name = evidence.pairs.get(measure, []), in_sentence(_label(evidence, measure))
    if not pairs:
        return []
    if all(pair.p is None for pair in pairs):
        return ["no pair of variants can be tested."]
    several = {v.name: len(v.runs) > 1 for v in evidence.test_set.variants}
    said = []
    for kind, who in _KINDS.items():
        own = [pair for pair in pairs if _is_of(pair, kind, several)]
        if own:
            said += [f"{who}: {s}" for s in _verdicts(own, name, _adjusted(evidence, pairs))]
    return said


def _is_of(pair: Pair, kind: tuple[bool, bool], several: Mapping[str, bool]) -> bool:
    found = several[pair.first], several[pair.second]
    return kind in (found, found[::-1])


def _label(evidence: Evidence, measure: str) -> str:
    return evidence.test_set.task.metrics[measure].label


def _adjusted(evidence: Evidence, pairs: Sequence[Pair]) -> str:
    count = sum(pair.p is not None for pair in pairs)
    if count < 2:
        return ""
    planned = "" if evidence.reference is None else f" planned with {evidence.reference}"
    return f" after Holm for {count:,} comparisons{planned}"


def _verdicts(pairs: Sequence[Pair], name: str, adjusted: str) -> list[str]:
    tested = [(pair, pair.p) for pair in pairs if pair.p is not None]
    untested = _untested(len(pairs) - len(tested))
    if not tested:
        return ["no pair can be tested."]
    apart = [(pair, p) for pair, p in tested if p < LEVEL]
    if not apart:
        least = _equals(min(p for _, p in tested))
        if len(tested) == 1:
            pair = tested[0][0]
            return [
                f'no difference beyond noise between "{pair.first}" and "{pair.second}" (p '
                f"{least}{adjusted}{untested}). Their order by {name} is no finding."
            ]
        return [
            f"no difference beyond noise in any of {len(tested):,} pairs (smallest p {least}"
            f"{adjusted}{untested}). Their order by {name} is no finding."
        ]
    named = sorted(apart, key=lambda found: found[1])[:NAMED]
    more = "" if len(apart) <= NAMED else f"; and {len(apart) - NAMED:,} more, in the table"
    listed = "; ".join(_apart(pair, p) for pair, p in named)
    if len(tested) == 1:
        return [f"the two differ beyond noise (p < {LEVEL:g}{adjusted}{untested}): {listed}."]
    said = [
        f"{len(apart):,} of {len(tested):,} pairs {'differs' if len(apart) == 1 else 'differ'} "
        f"beyond noise (p < {LEVEL:g}{adjusted}{untested}): {listed}{more}."
    ]
    if rest := len(tested) - len(apart):
        said[0] += (
            " The other pair cannot be told apart, and its order is no finding."
            if rest == 1
            else f" The other {rest:,} pairs cannot be told apart, and their order is no finding."
        )
    return said


def _untested(rest: int) -> str:
    return f"; {rest:,} more {'pair' if rest == 1 else 'pairs'} cannot be tested" if rest else ""


def _apart(pair: Pair, p: float) -> str:
    difference = pair.difference
    assert difference.value is not None
    first, second, cell = pair.first, pair.second, interval(difference)
    if difference.value < 0:
        first, second = second, first
        low, high = difference.low, difference.high
        cell = Interval(
            -difference.value, None if high is None else -high, None if low is None else -low
        )
    return f'"{first}" is above "{second}" by {text(cell)}, p {_equals(p)}'


def _equals(p: float) -> str:
    written = p_value(p)
    return written if written.startswith("<") else f"= {written}"


def of_margin(evidence: Evidence, measure: str) -> list[str]:
    """What the margin says of the pairs: equivalent, not inferior, inferior, or not to be told."""
    margin = evidence.question.margin
    if margin is None:
        return []
    by: dict[str, list[Pair]] = {}
    for pair in evidence.pairs.get(measure, []):
        if (found := evidence.equivalence(measure, pair.difference)) is not None:
            by.setdefault(found.verdict, []).append(pair)
    order = ("equivalent", "non-inferior", "inferior", "cannot be told")
    said = [f"{len(by[v]):,} {v}{_pairs_named(by[v], v)}" for v in order if v in by]
    if not said:
        return []
    return [
        f"by the margin of {margin:g} (first against second, two one-sided tests at 5 % each): "
        f"{'; '.join(said)}."
    ]


def _pairs_named(pairs: Sequence[Pair], verdict: str) -> str:
    if verdict == "cannot be told" or len(pairs) > 2:
        return ""
    return " (" + "; ".join(f'"{p.first}" against "{p.second}"' for p in pairs) + ")"


def resolution(pairs: Sequence[Pair]) -> list[str]:
    """Which true difference the pairs could have found, with the power that is computed for it."""
    found = planning.resolution(p.difference for p in pairs if p.p is not None)
    if found is None:
        return []
    half, size = found
    count = sum(p.p is not None for p in pairs)
    corrected = "" if count < 2 else " (before the correction for several comparisons)"
    return [
        f"the 95 % interval of a typical pair reaches {text(half)} to either side. A true "
        "difference of that size would be found about half the time, one of "
        f"{text(size)} in 80 %{corrected}, so a smaller one may well have been missed."
    ]


def selection(evidence: Evidence) -> list[str]:
    """How many variants were tried, and the best without the luck of having been picked."""
    count = len(evidence.test_set.variants)
    if count < 2:
        return []
    tried = f"{count:,} variants were tried on the same test images, as counted from these runs"
    if evidence.selected is None:
        return [f"{tried}; each one more makes a high value by luck likelier."]
    name, best = evidence.selected
    label = in_sentence(_label(evidence, evidence.test_set.task.compared[0]))
    return [
        f'{tried}. The highest {label}, {text(best.value)} of "{name}", is '
        f"{text(Interval(best.corrected, best.low, best.high))} once corrected for having been "
        "picked on them."
    ]


def without_skill(evidence: Evidence) -> list[str]:
    """Variants that no interval puts above a constant prediction."""
    test_set, said = evidence.test_set, []
    chance: Mapping[str, float] = {
        name: value
        for name in test_set.task.compared
        if (value := (test_set.first.metrics["test"].get(name) or {}).get("no_skill")) is not None
    }
    for name, value in chance.items():
        higher = test_set.task.metrics[name].better == "higher"
        below = []
        for variant in test_set.variants:
            if variant.first.config.method.name == "majority":  # it is the constant prediction
                continue
            s = evidence.summaries[name][variant.name]
            limit = s.low if higher else s.high
            limit = s.mean if limit is None else limit
            if limit is not None and not (limit > value if higher else limit < value):
                below.append(variant.name)
        if below:
            label, side = test_set.task.metrics[name].label, "above" if higher else "below"
            shown = ", ".join(f'"{n}"' for n in below)
            who = f"{len(below):,} of {len(test_set.variants):,} variants"
            who = shown if len(below) <= 2 else f"{who} (their intervals reach it)"
            said.append(
                f"by {in_sentence(label)} not shown to be {side} a constant prediction "
                f"({text(value)}): {who}."
            )
    return said
