"""One run from left to right: data, indices, method, logits, metrics, folder."""

from __future__ import annotations

import gc
import importlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from beitmed import data, evaluation, fitted
from beitmed.baselines import autogluon, automl, linear, majority, neighbors, resnet_training
from beitmed.config import Config, with_backbone
from beitmed.config.method import OtherMethod
from beitmed.data import Data, sampling
from beitmed.errors import UserError
from beitmed.evaluation.estimates import Estimate
from beitmed.fitted import Fitted
from beitmed.model import weights
from beitmed.runs import artifacts, record
from beitmed.runs.artifacts import Run
from beitmed.transfer import fitting, trainer

log = logging.getLogger(__name__)

#: The configuration, the splits, which images of "train" to learn from (int64, sorted) and the
#: run's claimed folder -> scores of the other two splits. A method chooses by the validation split
#: and nothing by test labels, is seeded before, keeps what it needs to go on in
#: `folder.checkpoints`, and raises UserError for what the user can put right.
Method = Callable[[Config, Data, np.ndarray, Run], Fitted]

METHODS: dict[str, Method] = {
    "backbone": fitting.fit,
    "majority": majority.fit,
    "pixels_logistic": linear.on_pixels,
    "features_logistic": linear.on_features,
    "features_knn": neighbors.on_features,
    "resnet18": resnet_training.fit,
    "resnet50": resnet_training.fit,
    "automl": automl.fit,
    "autogluon": autogluon.fit,
}


def run(cfg: Config) -> Path:
    """Do one run, or go on with it, or return it as it is if it is finished.

    Returns the run's folder. Raises UserError for anything that the user can put right.
    """
    method = _method(cfg)
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
        indices = _indices(cfg, loaded)
        record.begin(cfg, folder, loaded, indices)
        trainer.seed_everything(cfg.seed)
        found = fitted.check(method(cfg, loaded, indices, folder), loaded, cfg.method.name)
        estimates = _test(cfg, loaded, indices, found)
        record.finish(cfg, folder, loaded, indices, found, estimates, time.monotonic() - started)
    gc.collect()  # a sweep goes on in this process
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return folder.path


def _method(cfg: Config) -> Method:
    """The function of a method's name, or the one from outside the package that it names."""
    if not isinstance(cfg.method, OtherMethod):
        return METHODS[cfg.method.name]
    module, _, name = cfg.method.function.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise UserError(
            f"method.function: {cfg.method.function} cannot be imported ({e}). It is looked for as "
            "Python does: in the folder that the command is given in, in PYTHONPATH, and among the "
            "installed packages."
        ) from e
    if not callable(found):
        raise UserError(f"method.function: {cfg.method.function} is no function.")
    return found


def _indices(cfg: Config, loaded: Data) -> np.ndarray:
    labels = loaded.train.labels
    if cfg.majority_ratio is None:
        return np.arange(len(labels))
    return sampling.undersample(labels, cfg.majority_ratio, cfg.seed)


def _test(cfg: Config, loaded: Data, indices: np.ndarray, found: Fitted) -> dict[str, Estimate]:
    labels = {name: split.labels for name, split in loaded.splits.items()}
    return evaluation.evaluate(
        cfg.dataset,
        logits=found.logits,
        labels={**labels, "train": labels["train"][indices]},
        class_names=loaded.class_names,
        seed=cfg.seed,
        n_resamples=cfg.evaluate.n_resamples,
    )
