"""What `beitmed explain` has written beside a run, read back without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from beitmed.storage import digests

FORMAT = 2  # of explanation.json
FOLDER, OF_NEW = "explanation", "explanation-new"  # in a run's folder
FILE, VALUES = "explanation.json", "explanation.npz"
OVERVIEW, CURVES = "overview", "tests"
ENDINGS = (".png", ".svg", "-column.png", "-column.svg")  # of a figure


def read(run: Path) -> dict[str, Any] | None:
    """The explanation in a run's folder; None where there is none of its present predictions, or
    its figures are gone.
    """
    figures = [run / FOLDER / f"{OVERVIEW}{ending}" for ending in ENDINGS]
    try:
        found = json.loads((run / FOLDER / FILE).read_text(encoding="utf-8"))
        current = found["format"] == FORMAT and found["predictions_sha256"] == of_predictions(run)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if current and all(figure.is_file() for figure in figures) else None


def of_predictions(run: Path) -> str:
    """What ties an explanation to a run: the digest of its predictions."""
    return digests.sha256(run / "predictions.csv")
