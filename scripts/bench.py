"""What the cache of trunk features is worth: beitmed beside a plain Trainer script, in one run.

    python scripts/bench.py                 everything that a CPU can show
    python scripts/bench.py --variants      the paper's eight variants in real sizes, on a GPU, bf16
    python scripts/bench.py --smoke         shows that all of it runs, on a tiny geometry

The peer is `bench_peer.py`. All parts are measured in turn, round by round, so that a machine that
slows down slows both sides; medians and ranges are printed, and the totals of whole experiments
are put together from the measured parts and marked so. Rows go to a CSV file too.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bench_peer
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch.utils.data import DataLoader, Dataset

from beitmed import config, trainer, trunk_features, weights
from beitmed.config import Config
from beitmed.feature_store import Store
from beitmed.model import FreezableBeit
from beitmed.pixels import PixelDataset

HERE = Path(__file__).parent
BATCH = 16
DEPTHS = (0, 1, 2, 5)
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
        self.ours = {depth: FreezableBeit(beit, depth) for depth in DEPTHS}
        self.features: dict[int, torch.Tensor] = {}

    def _frozen(self, depth: int) -> FreezableBeit:
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
        note("trainer", parts.trainer_steps(5, 2))
        note("bare", parts.bare_steps(5, 2))
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
    table.add(
        "Trainer's overhead over a bare loop",
        [100 * (t / b - 1) for t, b in zip(lists["trainer"], lists["bare"], strict=True)], "%",
    )  # fmt: skip


def totals(table: Table, m: dict[str, float]) -> None:
    """Whole experiments, put together from the measured parts."""

    def peer_run(n: int, val: int, test: int, depth: int = 5) -> float:
        return EPOCHS * n * m[f"peer step {depth}"] + (EPOCHS * val + test) * m["peer eval"]

    def top_run(n: int, val: int, test: int, depth: int = 5) -> float:
        return (
            EPOCHS * n * m[f"top step {depth}"]
            + ((EPOCHS + 1) * val + test) * m[f"top eval {depth}"]
        )

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


def process(arguments: list[str], cwd: Path) -> dict[str, float]:
    """Run one side as a process of its own; its seconds without imports, and its peak memory."""
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    if "beitmed.train" in arguments:
        [path] = cwd.glob("outputs/*/environment.json")
        return json.loads(path.read_text())
    return json.loads(done.stdout.splitlines()[-1])


def ours(folder: Path, cache: Path, *overrides: str) -> dict[str, float]:
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "beitmed.train", *overrides, f"cache.root={cache}"]
    return process(command, folder)


def peer(folder: Path, *overrides: str) -> dict[str, float]:
    return process([sys.executable, str(HERE / "bench_peer.py"), *overrides], folder)


def whole_runs(table: Table, scratch: Path, rounds: int, extra: tuple[str, ...]) -> None:
    """A whole run of a small geometry on both sides, measured, not put together."""
    print("\nWhole runs with real epochs, a small geometry (measured):")
    small = (
        *TINY, "backbone.geometry.hidden_size=192", "backbone.geometry.intermediate_size=768",
        "backbone.geometry.num_hidden_layers=12", "evaluate.n_resamples=100", "train.epochs=3",
        *extra,
    )  # fmt: skip
    found: dict[str, list[float]] = {"peer": [], "cold": [], "warm": []}
    for i in range(rounds):
        cache = scratch / f"cache{i}"
        found["peer"].append(peer(scratch, *small)["seconds"])
        found["cold"].append(ours(scratch / f"cold{i}", cache, *small)["seconds"])
        found["warm"].append(ours(scratch / f"warm{i}", cache, *small)["seconds"])
    for name, values in found.items():
        table.add(f"small geometry, one run: {name}", values, "s")
    for name in ("cold", "warm"):
        ratios = [p / o for p, o in zip(found["peer"], found[name], strict=True)]
        table.add(f"small geometry, one run, {name}: times faster", ratios, "x")


def memory(table: Table, scratch: Path, overrides: tuple[str, ...], images: list[int]) -> None:
    """Peak memory of whole processes, as the operating system counts it."""
    print("\nPeak memory of a process:")
    few = [*overrides, "data.limit=16", "train.max_steps=1", "evaluate.n_resamples=100"]
    name, cache = configuration(*overrides).backbone.name, scratch / "memory"
    ours(scratch / "fill", cache, *few)
    warm = ours(scratch / "warm", cache, *few)["peak_memory_bytes"]
    plain = peer(scratch, *few)["peak_memory_bytes"]
    table.add(f"geometry of {name}, batch 32: peer", [plain / 1e9], "GB")
    table.add(f"geometry of {name}, batch 32: beitmed, warm", [warm / 1e9], "GB")
    table.add(f"geometry of {name}: beitmed's share of the peer's", [100 * warm / plain], "%")
    for n in images:
        found = process([sys.executable, __file__, "--many", str(n)], scratch)
        peak = found["peak_memory_bytes"] / 1e9
        table.add(f"tiny geometry, {n:,} images in the cache", [peak], "GB")


def exactness(table: Table, scratch: Path, data: Path | None, extra: tuple[str, ...]) -> None:
    """How far cached features move a run's test logits and AUC, from the live trunk's."""
    dataset = ("dataset=phantom",)
    if data is not None:
        dataset = ("dataset=breast", f"data.root={data.resolve()}", "data.allow_unofficial=true")
    print(f"\nDifference from a live run: {dataset[0]}, beit_tiny, 5 epochs:")
    runs = {}
    for name, overrides in {
        "live": ("features=live",),
        "cached, fp32": ("features=cached", "cache.dtype=fp32"),
        "cached, fp16 (default)": ("features=cached",),
        "live, next seed": ("features=live", "seed=43"),
    }.items():
        folder = scratch / name.replace(", ", "-").replace(" ", "-")
        ours(folder, scratch / "exact", "experiment=quickstart", *dataset, *overrides, *extra)
        [path] = folder.glob("outputs/*/metrics.json")
        auc = json.loads(path.read_text())["test"]["auc"]["value"]
        rows = csv.DictReader((path.parent / "predictions.csv").open())
        test = [(float(r["logit_0"]), float(r["logit_1"])) for r in rows if r["split"] == "test"]
        runs[name] = np.array(test), auc
    logits, auc = runs.pop("live")
    for name, (other, other_auc) in runs.items():
        table.add(
            f"{name}: largest difference of a logit", [float(np.abs(other - logits).max())], ""
        )
        table.add(f"{name}: difference of AUC", [other_auc - auc], "")


def many(n: int) -> None:
    """Train a tiny top for some steps from a cache of n images; print the peak memory."""
    import resource

    cfg = configuration(
        "dataset=phantom", "backbone=beit_tiny", "train.max_steps=200", "train.batch_size=32"
    )
    beit, _ = weights.load(cfg.backbone, ("0", "1"), 0)
    network = FreezableBeit(beit, 2)
    network.release_trunk()
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        entry = Store(Path(folder)).fill(
            "many", (n, 50, 96), np.dtype(np.float16),
            lambda a, b: rng.standard_normal((b - a, 50, 96), np.float32),
            block=500, manifest={}, progress=lambda done: None,
        )  # fmt: skip
        rows = trunk_features.FeatureDataset(entry.open(), np.arange(n) % 2)
        run = trainer.build(network, rows, None, cfg, Path(folder) / "checkpoints")
        run.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_memory_bytes": peak}))


def write_official_form(folder: Path) -> None:
    """MedMNIST files of the real sizes with generated pixels, for the eight variants."""
    rng = np.random.default_rng(0)
    for name, (train, _, val, test) in SIZES.items():
        for size in (28, 224):
            arrays = {}
            for split, n in (("train", train), ("val", val), ("test", test)):
                labels = (np.arange(n) % 4 > 0).astype(np.uint8)[:, None]
                small = rng.integers(0, 180, (n, 28, 28), np.uint8) + 50 * labels[:, :, None]
                scale = size // 28
                arrays[f"{split}_images"] = small.repeat(scale, 1).repeat(scale, 2)
                arrays[f"{split}_labels"] = labels
            suffix = "" if size == 28 else f"_{size}"
            np.savez(folder / f"{name}mnist{suffix}.npz", **arrays)


def variants(table: Table, scratch: Path) -> None:
    """The eight variants in full, bf16, and the peer's time for the same from measured steps."""
    write_official_form(scratch)
    command = [
        sys.executable, "-m", "beitmed.train", "experiment=paper", "backbone.weights=random",
        "precision=bf16", f"data.root={scratch}", "data.allow_unofficial=true",
        f"cache.root={scratch}/cache",
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, cwd=scratch, check=True)
    mine = table.add(
        "the paper's eight variants, bf16: beitmed", [time.perf_counter() - start], "s"
    )
    total = 0.0
    for name, (train, balanced, val, test) in SIZES.items():
        per_run = peer(
            scratch, f"dataset={name}", "backbone=beit_large", "backbone.weights=random",
            "precision=bf16", f"data.root={scratch}", "data.allow_unofficial=true",
            "train.epochs=1",
        )["seconds"]  # fmt: skip
        images = train + val + test
        total += 2 * per_run / images * (EPOCHS * (train + balanced + 2 * val) + 2 * test)
    plain = table.add("the paper's eight variants, bf16: peer", [total], "s", "extrapolated")
    table.add("the paper's eight variants, bf16: times faster", [plain / mine], "x", "extrapolated")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--csv", type=Path, default=Path("outputs/benchmark.csv"))
    parser.add_argument("--variants", action="store_true", help="the eight variants, on a GPU")
    parser.add_argument("--smoke", action="store_true", help="a tiny geometry, one round")
    parser.add_argument("--only", choices=["parts", "runs", "memory", "exactness"])
    parser.add_argument("--data", type=Path, help="folder with breastmnist.npz, for exactness")
    parser.add_argument("--many", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.many:
        many(options.many)
        return
    smoke = options.smoke
    geometry, rounds = (TINY, 1) if smoke else (LARGE, options.rounds)
    table = Table()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        if options.variants:
            variants(table, Path(scratch))
        else:
            if options.only in (None, "parts"):
                totals(table, measure_parts(table, rounds, geometry))
            if options.only in (None, "runs"):
                few = ("data.limit=8", "train.epochs=1") if smoke else ()
                whole_runs(table, Path(scratch), max(1, rounds - 1), few)
            if options.only in (None, "exactness"):
                few = ("data.limit=8", "train.epochs=1") if smoke else ()
                exactness(table, Path(scratch), options.data, few)
            if options.only in (None, "memory"):
                images = [100, 1_000] if smoke else [1_000, 100_000]
                memory(table, Path(scratch), geometry, images)
    context = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cpus",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in ("beitmed", "torch", "transformers")},
    }
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="") as f:
        writer = csv.DictWriter(f, [*table.rows[0], *context])
        writer.writeheader()
        writer.writerows({**row, **context} for row in table.rows)
    print(f"\n{time.perf_counter() - start:.0f} s in all; rows are in {options.csv}")


if __name__ == "__main__":
    main()
