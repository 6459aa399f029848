"""What a Trainer does otherwise in one of several ranks: batches, evaluations, checkpoints.

Gradients are averaged by the Trainer's own DistributedDataParallel. The batches are those of one
process, each divided, the random numbers too, and so are checkpoints: any number of processes goes
on from them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import BatchSampler, DataLoader
from transformers import EvalPrediction

from beitmed.ranks import together
from beitmed.training import shares
from beitmed.training.parts import cut


class InRanks:
    """Stands before a Trainer, and shares its batches."""

    def at_once(self) -> int:
        """How many images of a batch one process passes."""
        raise NotImplementedError

    def batches(self) -> BatchSampler:
        """What the training images are asked for: all of a batch, or this rank's share of it."""
        raise NotImplementedError

    def get_train_dataloader(self: Any) -> DataLoader:
        self._size = self.at_once()
        self._batches = self.batches()
        return _Batches(
            self.train_dataset,
            batch_sampler=self._batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def parts(self: Any, inputs: Any) -> Iterable[tuple[float, Any]]:
        n, batch = len(self._batches.sampler), self._train_batch_size
        before = self.state.global_step % math.ceil(n / batch) * batch
        whole = min(batch, n - before)
        self._shares = shares.of_batch(whole, self._size, together.index(), together.count())
        start = 0
        for share in self._shares:
            stop = start + share.stop - share.start
            yield share.weight, cut(inputs, start, stop)
            start = stop

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        parent: Any = super()
        if not self.model.training:
            return parent.compute_loss(*args, **kwargs)
        with shares.SharedDraws(self._shares[self._part]):
            return parent.compute_loss(*args, **kwargs)

    def _save_rng_state(self: Any, output_dir: str) -> None:
        parent: Any = super()
        if together.first():
            with self._as_one_process():
                parent._save_rng_state(output_dir)

    def _load_rng_state(self: Any, checkpoint: str | None) -> None:
        parent: Any = super()
        with self._as_one_process():
            parent._load_rng_state(checkpoint)

    @contextlib.contextmanager
    def _as_one_process(self: Any) -> Iterator[None]:
        """All ranks have drawn the same numbers: their states are one."""
        state, self.args.distributed_state = self.args.distributed_state, None
        try:
            yield
        finally:
            self.args.distributed_state = state


class LabelledInRanks(InRanks):
    """The same of labelled images, which it evaluates in shares, too."""

    def batches(self: Any) -> BatchSampler:
        # The order is that which one process gets from accelerate.
        order = SeedableRandomSampler(self.train_dataset)
        return shares.RankBatches(order, self._train_batch_size, self._size)

    def evaluate(self: Any, *_: Any, **__: Any) -> dict[str, float]:
        """As the Trainer's: loss, metrics and callbacks, of all images once and in order."""
        self.model.eval()
        n, size = len(self.eval_dataset), self.args.eval_batch_size
        mine = DataLoader(
            shares.part(self.eval_dataset, size), batch_size=size, collate_fn=self.data_collator
        )
        found = [self.prediction_step(self.model, batch, False) for batch in mine]
        columns: list[list[np.ndarray]] = [
            [np.full(len(labels), float(loss)) for loss, _, labels in found],
            *([x[i].cpu().numpy() for x in found] for i in (1, 2)),
        ]
        loss, logits, labels = (
            shares.joined(np.concatenate(one) if one else None, n, size) for one in columns
        )
        seen = self.compute_metrics(EvalPrediction(predictions=logits, label_ids=labels))
        metrics = {f"eval_{k}": v for k, v in {"loss": float(loss.mean()), **seen}.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class _Batches(DataLoader):
    """A rank's batches, in another order each epoch."""

    def set_epoch(self, epoch: int) -> None:
        batches: Any = self.batch_sampler
        batches.sampler.set_epoch(epoch)
