"""What a run draws: its ROC curve, or one for each class, and its learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from beitmed import tasks
from beitmed.config import Config
from beitmed.plots.learning_curves import Histories, learning_curves
from beitmed.plots.page import WIDTH, write, write_both
from beitmed.plots.roc import RocCurve, roc
from beitmed.plots.roc_panels import roc_panels
from beitmed.plots.roc_points import corners, roc_points
from beitmed.runs.folder import Run
from beitmed.statistics.estimates import Estimate
from beitmed.tasks.task import Curves

Estimates = Mapping[str, Estimate]
_ROC = ("false_positive_rate", "true_positive_rate", "threshold")


def draw(
    cfg: Config,
    folder: Run,
    class_names: Sequence[str],
    labels: np.ndarray,
    logits: np.ndarray,
    estimates: Estimates,
    history: Sequence[Mapping[str, Any]],
    caveats: Sequence[str],
) -> None:
    """Write `roc` and `history` as PNG and SVG, and `roc.csv`; logits [n, classes] of the test set.

    Without epochs there is no `history` plot. The caveats stand in the ROC plot's title.
    """
    title = "; ".join(
        [
            f"{cfg.dataset.name}, {cfg.size} px, {_balance(cfg)}",
            f"{_model(cfg)}, seed {cfg.seed}",
            *caveats,
        ]
    )
    task, positive = tasks.of(cfg.dataset.task), cfg.dataset.positive_label
    _roc(folder, task.curves(logits, labels, class_names, positive), estimates, title)
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


def _roc(folder: Run, of: Curves, estimates: Estimates, title: str) -> None:
    aucs = [estimates[name] for name in of.metrics]
    if of.column is None:
        curve = RocCurve("", of.member[:, 0], of.score[:, 0], aucs[0], _operating_point(estimates))
        figure = roc([curve], title=title, positive_name=of.names[0], width=WIDTH)
        write(figure, folder.path / "roc")
        folder.write_csv(
            "roc.csv", _ROC, np.column_stack(roc_points(curve.y, curve.score)).tolist()
        )
        return
    said = f"{title}. {of.caption}: AUC with its 95 % interval; pointwise 95 % band"
    write_both(partial(roc_panels, of, aucs=aucs, title=said), folder.path / "roc")
    rows = [
        [i, *point]
        for i, auc in enumerate(aucs)
        if auc.value is not None
        for point in np.column_stack(corners(of.member[:, i], of.score[:, i])).tolist()
    ]
    folder.write_csv("roc.csv", [of.column, *_ROC], rows)


def _operating_point(estimates: Estimates) -> tuple[float, float] | None:
    """Where the decision at argmax lies on the curve: its false and true positive rate."""
    sensitivity, specificity = (estimates[k].value for k in ("sensitivity", "specificity"))
    if sensitivity is None or specificity is None:
        return None
    return 1 - specificity, sensitivity
