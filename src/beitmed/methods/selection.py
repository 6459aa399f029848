"""Choosing among candidates by the validation split, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from beitmed import tasks
from beitmed.config import Config
from beitmed.data import Data

log = logging.getLogger(__name__)
T = TypeVar("T", float, int)


def choose(
    cfg: Config,
    data: Data,
    key: str,
    candidates: Sequence[T],
    val_logits: Callable[[T], np.ndarray],
) -> tuple[T, dict[str, Any]]:
    """The candidate of the highest validation AUC, of equals the smallest; and all that were tried.

    Where no AUC is defined the validation accuracy decides. val_logits: a candidate -> float64
    [n, classes].
    """
    task = tasks.of(cfg.dataset.task)
    tried: list[tuple[T, dict[str, float | None]]] = []
    for candidate in sorted(set(candidates)):
        scores = task.score(val_logits(candidate), data.val.labels, cfg.dataset.positive_label)
        tried.append((candidate, scores))
        auc = "undefined" if scores["auc"] is None else f"{scores['auc']:.3f}"
        log.info(
            "%s = %g: validation AUC %s, accuracy %.3f", key, candidate, auc, scores["accuracy"]
        )
    by = "accuracy" if all(scores["auc"] is None for _, scores in tried) else "auc"

    def merit(one: tuple[T, dict[str, float | None]]) -> float:
        value = one[1][by]
        return -np.inf if value is None else value

    best, _ = max(tried, key=merit)  # the first of equals
    rows = [{key: c, **{f"val_{k}": v for k, v in scores.items()}} for c, scores in tried]
    return best, {key: best, "chosen_by": f"val_{by}", "candidates": rows}
