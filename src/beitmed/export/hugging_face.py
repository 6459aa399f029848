"""to=huggingface: a folder that `transformers.pipeline("image-classification", FOLDER)` loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import logging as of_transformers
from transformers import pipeline

from beitmed.data.pixels import to_rgb
from beitmed.export.portable import Portable
from beitmed.storage import files

PROCESSOR = "preprocessor_config.json"


def write(portable: Portable, folder: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json."""
    of_transformers.disable_progress_bar()
    portable.network.save_pretrained(folder)
    write_processor(portable.processor, folder)
    for file in folder.iterdir():
        files.share(file)


def write_processor(processor: Any, folder: Path) -> None:
    """The image processor, so that every loader takes Pillow for it, as the run did.

    Under its family's name transformers prefers torchvision, where that is installed, which rounds
    a resized image otherwise. `PilBackend` is what all of the run's processors are.
    """
    processor.save_pretrained(folder)
    file = folder / PROCESSOR
    values = json.loads(file.read_text(encoding="utf-8"))
    if processor.backend == "pil":
        values["image_processor_type"] = "PilBackend"
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def ask(
    folder: Path, images: np.ndarray, class_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and probabilities, float64 [n, classes], as a stranger gets them from the folder.

    images: as a dataset stores them. The probabilities are those of the pipeline itself.
    """
    loaded: Any = pipeline("image-classification", model=str(folder), device="cpu")
    pictures = [to_rgb(image) for image in images]
    with torch.no_grad():
        logits = [
            loaded.model(**loaded.image_processor(picture, return_tensors="pt")).logits
            for picture in pictures
        ]
    column = {name: i for i, name in enumerate(class_names)}
    probabilities = np.full((len(images), len(class_names)), np.nan)
    for row, found in zip(probabilities, loaded(pictures, top_k=len(class_names)), strict=True):
        for one in found:
            row[column[one["label"]]] = one["score"]
    return torch.cat(logits).double().numpy(), probabilities
