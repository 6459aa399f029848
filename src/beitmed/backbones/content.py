"""Which weights a checkpoint holds, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beitmed.storage import digests

_CONFIGURATIONS = ("config.json", "preprocessor_config.json", "processor_config.json")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
            "pytorch_model.bin.index.json")  # fmt: skip


def digest(folder: Path, unsaid: Mapping[str, Any], cache_root: str | None) -> str:
    """SHA-256 over the names and contents of the files that are read of a checkpoint.

    unsaid: what decides its numbers besides, JSON values. Raises FileNotFoundError where there are
    no weights.
    """
    files = {path.name: digests.sha256(path, cache_root) for path in _files(folder)}
    content = json.dumps({"files": files, **unsaid}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    """The files that transformers reads of a folder: its first choice among weights."""
    found = [folder / name for name in _CONFIGURATIONS if (folder / name).is_file()]
    weights = _weights(folder)
    return [*found, weights, *(weights_of(folder) if weights.suffix == ".json" else [])]


def _weights(folder: Path) -> Path:
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise FileNotFoundError(f"{folder} has no model.safetensors")
    return weights


def weights_of(folder: Path) -> list[Path]:
    """The files that hold the tensors of a checkpoint."""
    weights = _weights(folder)
    if weights.suffix != ".json":
        return [weights]
    names = {*json.loads(weights.read_text(encoding="utf-8"))["weight_map"].values()}
    return [folder / name for name in sorted(names)]
