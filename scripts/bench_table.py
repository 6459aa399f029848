"""What both halves of the benchmark share: configurations, and the table that they fill."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from transformers import Trainer, TrainerCallback

from beitmed import config
from beitmed.config import Config

LARGE = ("dataset=phantom", "backbone=beit_large", "backbone.weights=random")
TINY = ("dataset=phantom", "backbone=beit_tiny")
# Images of the official splits: train as it is, train balanced, val, test.
SIZES = {"breast": (546, 367, 78, 156), "pneumonia": (4708, 2428, 524, 624)}
EPOCHS = 5


class Table:
    """Rows of the report: printed as they come, and kept for the CSV file."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, values: list[float], unit: str, kind: str = "measured") -> float:
        middle = statistics.median(values)
        low, high = min(values), max(values)
        spread = f"[{low:.4g}, {high:.4g}]" if len(values) > 1 else ""
        print(f"{what:66} {middle:10.4g} {unit:9} {spread:22} {kind}", flush=True)
        self.rows.append(
            {"what": what, "median": middle, "min": low, "max": high, "n": len(values),
             "unit": unit, "kind": kind}
        )  # fmt: skip
        return middle


def configuration(*overrides: str) -> Config:
    config.register_resolvers()
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        return config.resolve(compose("config", overrides=list(overrides)))


class Grid(NamedTuple):
    """What `experiment=freeze_depth` runs: depths in its order, seeds of each, and its passes.

    passes: the depths whose features each pass through the trunk stores, with an empty cache.
    """

    depths: tuple[int, ...]
    seeds: int
    passes: tuple[tuple[int, ...], ...]


def freeze_depth() -> Grid:
    config.register_resolvers()
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        composed = compose("config", ["experiment=freeze_depth"], return_hydra_config=True)
    params = composed.hydra.sweeper.params
    depths, together = tuple(map(int, params.unfreeze.split(","))), set(composed.cache.depths)
    passes: list[tuple[int, ...]] = []
    for depth in depths:
        if not any(depth in earlier for earlier in passes):
            passes.append(tuple(sorted({depth, *together}, reverse=True)))
    return Grid(depths, len(params.seed.split(",")), tuple(passes))


class Labels(NamedTuple):
    """What `experiment=label_efficiency` runs: parts of the labels, and seeds of each."""

    fractions: tuple[str, ...]
    seeds: int


def label_efficiency() -> Labels:
    config.register_resolvers()
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        composed = compose("config", ["experiment=label_efficiency"], return_hydra_config=True)
    params = composed.hydra.sweeper.params
    return Labels(tuple(params.label_fraction.split(",")), len(params.seed.split(",")))


def seconds(job: Callable[[], Any]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


class _Clock(TrainerCallback):
    """When training began and when each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())


def step_seconds(run: Trainer) -> list[float]:
    """Seconds of each step of a Trainer, its data included.

    Neither what a Trainer does once a run is in it nor the memory that an optimizer takes at its
    first step: one step stands for hundreds here.
    """
    optimizer = run.create_optimizer()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    clock = _Clock()
    run.add_callback(clock)
    run.train()
    return [b - a for a, b in itertools.pairwise(clock.times)]
