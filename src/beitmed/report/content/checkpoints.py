"""Where the networks of a report come from, and which test images they may have seen."""

from __future__ import annotations

from collections.abc import Sequence

from beitmed.report.document import Column, Section, Table
from beitmed.runs.reader import FinishedRun


def section(runs: Sequence[FinishedRun]) -> Section | None:
    """A table of the checkpoints of which something is known; None where of none."""
    found = {
        (run.config.backbone.name, run.config.backbone.content): run.config.backbone
        for run in runs
        if run.config.reads_backbone and run.config.backbone.about is not None
    }
    if not found:
        return None
    columns = ["Checkpoint", "Licence", "Source", "Learnt from", "Overlap with test sets"]
    rows = [
        [name, *(about.licence, about.source, about.trained_on, about.overlap)]
        for (name, _), backbone in sorted(found.items(), key=lambda item: str(item[0]))
        if (about := backbone.about) is not None
    ]
    return Section(
        id="checkpoints",
        title="Where the networks come from",
        paragraphs=[
            "What their authors, or their configuration files, say. A network that has learnt from "
            "a test image, even without its label, may do better on it than on a new one."
        ],
        tables=[
            Table(
                id="networks",
                title="Checkpoints and what they were trained on",
                columns=[Column(name) for name in columns],
                rows=rows,
            )
        ],
    )
