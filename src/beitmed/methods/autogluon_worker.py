"""AutoGluon's side of `method=autogluon`: a script for the Python that AutoGluon is installed for.

Run by its path and never imported, since that Python knows neither beitmed nor its versions of
PyTorch and transformers: it imports the standard library, AutoGluon and what that brings.

    python -I autogluon_worker.py version        prints AutoGluon's version
    python -I autogluon_worker.py fit FOLDER     reads FOLDER/job.json, train.csv and val.csv;
                                                 writes the model into job["model"], and result.json
    python -I autogluon_worker.py predict FOLDER reads FOLDER/job.json and the table of each of
                                                 job["splits"]; writes SPLIT.npy, float64
                                                 [n, classes], class probabilities in the order of
                                                 the rows

Lines of its output that start with "beitmed: " are meant for the user.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PREDICTOR = "predictor"  # its folder in job["model"]


def _say(text: str) -> None:
    print(f"beitmed: {text}", flush=True)


def _table(folder: Path, split: str) -> Any:
    import pandas as pd

    table = pd.read_csv(folder / f"{split}.csv")
    table["image"] = [str(folder / name) for name in table["image"]]
    return table


def _probabilities(predictor: Any, table: Any, classes: int) -> Any:
    """Of every class, in their order; of a class without a training image 0."""
    import numpy as np

    found = predictor.predict_proba(table[["image"]], as_pandas=True)
    result = np.zeros((len(table), classes), np.float64)
    result[:, [int(label) for label in found.columns]] = found.to_numpy(np.float64)
    return result


def _random_checkpoint(folder: Path, name: str, seed: int) -> str:
    """A folder with a timm model of random weights, for `fit` knows no other way to have them."""
    import timm
    import torch

    torch.manual_seed(seed)
    model: Any = timm.create_model(name, pretrained=False, num_classes=0)
    facts = {
        "architecture": name,
        "num_features": model.num_features,
        "pretrained_cfg": {key: model.pretrained_cfg[key] for key in ("input_size", "mean", "std")},
    }
    checkpoint = folder / "random"
    checkpoint.mkdir()
    torch.save(model.state_dict(), checkpoint / "pytorch_model.bin")
    (checkpoint / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    return str(checkpoint)


def _fit(folder: Path, job: dict[str, Any]) -> None:
    _say("importing AutoGluon")
    from autogluon.multimodal import MultiModalPredictor

    settings = job["hyperparameters"]
    if (checkpoint := job["checkpoint"]) is not None:
        if not job["pretrained"]:
            checkpoint = _random_checkpoint(Path(), checkpoint, job["seed"])
        settings["model.timm_image.checkpoint_name"] = checkpoint
    predictor = MultiModalPredictor(
        label="label", problem_type="binary" if job["classes"] == 2 else "multiclass",
        path=_PREDICTOR,
    )  # fmt: skip
    _say(f"training for up to {job['time_budget_s']} s")
    predictor.fit(
        train_data=_table(folder, "train"), tuning_data=_table(folder, "val"),
        presets=job["presets"], hyperparameters=settings,
        time_limit=job["time_budget_s"], seed=job["seed"], column_types={"image": "image_path"},
    )  # fmt: skip
    result = {
        "version": version("autogluon.multimodal"),
        "torch": version("torch"),
        "parameters": int(predictor.total_parameters),
        "trained_parameters": int(predictor.trainable_parameters),
        "summary": {key: float(value) for key, value in predictor.fit_summary().items()},
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _predict(folder: Path, job: dict[str, Any]) -> None:
    import numpy as np
    from autogluon.multimodal import MultiModalPredictor

    predictor = MultiModalPredictor.load(_PREDICTOR)
    for split in job["splits"]:
        _say(f"predicting {split}")
        found = _probabilities(predictor, _table(folder, split), job["classes"])
        np.save(folder / f"{split}.npy", found)


def main(arguments: list[str]) -> None:
    if arguments == ["version"]:
        print(version("autogluon.multimodal"))
        return
    verb, folder = arguments[0], Path(arguments[1]).resolve()
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    os.chdir(job["model"])  # what AutoGluon keeps names its parts from here, and may be moved
    {"fit": _fit, "predict": _predict}[verb](folder, job)


if __name__ == "__main__":
    main(sys.argv[1:])
