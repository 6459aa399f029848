"""What may be concluded, in sentences made from the numbers: never a rank within noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from beitmed import comparisons
from beitmed.comparisons import Difference
from beitmed.report import published
from beitmed.report.document import p_value, text
from beitmed.report.evidence import LEVEL, Evidence, Pair, interval
from beitmed.seeds import Summary

_NAMED = 10  # pairs that a sentence names one by one


def sentences(evidence: Evidence) -> list[str]:
    """The conclusion of one test set."""
    test_set = evidence.test_set
    runs = len(test_set.runs)
    said = [
        f"{test_set.name}: {_count(len(test_set.variants), 'variant')}, {_count(runs, 'run')}, "
        f"{test_set.n:,} test images."
    ]
    for summaries, name, difference, adjusted in (
        (evidence.auc, "AUC", _auc, lambda pair: pair.auc_p),
        (evidence.accuracy, "accuracy", lambda pair: pair.accuracy, lambda pair: pair.accuracy_p),
    ):
        if summaries is None:
            continue
        said += _pairs(evidence.pairs, name, difference, adjusted)
        said += _seeds(name, list(summaries.values()))
        said += _paper(evidence, name, summaries)
    single = [v.name for v in test_set.variants if len(v.runs) == 1]
    if single:
        who = "every variant" if len(single) == len(test_set.variants) else _listed(single)
        said.append(
            f"One seed only: {who}. What another seed would have given is not in these intervals."
        )
    return said


def _auc(pair: Pair) -> Difference:
    assert pair.auc is not None
    return pair.auc


def _pairs(
    pairs: Sequence[Pair],
    name: str,
    difference: Callable[[Pair], Difference],
    adjusted: Callable[[Pair], float | None],
) -> list[str]:
    if not pairs:
        return []
    tested = [(pair, p) for pair in pairs if (p := adjusted(pair)) is not None]
    if not tested:
        return [f"{name}: no pair of variants can be tested."]
    apart = [(pair, p) for pair, p in tested if p < LEVEL]
    total = _count(len(tested), "pair")
    said = []
    if not apart:
        least = p_value(min(p for _, p in tested))
        said.append(
            f"{name}: no difference beyond noise among {total} (smallest p after Holm's "
            f"correction: {least}). The order of the variants by {name} is no finding."
        )
    else:
        named = sorted(apart, key=lambda found: found[1])[:_NAMED]
        more = "" if len(apart) <= _NAMED else f"; and {len(apart) - _NAMED} more, in the table"
        said.append(
            f"{name}: {len(apart)} of {total} differ beyond noise (p < {LEVEL:g} after Holm's "
            "correction): " + "; ".join(_apart(pair, difference(pair), p) for pair, p in named)
            + more + "."
        )  # fmt: skip
        if len(apart) < len(tested):
            said.append(
                f"{name}: the other {_count(len(tested) - len(apart), 'pair')} cannot be told "
                "apart, and their order is no finding."
            )
    limit = comparisons.resolution(difference(pair) for pair, _ in tested)
    if limit is not None:
        said.append(
            f"{name}: for a typical pair here, a difference below {text(limit)} lies within its "
            "95 % interval around zero, even before the correction."
        )
    return said


def _apart(pair: Pair, difference: Difference, p: float) -> str:
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


def _seeds(name: str, summaries: Sequence[Summary]) -> list[str]:
    several = [s for s in summaries if s.sd is not None and s.test_se is not None]
    if not several:
        return []
    sds = sorted(s.sd for s in several if s.sd is not None)
    ses = sorted(s.test_se for s in several if s.test_se is not None)
    larger = "test sample" if ses[len(ses) // 2] > sds[len(sds) // 2] else "seed"
    return [
        f"{name}: between seeds of a variant the standard deviation is {_range(sds)}; the choice "
        f"of test images gives the mean a standard error of {_range(ses)}. The larger doubt is "
        f"that of the {larger}."
    ]


def _paper(evidence: Evidence, name: str, summaries: dict[str, Summary]) -> list[str]:
    held, other, foreign = 0, 0, 0
    for variant in evidence.test_set.variants:
        figures = published.paper_run(variant.first)
        cell = interval(summaries[variant.name])
        if figures is None or cell.low is None or cell.high is None:
            continue
        figure = figures[0 if name == "AUC" else 1]
        held += cell.low <= figure <= cell.high
        other += not cell.low <= figure <= cell.high
        foreign += bool(published.departures(variant.first))
    if not held + other:
        return []
    said = (
        f"{name}: the paper's own figure lies within the measured 95 % interval for {held} of "
        f"{_count(held + other, 'variant')}"
    )
    if foreign:
        said += f", of which {foreign} did not follow the paper's protocol (see the table's notes)"
    return [said + "."]


def _range(values: Sequence[float]) -> str:
    low, high = (f"{v:.4f}" for v in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
