"""MedMNIST's protocol for a ResNet: Adam, two steps of decay, the best epoch by validation AUC."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from beitmed import tasks
from beitmed.backbones import compute
from beitmed.config import Config
from beitmed.config.method import ResNetMethod
from beitmed.data import Data, Split
from beitmed.errors import UserError
from beitmed.methods import resnet
from beitmed.model import Fit, Row
from beitmed.runs.folder import Run
from beitmed.storage import files

log = logging.getLogger(__name__)
_COPIES = 5  # a checkpoint: weights, the best epoch's, Adam's two moments; and the final file


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """Train all epochs, going on from a checkpoint if there is one; scores are the best epoch's.

    Images in 0 to 1 are normalised by mean 0.5 and standard deviation 0.5, grey ones in one
    channel; nothing is augmented. Raises UserError at a loss that is not finite.
    """
    training = _Training(cfg, data, indices)
    count = sum(p.numel() for p in training.network.parameters())
    files.require_space(folder.path, _COPIES * 4 * count)
    log.info("%s: training all %s parameters.", cfg.method.name, f"{count:,}")
    training.resume(folder.checkpoints / _CHECKPOINT)
    while training.epoch < training.method.epochs:
        training.next_epoch()
        training.save(folder.checkpoints / _CHECKPOINT)
    return training.fitted(count)


_CHECKPOINT = "epoch.pt"


class _Training:
    def __init__(self, cfg: Config, data: Data, indices: np.ndarray) -> None:
        assert isinstance(cfg.method, ResNetMethod)
        self.cfg, self.method, self.data, self.indices = cfg, cfg.method, data, indices
        self.task = tasks.of(cfg.dataset.task)
        self.device = compute.device(cfg)
        torch.manual_seed(cfg.seed)
        shape = data.train.images.shape
        channels = shape[3] if len(shape) == 4 else 1
        self.network = resnet.build(cfg.method.name, cfg.size, channels, len(data.class_names))
        self.network.to(self.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=cfg.method.learning_rate)
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(
            self.optimizer,
            milestones=[int(share * cfg.method.epochs) for share in cfg.method.milestones],
            gamma=cfg.method.decay,
        )
        self.epoch = 0
        self.history: list[Row] = []
        self.best_epoch: int | None = None
        self.best_state: dict[str, torch.Tensor] = {}

    def next_epoch(self) -> None:
        """One pass over the training images in an order drawn from the seed and the epoch."""
        rate = float(self.schedule.get_last_lr()[0])
        order = np.random.default_rng([self.cfg.seed, self.epoch]).permutation(self.indices)
        size, total = self.method.batch_size, 0.0
        self.network.train()
        starts = range(0, len(order), size)
        for start in tqdm(starts, desc=f"epoch {self.epoch + 1}", leave=False, disable=None):
            pixels, labels = self._batch(self.data.train, order[start : start + size])
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.task.loss(self._scores(pixels), labels)
            if not torch.isfinite(loss):
                raise UserError(
                    f"method: the loss is {loss.item()} in epoch {self.epoch + 1}. Try a smaller "
                    "method.learning_rate."
                )
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach()) * len(labels)
        self.schedule.step()
        self.epoch += 1
        self._evaluate(rate, total / len(order), len(starts))

    def _score(self, logits: np.ndarray, split: Split) -> dict[str, float | None]:
        return self.task.score(logits, split.labels, self.cfg.dataset.positive_label)

    def _evaluate(self, rate: float, train_loss: float, steps: int) -> None:
        logits, val_loss = self._logits(self.data.val)
        scores = self._score(logits, self.data.val)
        self.history.append({
            "epoch": self.epoch, "step": self.epoch * steps, "learning_rate": rate,
            "train_loss": train_loss, "val_loss": val_loss,
            **{f"val_{k}": float("nan") if v is None else v for k, v in scores.items()},
        })  # fmt: skip
        log.info(
            "epoch %d of %d: train loss %.4f; validation loss %.4f, AUC %s, accuracy %.3f",
            self.epoch, self.method.epochs, train_loss, val_loss,
            "undefined" if scores["auc"] is None else f"{scores['auc']:.3f}", scores["accuracy"],
        )  # fmt: skip
        # The first of equals, as in the benchmark's code; the last epoch where no AUC is defined.
        if best_epoch(self.history) == self.epoch:
            self.best_epoch = self.epoch
            self.best_state = {k: v.cpu().clone() for k, v in self.network.state_dict().items()}

    @torch.inference_mode()
    def _logits(self, split: Split) -> tuple[np.ndarray, float]:
        """Logits float64 [n, classes] and the mean loss."""
        self.network.eval()
        parts, total = [], 0.0
        for start in range(0, len(split.labels), self.method.batch_size):
            rows = np.arange(start, min(start + self.method.batch_size, len(split.labels)))
            pixels, labels = self._batch(split, rows)
            logits = self._scores(pixels)
            total += float(self.task.loss(logits, labels)) * len(rows)
            parts.append(logits.cpu().numpy().astype(np.float64))
        return np.concatenate(parts), total / len(split.labels)

    def _scores(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits float32 [n, classes]; the loss is always of these, so bf16 needs no scaling."""
        with compute.autocast(self.cfg, self.device):
            return self.network(pixels).float()

    def _batch(self, split: Split, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(np.ascontiguousarray(split.images[rows])).to(self.device)
        pixels = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2)
        labels = torch.from_numpy(split.labels[rows]).to(self.device)
        return (pixels.float() / 255 - 0.5) / 0.5, labels.float() if labels.dim() == 2 else labels

    def save(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        torch.save(
            {
                "epoch": self.epoch, "history": self.history, "best_epoch": self.best_epoch,
                "best_state": self.best_state, "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict(),
            },
            buffer,
        )  # fmt: skip
        files.write_atomic(path, buffer.getvalue())

    def resume(self, path: Path) -> None:
        if not path.exists():
            return
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as e:  # of pickle, zip or torch, as the damage has it
            raise UserError(
                f"{path}: cannot be read ({type(e).__name__}). Delete it to train from the start."
            ) from e
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.history = state["epoch"], state["history"]
        self.best_epoch, self.best_state = state["best_epoch"], state["best_state"]
        log.info("going on after epoch %d of %d.", self.epoch, self.method.epochs)

    def fitted(self, count: int) -> Fit:
        last, _ = self._logits(self.data.test)
        self.network.load_state_dict(self.best_state)
        return Fit(
            {name: self._logits(self.data.splits[name])[0] for name in ("val", "test")},
            self.history,
            {
                "weights": "random",
                "best_epoch": self.best_epoch,
                "best_epoch_by": "validation AUC, the first of equals",
                # An early version of the benchmark's code kept a reference to the best network
                # instead of a copy, and so tested the last epoch. Shown, and chosen by nobody.
                "last_epoch_test": self._score(last, self.data.test),
                "images": "mean 0.5, standard deviation 0.5",
                "stem": "3x3, stride 1" if not isinstance(self.network.maxpool, nn.MaxPool2d)
                else "7x7, stride 2, max pooling",
            },
            parameters=count,
            trained_parameters=count,
            tensors={k: v.numpy() for k, v in self.best_state.items()},
        )  # fmt: skip


def best_epoch(history: list[Row]) -> int:
    """The epoch of the highest validation AUC, the first of equals; the last if none is defined."""
    defined = [row for row in history if not np.isnan(row["val_auc"])]
    if not defined:
        return int(history[-1]["epoch"])
    return int(max(defined, key=lambda row: row["val_auc"])["epoch"])
