"""MedMNIST's protocol for a ResNet: Adam, two steps of decay, the best epoch by validation AUC."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from beitmed import tasks
from beitmed.backbones import compute
from beitmed.config import Config
from beitmed.config.method import ResNetMethod
from beitmed.data import Data
from beitmed.errors import UserError
from beitmed.methods import epochs, resnet_network
from beitmed.methods.resnet_network import ResNet
from beitmed.model import Row
from beitmed.storage import files

log = logging.getLogger(__name__)


class Training:
    """A ResNet with what trains it, an epoch at a time; can be saved between two epochs."""

    def __init__(self, cfg: Config, data: Data, indices: np.ndarray) -> None:
        assert isinstance(cfg.method, ResNetMethod)
        self.cfg, self.method, self.data, self.indices = cfg, cfg.method, data, indices
        self.task = tasks.of(cfg.dataset.task)
        torch.manual_seed(cfg.seed)
        shape = data.train.images.shape
        channels = shape[3] if len(shape) == 4 else 1
        network = resnet_network.build(
            cfg.method.network, cfg.size, channels, len(data.class_names), cfg.method.stride
        )
        self.network = network.to(compute.device(cfg))
        self.model = ResNet(cfg, self.network, cfg.method.batch_size)
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
            rows = order[start : start + size]
            pixels = self.model.pixels(self.data.train.images[rows])
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._loss(self.model.scores(pixels), self.data.train.labels[rows])
            if not torch.isfinite(loss):
                raise UserError(
                    f"method: the loss is {loss.item()} in epoch {self.epoch + 1}. Try a smaller "
                    "method.learning_rate."
                )
            loss.backward()
            self.optimizer.step()
            total += float(loss.detach()) * len(rows)
        self.schedule.step()
        self.epoch += 1
        self._evaluate(rate, total / len(order), len(starts))

    def _evaluate(self, rate: float, train_loss: float, steps: int) -> None:
        logits, labels = self.model.logits(self.data.val.images), self.data.val.labels
        val_loss = self._loss(torch.from_numpy(logits), labels)
        scores = self.score(logits, labels)
        self.history.append({
            "epoch": self.epoch, "step": self.epoch * steps, "learning_rate": rate,
            "train_loss": train_loss, "val_loss": float(val_loss),
            **{f"val_{k}": float("nan") if v is None else v for k, v in scores.items()},
        })  # fmt: skip
        epochs.tell(self.history[-1], self.method.epochs)
        # The first of equals, as in the benchmark's code; the last epoch where no AUC is defined.
        if epochs.best(self.history) == self.epoch:
            self.best_epoch = self.epoch
            self.best_state = {k: v.cpu().clone() for k, v in self.network.state_dict().items()}

    def score(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
        """AUC and accuracy of logits, as `Task.score`."""
        return self.task.score(logits, labels, self.cfg.dataset.positive_label)

    def _loss(self, scores: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
        target = torch.from_numpy(labels).to(scores.device)
        return self.task.loss(scores, target.to(scores.dtype) if labels.ndim == 2 else target)

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
