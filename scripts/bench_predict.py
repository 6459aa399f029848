"""How near `beitmed predict` comes to the bare forward pass of the model that it asks."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import torch
from bench_table import Table, configuration, seconds
from PIL import Image

from beitmed import pipeline
from beitmed.backbones import weights
from beitmed.commands import predict as command
from beitmed.data import new_image_sources, new_images
from beitmed.data.pixels import PixelDataset
from beitmed.trained import Trained, open_run

BASE = ("dataset=phantom", "backbone=beit_base", "backbone.weights=random")
_BATCH = 32
_SIDE = 512  # px of the files, a usual size of an export


def rate(table: Table, scratch: Path, rounds: int, backbone: tuple[str, ...], images: int) -> None:
    """Images a second of the command beside those of the forward pass, in turn.

    The command reads and resizes files of 512 px, computes, measures unlikeness and writes its
    table. The forward pass is that of transformers' own model on the same batches, whose pixels
    are processed beforehand.
    """
    run = open_run(_trained(scratch, backbone))
    _files(scratch / "images", images)
    batches = _batches(run, scratch / "images")
    network = weights.load(run.cfg.backbone, run.class_names, 42)[0].eval()
    _forward(network, batches[:1])
    _command(run.run.path, scratch)  # fits the unlikeness, once
    found: dict[str, list[float]] = {"predict": [], "bare": []}
    for _ in range(rounds):
        found["bare"].append(images / seconds(lambda: _forward(network, batches)))
        found["predict"].append(_command(run.run.path, scratch))
    print(f"\nbeitmed predict, {images} files of {_SIDE} px, the geometry of "
          f"{run.cfg.backbone.name}, fp32, {torch.get_num_threads()} threads:")  # fmt: skip
    table.add("predict: files to table", found["predict"], "images/s")
    table.add("bare forward pass, batches of 32 processed beforehand", found["bare"], "images/s")
    ratios = [a / b for a, b in zip(found["predict"], found["bare"], strict=True)]
    table.add("predict, share of the bare forward pass's rate", ratios, "x")


def _trained(scratch: Path, backbone: tuple[str, ...]) -> Path:
    cfg = configuration(
        *backbone, "data.limit=4", "train.epochs=1", "evaluate.n_resamples=100",
        f"output_dir={scratch}/outputs", f"cache.root={scratch}/cache",
    )  # fmt: skip
    return pipeline.run(cfg)


def _files(folder: Path, count: int) -> None:
    """Grey PNG files with smooth shapes and noise, which compress as scans do."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8))
        smooth = np.asarray(coarse.resize((_SIDE, _SIDE)), np.int64)
        noisy = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{i:05d}.png")


def _batches(run: Trained, folder: Path) -> list[torch.Tensor]:
    images = new_images.read_all(new_image_sources.find([folder]), run.form).images
    processor = weights.load(run.cfg.backbone, run.class_names, 42)[1]
    pixels = PixelDataset(images, np.zeros(len(images), np.int64), processor)
    return [pixels.batch(start, start + _BATCH) for start in range(0, len(images), _BATCH)]


@torch.inference_mode()
def _forward(network: torch.nn.Module, batches: list[torch.Tensor]) -> None:
    for batch in batches:
        network(pixel_values=batch)


def _command(run: Path, scratch: Path) -> float:
    """Images a second, of all that the command does once it has its model."""
    to = scratch / "predictions.csv"
    words = [str(run), str(scratch / "images"), f"to={to}", "overwrite=true"]
    with contextlib.redirect_stdout(io.StringIO()):
        code = command.predict(words)
    assert code == os.EX_OK
    return json.loads(to.with_suffix(".json").read_text())["images_a_second"]
