"""Fitting and logits with transformers' Trainer: the one module that imports it.

The Trainer brings the paper's optimizer, schedule and shuffling, and checkpoints. Every argument
that the result depends on is set here, since defaults differ between versions of transformers.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils.data import Dataset
from transformers import (
    EvalPrediction,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from beitmed.backbones import compute
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.data.ahead import AheadLoader
from beitmed.errors import UserError
from beitmed.ranks import together
from beitmed.training.checkpoints import Checkpoints, last_complete
from beitmed.training.in_ranks import LabelledInRanks
from beitmed.training.parts import at_once, chunks

# A loss is looked at when it is there; on a GPU so many together, as to look is to wait for it.
_LOOKED_AT_ONCE_ON, _LOSSES_TOGETHER = ("cpu",), 16
_READ_AHEAD_FOR = ("cuda",)  # a CPU has no time to spare
Row = dict[str, float | int]


class PartsTrainer(Trainer):
    """The Trainer, passing a batch in parts, stopping at a lost loss, with our `Checkpoints`."""

    _share = 1.0  # of the batch, that the part has which is being passed
    _part = 0  # which one that is

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.model is not None
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        with_adam = 3 * 4 * trained  # bytes: the numbers and their two moments
        self.checkpoints = Checkpoints(with_adam, background=self.args.device.type != "cpu")
        self._losses: list[torch.Tensor] = []  # of the latest steps, not looked at yet

    def parts(self, inputs: Any) -> Iterable[tuple[float, Any]]:
        """Parts of a batch, and the share of its loss that each has."""
        return [(1.0, inputs)]

    def training_step(
        self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        loss = torch.zeros((), device=self.args.device)
        parts = list(self.parts(inputs))
        for i, (share, part) in enumerate(parts):
            self._share, self._part = share, i
            last = i == len(parts) - 1  # only then ranks add their gradients up
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                loss += super().training_step(model, part, num_items_in_batch)
        self._share = 1.0
        self._losses.append(loss)
        if loss.device.type in _LOOKED_AT_ONCE_ON or len(self._losses) == _LOSSES_TOGETHER:
            self._look(self.state.global_step + 1)
        return loss

    def _look(self, step: int) -> None:
        """Raise UserError where a loss is lost, of which the latest is that of `step`."""
        losses, self._losses = self._losses, []
        for i, loss in enumerate(torch.stack(losses).tolist() if losses else []):
            if not math.isfinite(loss):
                raise UserError(
                    f"train: the loss is {loss} at step {step - len(losses) + i + 1} of "
                    f"{self.state.max_steps}. Try a smaller train.learning_rate, "
                    "train.max_grad_norm=1.0, or precision=fp32."
                )

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        if self.control.should_log or self.control.should_evaluate or self.control.should_save:
            self._look(self.state.global_step)
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def get_train_dataloader(self) -> Any:
        loader = super().get_train_dataloader()
        waits = self.args.device.type in _READ_AHEAD_FOR and not _held(self.train_dataset)
        return AheadLoader(loader) if waits else loader

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        if together.told(self.checkpoints.due()):
            super()._save_checkpoint(*args, **kwargs)
            if together.first():
                folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
                self.checkpoints.commit(folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        assert self.model is not None and output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        tensors = self.model.state_dict() if state_dict is None else state_dict
        self.checkpoints.add(_save_tensors, tensors, Path(output_dir) / "model.safetensors")

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not together.first():
            return
        assert self.optimizer is not None and self.lr_scheduler is not None
        self.checkpoints.add(
            torch.save, self.optimizer.state_dict(), Path(output_dir) / "optimizer.pt"
        )
        torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        found: Any = super().compute_loss(*args, **kwargs)
        # With its outputs where it evaluates, which is not done in parts.
        return found if isinstance(found, tuple) else found * self._share


class _Trainer(PartsTrainer):
    """The same, where parts are faster, of a network whose trunk is frozen."""

    def parts(self, inputs: Any) -> Iterable[tuple[float, Any]]:
        assert isinstance(self.model, FreezableBackbone)
        # Whole is the paper's own code, step for step.
        return super().parts(inputs) if self.model.whole else chunks(inputs, self.model)

    def prediction_step(
        self, model: torch.nn.Module, inputs: Any, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any, Any]:
        assert isinstance(self.model, FreezableBackbone)
        if self.model.whole:
            return super().prediction_step(model, inputs, *args, **kwargs)
        parts: list[tuple[float, Any]] = [
            (share, super(_Trainer, self).prediction_step(model, part, *args, **kwargs))
            for share, part in chunks(inputs, self.model)
        ]
        loss = sum(share * part_loss for share, (part_loss, _, _) in parts)
        logits, labels = (torch.cat([part[i] for _, part in parts]) for i in (1, 2))
        return loss, logits, labels

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Checkpoints hold the trained parameters only: the Trainer finds the frozen ones missing.
        assert isinstance(self.model, FreezableBackbone)
        trained = {f"model.{name}" for name, _ in self.model.trained_parameters()}
        lost = trained.intersection(load_result.missing_keys)
        assert not lost and not load_result.unexpected_keys, load_result


class _RankTrainer(LabelledInRanks, _Trainer):
    """The same in one of several ranks."""

    def at_once(self) -> int:
        assert isinstance(self.model, FreezableBackbone)
        if self.model.whole:
            return self._train_batch_size
        one: Any = self.train_dataset
        return at_once(self.data_collator([one[0]]), self.model, self._train_batch_size)


def _held(dataset: Any) -> bool:
    """Whether a dataset's batches already are where it is computed."""
    return getattr(dataset, "held", False)


def _save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})


class _Progress(ProgressCallback):
    """The Trainer's progress bar without its dictionaries: epochs are reported as sentences."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        pass


class EpochReport(TrainerCallback):
    """Hands the latest row of a history over whenever held-out images were looked at."""

    def __init__(
        self, report: Callable[[Row], None], history: Callable[[TrainerState], list[Row]]
    ) -> None:
        self.report, self.history = report, history

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.report(self.history(state)[-1])


def build(
    network: FreezableBackbone,
    train: Dataset,
    val: Dataset | None,
    cfg: Config,
    checkpoints: Path,
    score: Callable[[np.ndarray, np.ndarray], dict[str, float | None]] | None = None,
) -> PartsTrainer:
    """A Trainer of this configuration; without `val` it neither evaluates nor saves."""

    def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
        assert score is not None
        logits = np.asarray(prediction.predictions, dtype=np.float64)
        values = score(logits, np.asarray(prediction.label_ids))
        return {name: float("nan") if v is None else v for name, v in values.items()}

    trainer = (_Trainer if together.count() == 1 else _RankTrainer)(
        model=network,
        args=arguments(
            cfg,
            checkpoints,
            "no" if val is None else "epoch",
            on_the_device=_held(train),
        ),
        train_dataset=train,
        eval_dataset=val,
        compute_metrics=None if score is None else compute_metrics,
    )
    set_progress(trainer)
    return trainer


def set_progress(trainer: Trainer) -> None:
    """Its own bar prints every log record; without a terminal a bar is only noise."""
    trainer.remove_callback(ProgressCallback)
    if sys.stderr.isatty():
        trainer.add_callback(_Progress())


def fit(
    network: FreezableBackbone,
    train: Dataset,
    val: Dataset,
    cfg: Config,
    checkpoints: Path,
    score: Callable[[np.ndarray, np.ndarray], dict[str, float | None]],
    report: Callable[[Row], None],
) -> list[Row]:
    """Train to the last epoch, going on from a checkpoint if there is one.

    score: (logits float64 [n, classes], labels [n]) of the validation split -> numbers by name.
    report: called with each epoch's row of the history.
    Returns the history, one row an epoch. Raises UserError at the first loss that is not finite.
    """
    trainer = build(network, train, val, cfg, checkpoints, score)
    trainer.add_callback(EpochReport(report, history))
    run(trainer, checkpoints)
    return history(trainer.state)


def run(trainer: PartsTrainer, checkpoints: Path) -> None:
    """Train to the end, going on from the newest complete checkpoint."""
    try:
        from_here = together.told(last_complete(checkpoints) if together.first() else None)
        trainer.train(resume_from_checkpoint=from_here)
    finally:
        trainer.checkpoints.wait()


def arguments(
    cfg: Config, checkpoints: Path, every: str, logging: str = "epoch", on_the_device: bool = False
) -> TrainingArguments:
    """What a Trainer is told of a configuration.

    every: when it evaluates and saves. on_the_device: whether a batch already is where it computes.
    """
    compute.check(cfg)
    use_cpu = compute.device(cfg).type == "cpu"
    copied = not (use_cpu or on_the_device)
    t = cfg.train
    found = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=t.epochs,
        max_steps=t.max_steps or -1,
        per_device_train_batch_size=t.batch_size,
        per_device_eval_batch_size=t.eval_batch_size,
        optim="adamw_torch_fused",
        learning_rate=t.learning_rate,
        weight_decay=t.weight_decay,
        adam_beta1=t.adam_beta1,
        adam_beta2=t.adam_beta2,
        adam_epsilon=t.adam_epsilon,
        max_grad_norm=t.max_grad_norm,
        lr_scheduler_type=t.schedule if t.warmup_steps == 0 else _with_warmup(t.schedule),
        warmup_steps=t.warmup_steps,
        seed=cfg.seed,
        bf16=cfg.precision == "bf16",
        fp16=cfg.precision == "fp16",
        tf32=None,
        use_cpu=use_cpu,
        eval_strategy=every,
        save_strategy=every,
        logging_strategy=logging,
        load_best_model_at_end=False,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_num_workers=0,
        dataloader_pin_memory=copied,
        accelerator_config={"non_blocking": copied},
        disable_tqdm=False,
        report_to="none",
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
    )
    if found.n_gpu > 1:  # or the Trainer would take all GPUs, and as many batches at once
        found._n_gpu = 1
    return found


def _with_warmup(schedule: str) -> str:
    return "constant_with_warmup" if schedule == "constant" else schedule


def history(state: TrainerState) -> list[Row]:
    """One row an epoch: epoch, step, learning_rate, train_loss (its mean), val_loss, val_*."""
    rows: dict[int, Row] = {}
    for record in state.log_history:
        step = int(record["step"])
        row = rows.setdefault(step, {"step": step})
        if "loss" in record:
            row["train_loss"] = record["loss"]
            row["learning_rate"] = record["learning_rate"]
        if "eval_loss" in record:
            row["epoch"] = record["epoch"]
            row |= {
                name.replace("eval_", "val_"): value
                for name, value in record.items()
                if name.startswith("eval_")
                and not name.endswith(("_runtime", "_per_second", "_preparation_time"))
            }
    return [row for row in rows.values() if "epoch" in row]


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch: a sweep runs its jobs in one process, one after the other."""
    set_seed(seed)
