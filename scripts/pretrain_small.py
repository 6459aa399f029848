"""A small BEiT of this project's own pre-training, for a package: hours on two cores.

    python scripts/pretrain_small.py --sets breast pneumonia --to beit_small

Learnt without labels from train splits of MedMNIST (CC BY 4.0; Yang et al. 2023, Scientific Data
10:41) and from generated images: the phantom's physics and fractals (noise of a 1/f spectrum), each
drawn at random. The result is a folder in Hugging Face's format in half precision, with its card.
Whether it beats random weights beyond noise is for `scripts/pretraining_gain.py` to say.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from beitmed.data import phantom
from beitmed.storage import files

MOST = 12_000_000  # bytes of the folder
SIZE = 28
GEOMETRY = {
    "hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 6,
    "intermediate_size": 768, "image_size": 112, "patch_size": 16,
}  # fmt: skip
FIRST_SEED = 1000  # of the phantom; dataset=phantom has 0, whose test images must not be among them


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


def generated(count: int, to: Path) -> None:
    """An archive of `count` images of each kind, in MedMNIST's form."""
    if to.exists():
        return
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < count:
        splits = phantom.generate(SIZE, FIRST_SEED + len(parts))
        parts.append(np.concatenate([split[0] for split in splits.values()]))
    images = np.concatenate([*parts, fractals(count, np.random.default_rng(0))])
    part = to.with_name(f"part-{to.name}")
    np.savez(part, train_images=images, train_labels=np.zeros((len(images), 1), np.uint8))
    part.replace(to)


def halve(run: Path, to: Path) -> int:
    """Copy a checkpoint in half precision, without the head of its objective; bytes in all."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run / "huggingface", to)
    tensors = load_file(to / "model.safetensors")
    kept = {n: t.to(torch.float16) for n, t in tensors.items() if not n.startswith("decoder.")}
    save_file(kept, to / "model.safetensors", {"format": "pt"})
    files.share(to / "model.safetensors")
    return sum(file.stat().st_size for file in to.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="*", default=["breast", "pneumonia"])
    parser.add_argument("--generated", type=int, default=8000, help="images of each kind; 0: none")
    parser.add_argument("--to", type=Path, default=Path("beit_small"))
    parser.add_argument("--work", type=Path, default=Path("pretrained"))
    parser.add_argument("keys", nargs="*", help="further keys of `beitmed pretrain`")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    given = [f"pretrain.datasets=[{','.join(options.sets)}]"]
    if options.generated:
        archive = options.work / f"generated-{options.generated}.npz"
        generated(options.generated, archive)
        given.append(f"pretrain.images={archive}")
    command = [
        sys.executable, "-m", "beitmed", "pretrain", "backbone=beit_tiny", "objective=hybrid",
        *(f"backbone.geometry.{key}={value}" for key, value in GEOMETRY.items()), *given,
        "backbone.name=beit_small", f"output_dir={options.work}", "name=beit_small",
        *options.keys,
    ]  # fmt: skip
    print(*command, flush=True)
    subprocess.run(command, check=True)
    size = halve(options.work / "beit_small", options.to)
    print(f"{options.to}: {size / 1e6:.1f} MB (at most {MOST / 1e6:.0f})")
    if size > MOST:
        sys.exit("too large for a package: take fewer layers, or narrower ones")


if __name__ == "__main__":
    main()
