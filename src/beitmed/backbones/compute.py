"""Where a network computes, and in which precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from beitmed.config import Config
from beitmed.errors import UserError


def device(cfg: Config) -> torch.device:
    """Where to compute; raises UserError if a GPU was asked for and there is none."""
    there = torch.cuda.is_available()
    if cfg.device == "cuda" and not there:
        raise UserError("device: found cuda, but PyTorch sees no GPU here; use auto or cpu.")
    return torch.device("cuda" if cfg.device != "cpu" and there else "cpu")


def processes(cfg: Config) -> int:
    """How many processes compute a run: on GPUs each on one of its own.

    Raises UserError where there are fewer GPUs, or where the recipe's batch cannot be split.
    """
    gpus = torch.cuda.device_count() if device(cfg).type == "cuda" else None
    if cfg.processes != "auto" and gpus is not None and cfg.processes > gpus:
        raise UserError(
            f"processes: found {cfg.processes}, but PyTorch sees {gpus} "
            f"{'GPU' if gpus == 1 else 'GPUs'} here; allowed: 1 to {gpus}, or auto for all."
        )
    found = cfg.processes if cfg.processes != "auto" else gpus or 1
    if (problem := cfg.undivided(found)) is not None:
        raise UserError(problem)
    return found


def check(cfg: Config) -> None:
    """Raise UserError if what the configuration asks for needs a GPU, and there is none."""
    if device(cfg).type == "cpu" and cfg.precision == "fp16" and cfg.reads_backbone:
        raise UserError("precision: found fp16, which needs a GPU; use fp32 or bf16 on a CPU.")


@contextlib.contextmanager
def autocast(cfg: Config, device: torch.device) -> Iterator[None]:
    """Mixed precision as `cfg.precision` says; with fp32 nothing changes."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(cfg.precision)
    if dtype is None:
        yield
        return
    with torch.autocast(device.type, dtype):
        yield
