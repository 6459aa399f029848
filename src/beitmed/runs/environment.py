"""What a run was computed with: enough to explain why another machine differs."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from beitmed.backbones import compute
from beitmed.config import Config

_PACKAGES = ("beitmed", "torch", "transformers", "accelerate", "numpy", "scipy", "scikit-learn",
             "pillow", "medmnist", "hydra-core", "omegaconf")  # fmt: skip


def describe(cfg: Config) -> dict[str, Any]:
    """Versions, the device that is used, threads, and the commit of the code: JSON values."""
    device = compute.device(cfg)
    return {
        "device": device.type,
        "processes": compute.processes(cfg) if cfg.reads_backbone else 1,
        "gpu": torch.cuda.get_device_name() if device.type == "cuda" else None,
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "git": commit(Path(__file__).parent),
    }


def commit(folder: Path) -> dict[str, Any]:
    """The commit that the code in `folder` is of, and whether files of it were changed since.

    Null with a reason where the code is not from a git checkout, as when it was installed.
    """
    try:
        tracked = _git(folder, "ls-files", "--error-unmatch", "environment.py")
        head, changed = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None, "reason": "the code is not in a git checkout"}
    assert tracked
    return {"commit": head, "dirty": bool(changed), "reason": None}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()
