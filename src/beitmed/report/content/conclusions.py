"""What may be concluded of a test set, in sentences made from the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from beitmed.report.content import published, verdicts
from beitmed.report.content.evidence import Evidence
from beitmed.report.document import in_sentence
from beitmed.statistics import seeds
from beitmed.statistics.seeds import Ratio

_NAMED = 10


@dataclass(frozen=True)
class Conclusion:
    """`run`: what was run. `found`: what differs beyond noise, and what does not. `doubt`: what to
    distrust in that. `context`: what bears on how to read it.
    """

    run: list[str]
    found: list[str]
    doubt: list[str]
    context: list[str]


def conclude(evidence: Evidence) -> Conclusion:
    """The conclusion of one test set."""
    test_set = evidence.test_set
    task = test_set.task
    variants, count = test_set.variants, len(test_set.variants)
    run = [
        f"{test_set.name}: {_count(count, 'variant')}, {_count(len(test_set.runs), 'run')}, "
        f"{test_set.images}{_positive(evidence)}."
    ]
    found: list[str] = []
    context: list[str] = []
    for measure in task.compared:
        name = in_sentence(task.metrics[measure].label)
        said = f"{test_set.name}, {name}: "
        pairs = evidence.pairs.get(measure, [])
        found += [said + s for s in verdicts.brief(evidence, measure)]
        context += [said + s for s in verdicts.of(evidence, measure)]
        found += [said + s for s in verdicts.of_margin(evidence, measure)]
        context += [said + s for s in verdicts.resolution(pairs)]
        context += [said + s for s in _seeds(evidence, measure)]
    context += [f"{test_set.name}: {s}" for s in published.conclusions(evidence)]
    untested = [m for m in task.compared if m not in task.tested]
    if count > 1 and untested:
        names = " and ".join(in_sentence(task.metrics[m].label) for m in untested)
        found.append(
            f"{test_set.name}: no paired test of {names} is made for this task; the order of the "
            f"variants by {'it' if len(untested) == 1 else 'them'} is no finding."
        )
    doubt = [f"{test_set.name}: {s}" for s in verdicts.without_skill(evidence)]
    doubt += [f"{test_set.name}: {s}" for s in verdicts.selection(evidence)]
    single = [v.name for v in variants if len(v.runs) == 1]
    if single:
        who = "every variant" if len(single) == count else f"{len(single)} of {count} variants"
        doubt.append(
            f"{test_set.name}: one seed only of {who}. What another seed would have given is not "
            "in their intervals."
        )
    return Conclusion(run, found, doubt, context)


def _positive(evidence: Evidence) -> str:
    test_set = evidence.test_set
    return f', positive class "{test_set.positive}"' if test_set.task.has_positive else ""


def _seeds(evidence: Evidence, measure: str) -> list[str]:
    """Whether training or the draw of test images moves a single model more, where that is told."""
    found = evidence.measures.get(measure, {})
    ratios = {name: r for name, m in found.items() if (r := seeds.seed_ratio(m)) is not None}
    if not ratios:
        return []
    summaries = [evidence.summaries[measure][name] for name in ratios]
    sds = sorted(s.sd for s in summaries if s.sd is not None)
    said = f"the standard deviation between seeds of a variant is {_range(sds)}. "
    return [said + _heavier(ratios)]


def _heavier(ratios: dict[str, Ratio]) -> str:
    by = {
        kind: [f'"{name}" ({r.value:.2f} [{r.low:.2f}, {r.high:.2f}])' for name, r in ratios.items()
               if r.heavier == kind]
        for kind in ("seed", "test images", None)
    }  # fmt: skip
    said = []
    for kind, moves in (
        ("seed", "seed moves a single model more than the test images"),
        ("test images", "test images move a single model more than the seed"),
    ):
        if by[kind]:
            said.append(f"The {moves} of {_listed(by[kind])}")
    if by[None]:
        said.append(f"Which of the two moves it more cannot be told of {_listed(by[None])}")
    return (
        ". ".join(said) + ". (In brackets the variance that training adds over that of drawn test "
        "images, with its 95 % chi-square interval.)"
    )


def _range(values: Sequence[float]) -> str:
    low, high = (f"{v:.4f}" for v in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
