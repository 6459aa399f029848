"""One run from left to right: data, indices, method, predictions, evaluation."""

from __future__ import annotations

import atexit
import gc
import logging
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from beitmed import config, data, evaluation, methods, model, tasks, test_time
from beitmed.backbones import compute, weights
from beitmed.config import Config
from beitmed.data import Data, label_subset, sampling
from beitmed.data.label_subset import Labelled
from beitmed.data.sampling import Strategy
from beitmed.export import forms, output
from beitmed.runs import environment, folder, record
from beitmed.runs.folder import Run
from beitmed.tasks import own_metrics
from beitmed.training import trainer

log = logging.getLogger(__name__)
# Half a million objects of the imports stay: no collection need look at them until the end, when
# libraries complain of what is left.
gc.freeze()
atexit.register(gc.unfreeze)


def run(cfg: Config) -> Path:
    """Do one run, or go on with it, or return it as it is if it is finished.

    A finished run of which another evaluation is asked is evaluated anew and not trained again.
    Returns the run's folder. Raises UserError for anything that the user can put right.
    """
    method, strategy = methods.module_of(cfg), sampling.strategy(cfg.balancing)
    own = evaluation.own_metrics(cfg)
    cfg = complete(cfg)
    if cfg.export:
        forms.refuse(cfg, forms.HUGGING_FACE)
    if cfg.reads_backbone:
        compute.processes(cfg)  # refused before anything is claimed
    with folder.open_run(cfg) as claimed:
        if claimed.predicted:
            data.check_unchanged(cfg, claimed.read_json("data.json") or {})
        if claimed.finished and evaluation.is_current(claimed, cfg):
            log.info("%s: finished before, nothing to do.", claimed.path)
            if cfg.export and not (claimed.path / forms.HUGGING_FACE).exists():
                _export(claimed.path)
            return claimed.path
        log.info("%s", claimed.path)
        claimed.begin(environment.describe(cfg))
        if claimed.predicted:
            log.info("The predictions are there; they are evaluated.")
        else:
            with claimed.phase("data"):
                loaded = data.load(cfg)
                several = tasks.of(cfg.dataset.task).several_labels
                own_metrics.check(own, len(loaded.class_names), several)
                labelled = label_subset.choose(cfg, loaded)
                indices = _indices(cfg, loaded, labelled, strategy)
                record.begin(cfg, claimed, loaded, indices, labelled)
            with claimed.phase("training"):
                _train(cfg, claimed, loaded, indices, method)
        if cfg.evaluate.tta is not None:
            with claimed.phase("test-time views"):
                test_time.predict(cfg, claimed)
        with claimed.phase("evaluation"):
            evaluation.evaluate(claimed, cfg)
        if cfg.export:
            _export(claimed.path)
    gc.collect()  # a sweep goes on in this process
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return claimed.path


def fill(cfg: Config) -> None:
    """Fill what a run reads of the cache, and do nothing else of it. Raises UserError as `run`."""
    cfg = complete(cfg)
    methods.fill(cfg, data.load(cfg))


def complete(cfg: Config) -> Config:
    """The configuration with what only the weights and the data can say."""
    if cfg.reads_backbone:
        compute.check(cfg)
        backbone = weights.complete(cfg.backbone, cfg.cache.root)
        cfg = config.check(cfg.model_dump() | {"backbone": backbone.model_dump()})
    return data.complete(cfg)


def _train(
    cfg: Config, claimed: Run, loaded: Data, indices: np.ndarray, method: ModuleType
) -> None:
    trainer.seed_everything(cfg.seed)
    fit = model.check(method.fit(cfg, loaded, indices, claimed), loaded, cfg.method.name)
    record.finish(claimed, loaded, fit)


def _export(path: Path) -> None:
    to, _ = output.write(path, forms.HUGGING_FACE)
    log.info("The whole model, for transformers: %s", to)


def _indices(cfg: Config, loaded: Data, labelled: Labelled, strategy: Strategy) -> np.ndarray:
    """Which images to train on; what is balanced is the labelled part, as nobody knows the rest."""
    if not cfg.balanced:
        return labelled.indices
    options = {**cfg.balancing.options, "majority_ratio": cfg.majority_ratio}
    return labelled.indices[strategy(loaded.train.labels[labelled.indices], options, cfg.seed)]
