"""What a run draws and tabulates: ROC curves, the confusion matrix, bins of its probabilities, the
decision curve of two classes, and the learning curves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit

from beitmed import tasks
from beitmed.config import Config
from beitmed.plots.confusion import Confusion, confusion
from beitmed.plots.decision_curve import decision_curve
from beitmed.plots.learning_curves import Histories, learning_curves
from beitmed.plots.page import FULL_WIDTH, WIDTH, write, write_both
from beitmed.plots.roc import RocCurve, roc
from beitmed.plots.roc_panels import roc_panels
from beitmed.plots.roc_points import corners, roc_points
from beitmed.runs.caveats import is_grave
from beitmed.runs.folder import Run
from beitmed.runs.predictions import Predictions
from beitmed.statistics import decisions, reliability
from beitmed.statistics.estimates import Estimate
from beitmed.tasks.task import Curves, Task

Estimates = Mapping[str, Estimate]
_MOST_CLASSES = 30  # whose shares fit into the cells of a page's width
_ROC = ("false_positive_rate", "true_positive_rate", "threshold")


def draw(
    cfg: Config,
    folder: Run,
    class_names: Sequence[str],
    test: Predictions,
    estimates: Estimates,
    history: Sequence[Mapping[str, Any]],
    caveats: Sequence[str],
) -> None:
    """Write the figures as PNG and SVG, and the tables of curves as CSV, of the test set.

    Without epochs there is no `history` plot. The caveats stand in every figure's title; those of
    what is no real model or no real image also in every row of a table, as its `note`.
    """
    title = "; ".join(
        [
            f"{cfg.dataset.name}, {cfg.size} px, {_balance(cfg)}",
            f"{_model(cfg)}, seed {cfg.seed}",
            *caveats,
        ]
    )
    task, positive = tasks.of(cfg.dataset.task), cfg.dataset.positive_label
    tables = _Tables(folder, "; ".join(filter(is_grave, caveats)))
    _roc(tables, task.curves(test.logits, test.labels, class_names, positive), estimates, title)
    _confusion(folder, task, test, class_names, title)
    if not task.several_labels:
        _reliability(tables, task, test, positive)
    if positive is not None:
        _decision(tables, task, test, positive, class_names[positive], title)
    if history:
        curves = learning_curves([Histories("", [history])], title=title, width=WIDTH)
        write(curves, folder.path / "history")


def _balance(cfg: Config) -> str:
    if not cfg.balanced:
        return "all images"
    return "balanced" if cfg.balancing.papers else f"balanced by {cfg.balancing.name}"


def _model(cfg: Config) -> str:
    if cfg.trains_backbone:
        return f"{cfg.backbone.name}, unfreeze={cfg.unfreeze}"
    title = cfg.method.title or cfg.method.name
    return f"{cfg.backbone.name} {title}" if cfg.reads_backbone else title


@dataclass(frozen=True)
class _Tables:
    """Writes tables, with a note in every row where there is something to note."""

    run: Run
    note: str

    def write(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        if self.note:
            header, rows = [*header, "note"], ([*row, self.note] for row in rows)
        self.run.write_csv(name, header, rows)


def _confusion(
    folder: Run, task: Task, test: Predictions, class_names: Sequence[str], title: str
) -> None:
    counts = task.confusion(test.labels, test.logits)
    if task.several_labels:
        panels = [Confusion(n, c) for n, c in zip(class_names, counts, strict=True)]
        names: Sequence[str] = ("absent", "present")
    else:
        panels, names = [Confusion("", counts)], class_names
    if len(names) > _MOST_CLASSES:
        return
    drawn = partial(confusion, panels, title=title, class_names=names)
    if task.several_labels:  # a column of them would be longer than a page
        write(drawn(width=FULL_WIDTH), folder.path / "confusion")
    elif len(names) == 2:
        write(drawn(width=WIDTH), folder.path / "confusion")
    else:
        write_both(drawn, folder.path / "confusion")


def _reliability(tables: _Tables, task: Task, test: Predictions, positive: int | None) -> None:
    """Bins of the positive class's probability, or of the predicted class's."""
    if positive is None:
        of = reliability.top_label(test.logits, test.labels)
    else:
        of = expit(task.log_odds(test.logits)[:, positive]), test.labels == positive
    groups = None if test.groups is None else np.asarray(test.groups)
    found = reliability.reliability_bins(*of, groups)
    header = ("n", "predicted", "observed", "ci_low", "ci_high")
    tables.write("reliability.csv", header, [list(astuple(one)) for one in found])


def _decision(
    tables: _Tables, task: Task, test: Predictions, positive: int, name: str, title: str
) -> None:
    p, y = expit(task.log_odds(test.logits)[:, positive]), test.labels == positive
    groups = None if test.groups is None else np.asarray(test.groups)
    if len(y) < 2:
        return
    points = decisions.decision_curve(p, y, np.arange(1, 100) / 100, groups)
    header = ("threshold", "net_benefit", "ci_low", "ci_high", "treat_all", "gain", "gain_ci_low",
              "gain_ci_high")  # fmt: skip
    tables.write("decision.csv", header, [list(astuple(point)) for point in points])
    drawn = decision_curve(points, title=title, positive_name=name)
    write(drawn, tables.run.path / "decision")


def _roc(tables: _Tables, of: Curves, estimates: Estimates, title: str) -> None:
    folder = tables.run
    aucs = [estimates[name] for name in of.metrics]
    if of.column is None:
        curve = RocCurve("", of.member[:, 0], of.score[:, 0], aucs[0], _operating_point(estimates))
        figure = roc([curve], title=title, positive_name=of.names[0], width=WIDTH)
        write(figure, folder.path / "roc")
        points = np.column_stack(roc_points(curve.y, curve.score))
        tables.write("roc.csv", _ROC, map(np.ndarray.tolist, points))
        return
    said = f"{title}. {of.caption}: AUC with its 95 % interval; pointwise 95 % band"
    write_both(partial(roc_panels, of, aucs=aucs, title=said), folder.path / "roc")
    rows = (
        [i, *point.tolist()]
        for i, auc in enumerate(aucs)
        if auc.value is not None
        for point in np.column_stack(corners(of.member[:, i], of.score[:, i]))
    )
    tables.write("roc.csv", [of.column, *_ROC], rows)


def _operating_point(estimates: Estimates) -> tuple[float, float] | None:
    """Where the decision at argmax lies on the curve: its false and true positive rate."""
    sensitivity, specificity = (estimates[k].value for k in ("sensitivity", "specificity"))
    if sensitivity is None or specificity is None:
        return None
    return 1 - specificity, sensitivity
