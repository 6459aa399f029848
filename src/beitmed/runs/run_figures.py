"""What a run draws: its ROC curve, or one for each class, and its learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beitmed.config import Config
from beitmed.plots import curves, roc_panels
from beitmed.runs.folder import Run
from beitmed.statistics.estimates import Estimate
from beitmed.tasks import binary, multiclass

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
    positive = cfg.dataset.positive_label
    if positive is None:
        _classes(cfg, folder, class_names, labels, logits, estimates, title)
    else:
        _binary(positive, folder, class_names, labels, logits, estimates, title)
    if history:
        curves.history(folder.path / "history", history)


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
    positive: int,
    folder: Run,
    class_names: Sequence[str],
    labels: np.ndarray,
    logits: np.ndarray,
    estimates: Estimates,
    title: str,
) -> None:
    actual = labels == positive
    score = binary.margin(logits, positive)
    hit = {name: estimates[name].value for name in ("sensitivity", "specificity")}
    curves.roc(
        folder.path / "roc",
        labels=actual,
        score=score,
        auc=estimates["auc"],
        title=title,
        positive_name=class_names[positive],
        operating_point=(
            None
            if hit["sensitivity"] is None or hit["specificity"] is None
            else (1 - hit["specificity"], hit["sensitivity"])
        ),
    )
    folder.write_csv("roc.csv", _ROC, np.column_stack(curves.roc_points(actual, score)).tolist())


def _classes(
    cfg: Config,
    folder: Run,
    class_names: Sequence[str],
    labels: np.ndarray,
    logits: np.ndarray,
    estimates: Estimates,
    title: str,
) -> None:
    several = cfg.dataset.task == "multilabel"
    grade = "grade " if cfg.dataset.task == "ordinal" else ""  # RetinaMNIST's are named 0 to 4
    names = [grade + name for name in class_names]
    classes = np.arange(len(class_names))
    member = labels == 1 if several else labels[:, None] == classes
    score = logits if several else multiclass.one_vs_rest(logits)
    kind = "label" if several else "class"
    aucs = [estimates[f"auc_{kind}_{i}"] for i in classes]
    what = "each label" if several else "each class against all others"
    roc_panels.draw(
        folder.path / "roc",
        member=member,
        score=score,
        names=names,
        aucs=aucs,
        title=f"{title}. ROC curve of {what}: AUC with its 95 % interval; pointwise 95 % band",
    )
    rows = [
        [int(i), *point]
        for i in classes
        if aucs[i].value is not None
        for point in np.column_stack(roc_panels.corners(member[:, i], score[:, i])).tolist()
    ]
    folder.write_csv("roc.csv", [kind, *_ROC], rows)
