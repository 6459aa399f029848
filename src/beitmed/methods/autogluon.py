"""AutoGluon MultiModal on the images: a stand-in for AutoKeras and Google AutoML Vision.

Another program than either, whose figures it does not reproduce; limited by time as they were. It
wants older versions of PyTorch and transformers than this package, so it lives in an environment of
its own and runs there as a second process, `autogluon_worker.py`: images go to it as PNG files and
tables, class probabilities come back as arrays. Test labels are not given to it. What it fitted
stays in the run's folder, in AutoGluon's own format, and is asked for every prediction.
Source: Z. Tang et al., AutoGluon-Multimodal (AutoMM), AutoML 2024.
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from beitmed.config import Config
from beitmed.config.method import AutogluonMethod
from beitmed.data import Data
from beitmed.data.pixels import to_rgb
from beitmed.errors import UserError
from beitmed.methods import autogluon_worker
from beitmed.model import Fit
from beitmed.runs.folder import Run
from beitmed.storage.rows import Rows

log = logging.getLogger(__name__)
_WORKER = Path(autogluon_worker.__file__)
_MODEL = "autogluon"  # the folder in a run's
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
    kept = folder.path / _MODEL
    for left in folder.path.glob(f"*{_MODEL}"):  # by a process that was stopped
        shutil.rmtree(left)
    kept.mkdir()
    with tempfile.TemporaryDirectory(f".{_MODEL}", dir=folder.path) as name:
        scratch = Path(name)
        _write_training(scratch, cfg, data, indices, kept)
        _run(python, "fit", scratch, cfg.method.pretrained)
        result = _read_result(scratch)
    predictor = AutogluonModel(python, kept, len(data.class_names))
    return Fit(
        predictor.of_splits({name: data.splits[name].images for name in ("val", "test")}),
        description={
            "program": "AutoGluon MultiModal, a stand-in for AutoKeras and Google AutoML Vision",
            "reproducible": "no: the training is limited by time",
            **cfg.method.model_dump(exclude={"name", "python"}),
            **result,
        },
        parameters=result["parameters"],
        trained_parameters=result["trained_parameters"],
    )


def load(cfg: Config, folder: Path, class_names: tuple[str, ...]) -> AutogluonModel:
    """The model of a finished run, in AutoGluon's own format and for its own environment."""
    assert isinstance(cfg.method, AutogluonMethod)
    kept = folder / _MODEL
    if not kept.is_dir():
        raise UserError(f"{kept}: no such folder. Restore it, or train the run anew.")
    return AutogluonModel(_python(cfg.method.python), kept, len(class_names))


@dataclass(frozen=True)
class AutogluonModel:
    """AutoGluon's predictor, asked through the Python that it is installed for.

    folder: the predictor's own.
    """

    python: str
    folder: Path
    classes: int
    at_once: ClassVar[int] = 2048  # images that are worth a start of the other process

    def logits(self, images: np.ndarray | Rows) -> np.ndarray:
        return self.of_splits({"images": images})["images"]

    def of_splits(self, splits: Mapping[str, np.ndarray | Rows]) -> dict[str, np.ndarray]:
        """Logits of several sets of images, from one start of the other process."""
        with tempfile.TemporaryDirectory(prefix="autogluon-") as name:
            scratch = Path(name)
            for split, images in splits.items():
                _write_images(scratch, split, images, np.arange(len(images)), None)
            _write_job(scratch, self.folder, classes=self.classes, splits=list(splits))
            _run(self.python, "predict", scratch, fetches=False)
            return {
                split: _logits(scratch / f"{split}.npy", len(images), self.classes)
                for split, images in splits.items()
            }


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


def _write_training(
    scratch: Path, cfg: Config, data: Data, indices: np.ndarray, kept: Path
) -> None:
    """Images and labels to learn from and to choose by, and how to; nothing of the test split."""
    assert isinstance(cfg.method, AutogluonMethod)
    for name, chosen in (("train", indices), ("val", np.arange(len(data.val.labels)))):
        split = data.splits[name]
        _write_images(scratch, name, split.images, chosen, split.labels)
    settings, checkpoint = _dotted(cfg.method.hyperparameters), cfg.method.checkpoint
    if checkpoint is not None and (found := Path(checkpoint).expanduser()).is_dir():
        checkpoint = str(found.resolve())
    if cfg.device == "cpu":
        settings["env.accelerator"] = "cpu"
    _write_job(
        scratch, kept,
        classes=len(data.class_names), seed=cfg.seed, hyperparameters=settings,
        checkpoint=checkpoint,
        **cfg.method.model_dump(include={"time_budget_s", "presets", "pretrained"}),
    )  # fmt: skip


def _write_job(scratch: Path, model: Path, **job: Any) -> None:
    text = json.dumps({**job, "model": str(model.resolve())})
    (scratch / "job.json").write_text(text, encoding="utf-8")


def _dotted(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}, as AutoGluon names its settings."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{above}{key}"
        found |= _dotted(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def _write_images(
    scratch: Path,
    name: str,
    images: np.ndarray | Rows,
    chosen: np.ndarray,
    labels: np.ndarray | None,
) -> None:
    """PNG files, and a table of them, with labels where they are given."""
    (scratch / name).mkdir()
    with (scratch / f"{name}.csv").open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["image"] if labels is None else ["image", "label"])
        for i in chosen.tolist():
            to_rgb(images[i]).save(scratch / name / f"{i}.png")
            label = [] if labels is None else [int(labels[i])]
            writer.writerow([f"{name}/{i}.png", *label])


def _run(python: str, verb: str, scratch: Path, fetches: bool) -> None:
    """Run the worker to its end, with what it says to the user in the log."""
    last: deque[str] = deque(maxlen=8)
    with subprocess.Popen(
        [python, "-I", str(_WORKER), verb, str(scratch.resolve())],
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
