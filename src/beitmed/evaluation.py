"""The evaluation of a run, from its folder's predictions alone: no image, no weight, no torch."""

from __future__ import annotations

import logging
from typing import Any

from beitmed import config, extension, tasks
from beitmed.config import Config
from beitmed.errors import UserError
from beitmed.runs import (
    caveats,
    evaluator_files,
    last_lines,
    published,
    reader,
    run_figures,
    subgroups,
    view_predictions,
)
from beitmed.runs.folder import Run
from beitmed.runs.predictions import Predictions
from beitmed.statistics.estimates import Estimate
from beitmed.tasks import subgroups as by_value
from beitmed.tasks import views as of_views
from beitmed.tasks.own_metrics import OwnMetric

log = logging.getLogger(__name__)


def own_metrics(cfg: Config) -> dict[str, OwnMetric]:
    """The user's own metrics by name. Raises UserError for a name that is taken."""
    for name in filter(tasks.taken, cfg.evaluate.metrics):
        raise UserError(
            f"evaluate.metrics: found {name}, but that is the name of a metric of beitmed; give "
            "the metric a name of its own"
        )
    return {
        name: extension.load(f"evaluate.metrics.{name}", path)
        for name, path in cfg.evaluate.metrics.items()
    }


def is_current(folder: Run, cfg: Config) -> bool:
    """Whether a finished run's metrics are those that a configuration asks for."""
    summary = reader.read_json(folder.path / reader.METRICS)
    asked = (summary.get("format"), summary.get("evaluation"))
    return asked == (reader.FORMAT, config.evaluation(cfg))


def evaluate(folder: Run, cfg: Config) -> dict[str, Estimate]:
    """Write all that derives from the folder's predictions, `metrics.json` last; the estimates.

    Raises UserError where a file of the folder is missing or damaged, or a metric of the user's
    own fails.
    """
    splits = reader.read_predictions(folder.path)
    data = reader.read_json(folder.path / "data.json")
    trained, _ = reader.read_trained(folder.path)
    class_names = tuple(data["class_names"])
    logits = {name: split.logits for name, split in splits.items()}
    labels = {name: split.labels for name, split in splits.items()}
    task = tasks.of(cfg.dataset.task)
    estimates = tasks.evaluate(
        task,
        logits=logits,
        labels=labels,
        groups={name: split.groups for name, split in splits.items()},
        class_names=class_names,
        positive=cfg.dataset.positive_label,
        seed=cfg.seed,
        n_resamples=cfg.evaluate.n_resamples,
        use=tasks.Use(cfg.evaluate.prevalence, cfg.evaluate.point),
        own=own_metrics(cfg),
    )
    history = reader.read_history(folder.path)
    said = caveats.of(cfg, data)
    run_figures.draw(cfg, folder, class_names, splits["test"], estimates, history, said)
    evaluator_files.write(cfg, folder, splits)
    beside = published.beside(cfg, bool(data.get("official")), estimates)
    model = reader.read_json(folder.path / "model.json")
    folder.finish(
        {
            "format": reader.FORMAT,
            "run": folder.path.name,
            "caveats": said,
            **reader.described(cfg),
            "epochs": history[-1]["epoch"] if history else None,
            "trained_parameters": model["trained_parameters"],
            "parameters": model["parameters"],
            **reader.classes(cfg, class_names),
            "n": {"train": len(trained), **{name: len(y) for name, y in labels.items()}},
            "patients": {name: split.patients for name, split in splits.items()},
            "evaluation": config.evaluation(cfg),
            "test": {name: estimate.as_dict() for name, estimate in estimates.items()},
            "without_skill": tasks.without_skill(task, estimates),
            # By actual, then predicted class; of several labels for each: absent, present.
            "confusion": task.confusion(labels["test"], logits["test"]).tolist(),
            "published": beside,
            "test_time": _test_time(cfg, folder, splits["test"]),
            "subgroups": _subgroups(cfg, folder, splits["test"], class_names),
        }
    )
    log.info("metrics:  %s", folder.path / reader.METRICS)
    log.info("ROC plot: %s", folder.path / "roc.png")
    for line in last_lines.lines(cfg, class_names, splits["test"], estimates, said, beside):
        log.info("%s", line)
    return estimates


def _test_time(cfg: Config, folder: Run, test: Predictions) -> dict[str, Any] | None:
    if cfg.evaluate.tta is None:
        return None
    averaged = view_predictions.read(folder.path, cfg.evaluate.tta)
    found = of_views.compared(
        tasks.of(cfg.dataset.task), test.labels, test.logits, averaged, cfg.dataset.positive_label,
        test.groups,
    )  # fmt: skip
    for line in of_views.lines(cfg.evaluate.tta, found):
        log.info("%s", line)
    return {"views": cfg.evaluate.tta, "measures": found}


def _subgroups(
    cfg: Config, folder: Run, test: Predictions, class_names: tuple[str, ...]
) -> dict[str, Any]:
    found = by_value.evaluate(
        tasks.of(cfg.dataset.task), test.labels, test.logits, subgroups.of_test(cfg, folder),
        class_names=class_names, positive=cfg.dataset.positive_label, patients=test.groups,
    )  # fmt: skip
    for line in by_value.lines(found):
        log.info("Subgroup %s", line)
    return found
