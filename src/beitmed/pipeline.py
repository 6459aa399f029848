"""One run from left to right: data, indices, model, training, logits, metrics, folder."""

from __future__ import annotations

import gc
import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from beitmed import adapters, artifacts, data, evaluation, record, sampling, trainer, weights
from beitmed import trunk_features as features
from beitmed.artifacts import Run
from beitmed.config import Config, with_backbone
from beitmed.data import Data
from beitmed.pixels import PixelDataset
from beitmed.record import Inputs, Outcome
from beitmed.trunk_features import FeatureDataset

log = logging.getLogger(__name__)
# Two checkpoints for a moment, each with Adam's two moments, the trained layers, and the rest.
_COPIES_OF_TRAINED, _BYTES_OF_THE_REST = 7, 20_000_000


def run(cfg: Config) -> Path:
    """Do one run, or go on with it, or return it as it is if it is finished.

    Returns the run's folder. Raises UserError for anything that the user can put right.
    """
    cfg = data.complete(with_backbone(cfg, weights.complete(cfg.backbone)))
    with artifacts.open_run(cfg) as folder:
        if folder.finished:
            data.check_unchanged(cfg, folder.read_json("data.json") or {})
            log.info("%s: finished before, nothing to do.", folder.path)
            return folder.path
        log.info("%s", folder.path)
        started = time.monotonic()
        inputs = _inputs(cfg, data.load(cfg), folder)
        record.begin(cfg, folder, inputs)
        outcome = _train_and_test(cfg, folder, inputs)
        # The optimizer and the gradients are of no more use, and three times the trained layers.
        inputs.network.zero_grad(set_to_none=True)
        gc.collect()
        record.finish(cfg, folder, inputs, outcome, time.monotonic() - started)
        del inputs
    gc.collect()  # a sweep goes on in this process
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return folder.path


def _inputs(cfg: Config, loaded: Data, folder: Run) -> Inputs:
    labels = loaded.train.labels
    indices = (
        np.arange(len(labels))
        if cfg.majority_ratio is None
        else sampling.undersample(labels, cfg.majority_ratio, cfg.seed)
    )
    rows = {"train": indices, "val": None, "test": None}
    trainer.seed_everything(cfg.seed)
    cached = features.prepare(cfg, loaded)
    datasets: dict[str, Dataset]
    if cached is not None:
        network, description = adapters.adapt(cfg, cached.network), cached.description
        datasets = {
            name: FeatureDataset(cached.entries[name].open(), split.labels, rows[name])
            for name, split in loaded.splits.items()
        }
    else:
        model, processor = weights.load(cfg.backbone, loaded.class_names, cfg.seed)
        network = adapters.build(cfg, model)
        description = {"mode": "live"}
        datasets = {
            name: PixelDataset(split.images, split.labels, processor, rows[name])
            for name, split in loaded.splits.items()
        }
    trained, _ = network.count()
    needed = _COPIES_OF_TRAINED * 4 * trained + _BYTES_OF_THE_REST
    artifacts.require_space(folder.path, needed)
    return Inputs(loaded, indices, network, datasets, description)


def _train_and_test(cfg: Config, folder: Run, inputs: Inputs) -> Outcome:
    def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
        return evaluation.score(cfg.dataset, logits, labels)

    history, logits_of = trainer.fit(
        inputs.network,
        inputs.datasets["train"],
        inputs.datasets["val"],
        cfg,
        folder.checkpoints,
        score,
        report=lambda row: record.log_epoch(cfg, row),
    )
    # The test split is read here, once, after the last epoch: nothing is chosen by it.
    logits = {name: logits_of(inputs.datasets[name]) for name in ("val", "test")}
    labels = {name: split.labels for name, split in inputs.data.splits.items()}
    estimates = evaluation.evaluate(
        cfg.dataset,
        logits=logits,
        labels={**labels, "train": labels["train"][inputs.indices]},
        class_names=inputs.data.class_names,
        seed=cfg.seed,
        n_resamples=cfg.evaluate.n_resamples,
    )
    return Outcome(history, logits, estimates)
