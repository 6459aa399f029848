"""The small BEiT that the package holds, pre-trained anew: minutes on a GPU, a day on two cores.

    python scripts/pretrain_small.py --photographs FOLDER... --to beit_small precision=bf16

Learnt without labels, by masked patches and a contrast of two views (`objective=hybrid`), from
train splits of MedMNIST (CC BY 4.0; Yang et al. 2023, Scientific Data 10:41), from generated
images (the phantom's physics and fractals, each drawn at random), and from squares cut out of
freely licensed pictures in the given folders, as those of the Debian packages in `PACKAGES`. The
result is a folder in Hugging Face's format in half precision, with its card. The one in the
package was made from these packages' pictures, reduced to 320 px before. What it is worth:
docs/pretraining.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from beitmed.data import phantom
from beitmed.storage import files

MOST = 12_000_000  # bytes of the folder
SIZE = 28
ARCHIVE = "generated_and_photographs.npz"
FIRST_SEED = 1000  # of the phantom; dataset=phantom has 0, whose test images must not be among them
SHORT_SIDE = 320  # px, of a photograph before parts are cut out of it
LEAST_CONTRAST = 6.0  # grey levels, standard deviation of a part
#: Debian packages with photographs and drawings; their copyright files name authors and licences.
PACKAGES = ("tuxpaint-stamps-default", "mate-backgrounds", "plasma-workspace-wallpapers",
            "lxqt-themes", "python3-skimage", "stellarium-data")  # fmt: skip
RECIPE = (
    "objective=hybrid", "objective.weight=1", "objective.mask_ratio=0.5", "pretrain.crop=0.25",
    "pretrain.intensity=0.3", "pretrain.weights=[40,5,1]", "pretrain.every=10",
    "train.batch_size=2048", "train.learning_rate=1e-3", "train.warmup_steps=150",
    "train.epochs=10",
)  # fmt: skip


def phantoms(seed: int) -> np.ndarray:
    """What dataset=phantom would have with another seed: uint8 [780, 28, 28]."""
    return np.concatenate([split.images for split in phantom.generate(SIZE, seed).values()])


def fractals(n: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of a 1/f^b spectrum, b from 1 to 3, its contrast at random: uint8 [n, 28, 28]."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    frequency[0, 0] = 1
    power = rng.uniform(0.5, 1.5, (n, 1, 1))  # of the amplitude
    noise = np.fft.fft2(rng.standard_normal((n, SIZE, SIZE)))
    found = np.fft.ifft2(noise / frequency**power).real
    found -= found.mean((1, 2), keepdims=True)
    found /= found.std((1, 2), keepdims=True)
    level, contrast = rng.uniform(60, 190, (n, 1, 1)), rng.uniform(15, 60, (n, 1, 1))
    return np.clip(level + contrast * found, 0, 255).astype(np.uint8)


def photographs(folders: list[Path]) -> list[Path]:
    """Pictures in these folders that are large enough to be cut up, in the order of their paths."""
    kinds = (".jpg", ".jpeg", ".png")
    found = [
        file for folder in folders for file in folder.rglob("*")
        if file.suffix.lower() in kinds and not file.is_symlink() and file.stat().st_size > 20_000
    ]  # fmt: skip
    return sorted(found)


def grey(file: Path) -> Image.Image | None:
    """A picture in grey, on grey where it is transparent, its short side at most 320 px."""
    with Image.open(file) as opened:
        opened.draft("RGB", (2 * SHORT_SIDE, 2 * SHORT_SIDE))
        picture = opened.convert("RGBA")
    ground = Image.new("RGBA", picture.size, (128, 128, 128, 255))
    ground.alpha_composite(picture)
    found, short = ground.convert("L"), min(picture.size)
    if short < 2 * SIZE:
        return None
    scale = min(1.0, SHORT_SIDE / short)
    return found.resize([round(side * scale) for side in found.size], Image.Resampling.BOX)


def parts(file: Path, n: int, seed: int) -> np.ndarray:
    """Squares of a photograph, from 28 px to its short side: uint8 [up to n, 28, 28]."""
    picture, rng = grey(file), np.random.default_rng(seed)
    found: list[np.ndarray] = []
    for _ in range(0 if picture is None else 2 * n):
        assert picture is not None
        side = round(np.exp(rng.uniform(np.log(SIZE), np.log(min(picture.size)))))
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        box = (left, top, left + side, top + side)
        part = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX, box))
        if part.std() >= LEAST_CONTRAST and len(found) < n:
            found.append(part)
    return np.stack(found) if found else np.empty((0, SIZE, SIZE), np.uint8)


def generated(options: argparse.Namespace, to: Path) -> None:
    """An archive of images of each kind, in MedMNIST's form."""
    if to.exists():
        return

    def made() -> Iterator[np.ndarray]:
        with ProcessPoolExecutor(options.processes) as pool:
            yield from pool.map(phantoms, range(FIRST_SEED, FIRST_SEED + options.phantoms))
            pictures = photographs(options.photographs)
            if n := len(pictures):
                each = [-(-options.parts // n)] * n
                yield from pool.map(parts, pictures, each, range(n), chunksize=8)
        if options.fractals:
            yield fractals(options.fractals, np.random.default_rng(0))

    images = np.concatenate(list(made()))
    part = to.with_name(f"part-{to.name}")
    np.savez(part, train_images=images, train_labels=np.zeros((len(images), 1), np.uint8))
    part.replace(to)


def halve(run: Path, to: Path, images: str) -> int:
    """Copy a checkpoint in half precision, without the head of its objective; bytes in all.

    What config.json says of licence and images goes: backbone=beit_small says it, and the card.
    """
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run / "huggingface", to)
    tensors = load_file(to / "model.safetensors")
    kept = {n: t.to(torch.float16) for n, t in tensors.items() if not n.startswith("decoder.")}
    save_file(kept, to / "model.safetensors", {"format": "pt"})
    config = json.loads((to / "config.json").read_text())
    del config["about"]
    (to / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    with (to / "README.md").open("a") as card:
        card.write(images)
    for file in to.iterdir():
        files.share(file)
    return sum(file.stat().st_size for file in to.iterdir())


def described(options: argparse.Namespace) -> str:
    """What the card says of the images that are of no MedMNIST set."""
    said = [
        f"- {780 * options.phantoms:,} generated ultrasound-like images (dataset=phantom with "
        f"other seeds) and {options.fractals:,} of a 1/f spectrum"
    ]
    if options.photographs:
        said.append(
            f"- about {options.parts:,} squares of {len(photographs(options.photographs)):,} "
            f"pictures in the Debian packages {', '.join(PACKAGES)}, in grey (GPL-2+, LGPL-2.1+, "
            "CC BY-SA 3.0 and 4.0, BSD; authors and licences are in their copyright files)"
        )
    return "\n".join(["", f"{ARCHIVE} holds, at {SIZE} px:", "", *said, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="*", default=["breast", "pneumonia"])
    parser.add_argument("--phantoms", type=int, default=20, help="sets of 780; 0: none")
    parser.add_argument("--fractals", type=int, default=15_000, help="images; 0: none")
    parser.add_argument("--parts", type=int, default=120_000, help="of photographs, in all")
    parser.add_argument("--photographs", nargs="*", type=Path, default=[], help="folders of them")
    parser.add_argument("--processes", type=int, default=2, help="that generate images")
    parser.add_argument("--to", type=Path, default=Path("beit_small"))
    parser.add_argument("--work", type=Path, default=Path("pretrained"))
    parser.add_argument("keys", nargs="*", help="further keys of `beitmed pretrain`")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    archive = options.work / ARCHIVE
    generated(options, archive)
    command = [
        sys.executable, "-m", "beitmed", "pretrain", "backbone=beit_small",
        "backbone.weights=random",
        f"pretrain.datasets=[{','.join(options.sets)}]", f"pretrain.images={archive}",
        f"output_dir={options.work}", "name=beit_small",
        *RECIPE, *options.keys,
    ]  # fmt: skip
    print(*command, flush=True)
    subprocess.run(command, check=True)
    size = halve(options.work / "beit_small", options.to, described(options))
    print(f"{options.to}: {size / 1e6:.1f} MB (at most {MOST / 1e6:.0f})")
    if size > MOST:
        sys.exit("too large for a package: take fewer layers, or narrower ones")


if __name__ == "__main__":
    main()
