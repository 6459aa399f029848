"""The figures of an external test."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import logit

from beitmed.external import columns, sentences
from beitmed.external.validation import Validation
from beitmed.plots.class_shares import ClassCounts, class_shares
from beitmed.plots.forest import Row, forest
from beitmed.plots.page import write_both
from beitmed.plots.reliability import Reliability, reliability
from beitmed.plots.roc import RocCurve, roc
from beitmed.plots.roc_panels import roc_panels
from beitmed.runs.predictions import Predictions
from beitmed.statistics import reliability as bins
from beitmed.statistics.estimates import Estimate

_TINY = 1e-12


def draw(of: Validation, folder: Path) -> None:
    """Write roc, reliability, differences and classes into the folder, each at both widths."""
    values = of.values
    part = "all images" if values["split"] == "all" else values["split"]
    title = "; ".join([f"{values['run']} on {values['dataset']} ({part})", *values["caveats"]])
    _roc(of, folder, title)
    if not of.found.task.several_labels:
        _reliability(of, folder, title)
    _differences(of, folder, title)
    write_both(
        partial(
            class_shares,
            [
                ClassCounts(name, {s["name"]: s["n"] for s in values["data_shift"]["classes"][key]})
                for name, key in (("Internal test", "internal"), ("External", "external"))
            ],
            title=title,
        ),
        folder / "classes",
    )


def _sides(of: Validation) -> list[tuple[str, Predictions, str]]:
    return [("Internal test", of.found.run.test, "internal"), ("External", of.external, "external")]


def _roc(of: Validation, folder: Path, title: str) -> None:
    found, values = of.found, of.values
    positive = found.run.config.dataset.positive_label
    if positive is None:
        drawn = found.task.curves(of.external.logits, of.external.labels, found.class_names, None)
        aucs = [Estimate(**values["external"][name]) for name in drawn.metrics]
        said = f"{title}. External: {drawn.caption}: AUC with its 95 % interval"
        write_both(partial(roc_panels, drawn, aucs=aucs, title=said), folder / "roc")
        return
    curves = []
    for name, cases, key in _sides(of):
        [column] = columns.of(found.task, cases, found.class_names, positive)
        curves.append(RocCurve(name, column.y, column.score, Estimate(**values[key]["auc"])))
    drawn_roc = partial(roc, curves, title=title, positive_name=found.class_names[positive])
    write_both(drawn_roc, folder / "roc")


def _reliability(of: Validation, folder: Path, title: str) -> None:
    """Of two classes the positive one's probability, of more the predicted class's."""
    found, panels = of.found, []
    positive = found.run.config.dataset.positive_label
    error = "calibration_error" if positive is not None else "calibration_error_top_label"
    for name, cases, key in _sides(of):
        if positive is None:
            p, y = bins.top_label(cases.logits, cases.labels)
            score = logit(np.clip(p, _TINY, 1 - _TINY))
        else:
            [column] = columns.of(found.task, cases, found.class_names, positive)
            y, score = column.y, column.score
        found_error = of.values[key].get(error)
        panels.append(Reliability(name, y, score, found_error and Estimate(**found_error)))
    of_what = "the predicted class is right" if positive is None else found.class_names[positive]
    drawn = partial(reliability, panels, title=title, positive_name=of_what)
    write_both(drawn, folder / "reliability")


def _differences(of: Validation, folder: Path, title: str) -> None:
    task, apart = of.found.task, of.values["differences"]
    rows = []
    for name in task.headlines:
        one = apart.get(name) or {"value": None, "ci_low": None, "ci_high": None}
        label = task.title(name, of.found.class_names, of.found.run.config.dataset.positive_label)
        written = sentences.cell(one)
        rows.append(Row(label, one["value"], one["ci_low"], one["ci_high"], written))
    drawn = partial(forest, rows, title=title, xlabel="External less internal")
    write_both(drawn, folder / "differences")
