"""The report's parts in their order, for any set of finished runs."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

from beitmed import cross_validation
from beitmed.errors import UserError
from beitmed.report.content import (
    checklist,
    checkpoints,
    comparison_tables,
    conclusions,
    examples,
    explanations,
    external,
    figures,
    folds,
    label_efficiency,
    published,
    robustness,
    run_tables,
    subgroup_tables,
    test_time,
)
from beitmed.report.content.evidence import Evidence, Question
from beitmed.report.content.variants import TestSet, group
from beitmed.report.document import Curve, Document, Section, without_places
from beitmed.runs.reader import FinishedRun

log = logging.getLogger(__name__)
_CURVES_SHOWN = 4  # on the page, before a reader chooses


@dataclass(frozen=True)
class Options:
    """data_root: where data files are, None for where each run found them. images: whether to read
    them at all. attention: whether to draw attention maps, which takes the network. folders: where
    external tests are looked for, besides those beside the runs.
    """

    data_root: str | None = None
    images: bool = True
    attention: bool = True
    question: Question = field(default_factory=Question)
    folders: tuple[Path, ...] = ()


def build(
    runs: Sequence[FinishedRun], problems: Sequence[str], folder: Path, options: Options
) -> Document:
    """Make the report of these runs; figures are drawn into `folder`.

    Raises UserError where the reference is not one of the variants.
    """
    load = partial(examples.load, data_root=options.data_root)
    test_sets, notes = group(runs, load) if options.images else group(runs)
    for note in notes:
        log.warning("Note: %s", note)
    joined, incomplete = cross_validation.join(runs)
    outside, unread = external.find(runs, options.folders)
    found = [Evidence(test_set, options.question) for test_set in test_sets]
    _demand_reference(found)
    ran: list[str] = []
    summary = [one.sentence() for one in joined]
    doubts: list[str] = []
    parts = [folds.section(joined)] if joined else []
    for evidence in found:
        test_set = evidence.test_set
        log.info("%s: %d of %d runs", test_set.name, len(test_set.runs), len(runs))
        said = conclusions.conclude(evidence)
        ran += said.run
        summary += said.found
        doubts += said.doubt
        parts.append(_results(evidence, said.context, folder))
        by_labels, needed = label_efficiency.section(evidence, folder)
        summary += needed
        parts += [] if by_labels is None else [by_labels]
        if (tested := external.section(test_set, outside, folder)) is not None:
            parts.append(tested)
        if (paper := _paper(evidence)) is not None:
            parts.append(paper)
        parts += robustness.sections(test_set, folder)
        if options.images:
            parts += examples.sections(test_set, folder, options.data_root)
        if options.attention:
            parts.append(explanations.section(test_set, folder, options.data_root))
        parts.append(_single_runs(evidence, folder))
    if (origin := checkpoints.section(runs)) is not None:
        parts.append(origin)
    parts.append(checklist.section(found, external.claimed(outside)))
    return Document(
        title="Transfer learning on " + ", ".join(dict.fromkeys(t.name for t in test_sets)),
        run=ran,
        summary=[*summary, *external.headlines(outside)],
        caveats=[*_caveats(runs), *doubts, *external.doubts(outside)],
        first=figures.first(found, folder),
        sections=parts,
        curves=_curves(test_sets),
        problems=[without_places(line) for line in (*problems, *incomplete, *unread, *notes)],
        footer=_footer(runs),
    )


def _demand_reference(found: Sequence[Evidence]) -> None:
    wanted = found[0].question.reference
    if wanted is None or any(e.reference is not None for e in found):
        return
    names = [v.name for e in found for v in e.test_set.variants]
    more = "" if len(names) <= 10 else f", and {len(names) - 10} more"
    raise UserError(
        f"reference: found {wanted!r}, which is not the name of one variant, part of a single "
        f"one's name, or a run's; allowed: {', '.join(names[:10])}{more}."
    )


def _results(evidence: Evidence, said: Sequence[str], folder: Path) -> Section:
    test_set, further = evidence.test_set, comparison_tables.every_metric(evidence)
    return Section(
        id=f"results-{test_set.id}",
        title=f"{test_set.name}: results",
        paragraphs=said,
        tables=[
            comparison_tables.variants(evidence),
            *comparison_tables.pairs(evidence),
            *([] if further is None else [further]),
            *subgroup_tables.tables(test_set),
            *test_time.tables(test_set),
        ],
        figures=figures.comparisons(evidence, folder),
    )


def _paper(evidence: Evidence) -> Section | None:
    test_set = evidence.test_set
    found = [
        table
        for table in (
            published.paper_table(evidence),
            published.anchors_table(test_set),
        )
        if table is not None
    ]
    if not found:
        return None
    return Section(
        id=f"published-{test_set.id}",
        title=f"{test_set.name}: beside published results",
        paragraphs=[
            "Published figures are of single test sets without intervals, most of them of one "
            "run. A row that is higher than another is not therefore better.",
            *comparison_tables.no_accuracy(test_set),
        ],
        tables=found,
    )


def _single_runs(evidence: Evidence, folder: Path) -> Section:
    test_set = evidence.test_set
    return Section(
        id=f"single-{test_set.id}",
        title=f"{test_set.name}: every run",
        tables=run_tables.every_run(evidence.test_set),
        figures=figures.single_runs(evidence, folder),
    )


def _caveats(runs: Sequence[FinishedRun]) -> list[str]:
    """What the runs say of themselves, and of how many of them it holds."""
    count: dict[str, int] = {}
    for run in runs:
        for caveat in run.metrics["caveats"]:
            count[caveat] = count.get(caveat, 0) + 1
    return [
        f"{caveat} ({'all runs' if n == len(runs) else f'{n} of {len(runs)} runs'})"
        for caveat, n in count.items()
    ]


def _curves(test_sets: Sequence[TestSet]) -> list[Curve]:
    curves = []
    for test_set in test_sets:
        if not test_set.task.has_positive:
            continue
        shown = {v.first.path for v in test_set.variants[:_CURVES_SHOWN]}
        first = test_set is test_sets[0]
        for variant in test_set.variants:
            for run in variant.runs:
                curves.append(
                    Curve(
                        name=f"{variant.name}, seed {run.seed}",
                        dataset=test_set.name,
                        positive=test_set.positive,
                        negative=test_set.negative,
                        score=run.score.tolist(),
                        actual=run.actual.tolist(),
                        shown=first and run.path in shown,
                        tie_positive=run.positive == 0,
                    )
                )
    return curves


def _footer(runs: Sequence[FinishedRun]) -> list[str]:
    versions = {
        name: sorted({str(run.environment.get(name)) for run in runs})
        for name in ("beitmed", "torch", "transformers")
    }
    used = ", ".join(f"{name} {' and '.join(found)}" for name, found in versions.items())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    said = [f"Made {today} by beitmed {version('beitmed')} from {len(runs)} runs, with {used}."]
    if any(len(found) > 1 for found in versions.values()):
        said.append("The runs were made with different versions, which may explain differences.")
    return [*said, "For research and teaching. Not a medical device."]
