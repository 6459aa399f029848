"""Training without labels, by the same Trainer: what is looked at meanwhile is the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import BatchSampler, Dataset, Sampler
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from beitmed.config import Config
from beitmed.ranks import together
from beitmed.training import parts, shares, trainer
from beitmed.training.in_ranks import InRanks
from beitmed.training.trainer import Row

Look = Callable[[], dict[str, float]]


class _Trainer(trainer.PartsTrainer):
    """Steps in a given order; an evaluation is a look, whatever that is."""

    order: Sampler[Any]
    look: Look

    def parts(self, inputs: Any) -> Iterable[tuple[float, Any]]:
        """Where the loss is a mean over images, and each counts the same: it is that of the whole.

        The parts are those of `parts.chunks`.
        """
        network: Any = self.model
        n = len(inputs["images"])
        size = _at_once(network, n, inputs["images"].device)
        return [
            (len(part["images"]) / n, part)
            for start in range(0, n, size)
            for part in [parts.cut(inputs, start, start + size)]
        ]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        assert self.model is not None
        self.model.eval()
        found = self.look()
        self.model.train()
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class _RankTrainer(InRanks, _Trainer):
    """The same in one of several ranks."""

    def at_once(self) -> int:
        size = _at_once(self.model, self._train_batch_size, self.args.device)
        batches: Any = self.train_dataset
        batches.at_once = size  # what is drawn is drawn for all of a batch, and read for a share
        return size

    def batches(self) -> BatchSampler:
        return BatchSampler(self.order, self._train_batch_size, drop_last=False)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        network: Any = self.model
        if network.sums:
            return super().compute_loss(model, inputs, *args, **kwargs)
        [share] = self._shares
        with shares.SharedDraws(share):
            found = model(**inputs, counted=share.counted)
        # Each rank has the contrast of the whole batch, and its gradient by its own images alone:
        # the ranks' gradients add up to the batch's, and are divided by their number.
        n, contrast = together.count(), found["contrast"]
        contrast = n * contrast - (n - 1) * contrast.detach()
        return share.weight * found["regression"] + network.objective.weight * contrast


class _Looks(TrainerCallback):
    """Log, look and save at every so many epochs, and at the end."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        assert state.epoch is not None
        if round(state.epoch) % self.every == 0 or state.global_step >= state.max_steps:
            control.should_log = control.should_evaluate = control.should_save = True
        return control


def _at_once(network: Any, n: int, device: torch.device) -> int:
    """How many of a batch's n images one process passes; a contrast compares all of them."""
    if device.type != "cpu" or not network.sums:
        return n
    return min(n, parts.at_once_on_a_cpu(network.numbers))


def _as_they_are(batch: Any) -> Any:
    return batch


def build(
    network: torch.nn.Module, batches: Dataset, order: Sampler[Any], cfg: Config, checkpoints: Path,
    every: int, look: Look,
) -> Any:  # fmt: skip
    """A Trainer of this configuration.

    batches: `__getitems__` of what `order` yields is a whole batch, the network's keywords; or of
    one that a process passes `at_once` at a time this rank's share. every:
    epochs between two looks, each of which leaves a checkpoint.
    """
    found = (_Trainer if together.count() == 1 else _RankTrainer)(
        model=network,
        args=trainer.arguments(cfg, checkpoints, "no", logging="no"),
        train_dataset=batches,
        data_collator=_as_they_are,
        callbacks=[_Looks(every)],
    )
    found.order, found.look = order, look
    trainer.set_progress(found)
    return found


def fit(
    network: torch.nn.Module, batches: Dataset, order: Sampler[Any], cfg: Config, checkpoints: Path,
    every: int, look: Look, report: Callable[[Row], None],
) -> list[Row]:  # fmt: skip
    """Train to the last epoch, going on from a checkpoint if there is one; see `build`.

    report: called with each look's row of the history. Returns the history, a row a look. Raises
    UserError at the first loss that is not finite.
    """
    run = build(network, batches, order, cfg, checkpoints, every, look)
    run.add_callback(trainer.EpochReport(report, history))
    trainer.run(run, checkpoints)
    return history(run.state)


def history(state: TrainerState) -> list[Row]:
    """A row a look: epoch, step, learning_rate, train_loss (since the last), and what was seen."""
    rows: dict[int, Row] = {}
    for record in state.log_history:
        row = rows.setdefault(int(record["step"]), {"step": int(record["step"])})
        row["epoch"] = record["epoch"]
        if "loss" in record:
            row |= {"train_loss": record["loss"], "learning_rate": record["learning_rate"]}
        row |= {k.removeprefix("eval_"): v for k, v in record.items() if k.startswith("eval_")}
    return [row for row in rows.values() if "held_out_loss" in row]
