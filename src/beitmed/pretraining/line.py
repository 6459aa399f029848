"""One pre-training from left to right: images, network, epochs, checkpoint."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from beitmed import config
from beitmed.backbones import compute, weights
from beitmed.config import PretrainRun
from beitmed.config.pretrain import TokensObjective
from beitmed.model import Row
from beitmed.pretraining import batches, card, checkpoint, looks, pictures, sources, tokenizer
from beitmed.pretraining.network import MaskedNetwork
from beitmed.pretraining.sources import Source
from beitmed.ranks import launch, member, together
from beitmed.runs import environment, folder
from beitmed.runs.folder import Run
from beitmed.runs.reader import PRETRAINING
from beitmed.storage import files
from beitmed.training import trainer, unlabelled

log = logging.getLogger(__name__)
FORMAT = 1  # of pretraining.json
_LEARNT = "learnt.safetensors"  # beside the checkpoints: what ranks hand over
_BETWEEN_PICTURES = 60.0  # seconds
# Two checkpoints for a moment, each with Adam's two moments, the result, and the rest.
_COPIES, _BYTES_OF_THE_REST = 7, 20_000_000


def run(cfg: PretrainRun) -> Path:
    """Do one pre-training, or go on with it, or return it as it is if it is finished.

    Returns the folder of the run; what was learnt is in its `huggingface`. Raises UserError for
    anything that the user can put right.
    """
    cfg = complete(cfg)
    with folder.open_run(cfg) as claimed:
        if claimed.finished:
            log.info("%s: finished before, nothing to do.", claimed.path)
            return claimed.path
        log.info("%s", claimed.path)
        claimed.begin(environment.describe(cfg))
        trainer.seed_everything(cfg.seed)
        # First: what is wrong with a checkpoint should not be said after an hour of conversion.
        network, processor = checkpoint.begin(cfg)
        with claimed.phase("data"):
            found = sources.load(cfg)
            _record(cfg, claimed, found)
        with claimed.phase("training"):
            history = _train(cfg, claimed, network, found)
        with claimed.phase("export"):
            _finish(cfg, claimed, network, processor, found, history)
    gc.collect()  # a sweep goes on in this process
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return claimed.path


def fill(cfg: PretrainRun) -> None:
    """Fill what a run reads of the cache, and do nothing else of it. Raises UserError as `run`."""
    sources.load(complete(cfg))


def complete(cfg: PretrainRun) -> PretrainRun:
    """The configuration with what only weights, tokenizer and images can say."""
    compute.check(cfg)
    backbone = weights.complete(cfg.backbone, cfg.cache.root)
    cfg = tokenizer.complete(cfg.model_copy(update={"backbone": backbone}))
    return config.check(sources.complete(cfg).model_dump(), PretrainRun)


def _record(cfg: PretrainRun, claimed: Run, found: Sequence[Source]) -> None:
    """Write what is learnt from; where a run goes on, demand that this has not changed."""
    claimed.agree("data.json", {"sets": [source.facts for source in found]}, "images")
    for source in found:
        facts = source.facts
        log.info(
            "%s: learning from %s images (%s, no labels), looking at %s others%s.",
            facts["set"], f"{facts['images']:,}", facts["splits"], f"{facts['held_out']:,}",
            ", SYNTHETIC" if facts["synthetic"] else "",
        )  # fmt: skip
    if cfg.backbone.random_weights:
        log.info("It starts from RANDOM weights.")
    if cfg.pretrain.probe != "none" and (names := [s.name for s in found if s.labelled]):
        log.info(
            "A probe of the features (%s) reads labels of %s, to look at only; "
            "pretrain.probe=none reads none.", cfg.pretrain.probe, ", ".join(names),
        )  # fmt: skip


def _train(
    cfg: PretrainRun, claimed: Run, network: MaskedNetwork, found: Sequence[Source]
) -> list[Row]:
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    files.require_space(claimed.path, _COPIES * 4 * count + _BYTES_OF_THE_REST)
    claimed.agree(
        "model.json",
        {"weights": cfg.backbone.content or "random", "parameters": count,
         "patches": network.side**2},
        "weights",
    )  # fmt: skip
    per_epoch = len(batches.Order(found, cfg.seed))
    steps = -(-per_epoch // cfg.train.batch_size) * cfg.train.epochs
    log.info(
        "%s: %s parameters, %d patches, %s steps.", cfg.backbone.name, f"{count:,}",
        network.side**2, f"{min(steps, cfg.train.max_steps or steps):,}",
    )  # fmt: skip
    teller = _Teller(cfg, claimed, per_epoch)
    if (processes := compute.processes(cfg)) == 1:
        return _fit(cfg, network, found, claimed, teller)
    history = launch.start(
        processes, compute.device(cfg).type == "cuda", _fit_as_a_rank, cfg, claimed.path,
        hear=teller,
    )  # fmt: skip
    network.load_state_dict(load_file(claimed.checkpoints / _LEARNT))
    return history


def _fit_as_a_rank(cfg: PretrainRun, folder: Path) -> list[Row]:
    """The same in one of several processes, which has to read everything for itself."""
    trainer.seed_everything(cfg.seed)
    network, _ = checkpoint.begin(cfg)
    claimed = Run(folder)
    history = _fit(cfg, network, sources.load(cfg), claimed, member.say)
    if together.first():
        claimed.checkpoints.mkdir(exist_ok=True)
        with files.replacing(claimed.checkpoints / _LEARNT) as file:
            save_file(network.state_dict(), file)
    return history


def _fit(
    cfg: PretrainRun, network: MaskedNetwork, found: Sequence[Source], claimed: Run,
    tell: Callable[[Row], None],
) -> list[Row]:  # fmt: skip
    network.to(compute.device(cfg))
    read = batches.Batches(cfg, found, network.side, None)
    if isinstance(cfg.objective, TokensObjective) and not read.changed:
        log.info("The visual words of %s images are found once.", f"{len(read):,}")
        read.codes = looks.words(network, read.pool)
    order, look = batches.Order(found, cfg.seed), looks.Looks(cfg, network, found)
    draw = _Pictures(cfg, network, found, claimed.path)

    def report(row: Row) -> None:
        tell(row)
        if together.first():
            draw(row)

    return unlabelled.fit(
        network, read, order, cfg, claimed.checkpoints, cfg.pretrain.every, look, report
    )


class _Pictures:
    """Reconstructions after a look, not too often."""

    def __init__(
        self, cfg: PretrainRun, network: MaskedNetwork, found: Sequence[Source], folder: Path
    ) -> None:
        self.cfg, self.network, self.found, self.folder = cfg, network, found, folder
        self.drawn = time.monotonic()

    def __call__(self, row: Row) -> None:
        now = time.monotonic()
        if now - self.drawn > _BETWEEN_PICTURES:
            self.drawn = now
            pictures.draw_reconstructions(
                self.cfg, self.network, self.found,
                f"{self.folder.name}, epoch {row['epoch']:g}: held-out images", self.folder,
            )  # fmt: skip
            self.network.train()


class _Teller:
    """What is said at each look."""

    def __init__(self, cfg: PretrainRun, claimed: Run, per_epoch: int) -> None:
        self.cfg, self.claimed, self.per_epoch = cfg, claimed, per_epoch
        self.last: float | None = None  # epoch of the last look of this process
        self.since = time.monotonic()

    def __call__(self, row: Row) -> None:
        now, epoch = time.monotonic(), float(row["epoch"])
        before = max(0.0, epoch - self.cfg.pretrain.every) if self.last is None else self.last
        rate = (epoch - before) * self.per_epoch / max(1e-9, now - self.since)
        self.last, self.since = epoch, now
        left = max(0.0, self.cfg.train.epochs - epoch) * self.per_epoch / rate
        seen = ", ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in row.items()
            if name.startswith(("held_out", "val_auc"))
        )  # fmt: skip
        log.info(
            "epoch %g of %d: train loss %.4f; %s; %s images/s, %s left",
            epoch, self.cfg.train.epochs, row["train_loss"], seen, f"{rate:,.0f}", _time(left),
        )  # fmt: skip
        self.claimed.tick()


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _finish(
    cfg: PretrainRun, claimed: Run, network: MaskedNetwork, processor: Any,
    found: Sequence[Source], history: list[Row],
) -> None:  # fmt: skip
    """Write history, figures and checkpoint; pretraining.json last, which marks it as done."""
    title = claimed.path.name
    last, columns = history[-1], _columns(history)
    claimed.write_csv("history.csv", columns, [[_number(r.get(c)) for c in columns]
                                               for r in history])  # fmt: skip
    pictures.draw_curves(history, title, claimed.path)
    pictures.draw_reconstructions(cfg, network, found, f"{title}: held-out images", claimed.path)
    claimed.tick()
    taken = (claimed.read_json("environment.json") or {}).get("phases", {}).get("training", {})
    seconds = taken.get("seconds")
    target = claimed.path / checkpoint.FOLDER
    about = card.about(cfg, found, last["epoch"])
    said = card.card(cfg, title, found, last, seconds)
    network.to("cpu")
    checkpoint.write(network, processor, about, said, target)
    claimed.finish(
        {
            "format": FORMAT, "run": title, "about": about,
            "caveats": _caveats(cfg, found),
            "history": {c: _number(last.get(c)) for c in columns},
            "images_seen": last["step"] * cfg.train.batch_size, "training_seconds": seconds,
        },
        PRETRAINING,
    )  # fmt: skip
    log.info("What was learnt is in %s. To use it:", target)
    log.info("  beitmed train backbone=auto backbone.weights=%s", target)


def _caveats(cfg: PretrainRun, found: Sequence[Source]) -> list[str]:
    said = ["SYNTHETIC images"] if any(s.facts["synthetic"] for s in found) else []
    if cfg.data.limit is not None:
        said.append(f"at most {cfg.data.limit} images of each class and split")
    if isinstance(cfg.objective, TokensObjective) and cfg.objective.tokenizer == "random":
        said.append("RANDOM tokenizer")
    return said


def _columns(history: Sequence[Row]) -> list[str]:
    first = ["epoch", "step", "learning_rate", "train_loss"]
    return [*first, *sorted({key for row in history for key in row} - set(first))]


def _number(value: float | int | None) -> float | int | None:
    return None if value is None or np.isnan(value) else value
