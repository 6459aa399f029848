"""Which published baseline a measured one stands beside, and in what it is not that protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beitmed.report.content.variants import method
from beitmed.runs.finished import FinishedRun

#: Baselines that were published, by method: the names there, and the protocol of their figures.
_BASELINES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    name: ((title,), {"epochs": 100, "batch_size": 128, "learning_rate": 1e-3,
                   "milestones": [0.5, 0.75], "decay": 0.1})
    for name, title in (("resnet18", "ResNet-18"), ("resnet50", "ResNet-50"))
} | {"automl": (("auto-sklearn",), {}),
     "autogluon": (("AutoKeras", "Google AutoML Vision"), {})}  # fmt: skip
_STAND_INS = {
    "automl": "FLAML for {} s stands in for auto-sklearn",
    "autogluon": "AutoGluon MultiModal for {} s stands in for AutoKeras and Google AutoML Vision",
}


def has_counterpart(run: FinishedRun) -> bool:
    """Whether a run's method is one of which figures were published."""
    return method(run) in _BASELINES


def is_counterpart(row: Mapping[str, str], run: FinishedRun) -> bool:
    """Whether a published row is of a run's method and size."""
    titles, _ = _BASELINES.get(method(run), ((), {}))
    return row["method"] in titles and int(row["size"]) == run.metrics["size"]


def same_method(one: FinishedRun, other: FinishedRun) -> bool:
    """Whether two runs are of one method and size."""
    return method(one) == method(other) and one.metrics["size"] == other.metrics["size"]


def departures(run: FinishedRun) -> list[str]:
    """In what a run of a published baseline's method is not that protocol; [] for other methods."""
    name = method(run)
    if name not in _BASELINES:
        return []
    own = run.config.get("method", {})
    said = [
        f"method.{key}={own.get(key)} (published: {value})"
        for key, value in _BASELINES[name][1].items()
        if own.get(key) != value
    ]
    if name in _STAND_INS:
        said.append(_STAND_INS[name].format(own.get("time_budget_s")))
    elif run.metrics["size"] != 28:
        said.append("images of this size (published: 28 px enlarged to 224)")
    if name not in _STAND_INS and (precision := run.config.get("precision", "fp32")) != "fp32":
        said.append(f"precision={precision} (published: fp32)")
    if run.metrics["balanced"]:
        said.append("balanced=True (published: all images)")
    if run.config.get("data", {}).get("limit") is not None:
        said.append(f"data.limit={run.config['data']['limit']}")
    if not run.data.get("official"):
        said.append("data file not the official one")
    return said
