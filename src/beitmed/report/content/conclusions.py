"""What may be concluded, in sentences made from the numbers: never a rank within noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beitmed.report.content import published
from beitmed.report.content.evidence import LEVEL, Evidence, Pair, interval
from beitmed.report.document import in_sentence, p_value, text
from beitmed.statistics import planning
from beitmed.statistics.seeds import Summary

_NAMED = 10  # pairs that a sentence names one by one


@dataclass(frozen=True)
class Conclusion:
    """`found`: which pairs differ and which do not. `context`: what bears on how to read that."""

    found: list[str]
    context: list[str]


def conclude(evidence: Evidence) -> Conclusion:
    """The conclusion of one test set."""
    test_set = evidence.test_set
    task = test_set.task
    head = (
        f"{test_set.name}: {_count(len(test_set.variants), 'variant')}, "
        f"{_count(len(test_set.runs), 'run')}, {_count(test_set.n, 'test image')}."
    )
    found, context = [head], []
    for measure, summaries in evidence.summaries.items():
        name = in_sentence(task.metrics[measure].label)
        said = f"{test_set.name}, {name}: "
        pairs = evidence.pairs.get(measure, [])
        found += [said + s for s in _pairs(pairs, name)]
        context += [said + s for s in _resolution(pairs)]
        context += [said + s for s in _seeds(list(summaries.values()))]
        context += [said + s for s in _paper(evidence, measure, summaries)]
    untested = [m for m in task.compared if m not in task.tested]
    if len(test_set.variants) > 1 and untested:
        names = " and ".join(in_sentence(task.metrics[m].label) for m in untested)
        found.append(
            f"{test_set.name}: no paired test of {names} is made for this task; the order of the "
            f"variants by {'it' if len(untested) == 1 else 'them'} is no finding."
        )
    single = [v.name for v in test_set.variants if len(v.runs) == 1]
    if single:
        who = "every variant" if len(single) == len(test_set.variants) else _listed(single)
        found.append(
            f"{test_set.name}: one seed only of {who}. What another seed would have given is not "
            "in these intervals."
        )
    return Conclusion(found, context)


def _pairs(pairs: Sequence[Pair], name: str) -> list[str]:
    if not pairs:
        return []
    tested = [(pair, pair.p) for pair in pairs if pair.p is not None]
    if not tested:
        return ["no pair of variants can be tested."]
    untested = _untested(pairs, tested)
    apart = [(pair, p) for pair, p in tested if p < LEVEL]
    if not apart:
        least = min(p for _, p in tested)
        if len(tested) == 1:
            [(only, _)] = tested
            names = "the two variants" if len(pairs) == 1 else f'"{only.first}" and "{only.second}"'
            return [
                f"no difference beyond noise between {names} (p {_equals(least)}{untested}). "
                f"Their order by {name} is no finding."
            ]
        return [
            f"no difference beyond noise in any of {len(tested):,} pairs (smallest p after Holm's "
            f"correction {_equals(least)}{untested}). The order of the variants by {name} is no "
            "finding."
        ]
    named = sorted(apart, key=lambda found: found[1])[:_NAMED]
    more = "" if len(apart) <= _NAMED else f"; and {len(apart) - _NAMED:,} more, in the table"
    listed = "; ".join(_apart(pair, p) for pair, p in named)
    if len(tested) == 1:
        which = "the two variants" if len(pairs) == 1 else "two variants"
        return [f"{which} differ beyond noise (p < {LEVEL:g}{untested}): {listed}."]
    said = [
        f"{len(apart):,} of {len(tested):,} pairs {'differs' if len(apart) == 1 else 'differ'} "
        f"beyond noise (p < {LEVEL:g} after Holm's correction{untested}): {listed}{more}."
    ]
    if rest := len(tested) - len(apart):
        said.append(
            "the other pair cannot be told apart, and its order is no finding."
            if rest == 1
            else f"the other {rest:,} pairs cannot be told apart, and their order is no finding."
        )
    return said


def _untested(pairs: Sequence[Pair], tested: Sequence[object]) -> str:
    rest = len(pairs) - len(tested)
    return f"; {rest:,} more {'pair' if rest == 1 else 'pairs'} cannot be tested" if rest else ""


def _resolution(pairs: Sequence[Pair]) -> list[str]:
    found = planning.resolution(p.difference for p in pairs if p.p is not None)
    if found is None:
        return []
    return [
        f"the 95 % interval of a typical pair reaches {text(found[0])} to either side. A true "
        "difference of that size would be found about half the time, one of "
        f"{text(found[1])} in 80 % (before the correction for several pairs)."
    ]


def _apart(pair: Pair, p: float) -> str:
    difference = pair.difference
    assert difference.value is not None
    first, second = pair.first, pair.second
    cell = interval(difference)
    if difference.value < 0:
        first, second = second, first
        cell = type(cell)(
            -difference.value,
            None if difference.high is None else -difference.high,
            None if difference.low is None else -difference.low,
        )
    return f'"{first}" is above "{second}" by {text(cell)}, p {_equals(p)}'


def _equals(p: float) -> str:
    written = p_value(p)
    return written if written.startswith("<") else f"= {written}"


def _seeds(summaries: Sequence[Summary]) -> list[str]:
    several = [s for s in summaries if s.sd is not None and s.test_se is not None]
    if not several:
        return []
    sds = sorted(s.sd for s in several if s.sd is not None)
    ses = sorted(s.test_se for s in several if s.test_se is not None)
    sd, se = float(np.median(sds)), float(np.median(ses))
    larger = (
        "the choice of test images weighs more than the seed"
        if se > sd
        else "the seed weighs more than the choice of test images"
    )
    return [
        f"the standard deviation between seeds of a variant is {_range(sds)}, the standard error "
        f"that the choice of test images gives a mean over seeds {_range(ses)}: {larger}."
    ]


def _paper(evidence: Evidence, measure: str, summaries: dict[str, Summary]) -> list[str]:
    held, known, foreign = 0, 0, 0
    for variant in evidence.test_set.variants:
        figures = published.paper_run(variant.first)
        cell = interval(summaries[variant.name])
        if figures is None or measure not in figures or cell.low is None or cell.high is None:
            continue
        known += 1
        held += cell.low <= figures[measure] <= cell.high
        foreign += bool(published.departures(variant.first))
    if not known:
        return []
    said = (
        f"the measured 95 % interval holds the paper's own figure for {held:,} of the "
        f"{_count(known, 'variant')} that the paper has."
    )
    if foreign:
        who = "None of these" if foreign == known else f"Only {known - foreign:,} of these"
        said += (
            f" {who} followed the paper's protocol (the table's notes say in what they differ), so "
            "agreement or its lack says little about whether the paper's result repeats."
        )
    return [said]


def _range(values: Sequence[float]) -> str:
    low, high = (f"{v:.4f}" for v in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
