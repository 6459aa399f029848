"""One run from left to right: data, indices, method, logits, metrics, folder."""

from __future__ import annotations

import gc
import logging
import time
from pathlib import Path

import numpy as np
import torch

from beitmed import data, extension, methods, model, tasks
from beitmed.backbones import weights
from beitmed.config import Config, with_backbone
from beitmed.data import Data, sampling
from beitmed.data.sampling import Strategy
from beitmed.errors import UserError
from beitmed.model import Fit
from beitmed.runs import artifacts, record
from beitmed.statistics.estimates import Estimate
from beitmed.tasks import own_metrics
from beitmed.tasks.own_metrics import OwnMetric
from beitmed.training import trainer

log = logging.getLogger(__name__)


def run(cfg: Config) -> Path:
    """Do one run, or go on with it, or return it as it is if it is finished.

    Returns the run's folder. Raises UserError for anything that the user can put right.
    """
    method, strategy = methods.module_of(cfg), sampling.strategy(cfg.balancing)
    own = _own_metrics(cfg)
    if cfg.reads_backbone:
        cfg = with_backbone(cfg, weights.complete(cfg.backbone))
    cfg = data.complete(cfg)
    with artifacts.open_run(cfg) as folder:
        if folder.finished:
            data.check_unchanged(cfg, folder.read_json("data.json") or {})
            log.info("%s: finished before, nothing to do.", folder.path)
            return folder.path
        log.info("%s", folder.path)
        started = time.monotonic()
        loaded = data.load(cfg)
        own_metrics.check(own, len(loaded.class_names), cfg.dataset.task == "multilabel")
        indices = _indices(cfg, loaded, strategy)
        record.begin(cfg, folder, loaded, indices)
        trainer.seed_everything(cfg.seed)
        found = model.check(method.fit(cfg, loaded, indices, folder), loaded, cfg.method.name)
        estimates = _test(cfg, loaded, indices, found, own)
        record.finish(cfg, folder, loaded, indices, found, estimates, time.monotonic() - started)
    gc.collect()  # a sweep goes on in this process
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return folder.path


def _own_metrics(cfg: Config) -> dict[str, OwnMetric]:
    for name in filter(tasks.taken, cfg.evaluate.metrics):
        raise UserError(
            f"evaluate.metrics: found {name}, but that is the name of a metric of beitmed; give "
            "the metric a name of its own"
        )
    return {
        name: extension.load(f"evaluate.metrics.{name}", path)
        for name, path in cfg.evaluate.metrics.items()
    }


def _indices(cfg: Config, loaded: Data, strategy: Strategy) -> np.ndarray:
    labels = loaded.train.labels
    if not cfg.balanced:
        return np.arange(len(labels))
    options = {**cfg.balancing.options, "majority_ratio": cfg.majority_ratio}
    return strategy(labels, options, cfg.seed)


def _test(
    cfg: Config, loaded: Data, indices: np.ndarray, found: Fit, own: dict[str, OwnMetric]
) -> dict[str, Estimate]:
    labels = {name: split.labels for name, split in loaded.splits.items()}
    return tasks.evaluate(
        cfg.dataset,
        logits=found.logits,
        labels={**labels, "train": labels["train"][indices]},
        class_names=loaded.class_names,
        seed=cfg.seed,
        n_resamples=cfg.evaluate.n_resamples,
        own=own,
    )
