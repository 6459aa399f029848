"""The pieces of a run, each timed on its own on both sides, and whole experiments made of them."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import bench_peer
import numpy as np
import torch
from bench_table import EPOCHS, SIZES, Table, configuration, seconds
from torch.utils.data import DataLoader, Dataset

from beitmed import config
from beitmed.data.pixels import PixelDataset
from beitmed.model import weights
from beitmed.model.freezing import FreezableBackbone
from beitmed.storage.store import Store
from beitmed.transfer import trainer, trunk_features

BATCH = 32  # the paper's
DEPTHS = (0, 1, 2, 5)
OVERHEAD_PAIRS = 3  # a round; the difference is smaller than what two steps differ by


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

    def trunk(self, depth: int = 5) -> float:
        network = self._frozen(depth).eval()
        fill = trunk_features._Rows(
            network, PixelDataset(self.images, self.labels, self.processor), None, self.cfg,
            torch.device("cpu"), np.dtype(np.float16 if depth else np.float32),
        )  # fmt: skip
        start = time.perf_counter()
        rows = fill(0, BATCH)
        elapsed = time.perf_counter() - start
        self.features[depth] = torch.from_numpy(rows.astype(np.float16 if depth else np.float32))
        return elapsed / BATCH

    def extend(self, lower: int, upper: int) -> float:
        """Seconds an image from the features of one depth to those of a smaller one."""
        network = self._frozen(upper).eval()
        tokens = self.features[lower].float()
        with torch.inference_mode():
            start = time.perf_counter()
            rows = network.trunk_from(self.layers - lower, tokens)
            elapsed = time.perf_counter() - start
        self.features[upper] = rows.half() if upper else rows.clone()
        return elapsed / BATCH

    def top_step(self, depth: int) -> float:
        run = self._our_trainer(depth, 1)
        return seconds(run.train) / BATCH

    def bare_steps(self, depth: int, steps: int) -> float:
        """The same steps without the Trainer: forward, backward, clip, AdamW, schedule."""
        network = self._frozen(depth).train()
        parameters = [p for _, p in network.trained_parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=3e-4, weight_decay=0.01)
        loader = DataLoader(self._stored(depth), batch_size=BATCH)
        start = time.perf_counter()
        for _ in range(steps):
            for batch in loader:
                for share, part in trainer.chunks(batch, "cpu"):
                    (network(**part)["loss"] * share).backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return (time.perf_counter() - start) / steps / BATCH

    def trainer_steps(self, depth: int, steps: int) -> float:
        return seconds(self._our_trainer(depth, steps).train) / steps / BATCH

    def top_eval(self, depth: int = 5) -> float:
        network = self._frozen(depth).eval()
        with torch.inference_mode():
            return seconds(lambda: network(features=self.features[depth])) / BATCH

    def peer_step(self, depth: int = 5) -> float:
        bench_peer.freeze(self.peer, depth)
        run = bench_peer.trainer(
            self.peer, self.peer_images, None, batch_size=BATCH, max_steps=1,
            precision=self.cfg.precision,
        )  # fmt: skip
        return seconds(run.train) / BATCH

    def peer_eval(self) -> float:
        self.peer.eval()
        loader = DataLoader(self.peer_images, batch_size=BATCH)
        with torch.no_grad():
            return seconds(lambda: [self.peer(**batch) for batch in loader]) / BATCH

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
        return trunk_features.FeatureDataset(entry.open(), self.labels)


def matrix_peak(geometry: config.Geometry) -> float:
    """GFLOP/s of this machine's best product of the shapes that a layer multiplies."""
    rows, hidden, inner = (
        BATCH * tokens_of(geometry),
        geometry.hidden_size,
        geometry.intermediate_size,
    )
    best = 0.0
    for k, n in ((hidden, hidden), (hidden, inner), (inner, hidden)):
        a, b = torch.randn(rows, k), torch.randn(n, k)
        torch.nn.functional.linear(a, b)
        for _ in range(3):
            elapsed = seconds(lambda a=a, b=b: torch.nn.functional.linear(a, b))
            best = max(best, 2 * rows * k * n / elapsed / 1e9)
    return best


def tokens_of(geometry: config.Geometry) -> int:
    return (geometry.image_size // geometry.patch_size) ** 2 + 1


def layer_gflop(geometry: config.Geometry) -> float:
    """GFLOP of one layer's matrix products for one image: projections, MLP, attention."""
    tokens, hidden, inner = tokens_of(geometry), geometry.hidden_size, geometry.intermediate_size
    return (2 * tokens * (4 * hidden**2 + 2 * hidden * inner) + 4 * tokens**2 * hidden) / 1e9


def measure_parts(table: Table, rounds: int, overrides: tuple[str, ...]) -> dict[str, float]:
    """Every part once a round, both sides in turn."""
    parts = Parts(overrides)
    geometry = parts.cfg.backbone.geometry
    parts.trunk(), parts.top_eval(), parts.peer_eval()  # warm-up
    lists: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        lists.setdefault(name, []).append(value)

    for _ in range(rounds):
        note("peak", matrix_peak(geometry))
        note("trunk", parts.trunk())
        for lower, upper in ((5, 2), (2, 1), (1, 0)):
            note(f"extend {lower}-{upper}", parts.extend(lower, upper))
        for depth in DEPTHS:
            note(f"peer step {depth}", parts.peer_step(depth))
            note(f"top step {depth}", parts.top_step(depth))
            note(f"top eval {depth}", parts.top_eval(depth))
        note("peer eval", parts.peer_eval())
        note("our data", parts.our_data())
        note("peer data", parts.peer_data())
        for _ in range(OVERHEAD_PAIRS):
            note("trainer", parts.trainer_steps(1, 2))
            note("bare", parts.bare_steps(1, 2))
    print(f"\nThe geometry of {parts.cfg.backbone.name}, fp32, seconds an image:")
    names = {
        "trunk": f"trunk pass, {parts.layers - 5} layers, pixels included",
        "our data": "data path: features from disk",
        "peer data": "peer: data path, images decoded and processed",
        "peer eval": "peer: evaluation",
    }
    middle = {}
    for name, values in lists.items():
        if name not in ("peak", "trainer", "bare"):
            middle[name] = table.add(names.get(name, name.replace("-", " to ")), values, "s/image")
    _shares(table, lists, parts)
    return middle


def _shares(table: Table, lists: dict[str, list[float]], parts: Parts) -> None:
    table.add("matrix product peak, the model's own shapes", lists["peak"], "GFLOP/s")
    layer = layer_gflop(parts.cfg.backbone.geometry)
    drop = parts.cfg.backbone.random.drop_path_rate
    rates = [drop * i / (parts.layers - 1) for i in range(parts.layers)]
    # A backward pass counts as two forward ones; what drop path drops is not computed.
    passes = {"trunk": parts.layers - 5.0, "top step 5": sum(3 * (1 - p) for p in rates[-5:])}
    for name, what in (("trunk", "trunk pass"), ("top step 5", "top step")):
        shares = [
            100 * passes[name] * layer / t / peak
            for t, peak in zip(lists[name], lists["peak"], strict=True)
        ]
        table.add(f"{what}, share of that peak", shares, "%")
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
    extend = sum(m[f"extend {a}-{b}"] for a, b in ((5, 2), (2, 1), (1, 0)))
    add(
        "freeze depth 0, 1, 2, 5 x 5 seeds, breast 28",
        5 * sum(peer_run(n, val, test, depth) for depth in DEPTHS),
        fill + (n + val + test) * extend
        + 5 * sum(top_run(n, val, test, depth) for depth in DEPTHS),
    )  # fmt: skip
