"""A run on 1,000,000 images beside one on 10,000: memory, time, disk, and a fill that is killed.

    python scripts/large_set.py                    about 20 minutes on two cores
    python scripts/large_set.py --images 100000
    python scripts/large_set.py --smoke            10,000 beside 1,000

The images are generated (28 px, grey, SYNTHETIC) and lie in a `.npz` of MedMNIST's form, as one of
the user's own; the BEiT has two layers of 16 numbers and RANDOM weights, so that what grows with
the number of images is not hidden behind a network. Both runs are `beitmed train`: features filled,
an epoch trained, 20 % of the images tested. The larger run is killed (SIGKILL) in the middle of its
fill and started again. Peak memory is the operating system's (VmHWM), by phase. Ends with exit code
1 where the larger run takes over 10 % more memory, or lost more than one block of the fill.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beitmed.trunk_cache.rows import BLOCK

SIDE, PATCH, HIDDEN = 28, 14, 16
ROW_BYTES = ((SIDE // PATCH) ** 2 + 1) * HIDDEN * 2  # of stored features, fp16
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
MOST = 1.10  # times the smaller run's memory
_AT_ONCE = 10_000  # images that are generated at a time
_SETTINGS = (
    "dataset=breast", "dataset.name=large", "dataset.flag=large", "+dataset.classes=[dark,bright]",
    "data.download=false", "backbone=beit_tiny", f"backbone.geometry.hidden_size={HIDDEN}",
    "backbone.geometry.num_hidden_layers=2", "backbone.geometry.num_attention_heads=2",
    f"backbone.geometry.intermediate_size={2 * HIDDEN}", f"backbone.geometry.image_size={SIDE}",
    f"backbone.geometry.patch_size={PATCH}", "unfreeze=1", "train.epochs=1",
    "train.batch_size=256", "train.eval_batch_size=256", "device=cpu", "name=run",
)  # fmt: skip


class Found(NamedTuple):
    """A finished run: seconds and peak memory by phase, and bytes on disk."""

    images: int
    phases: dict[str, dict[str, float]]
    cache_bytes: int
    folder_bytes: int

    @property
    def peak(self) -> float:
        return max(one["peak_memory_bytes"] for one in self.phases.values())


def sizes(images: int) -> dict[str, int]:
    return {split: round(share * images) for split, share in SHARES.items()}


def write_images(path: Path, images: int) -> None:
    """A `.npz` that `np.savez` could have written, without ever holding its images."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for split, n in sizes(images).items():
            labels = rng.integers(0, 2, (n, 1), np.uint8)
            with archive.open(f"{split}_labels.npy", "w") as member:
                np.save(member, labels)
            with archive.open(f"{split}_images.npy", "w", force_zip64=True) as member:
                shape = {"descr": "|u1", "fortran_order": False, "shape": (n, SIDE, SIDE)}
                np.lib.format.write_array_header_1_0(member, shape)
                for start in range(0, n, _AT_ONCE):
                    brighter = 20 * labels[start : start + _AT_ONCE, :, None]
                    noise = rng.integers(0, 200, (len(brighter), SIDE, SIDE), np.uint8)
                    # Of an image as a whole too, so that the classes overlap.
                    noise += rng.integers(0, 36, (len(brighter), 1, 1), np.uint8)
                    member.write((noise + brighter).astype(np.uint8).tobytes())


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "beitmed", "train", *_SETTINGS, f"data.root={folder}",
               f"cache.root={folder}/cache", f"output_dir={folder}/outputs"]  # fmt: skip
    with (folder / "said").open("a") as said:
        return subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, text=True)


def finish(process: subprocess.Popen[str], folder: Path, images: int) -> Found:
    if process.wait():
        sys.exit(f"the run on {images:,} images failed:\n{(folder / 'said').read_text()[-3000:]}")
    run = folder / "outputs" / "run"
    environment = json.loads((run / "environment.json").read_text())
    on_disk = [sum(p.stat().st_size for p in of.rglob("*") if p.is_file())
               for of in (folder / "cache", run)]  # fmt: skip
    return Found(images, environment["phases"], *on_disk)


def kill_in_fill(process: subprocess.Popen[str], folder: Path, images: int) -> int:
    """Kill the process when half of the train split is filled; how many images were stored."""
    wanted = sizes(images)["train"] // 2 * ROW_BYTES

    def stored() -> int:
        found = [p.stat().st_size for p in (folder / "cache").glob("*.partial/rows.bin")]
        return max(found, default=0)

    while stored() < wanted:
        if process.poll() is not None:
            sys.exit(f"the run ended before its fill:\n{(folder / 'said').read_text()[-3000:]}")
        time.sleep(0.01)
    process.kill()
    process.wait()
    return -(-stored() // ROW_BYTES)


def lost(folder: Path, stored: int) -> int:
    """How many of the stored images the second process computed again."""
    [kept] = re.findall(r"going on after (\d+) of", (folder / "said").read_text())
    return stored - int(kept)


def table(small: Found, large: Found) -> list[dict[str, str]]:
    peaks = {
        name: (large.phases[name]["peak_memory_bytes"], small.phases[name]["peak_memory_bytes"])
        for name in large.phases
    } | {"all of it": (large.peak, small.peak)}
    return [
        {
            "phase": name,
            f"{large.images:,} images": f"{of_large / 1e6:.0f} MB",
            f"{small.images:,} images": f"{of_small / 1e6:.0f} MB",
            "times": f"{of_large / of_small:.3f}",
        }
        for name, (of_large, of_small) in peaks.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--beside", type=int, default=10_000, help="images of the smaller run")
    parser.add_argument("--smoke", action="store_true", help="10,000 beside 1,000")
    parser.add_argument("--csv", type=Path, help="also write the table there")
    options = parser.parse_args()
    few, many = (1_000, 10_000) if options.smoke else (options.beside, options.images)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for images in (few, many):
            folder = Path(scratch) / str(images)
            folder.mkdir()
            write_images(folder / "large.npz", images)
            print(f"{images:,} images: {(folder / 'large.npz').stat().st_size / 1e6:,.0f} MB of "
                  "pixels", flush=True)  # fmt: skip
            process = start(folder)
            if images == many:
                stored = kill_in_fill(process, folder, images)
                process = start(folder)
            found.append(finish(process, folder, images))
            print(f"  features {found[-1].cache_bytes / 1e6:,.1f} MB, run's folder "
                  f"{found[-1].folder_bytes / 1e6:,.1f} MB", flush=True)  # fmt: skip
        again = lost(folder, stored)
    rows = table(*found)
    for row in [dict.fromkeys(rows[0], ""), *rows]:
        cells = row.values() if row["phase"] else row
        print("".join(f"{cell:>20}" for cell in cells))
    print(f"\nSeconds of {many:,} images: " + ", ".join(
        f"{name} {one['seconds']:.0f}" for name, one in found[1].phases.items()))  # fmt: skip
    times = found[1].peak / found[0].peak
    print(f"Peak memory of {many:,} images: {found[1].peak / 1e6:,.0f} MB, of {few:,}: "
          f"{found[0].peak / 1e6:,.0f} MB: {times:.3f} times (allowed: {MOST}).")  # fmt: skip
    print(f"Killed after {stored:,} stored images; {again} of them were computed again (allowed: "
          f"a block of {BLOCK}).")  # fmt: skip
    if options.csv:
        with options.csv.open("w", newline="") as f:
            writer = csv.DictWriter(f, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    sys.exit(times > MOST or again > BLOCK)


if __name__ == "__main__":
    main()
