"""`beitmed predict`, and that it gives a run's own predictions for the run's own test images."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from conftest import beitmed

from beitmed.runs import reader


def predict(*arguments: str | Path, cwd: Path, code: int = 0, out: str = "out.csv") -> str:
    """Give the command and demand its exit code; what it printed."""
    done = beitmed(*map(str, arguments), f"to={out}", cwd=cwd, module="predict")
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def column(rows: list[dict[str, str]], start: str) -> np.ndarray:
    """The numbers of all columns whose names start so, [n, columns]."""
    return np.array([[float(v) for k, v in row.items() if k.startswith(start)] for row in rows])


def assert_predicts(run: Path, images: np.ndarray, cwd: Path, changes: tuple[str, ...] = ()) -> Any:
    """Ask a run about its own test images, as an archive; the JSON file's values."""
    np.savez(cwd / "new.npz", test_images=images)
    said = predict(run, "new.npz", "logits=true", "overwrite=true", *changes, cwd=cwd)
    rows = table(cwd / "out.csv")
    stated = reader.read(run)
    np.testing.assert_array_equal(column(rows, "logit_"), stated.test.logits)
    assert [row["file"] for row in rows] == [f"new.npz/test/{i}" for i in range(len(rows))]
    p = column(rows, "probability_")
    assert p.shape == stated.test.logits.shape and ((p >= 0) & (p <= 1)).all()
    if not stated.task.several_labels:
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
        names = np.array(stated.data["class_names"])
        called = names[stated.task.called(stated.test.logits)].tolist()
        assert [row["predicted"] for row in rows] == called
        assert {row["abstains"] for row in rows} <= {"true", "false"}
    percentile = column(rows, "unlike_percentile")[:, 0]
    assert ((percentile >= 0) & (percentile <= 100)).all()
    assert re.search(r"images a second", said)
    return json.loads((cwd / "out.json").read_text())
