"""A training step of the top layers, in bf16: what it takes, what of it, and compiled layers.

    python scripts/bench.py --step

On a GPU the share of a step in which it computes, and its kernels by time. Compiled are the trained
layers; the seconds until the first compiled step is done are what a run would have to win back.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_table import Table, configuration, step_seconds

from beitmed.backbones import compute, weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.storage.rows import HeldRows
from beitmed.training import trainer
from beitmed.trunk_cache.rows import FeatureDataset

BATCH, LISTED = 32, 12


def steps(table: Table, overrides: tuple[str, ...]) -> None:
    """Median seconds of a step as a run does it, by the Trainer, and with compiled layers."""
    cfg = configuration(*overrides, "precision=bf16", f"train.batch_size={BATCH}")
    on_a_gpu = compute.device(cfg).type == "cuda"
    count = 60 if on_a_gpu else 3
    network, data = _made(cfg)
    times = step_seconds(_trainer(cfg, network, data, count))
    table.add("a step", [1000 * statistics.median(times[1:])], "ms")
    if on_a_gpu:
        _profile(table, cfg, network, data)
    compiled = {name: torch.compile(function) for name in ("layer", "mean_of_layer")
                if (function := getattr(network.family, name)) is not None}  # fmt: skip
    network.family = dataclasses.replace(network.family, **compiled)
    start = time.perf_counter()
    times = step_seconds(_trainer(cfg, network, data, count))
    table.add("compiled: until the first step is done",
              [time.perf_counter() - start - sum(times[1:])], "s")  # fmt: skip
    table.add("compiled: a step", [1000 * statistics.median(times[1:])], "ms")


def _made(cfg: Any) -> tuple[FreezableBackbone, FeatureDataset]:
    model, _ = weights.load(cfg.backbone, ("0", "1"), 0)
    network = FreezableBackbone(model, cfg.unfreeze)
    network.release_trunk()
    tokens = network.tokens(network.model.config.image_size)
    shape = (4 * BATCH, tokens, network.model.config.hidden_size)
    features = np.random.default_rng(0).standard_normal(shape, np.float32).astype(np.float16)
    data = FeatureDataset(HeldRows(features), np.arange(len(features)) % 2)
    device = compute.device(cfg)
    if device.type == "cuda":
        data.hold(device)
    return network, data


def _trainer(cfg: Any, network: FreezableBackbone, data: FeatureDataset, steps: int) -> Any:
    train = cfg.train.model_copy(update={"max_steps": steps, "epochs": steps})
    cfg = cfg.model_copy(update={"train": train})
    return trainer.build(network, data, None, cfg, Path(tempfile.mkdtemp()))


def _profile(table: Table, cfg: Any, network: FreezableBackbone, data: FeatureDataset) -> None:
    """The GPU's own time of ten steps, by kernel."""
    run = _trainer(cfg, network, data, 10)
    activity = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[activity.CPU, activity.CUDA]) as profiler:
        run.train()
        torch.cuda.synchronize()
    found = [e for e in profiler.key_averages() if e.device_type == torch.autograd.DeviceType.CUDA]
    total = sum(e.self_device_time_total for e in found)
    table.add("a step: of which the GPU computes", [total / 10 / 1000], "ms")
    for e in sorted(found, key=lambda e: -e.self_device_time_total)[:LISTED]:
        print(
            f"  {e.self_device_time_total / 10 / 1000:8.3f} ms {e.count / 10:6.1f} x {e.key[:90]}"
        )
