"""What a run was computed with: enough to explain why another machine differs."""

from __future__ import annotations

import os
import platform
import resource
from importlib.metadata import version
from typing import Any

import torch

_PACKAGES = (
    "beitmed",
    "torch",
    "transformers",
    "accelerate",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "medmnist",
    "hydra-core",
    "omegaconf",
)


def describe(seconds: float) -> dict[str, Any]:
    """Versions, device, threads, and what the run took: seconds, peak memory in bytes."""
    gpu = torch.cuda.is_available()
    return {
        "seconds": round(seconds, 1),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if gpu else None,
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }
