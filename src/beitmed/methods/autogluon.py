"""AutoGluon MultiModal on the images: a stand-in for AutoKeras and Google AutoML Vision.

Another program than either, whose figures it does not reproduce; limited by time as they were. It
wants older versions of PyTorch and transformers than this package, so it lives in an environment of
its own and runs there as a second process, `autogluon_worker.py`: images go to it as PNG files and
tables, class probabilities come back as arrays. Test labels are not given to it.
Source: Z. Tang et al., AutoGluon-Multimodal (AutoMM), AutoML 2024.
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
import subprocess
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beitmed.config import Config
from beitmed.config.method import AutogluonMethod
from beitmed.data import Data
from beitmed.data.pixels import to_rgb
from beitmed.data.splits import Split
from beitmed.errors import UserError
from beitmed.methods import autogluon_worker
from beitmed.model import Fit
from beitmed.runs.folder import Run

log = logging.getLogger(__name__)
_WORKER = Path(autogluon_worker.__file__)
_INSTALL = (
    "Make an environment for it, `python -m venv VENV` and `VENV/bin/pip install "
    "autogluon.multimodal`, and set method.python=VENV/bin/python."
)
_SMALLEST = 1e-7  # probability: a softmax in half precision says 0 and 1


def fit(cfg: Config, data: Data, indices: np.ndarray, folder: Run) -> Fit:
    """The model that AutoGluon chose by the validation split in `method.time_budget_s` seconds.

    Trained on the training images only. Raises UserError where `method.python` has no AutoGluon,
    and with the last lines of its output where it fails.
    """
    assert isinstance(cfg.method, AutogluonMethod)
    _check_labels(data, indices)
    python = _python(cfg.method.python)
    log.info("autogluon: version %s, by %s", _version(python), python)
    scratch = folder.path / "autogluon"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        _write(scratch, cfg, data, indices)
        _run(python, scratch, cfg.method.pretrained)
        result = _read_result(scratch)
        logits = {
            name: _logits(scratch / f"{name}.npy", len(split.labels), len(data.class_names))
            for name, split in (("val", data.val), ("test", data.test))
        }
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Fit(
        logits,
        description={
            "program": "AutoGluon MultiModal, a stand-in for AutoKeras and Google AutoML Vision",
            "reproducible": "no: the training is limited by time",
            **cfg.method.model_dump(exclude={"name", "title", "python"}),
            **result,
        },
        parameters=result["parameters"],
        trained_parameters=result["trained_parameters"],
    )


def _check_labels(data: Data, indices: np.ndarray) -> None:
    labels = data.train.labels[indices]
    if labels.ndim == 2:
        raise UserError(
            "method: found autogluon with a dataset whose images have several labels; AutoGluon "
            "MultiModal predicts one. Choose another dataset, or method=automl."
        )
    if labels.min() == labels.max():
        raise UserError(
            "method: found autogluon with training images of a single class, from which it learns "
            "nothing. Give it images of two classes or more."
        )


def _python(given: str | None) -> str:
    if given is None:
        raise UserError(
            "method.python: is missing; method=autogluon runs in an environment of its own, since "
            f"AutoGluon wants other versions of PyTorch and transformers than beitmed. {_INSTALL}"
        )
    found = shutil.which(str(Path(given).expanduser()))
    if found is None:
        raise UserError(f"method.python: {given} is not a program that can be run. {_INSTALL}")
    return found


def _version(python: str) -> str:
    try:
        done = subprocess.run(
            [python, "-I", str(_WORKER), "version"],
            capture_output=True, text=True, errors="replace", timeout=60, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as e:
        raise UserError(f"method.python: {python} cannot be run ({e}). {_INSTALL}") from e
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"method.python: {python} finds no AutoGluon ({last}). {_INSTALL}")
    return done.stdout.strip()


def _write(scratch: Path, cfg: Config, data: Data, indices: np.ndarray) -> None:
    assert isinstance(cfg.method, AutogluonMethod)
    scratch.mkdir()
    for name, split in data.splits.items():
        chosen = indices if name == "train" else np.arange(len(split.labels))
        _write_split(scratch, name, split, chosen)
    settings = _dotted(cfg.method.hyperparameters)
    if cfg.device == "cpu":
        settings["env.accelerator"] = "cpu"
    job = {
        "classes": len(data.class_names),
        "seed": cfg.seed,
        "time_budget_s": cfg.method.time_budget_s,
        "presets": cfg.method.presets,
        "checkpoint": cfg.method.checkpoint,
        "pretrained": cfg.method.pretrained,
        "hyperparameters": settings,
    }
    (scratch / "job.json").write_text(json.dumps(job), encoding="utf-8")


def _dotted(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, as AutoGluon names its settings."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{above}{key}"
        found |= _dotted(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def _write_split(scratch: Path, name: str, split: Split, chosen: np.ndarray) -> None:
    """PNG files, and a table of them; the test images' labels stay here."""
    (scratch / name).mkdir()
    labelled = name != "test"
    with (scratch / f"{name}.csv").open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["image", "label"] if labelled else ["image"])
        for i in chosen.tolist():
            to_rgb(split.images[i]).save(scratch / name / f"{i}.png")
            writer.writerow([f"{name}/{i}.png", *([int(split.labels[i])] if labelled else [])])


def _run(python: str, scratch: Path, fetches: bool) -> None:
    """Run the worker to its end, with what it says to the user in the log."""
    last: deque[str] = deque(maxlen=8)
    with subprocess.Popen(
        [python, "-I", str(_WORKER), str(scratch.resolve())],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("beitmed: "):
                    log.info("autogluon: %s", line.removeprefix("beitmed: ").strip())
                elif line.strip():
                    last.append(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        hint = (
            " If it could not fetch its weights: set method.checkpoint to a folder with the "
            "config.json and pytorch_model.bin of a timm model without a head (num_classes=0), or "
            "to the name of a timm model with method.pretrained=false, for random weights."
        )
        raise UserError(
            f"method: AutoGluon ended with exit code {process.returncode}."
            + (hint if fetches else "")
            + " The end of what it said:\n  "
            + "\n  ".join(last)
        )


def _read_result(scratch: Path) -> dict[str, Any]:
    try:
        return json.loads((scratch / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"method: AutoGluon ended without a result ({e}).") from e


def _logits(file: Path, n: int, classes: int) -> np.ndarray:
    """Probabilities that the worker wrote -> log probabilities [n, classes]."""
    p = np.load(file, allow_pickle=False)
    sums = p.sum(axis=1) if p.shape == (n, classes) else np.zeros(1)
    if p.shape != (n, classes) or not np.allclose(sums, 1, atol=1e-2):
        raise UserError(
            f"method: AutoGluon gave {file.stem} probabilities of shape {p.shape} that add up to "
            f"{sums.min():.3g} and more, not {(n, classes)} and 1."
        )
    return np.log(np.clip(p.astype(np.float64), _SMALLEST, 1 - _SMALLEST))
