"""How many images a second the cache's features are read at, beside what a top step needs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_parts import BATCH, Parts, step_gflop
from bench_table import Table, configuration, seconds
from torch.utils.data import DataLoader

from beitmed.storage.store import Entry, Store
from beitmed.trunk_cache import forms
from beitmed.trunk_cache.keys import boundary_of
from beitmed.trunk_cache.rows import BLOCK, FeatureDataset

H100 = 989e3  # GFLOP/s, dense bf16, NVIDIA's data sheet of the SXM5 card
REACHED = 0.5  # of it, at the most, by products of a layer's shapes


def reading(table: Table, scratch: Path, rounds: int, overrides: tuple[str, ...], n: int) -> None:
    """Read n stored images in training's order and in their own, from disk and from page cache.

    From disk: every page of the file is dropped before, and the system says how many bytes came
    from the device. By arithmetic an H100 needs the images of steps that reach half of its bf16
    rate.
    """
    cfg = configuration(*overrides)
    form = forms.of(cfg, n, boundary_of(cfg))
    print(f"\nReading features of {cfg.backbone.name}'s geometry, {n:,} images:")
    store = Store(scratch / "reading")
    entry = _written(store, form)
    row = int(np.prod(form.stored_shape[1:])) * form.stored_dtype.itemsize
    table.add("stored of an image", [row / 1e3], "kB")
    spent = [_processor_seconds(lambda: store.find(entry.path.name)) for _ in range(rounds)]
    verified = [n * row / 1e9 / s for s in spent]
    table.add("verified when it is opened, by processor time", verified, "GB/s")
    found: dict[str, list[float]] = {}
    for turn in range(rounds):
        shuffled = np.random.default_rng(turn).permutation(n)
        for name, order in (("shuffled", shuffled), ("in order", np.arange(n))):
            for how, at_once in (("", None), (", row after row", 1)):
                rows = entry.open()
                rows.at_once = at_once or rows.at_once
                dataset = FeatureDataset(form.read(rows), np.zeros(n, np.int64), order)
                _drop(entry.path / "rows.bin")
                before = _from_device()
                found.setdefault(f"{name}, from disk{how}", []).append(_rate(dataset))
                share = 100 * (_from_device() - before) / (n * row)
                found.setdefault(f"{name}, from disk{how}: of it from the device", []).append(share)
                found.setdefault(f"{name}, from page cache{how}", []).append(_rate(dataset))
    rates = {
        name: table.add(f"read {name}", values, "%" if "device" in name else "images/s")
        for name, values in found.items()
    }
    parts = Parts(overrides)
    parts.trunk(5)
    here = 1 / min(parts.top_step(5) for _ in range(rounds + 1))  # the first warms up
    drop = cfg.backbone.random.drop_path_rate
    drops = [drop * i / (parts.layers - 1) for i in range(parts.layers)]
    there = REACHED * H100 / step_gflop(cfg.backbone.known_geometry, drops[-5:])
    for where, needed, kind in (("this machine's", here, "measured"),
                                ("an H100's", there, "by arithmetic")):  # fmt: skip
        table.add(f"{where} top step needs", [needed], "images/s", kind)
        table.add(f"{where} top step needs", [needed * row / 1e9], "GB/s", kind)
        for source in ("disk", "page cache"):
            times = rates[f"shuffled, from {source}"] / needed
            table.add(f"read from {source}, times what {where} top step needs", [times], "x", kind)


def _written(store: Store, form: forms.Form) -> Entry:
    rng = np.random.default_rng(0)

    def rows(start: int, stop: int) -> np.ndarray:
        shape = (stop - start, *form.stored_shape[1:])
        size = int(np.prod(shape)) * form.stored_dtype.itemsize
        return np.frombuffer(rng.bytes(size), form.stored_dtype).reshape(shape)

    shape, dtype = form.stored_shape, form.stored_dtype
    return store.fill("reading", shape, dtype, rows, BLOCK, {}, progress=lambda done: None)


def _processor_seconds(job: Callable[[], Any]) -> float:
    """Of this process, whatever else the machine does."""
    start = time.process_time()
    job()
    return time.process_time() - start


def _rate(dataset: FeatureDataset) -> float:
    """Images a second, in the batches that training reads."""
    return len(dataset) / seconds(lambda: [None for _ in DataLoader(dataset, batch_size=BATCH)])


def _drop(path: Path) -> None:
    """Let the system forget what it holds of a file."""
    with path.open("rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _from_device() -> int:
    """Bytes that this process had the system fetch from storage."""
    return int(re.findall(r"^read_bytes: (\d+)", Path("/proc/self/io").read_text(), re.M)[0])
