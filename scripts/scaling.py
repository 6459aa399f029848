"""What larger sets cost with BEiT-large's geometry, by arithmetic from measured parts.

    python scripts/scaling.py --csv docs/results/scaling.csv

Each part says which command printed it; put other numbers there to ask for another machine.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from bench_parts import layer_gflop, step_gflop
from bench_reading import H100, REACHED
from bench_table import LARGE, configuration

from beitmed.trunk_cache import forms
from beitmed.trunk_cache.keys import boundary_of

SIZES = (107_180, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
EPOCHS, SHARE_OF_TRAIN = 5, 0.7
# python scripts/large_set.py: peak memory of 1,000,000 images less that of 10,000, by their number,
# in the phase in which they differ most.
MEMORY = (1114e6 - 1034e6) / 990_000  # bytes an image
# SHA-256 by one thread, when an entry is opened (hashlib; python scripts/bench.py --reading).
VERIFIED = 1.76  # GB/s


def rows() -> list[dict[str, str]]:
    cfg = configuration(*LARGE)
    geometry, layers = cfg.backbone.known_geometry, cfg.backbone.known_geometry.num_hidden_layers
    form = forms.of(cfg, 1, boundary_of(cfg))
    stored = form.stored_dtype.itemsize
    for side in form.stored_shape[1:]:
        stored *= side
    drop = cfg.backbone.random.drop_path_rate
    drops = [drop * i / (layers - 1) for i in range(layers)][-5:]
    rate = REACHED * H100 * 3600  # GFLOP an hour
    fill = (layers - 5) * layer_gflop(geometry) / rate
    train = EPOCHS * SHARE_OF_TRAIN * step_gflop(geometry, drops) / rate
    return [
        {
            "images": str(n),
            "features, fp16": _bytes(n * stored),
            "fill, hours": _hours(n * fill),
            f"{EPOCHS} epochs, hours": _hours(n * train),
            "GPUs for a day": str(max(1, round(n * (fill + train) / 24))),
            "verified, hours": _hours(n * stored / 1e9 / VERIFIED / 3600),
            "memory beside 1 GB": _bytes(n * MEMORY),
        }
        for n in SIZES
    ]


def _bytes(count: float) -> str:
    for unit in ("MB", "GB", "TB"):
        count /= 1e6 if unit == "MB" else 1e3
        if count < 1000:
            break
    return f"{count:.2g} {unit}" if count < 100 else f"{count:.0f} {unit}"


def _hours(hours: float) -> str:
    return f"{hours:.2g}" if hours < 100 else f"{hours:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    found = rows()
    with options.csv.open("w", newline="") if options.csv else sys.stdout as f:
        writer = csv.DictWriter(f, found[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
