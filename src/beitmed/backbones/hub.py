"""Checkpoints by hub name: found in the local Hugging Face cache, or fetched into it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import huggingface_hub as hf
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from beitmed.errors import UserError, disk_error

log = logging.getLogger(__name__)
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_SECONDS_TO_ANSWER = 5  # the hub's client would try for half a minute to reach a closed network


def cached(name: str, revision: str) -> Path | None:
    """The folder of a checkpoint that is complete on this machine, else None. Uses no network."""
    try:
        folder = Path(hf.snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError):
        return None
    has_weights = any((folder / w).exists() for w in _WEIGHTS)
    return folder if has_weights and _has_configs(folder) else None


def _has_configs(folder: Path) -> bool:
    if (folder / "preprocessor_config.json").exists():
        return (folder / "config.json").exists()
    try:  # a checkpoint in timm's layout has none
        return "model_type" not in json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False


def locate(given: str, revision: str, key: str, example: str) -> Path:
    """The folder of what a setting names: one on this machine, or a hub name's, fetched if needed.

    Raises UserError as `fetch`, and for what is neither. example: a hub name, for that message.
    """
    folder = Path(given).expanduser()
    if folder.is_dir():
        return folder
    if given.startswith((".", "/", "~")) or given.count("/") != 1:
        raise UserError(
            f"{key}: found {given}, which is neither a folder, nor a hub name such as {example}, "
            "nor random."
        )
    return fetch(given, revision, key)


def fetch(name: str, revision: str, key: str) -> Path:
    """The folder of a checkpoint, fetched if it is not here yet, with a progress bar.

    Prefers safetensors; the old PyTorch format is fetched only where there is nothing else.
    Raises UserError that says how to bring the files by hand; key: the setting that names them.
    """
    if (folder := cached(name, revision)) is not None:
        return folder
    try:
        if constants.is_offline_mode():
            raise ConnectionError("HF_HUB_OFFLINE is set")
        hf.get_session().head(constants.ENDPOINT, timeout=_SECONDS_TO_ANSWER)
        log.info("%s is not on this machine yet; fetching it from %s", name, constants.ENDPOINT)
        files = set(hf.list_repo_files(name, revision=revision))
        weights = next((w for w in _WEIGHTS if w in files), None)
        if weights is None:
            raise UserError(
                f"{key}: {name} has none of {', '.join(_WEIGHTS)}, so nothing that can "
                "be loaded without running code from it."
            )
        wanted = ["config.json", "preprocessor_config.json", weights]
        if weights.endswith(".index.json"):
            wanted.append("model-*.safetensors")
        return Path(hf.snapshot_download(name, revision=revision, allow_patterns=wanted))
    except UserError:
        raise
    except Exception as e:  # the hub's client raises its HTTP library's errors as well as its own
        raise disk_error(e, Path(constants.HF_HUB_CACHE)) or UserError(
            f"{key}: {name} is not on this machine and cannot be fetched "
            f"({type(e).__name__}: {str(e).partition(chr(10))[0]}). On a machine with a network "
            f"run `hf download {name} --local-dir FOLDER`, copy the folder here, and set "
            f"{key}=FOLDER. To try things out without it: {key}=random."
        ) from e
