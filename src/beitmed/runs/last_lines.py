"""What a run says in the end: a small table, and what is to be said of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beitmed import tasks
from beitmed.config import Config
from beitmed.runs import published
from beitmed.runs.predictions import Predictions
from beitmed.statistics.estimates import Estimate


def lines(
    cfg: Config,
    class_names: Sequence[str],
    test: Predictions,
    estimates: Mapping[str, Estimate],
    caveats: Sequence[str],
    beside: Mapping[str, Any] | None,
) -> list[str]:
    """The lines, of a finished evaluation; beside: what `published.beside` found."""
    task, positive = tasks.of(cfg.dataset.task), cfg.dataset.positive_label
    patients = "" if test.patients is None else f" of {test.patients} patients"
    said = [
        f"Test set: {len(test.labels):,} images{patients}; {task.whose(class_names, positive)}.",
        *([f"Note: {'; '.join(caveats)}."] if caveats else []),
    ]
    names = list(dict.fromkeys([*task.compared, *task.headlines]))
    titles = [task.title(name, class_names, positive) for name in names]
    table = [_row(t, estimates[name]) for t, name in zip(titles, names, strict=True)]
    table += [_row(name, estimates[name]) for name in cfg.evaluate.metrics]
    heading = ("", "value", "95 % interval", "without skill")
    widths = [max(map(len, column)) for column in zip(heading, *table, strict=True)]
    for row in (heading, *table):
        first, *others = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        said.append("  " + "  ".join([first, *others]).rstrip())
    said += _without_skill(names, titles, tasks.without_skill(task, estimates))
    return said + (published.sentences(beside) if beside else [])


def _without_skill(names: Sequence[str], titles: Sequence[str], found: Sequence[str]) -> list[str]:
    which = [title for name, title in zip(names, titles, strict=True) if name in found]
    if not which:
        return []
    return [
        f"{', '.join(which)}: not beyond what a prediction without skill reaches on these images "
        "(the best constant, or chance)."
    ]


def _row(title: str, e: Estimate) -> tuple[str, str, str, str]:
    if e.value is None:
        return title, "–", f"undefined: {e.reason}", ""
    interval = "none" if e.ci_low is None else f"[{e.ci_low:.3f}, {e.ci_high:.3f}]"
    return title, f"{e.value:.3f}", interval, "" if e.no_skill is None else f"{e.no_skill:.3f}"
