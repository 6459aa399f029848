"""One run from left to right: data, indices, model, training, logits, metrics, folder."""

from __future__ import annotations

import gc
import logging
import time
from pathlib import Path

import numpy as np
import torch

from beitmed import artifacts, data, metrics, record, sampling, trainer, weights
from beitmed.artifacts import Run
from beitmed.config import Config
from beitmed.data import Data, Split
from beitmed.model import FreezableBeit
from beitmed.pixels import PixelDataset
from beitmed.record import Inputs, Outcome

log = logging.getLogger(__name__)
# Two checkpoints for a moment, each with Adam's two moments, the trained layers, and the rest.
_COPIES_OF_TRAINED, _BYTES_OF_THE_REST = 7, 20_000_000


def run(cfg: Config) -> Path:
    """Do one run, or go on with it, or return it as it is if it is finished.

    Returns the run's folder. Raises UserError for anything that the user can put right.
    """
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
    trainer.seed_everything(cfg.seed)
    beit, processor = weights.load(cfg.backbone, loaded.class_names, cfg.seed)
    network = FreezableBeit(beit, cfg.unfreeze, cfg.trunk_mode)
    trained, total = network.count()
    artifacts.require_space(
        folder.path,
        _COPIES_OF_TRAINED * 4 * trained + 4 * total * cfg.export + _BYTES_OF_THE_REST,
    )
    return Inputs(loaded, indices, network, processor)


def _train_and_test(cfg: Config, folder: Run, inputs: Inputs) -> Outcome:
    positive = cfg.dataset.positive_label

    def pixels(split: Split, rows: np.ndarray | None = None) -> PixelDataset:
        return PixelDataset(split.images, split.labels, inputs.processor, rows)

    def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
        return {
            "auc": metrics.auc(labels == positive, metrics.margin(logits, positive)),
            "accuracy": metrics.accuracy(labels, logits),
        }

    splits = inputs.data.splits
    val = pixels(splits["val"])
    history, logits_of = trainer.fit(
        inputs.network,
        pixels(splits["train"], inputs.indices),
        val,
        cfg,
        folder.checkpoints,
        score,
        report=lambda row: record.log_epoch(cfg, row),
    )
    # The test split is read here, once, after the last epoch: nothing is chosen by it.
    logits = {"val": logits_of(val), "test": logits_of(pixels(splits["test"]))}
    estimates = metrics.evaluate(
        val_logits=logits["val"],
        val_labels=splits["val"].labels,
        test_logits=logits["test"],
        test_labels=splits["test"].labels,
        train_labels=splits["train"].labels[inputs.indices],
        positive=positive,
        seed=cfg.seed,
        n_resamples=cfg.evaluate.n_resamples,
    )
    return Outcome(history, logits, estimates)
