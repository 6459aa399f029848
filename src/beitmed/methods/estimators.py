"""Estimators of other libraries as files that are read without unpickling.

LightGBM's own text, XGBoost's own JSON, and for scikit-learn's forests and linear models the skops
format: a zip archive of JSON and NumPy arrays, of which no code is run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from beitmed import model
from beitmed.errors import UserError, install
from beitmed.storage import files

#: Those that FLAML may choose among: its own list for classification, without CatBoost, which is
#: rarely installed, and without `sgd`, which scales the images that it is asked for by themselves.
SEARCHED = ("lgbm", "rf", "xgboost", "extra_tree", "xgb_limitdepth", "lrl1")
# What skops must be told to trust: nothing but classes that hold numbers.
_TRUSTED = ["sklearn.tree._tree.Tree", "sklearn._loss.link.Interval"]


class _Booster:
    """A library's booster as a classifier: `predict` gives probabilities of two classes or more."""

    def __init__(self, predict: Callable[[np.ndarray], Any]) -> None:
        self.predict = predict

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        found = np.asarray(self.predict(rows), np.float64)
        return found if found.ndim == 2 else np.column_stack([1 - found, found])


def save(estimator: Any, stem: Path) -> Path:
    """Write a fitted estimator of one of the libraries to `stem` with an ending; the file."""
    library = type(estimator).__module__.partition(".")[0]
    if library == "lightgbm":
        file, content = stem.with_suffix(".txt"), estimator.booster_.model_to_string()
    elif library == "xgboost":
        file, content = stem.with_suffix(".json"), estimator.get_booster().save_raw("json")
    else:
        import skops.io

        file, content = stem.with_suffix(".skops"), skops.io.dumps(estimator)
    files.write_atomic(file, content if isinstance(content, str) else bytes(content))
    return file


def load(file: Path) -> Any:
    """The estimator, with `predict_proba`. Raises UserError where it is missing or damaged."""
    try:
        return _READERS[file.suffix](file)
    except ImportError as e:
        raise UserError(
            f"{file}: needs a library that is not installed ({e}): {install('automl')}"
        ) from e
    except Exception as e:  # of the library, as the damage has it
        raise model.unreadable(file, e) from e


def _lightgbm(file: Path) -> Any:
    import lightgbm

    return _Booster(lightgbm.Booster(model_str=file.read_text(encoding="utf-8")).predict)


def _xgboost(file: Path) -> Any:
    import xgboost

    booster = xgboost.Booster(model_file=file)
    return _Booster(lambda rows: booster.predict(xgboost.DMatrix(rows)))


def _skops(file: Path) -> Any:
    import skops.io

    found = skops.io.load(file, trusted=_TRUSTED)
    found.n_jobs = 1  # threads would add the trees' votes in an order of their own each time
    return found


_READERS = {".txt": _lightgbm, ".json": _xgboost, ".skops": _skops}
