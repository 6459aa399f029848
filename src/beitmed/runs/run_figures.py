"""What a run draws: its ROC curve, or one for each class, and its learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from beitmed.config import Config
from beitmed.data import Data
from beitmed.plots.learning_curves import Histories, learning_curves
from beitmed.plots.page import WIDTH, write, write_both
from beitmed.plots.roc import RocCurve, roc
from beitmed.plots.roc_panels import roc_panels
from beitmed.plots.roc_points import corners, roc_points
from beitmed.runs.artifacts import Run
from beitmed.statistics.estimates import Estimate
from beitmed.tasks import binary, multiclass

Estimates = Mapping[str, Estimate]
_ROC = ("false_positive_rate", "true_positive_rate", "threshold")


def draw(
    cfg: Config,
    folder: Run,
    data: Data,
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
    positive = cfg.dataset.positive_label
    if positive is None:
        _classes(cfg, folder, data, logits, estimates, title)
    else:
        _binary(positive, folder, data, logits, estimates, title)
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


def _binary(
    positive: int, folder: Run, data: Data, logits: np.ndarray, estimates: Estimates, title: str
) -> None:
    labels = data.test.labels == positive
    score = binary.margin(logits, positive)
    hit = {name: estimates[name].value for name in ("sensitivity", "specificity")}
    point = (
        None
        if hit["sensitivity"] is None or hit["specificity"] is None
        else (1 - hit["specificity"], hit["sensitivity"])
    )
    curve = RocCurve("", labels, score, estimates["auc"], point)
    name = data.class_names[positive]
    write(roc([curve], title=title, positive_name=name, width=WIDTH), folder.path / "roc")
    folder.write_csv("roc.csv", _ROC, np.column_stack(roc_points(labels, score)).tolist())


def _classes(
    cfg: Config, folder: Run, data: Data, logits: np.ndarray, estimates: Estimates, title: str
) -> None:
    several = cfg.dataset.task == "multilabel"
    grade = "grade " if cfg.dataset.task == "ordinal" else ""  # RetinaMNIST's are named 0 to 4
    names = [grade + name for name in data.class_names]
    classes = np.arange(len(data.class_names))
    member = data.test.labels == 1 if several else data.test.labels[:, None] == classes
    score = logits if several else multiclass.one_vs_rest(logits)
    kind = "label" if several else "class"
    aucs = [estimates[f"auc_{kind}_{i}"] for i in classes]
    what = "each label" if several else "each class against all others"
    said = f"{title}. ROC curve of {what}: AUC with its 95 % interval; pointwise 95 % band"
    draw = partial(roc_panels, member=member, score=score, names=names, aucs=aucs, title=said)
    write_both(draw, folder.path / "roc")
    rows = [
        [int(i), *point]
        for i in classes
        if aucs[i].value is not None
        for point in np.column_stack(corners(member[:, i], score[:, i])).tolist()
    ]
    folder.write_csv("roc.csv", [kind, *_ROC], rows)
