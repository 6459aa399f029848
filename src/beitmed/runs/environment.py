"""What a run was computed with: enough to explain why another machine differs."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
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
        "peak_memory_bytes": peak_memory(),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if gpu else None,
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "machine": platform.machine(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def peak_memory() -> int | None:
    """The largest resident memory that this process had, in bytes; None where it is not told."""
    try:
        # Linux. Not ru_maxrss: that begins with what the process held that started this one.
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) * 1024
    except (OSError, IndexError):
        if sys.platform != "darwin":
            return None
    import resource  # not there on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
