"""Pre-training beside transformers' own loop: images a second of the same model, in turn.

The peer is what a user of transformers writes: a Trainer, an image processor and a mask generator
for each image at each access, the tokenizer at each step, and every patch through the head. Its
random weights, images and optimizer are beitmed's, so that both do the same work.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_table import Table, step_seconds
from hydra import compose, initialize_config_dir
from PIL import Image
from transformers import (
    BeitForMaskedImageModeling,
    Trainer,
    TrainingArguments,
    ViTForMaskedImageModeling,
)
from transformers.models.flava.image_processing_flava import FlavaMaskingGenerator

from beitmed import config
from beitmed.config import PretrainRun
from beitmed.data import phantom
from beitmed.pretraining import batches, checkpoint, looks
from beitmed.pretraining.sources import Source
from beitmed.training import trainer, unlabelled

SMALL = ("backbone=beit_tiny",)
BASE = ("backbone=beit_base", "backbone.weights=random")
WORDS = ("objective=tokens", "objective.tokenizer=random")
SIMMIM = ("backbone=vit_base", "backbone.weights=random", "objective=pixels",
          "objective.target=simmim", "pretrain.crop=1.0", "pretrain.flip=false",
          "pretrain.intensity=0.0")  # fmt: skip


def configuration(*overrides: str) -> PretrainRun:
    config.register_resolvers()
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        composed = compose("pretrain", ["dataset=phantom", *overrides])
        return config.resolve(composed, PretrainRun)


class Images(torch.utils.data.Dataset):
    """Images as a training script of transformers reads them."""

    def __init__(self, images: np.ndarray, processor: Any, side: int, masked: int) -> None:
        self.images, self.processor = images, processor
        self.mask = FlavaMaskingGenerator((side, side), masked, mask_group_min_patches=side)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        rgb = Image.fromarray(self.images[i]).convert("RGB")
        pixels = self.processor(rgb, return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels, "bool_masked_pos": self.mask().flatten().bool(),
                "index": torch.tensor(i)}  # fmt: skip


class Peer(Trainer):
    """labels: visual words of a batch, or None where the model makes its own target of pixels."""

    labels: Callable[[dict[str, torch.Tensor]], torch.Tensor | None]

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:
        words, given = self.labels(inputs), {k: v for k, v in inputs.items() if k != "index"}
        if words is not None:
            given["labels"] = words[given["bool_masked_pos"]]
        return model(**given).loss


def peer(cfg: PretrainRun, images: np.ndarray, steps: int, known: bool, folder: Path) -> Trainer:
    """Transformers' loop on the model of a configuration; known: whether words are given to it."""
    network, processor = checkpoint.begin(cfg)
    own = network.model.config
    words = cfg.objective.name == "tokens"
    if words:
        own.vocab_size = network.head.out_features
    model: Any = (BeitForMaskedImageModeling if words else ViTForMaskedImageModeling)(own)
    body = model.base_model_prefix
    getattr(model, body).load_state_dict(getattr(network.model, body).state_dict(), strict=False)
    data = Images(images, processor, network.side, round(0.4 * network.side**2))
    t, on_cpu = cfg.train, not torch.cuda.is_available()
    run = Peer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder), max_steps=steps, per_device_train_batch_size=t.batch_size,
            learning_rate=t.learning_rate, weight_decay=t.weight_decay, adam_beta2=t.adam_beta2,
            lr_scheduler_type="cosine", use_cpu=on_cpu, bf16=cfg.precision == "bf16",
            save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
            remove_unused_columns=False,
        ),
        train_dataset=data,
    )  # fmt: skip
    stored = torch.from_numpy(images[:, None])
    codes = network.codes(stored[: t.batch_size * steps]) if words and known else None

    def labels(inputs: dict[str, torch.Tensor]) -> torch.Tensor | None:
        if not words:
            return None
        if codes is not None:
            return codes.to(inputs["index"].device)[inputs["index"] % len(codes)]
        return network.codes(stored[inputs["index"].cpu()].to(inputs["index"].device))

    run.labels = labels
    return run


def ours(cfg: PretrainRun, images: np.ndarray, steps: int, folder: Path) -> Trainer:
    """The same by beitmed; the visual words were found before."""
    cfg = cfg.model_copy(update={"train": cfg.train.model_copy(update={"max_steps": steps})})
    source = Source("images", images, images[:8], False, 1.0)
    trainer.seed_everything(cfg.seed)
    network, _ = checkpoint.begin(cfg)
    data = batches.Batches(cfg, [source], network.side, None)
    if cfg.objective.name == "tokens":
        few = type(data.pool)([images[: cfg.train.batch_size * steps]])
        found = looks.words(network, few)
        data.codes = np.resize(found, (len(images), found.shape[1]))
    order = batches.Order([source], cfg.seed)
    return unlabelled.build(
        network, data, order, cfg, folder, 10**6, lambda: {"held_out_loss": 0.0}
    )


def pretraining(table: Table, rounds: int, smoke: bool) -> None:
    """Rows of images a second for each objective and geometry, and how many times faster."""
    images = phantom.generate(28, 0)["train"][0]
    few = ("objective.random.hidden_size=8",) if smoke else ()
    cases = [
        ("visual words found at each step by the peer, small BEiT", (*SMALL, *WORDS, *few), False),
        ("visual words given to both, small BEiT", (*SMALL, *WORDS, *few), True),
    ]
    if not smoke:
        cases += [
            ("visual words found at each step by the peer, BEiT-base", (*BASE, *WORDS), False),
            ("visual words given to both, BEiT-base", (*BASE, *WORDS), True),
            ("pixels (SimMIM), ViT-base", SIMMIM, False),
        ]
    for precision in ("fp32", *(("bf16",) if _bf16() else ())):
        for what, overrides, known in cases:
            _case(table, rounds, smoke, f"{what}, {precision}", images,
                  (*overrides, f"precision={precision}"), known)  # fmt: skip


def _bf16() -> bool:
    """Whether the processor has bf16 of its own; elsewhere it is slower than fp32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and "bf16" in flags.read_text()


def _case(
    table: Table, rounds: int, smoke: bool, what: str, images: np.ndarray,
    overrides: tuple[str, ...], known: bool,
) -> None:  # fmt: skip
    small = "beit_tiny" in " ".join(overrides)
    batch, steps = (8, 3) if smoke else (64, 12) if small else (16, 4)
    cfg = configuration(*overrides, f"train.batch_size={batch}", "train.warmup_steps=0")
    found: dict[str, list[float]] = {"peer": [], "beitmed": []}
    print(f"\n{what}:")
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, run in (
                ("peer", peer(cfg, images, steps, known, Path(folder))),
                ("beitmed", ours(cfg, images, steps, Path(folder))),
            ):
                seconds = step_seconds(run)[1:]  # the first one waits for much besides
                found[name].append(batch * len(seconds) / sum(seconds))
    for name, values in found.items():
        table.add(f"{what}: {name}", values, "images/s")
    times = [b / a for a, b in zip(found["peer"], found["beitmed"], strict=True)]
    table.add(f"{what}: times faster", times, "x")
