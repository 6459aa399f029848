"""What both halves of the benchmark share: configurations, and the table that they fill."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from hydra import compose, initialize_config_dir

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


def seconds(job: Callable[[], Any]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start
