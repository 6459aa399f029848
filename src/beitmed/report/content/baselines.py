"""Which published baseline a measured one stands beside, and in what it is not that protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beitmed.runs.reader import FinishedRun

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
    return run.config.method.name in _BASELINES


def is_counterpart(row: Mapping[str, str], run: FinishedRun) -> bool:
    """Whether a published row is of a run's method and size."""
    titles, _ = _BASELINES.get(run.config.method.name, ((), {}))
    return row["method"] in titles and int(row["size"]) == run.config.size


def same_method(one: FinishedRun, other: FinishedRun) -> bool:
    """Whether two runs are of one method and size."""
    a, b = one.config, other.config
    return a.method.name == b.method.name and a.size == b.size


def departures(run: FinishedRun) -> list[str]:
    """In what a run of a published baseline's method is not that protocol; [] for other methods."""
    cfg, name = run.config, run.config.method.name
    if name not in _BASELINES:
        return []
    own = cfg.method.model_dump()
    said = [
        f"method.{key}={own[key]} (published: {value})"
        for key, value in _BASELINES[name][1].items()
        if own[key] != value
    ]
    if name in _STAND_INS:
        said.append(_STAND_INS[name].format(own["time_budget_s"]))
    else:
        if cfg.size != 28:
            said.append("images of this size (published: 28 px enlarged to 224)")
        if cfg.precision != "fp32":
            said.append(f"precision={cfg.precision} (published: fp32)")
    if cfg.balanced:
        said.append("balanced=True (published: all images)")
    if cfg.part_of_labels:
        said.append("part of the training labels")
    if cfg.data.limit is not None:
        said.append(f"data.limit={cfg.data.limit}")
    if not run.data["official"]:
        said.append("data file not the official one")
    return said
