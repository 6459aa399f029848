"""`predictions_tta_<views>.csv`: test predictions averaged over views of each image."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from beitmed.errors import UserError
from beitmed.runs import predictions


def file_name(views: str) -> str:
    """The file of the predictions that are averaged over views of each test image."""
    return f"predictions_tta_{views}.csv"


def read(folder: Path, views: str) -> np.ndarray:
    """The logits [n, classes] of the test split, averaged over views of each image."""
    file = folder / file_name(views)
    if not file.is_file():
        raise UserError(
            f"evaluate.tta: found {views}, but {folder} has no {file.name}. Give the run's "
            f"training command with evaluate.tta={views}: it asks the model, and trains nothing "
            "anew."
        )
    try:
        return predictions.read(file)["test"].logits
    except (OSError, ValueError, OverflowError, csv.Error) as e:
        raise UserError(
            f"{file}: cannot be read ({e}). Delete it, and give the run's training command with "
            f"evaluate.tta={views}."
        ) from e
