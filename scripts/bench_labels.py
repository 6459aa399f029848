"""Label efficiency on both sides: a sweep over the labels, and a plain Trainer script for each."""

from __future__ import annotations

from pathlib import Path

from bench_runs import SMALL, ours, peer
from bench_table import Table, label_efficiency


def labels(table: Table, scratch: Path, rounds: int, extra: tuple[str, ...], few: bool) -> None:
    """One seed of the fine-tuned backbone at every part of `experiment=label_efficiency`.

    The peer's way is its script once for each part, the frozen layers computed at each step of
    each; ours one sweep from a warm cache, and with the two methods besides that need no more than
    the same features. few: the first two parts alone.
    """
    print("\nLabel efficiency, one seed, a small geometry (measured):")
    grid = label_efficiency()
    parts = grid.fractions[:2] if few else grid.fractions
    small, every = (*SMALL, *extra), f"label_fraction={','.join(parts)}"
    cache, what = scratch / "labels-cache", f"label efficiency, {len(parts)} parts"
    ours(scratch / "labels-fill", cache, *small)
    features = [o for o in small if not o.startswith("train.")]
    found: dict[str, list[float]] = {"peer": [], "beitmed": [], "and on its features": []}
    for i in range(rounds):
        one = [peer(scratch, *small, f"label_fraction={part}")["seconds"] for part in parts]
        found["peer"].append(sum(one))
        found["beitmed"].append(ours(scratch / f"labels{i}", cache, "-m", *small, every)["seconds"])
        besides = ("-m", *features, every, "method=features_logistic,features_knn")
        found["and on its features"].append(
            ours(scratch / f"features{i}", cache, *besides)["seconds"]
        )
    for name, values in found.items():
        table.add(f"{what}, one seed: {name}", values, "s")
    ratios = [p / o for p, o in zip(found["peer"], found["beitmed"], strict=True)]
    table.add(f"{what}, one seed: times faster", ratios, "x")
    for name in ("peer", "beitmed"):
        whole = [grid.seeds * value for value in found[name]]
        table.add(f"{what}, {grid.seeds} seeds: {name}", whole, "s", "extrapolated")
