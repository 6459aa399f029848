"""The pieces of a run, each timed on its own on both sides, and whole experiments made of them."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bench_peer
import numpy as np
import torch
from bench_table import (
    EPOCHS,
    SIZES,
    Table,
    configuration,
    freeze_depth,
    seconds,
    step_seconds,
)
from torch.utils.data import DataLoader, Dataset, Subset

from beitmed import config
from beitmed.backbones import compute, weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.data.pixels import PixelDataset
from beitmed.storage.store import Store
from beitmed.training import trainer
from beitmed.training.parts import chunks
from beitmed.trunk_cache.rows import FeatureDataset, TrunkPass

BATCH = 32  # the paper's
GRID = freeze_depth()
DEPTHS = tuple(sorted(GRID.depths))
PEER_DEPTHS = (0, 5)  # measured; between them each trained layer adds one layer's backward pass
OVERHEAD_PAIRS, OVERHEAD_STEPS = 3, 20  # a round, of a linear probe, whose steps are short
PRODUCTS = 5  # of each shape, when the machine's rate is measured


class Parts:
    """The pieces of a run with one backbone's geometry, on both sides, each timed on its own."""

    def __init__(self, overrides: tuple[str, ...]) -> None:
        self.cfg = configuration(*overrides)
        self.layers = self.cfg.backbone.geometry.num_hidden_layers
        beit, processor = weights.load(self.cfg.backbone, ("0", "1"), 42)
        self.processor = processor
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (BATCH, 28, 28), np.uint8)
        self.labels = np.arange(BATCH) % 2
        self.peer_images = bench_peer.Images(self.images, self.labels, processor)
        self.peer = beit
        # Modules are shared between the sides, and each side freezes them before its turn.
        self.ours = {depth: FreezableBackbone(beit, depth) for depth in DEPTHS}
        self.features: dict[int, torch.Tensor] = {}

    def _frozen(self, depth: int) -> FreezableBackbone:
        network = self.ours[depth]
        bench_peer.freeze(self.peer, depth)
        return network

    def trunk(self, *depths: int) -> float:
        """Seconds an image of one pass that gives the features of these depths, deepest last."""
        network = self._frozen(depths[0]).eval()
        images = PixelDataset(self.images, self.labels, self.processor)
        fill = TrunkPass(self.cfg, network, images, [self.layers - depth for depth in depths])
        start = time.perf_counter()
        rows = fill(0, BATCH)
        elapsed = time.perf_counter() - start
        self.features |= zip(depths, map(torch.from_numpy, rows), strict=True)
        return elapsed / BATCH

    def top_step(self, depth: int) -> float:
        return step_seconds(self._our_trainer(depth, 1))[0] / BATCH

    def bare_steps(self, depth: int, steps: int) -> float:
        """The same steps without the Trainer: forward, backward, clip, AdamW, schedule."""
        network = self._frozen(depth).train()
        parameters = [p for _, p in network.trained_parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=3e-4, weight_decay=0.01)
        loader = DataLoader(self._stored(depth), batch_size=BATCH)

        def epoch() -> None:
            for batch in loader:
                for share, part in chunks(batch, network):
                    with self._precision():
                        loss = network(**part)["loss"]
                    (loss * share).backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                optimizer.zero_grad()

        return statistics.median(seconds(epoch) for _ in range(steps)) / BATCH

    def trainer_steps(self, depth: int, steps: int) -> float:
        return statistics.median(step_seconds(self._our_trainer(depth, steps))) / BATCH

    def top_eval(self, depth: int = 5) -> float:
        network = self._frozen(depth).eval()
        with torch.inference_mode(), self._precision():
            return seconds(lambda: network(features=self.features[depth])) / BATCH

    def peer_step(self, depth: int = 5) -> float:
        bench_peer.freeze(self.peer, depth)
        run = bench_peer.trainer(
            self.peer, self.peer_images, None, batch_size=BATCH, max_steps=1,
            precision=self.cfg.precision,
        )  # fmt: skip
        return step_seconds(run)[0] / BATCH

    def peer_eval(self, images: int = BATCH) -> float:
        self.peer.eval()
        loader = DataLoader(Subset(self.peer_images, range(images)), batch_size=images)
        with torch.no_grad(), self._precision():
            return seconds(lambda: [self.peer(**batch) for batch in loader]) / images

    def _precision(self) -> Any:
        return compute.autocast(self.cfg, torch.device("cpu"))

    def our_data(self, depth: int = 5) -> float:
        loader = DataLoader(self._stored(depth), batch_size=BATCH)
        return seconds(lambda: list(loader)) / BATCH

    def peer_data(self) -> float:
        loader = DataLoader(self.peer_images, batch_size=BATCH)
        return seconds(lambda: list(loader)) / BATCH

    def _our_trainer(self, depth: int, steps: int) -> Any:
        network = self._frozen(depth)
        folder = Path(tempfile.mkdtemp())
        cfg = self.cfg.model_copy(
            update={
                "train": self.cfg.train.model_copy(
                    update={"batch_size": BATCH, "max_steps": steps, "epochs": steps}
                )
            }
        )
        return trainer.build(network, self._stored(depth), None, cfg, folder)

    def _stored(self, depth: int) -> Dataset:
        """The features on disk, read as a run reads them."""
        rows = self.features[depth].numpy()
        store = Store(Path(tempfile.gettempdir()) / f"beitmed-bench-{os.getpid()}")
        entry = store.find(str(depth)) or store.fill(
            str(depth), rows.shape, rows.dtype, lambda a, b: rows[a:b], BATCH, {}, lambda done: None
        )
        return FeatureDataset(entry.open(), self.labels)


def matrix_rate(geometry: config.Geometry, precision: str = "fp32") -> float:
    """GFLOP/s of this machine at the products of a layer's shapes: of the shape it is best at.

    Each shape is given some time, and the median of its products counts: the one that happened to
    find an idle machine is nothing that a layer could keep up.
    """
    rows, hidden, inner = (
        BATCH * tokens_of(geometry),
        geometry.hidden_size,
        geometry.intermediate_size,
    )
    rates = []
    for k, n in ((hidden, hidden), (hidden, inner), (inner, hidden)):
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = torch.randn(rows, k, dtype=dtype), torch.randn(n, k, dtype=dtype)
        torch.nn.functional.linear(a, b)
        times = [
            seconds(lambda a=a, b=b: torch.nn.functional.linear(a, b)) for _ in range(PRODUCTS)
        ]
        rates.append(2 * rows * k * n / statistics.median(times) / 1e9)
    return max(rates)


def tokens_of(geometry: config.Geometry) -> int:
    return (geometry.image_size // geometry.patch_size) ** 2 + 1


def layer_gflop(geometry: config.Geometry) -> float:
    """GFLOP of one layer's matrix products for one image: projections, MLP, attention."""
    tokens, hidden, inner = tokens_of(geometry), geometry.hidden_size, geometry.intermediate_size
    return (2 * tokens * (4 * hidden**2 + 2 * hidden * inner) + 4 * tokens**2 * hidden) / 1e9


def step_gflop(geometry: config.Geometry, rates: list[float]) -> float:
    """GFLOP of a training step of the top layers for one image, as beit_training does it.

    rates: drop path's of the trained layers, from below. A backward pass counts as two forward
    ones; branches that are dropped, gradients for the trunk's output through query, key and value,
    and the last product of the last layer are not computed.
    """
    tokens, hidden, inner = tokens_of(geometry), geometry.hidden_size, geometry.intermediate_size
    whole = sum(3 * (1 - p) for p in rates) * layer_gflop(geometry)
    below = (1 - rates[0]) * 3 * 2 * tokens * hidden**2 / 1e9
    last = (1 - rates[-1]) * 3 * 2 * tokens * hidden * inner / 1e9
    return whole - below - last


def measure_parts(table: Table, rounds: int, overrides: tuple[str, ...]) -> dict[str, float]:
    """Every part once a round, both sides in turn."""
    parts = Parts(overrides)
    parts.peer_eval(BATCH // 4)  # warm-up
    lists: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, value in _round(parts):
            lists.setdefault(name, []).append(value)
    print(f"\nThe geometry of {parts.cfg.backbone.name}, {parts.cfg.precision}, seconds an image:")
    names = {
        "trunk": f"trunk pass, {parts.layers - 5} layers, pixels included",
        "trunk of freeze_depth": f"trunk passes of experiment=freeze_depth ({len(GRID.passes)})",
        "our data": "data path: features from disk",
        "peer data": "peer: data path, images decoded and processed",
        "peer eval": "peer: evaluation",
    }
    middle = {}
    for name, values in lists.items():
        if name not in ("trainer", "bare") and not name.startswith("rate"):
            middle[name] = table.add(names.get(name, name.replace("-", " to ")), values, "s/image")
    for depth in DEPTHS:
        low, high = PEER_DEPTHS
        if depth not in PEER_DEPTHS:
            share = (depth - low) / (high - low)
            between = middle[f"peer step {low}"] * (1 - share) + middle[f"peer step {high}"] * share
            name = f"peer step {depth}"
            middle[name] = table.add(name, [between], "s/image", "interpolated")
    _shares(table, lists, parts)
    return middle


def _round(parts: Parts) -> Iterator[tuple[str, float]]:
    geometry, precision = parts.cfg.backbone.geometry, parts.cfg.precision
    yield "rate trunk", matrix_rate(geometry, precision)
    yield "trunk", parts.trunk(5)
    yield "trunk of freeze_depth", sum(parts.trunk(*depths) for depths in GRID.passes)
    for depth in DEPTHS:
        if depth in PEER_DEPTHS:
            yield f"peer step {depth}", parts.peer_step(depth)
        if depth == max(DEPTHS):
            yield "rate top step 5", matrix_rate(geometry, precision)
        yield f"top step {depth}", parts.top_step(depth)
        yield f"top eval {depth}", parts.top_eval(depth)
    yield "peer eval", parts.peer_eval()
    yield "our data", parts.our_data()
    yield "peer data", parts.peer_data()
    for _ in range(OVERHEAD_PAIRS):
        yield "trainer", parts.trainer_steps(0, OVERHEAD_STEPS)
        yield "bare", parts.bare_steps(0, OVERHEAD_STEPS)


def _shares(table: Table, lists: dict[str, list[float]], parts: Parts) -> None:
    geometry = parts.cfg.backbone.geometry
    rates = [*lists["rate trunk"], *lists["rate top step 5"]]
    table.add("matrix products of the model's own shapes", rates, "GFLOP/s")
    drop = parts.cfg.backbone.random.drop_path_rate
    drops = [drop * i / (parts.layers - 1) for i in range(parts.layers)]
    gflop = {
        "trunk": (parts.layers - 5) * layer_gflop(geometry),
        "top step 5": step_gflop(geometry, drops[-5:]),
    }
    for name, what in (("trunk", "trunk pass"), ("top step 5", "top step")):
        shares = [
            100 * gflop[name] / t / rate
            for t, rate in zip(lists[name], lists[f"rate {name}"], strict=True)
        ]
        table.add(f"{what}, share of the rate measured just before it", shares, "%")
    table.add(
        "data path, share of a top step",
        [100 * d / t for d, t in zip(lists["our data"], lists["top step 5"], strict=True)], "%",
    )  # fmt: skip
    # Per step it is the same seconds at each depth: where steps are short it is seen best.
    step = statistics.median(lists["top step 5"])
    table.add(
        "Trainer's overhead over a bare loop, share of a top step",
        [100 * (t - b) / step for t, b in zip(lists["trainer"], lists["bare"], strict=True)], "%",
    )  # fmt: skip


def totals(table: Table, m: dict[str, float]) -> None:
    """Whole experiments, put together from the measured parts."""

    def peer_run(n: int, val: int, test: int, depth: int = 5) -> float:
        return EPOCHS * n * m[f"peer step {depth}"] + (EPOCHS * val + test) * m["peer eval"]

    def top_run(n: int, val: int, test: int, depth: int = 5) -> float:
        return EPOCHS * n * m[f"top step {depth}"] + (EPOCHS * val + test) * m[f"top eval {depth}"]

    def add(what: str, peer: float, ours: float) -> None:
        table.add(f"{what}: peer", [peer], "s", "extrapolated")
        table.add(f"{what}: beitmed", [ours], "s", "extrapolated")
        table.add(f"{what}: times faster", [peer / ours], "x", "extrapolated")

    print("\nWhole experiments, from the parts above:")
    n, _, val, test = SIZES["breast"]
    fill = (n + val + test) * m["trunk"]
    add("one run, breast 28, cold", peer_run(n, val, test), fill + top_run(n, val, test))
    add("one run, breast 28, warm", peer_run(n, val, test), top_run(n, val, test))
    peer = ours = 0.0
    for full, balanced, val_n, test_n in SIZES.values():
        for _size in (28, 224):
            ours += (full + val_n + test_n) * m["trunk"]
            for count in (full, balanced):
                peer += peer_run(count, val_n, test_n)
                ours += top_run(count, val_n, test_n)
    add("the paper's eight variants", peer, ours)
    add(
        f"freeze depth {', '.join(map(str, GRID.depths))} x {GRID.seeds} seeds, breast 28",
        GRID.seeds * sum(peer_run(n, val, test, depth) for depth in DEPTHS),
        (n + val + test) * m["trunk of freeze_depth"]
        + GRID.seeds * sum(top_run(n, val, test, depth) for depth in DEPTHS),
    )  # fmt: skip
