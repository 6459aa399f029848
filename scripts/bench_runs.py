"""Whole processes of both sides: time, peak memory, and how far the cache moves a result."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_table import EPOCHS, SIZES, TINY, Table, configuration, freeze_depth

from beitmed.backbones import weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.runs import resources
from beitmed.storage.store import Store
from beitmed.training import trainer
from beitmed.trunk_cache.rows import FeatureDataset

HERE = Path(__file__).parent
SMALL = (
    *TINY, "backbone.geometry.hidden_size=384", "backbone.geometry.intermediate_size=1536",
    "backbone.geometry.num_hidden_layers=12", "evaluate.n_resamples=100", "train.epochs=3",
)  # fmt: skip


def process(arguments: list[str], cwd: Path) -> dict[str, float]:
    """Run one side as a process of its own; its seconds without imports, and its peak memory."""
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
    if "beitmed.train" in arguments:
        found = [json.loads(p.read_text()) for p in cwd.glob("outputs/*/environment.json")]
        phases = [phase for run in found for phase in run["phases"].values()]
        return {
            "seconds": sum(phase["seconds"] for phase in phases),
            "peak_memory_bytes": max(phase.get("peak_memory_bytes", 0) for phase in phases),
        }
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
    small = (*SMALL, *extra)
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


def depths(table: Table, scratch: Path, extra: tuple[str, ...]) -> None:
    """The very command `experiment=freeze_depth` with an empty cache, of a small geometry."""
    small, grid = (*SMALL, *extra), freeze_depth()
    mine = ours(scratch / "depths", scratch / "depths-cache", "experiment=freeze_depth", *small)
    each = [peer(scratch, *small, f"unfreeze={depth}")["seconds"] for depth in grid.depths]
    what = f"small geometry, experiment=freeze_depth ({len(each) * grid.seeds} runs)"
    table.add(f"{what}: beitmed", [mine["seconds"]], "s")
    table.add(f"{what}: peer", [grid.seeds * sum(each)], "s", "extrapolated")
    times = grid.seeds * sum(each) / mine["seconds"]
    table.add(f"{what}: times faster", [times], "x", "extrapolated")


def memory(table: Table, scratch: Path, overrides: tuple[str, ...], images: list[int]) -> None:
    """Peak memory of whole processes, as the operating system counts it."""
    print("\nPeak memory of a process:")
    few = [*overrides, "data.limit=16", "train.max_steps=1", "evaluate.n_resamples=100"]
    name, cache = configuration(*overrides).backbone.name, scratch / "memory"
    ours(scratch / "fill", cache, *few)
    warm = ours(scratch / "warm", cache, *few)["peak_memory_bytes"]
    plain = peer(scratch, "--no-evaluation", *few)["peak_memory_bytes"]
    table.add(f"geometry of {name}, batch 32: peer", [plain / 1e9], "GB")
    table.add(f"geometry of {name}, batch 32: beitmed, warm", [warm / 1e9], "GB")
    table.add(f"geometry of {name}: beitmed's share of the peer's", [100 * warm / plain], "%")
    for n in images:
        found = process([sys.executable, str(HERE / "bench.py"), "--many", str(n)], scratch)
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
        ours(folder, scratch / "exact", "experiment=smoke", *dataset, *overrides, *extra)
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
    cfg = configuration(
        "dataset=phantom", "backbone=beit_tiny", "train.max_steps=200", "train.batch_size=32"
    )
    beit, _ = weights.load(cfg.backbone, ("0", "1"), 0)
    network = FreezableBackbone(beit, 2)
    network.release_trunk()
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        entry = Store(Path(folder)).fill(
            "many", (n, 50, 96), np.dtype(np.float16),
            lambda a, b: rng.standard_normal((b - a, 50, 96), np.float32),
            block=500, manifest={}, progress=lambda done: None,
        )  # fmt: skip
        rows = FeatureDataset(entry.open(), np.arange(n) % 2)
        run = trainer.build(network, rows, None, cfg, Path(folder) / "checkpoints")
        run.train()
    peak = resources.peak_memory()
    print(json.dumps({"peak_memory_bytes": peak}))


def write_official_form(folder: Path, scale: float) -> None:
    """MedMNIST files of the real sizes, or of a share of them, with generated pixels."""
    rng = np.random.default_rng(0)
    for name, (train, _, val, test) in SIZES.items():
        for size in (28, 224):
            arrays = {}
            for split, official in (("train", train), ("val", val), ("test", test)):
                n = max(8, round(scale * official))
                labels = (np.arange(n) % 4 > 0).astype(np.uint8)[:, None]
                small = rng.integers(0, 180, (n, 28, 28), np.uint8) + 50 * labels[:, :, None]
                times = size // 28
                arrays[f"{split}_images"] = small.repeat(times, 1).repeat(times, 2)
                arrays[f"{split}_labels"] = labels
            suffix = "" if size == 28 else f"_{size}"
            np.savez(folder / f"{name}mnist{suffix}.npz", **arrays)


def variants(
    table: Table, scratch: Path, backbone: tuple[str, ...], scale: float, with_peer: bool
) -> None:
    """The eight variants in full, bf16, three at once and one after the other, and where their time
    goes; and the peer's time for the same, from whole short runs.

    Timed are whole commands, imports included, of libraries that were read from the disk before.
    scale: of the split sizes; below 1 to see that it runs. with_peer: or beitmed alone.
    """
    write_official_form(scratch, scale)
    common = (*backbone, "precision=bf16", f"data.root={scratch}", "data.allow_unofficial=true")
    what = "the paper's eight variants, bf16"
    mine = []
    subprocess.run([sys.executable, "-c", "import beitmed.pipeline"], check=True)
    together = ("launcher=joblib", "hydra.launcher.n_jobs=3")
    for name, launcher in (("three at once", together), ("one after the other", ())):
        folder = scratch / name.replace(" ", "-")
        folder.mkdir()
        command = [
            sys.executable, "-m", "beitmed.train", "experiment=paper", *common, *launcher,
            f"cache.root={folder}/cache",
        ]  # fmt: skip
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True)
        seconds = time.perf_counter() - start
        mine.append(table.add(f"{what}: beitmed, {name}", [seconds], "s"))
        _phases(table, folder, what, name, seconds)
    if not with_peer:
        return
    total = 0.0
    for name, sizes in SIZES.items():
        found = peer(scratch, f"dataset={name}", *common, "train.epochs=1")["seconds"]
        train, _, val, test = sizes
        fewest = -(-train // 4)  # of the generated labels; balanced: 1.5 or 1 of the other class
        balanced = int(fewest * {"breast": 2.5, "pneumonia": 2}[name])
        images = train + val + test
        total += 2 * found / images * (EPOCHS * (train + balanced + 2 * val) + 2 * test)
    plain = table.add(f"{what}: peer", [total], "s", "extrapolated")
    table.add(f"{what}: times faster", [plain / min(mine)], "x", "extrapolated")


def _phases(table: Table, folder: Path, what: str, name: str, seconds: float) -> None:
    """What each run took by phase, and all of them; what is in no phase is imports and the like."""
    total: dict[str, float] = {}
    for path in sorted(folder.glob("outputs/*/environment.json")):
        phases = json.loads(path.read_text())["phases"]
        print(f"  {path.parent.name}: "
              + ", ".join(f"{k} {v['seconds']:.1f}" for k, v in phases.items()))  # fmt: skip
        for phase, found in phases.items():
            total[phase] = total.get(phase, 0) + found["seconds"]
    for phase, found in total.items():
        table.add(f"{what}, {name}: all runs' {phase}", [found], "s")
    if name == "one after the other":
        table.add(f"{what}, {name}: in no run", [seconds - sum(total.values())], "s")
