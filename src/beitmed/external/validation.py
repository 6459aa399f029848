"""One external test: everything that is computed of a run on external cases."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from beitmed import evaluation, tasks
from beitmed.data import Data, counts
from beitmed.errors import UserError
from beitmed.external import (
    calibration,
    columns,
    data_shift,
    differences,
    overlap,
    recalibration,
    thresholds,
)
from beitmed.external.cases import Cases
from beitmed.external.overlap import Overlap
from beitmed.runs import reader
from beitmed.runs.predictions import Predictions
from beitmed.statistics.estimates import Estimate
from beitmed.tasks import subgroups as by_value
from beitmed.trained import Trained

log = logging.getLogger(__name__)
FORMAT = 1  # of external.json
_SEEN, _NEW = "also in train or val", "in neither"
_NOT_ASKED = "not looked for (overlap=false)"


@dataclass(frozen=True)
class Validation:
    """A run, what it was tested on, what it said of it, and the numbers as JSON values."""

    found: Trained
    cases: Cases
    external: Predictions
    overlap: Overlap | None
    values: Mapping[str, Any]


def identity(found: Trained, cases: Cases) -> dict[str, Any]:
    """What tells one external test from another, JSON values."""
    file = found.run.path / reader.PREDICTIONS
    return {
        "run": found.run.path.resolve().name,
        "run_predictions_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "dataset": cases.name,
        "split": cases.part,
        "digest": cases.split.digest,
        "classes": {c: list(to) for c, to in zip(found.class_names, cases.matched, strict=True)},
    }


def validate(found: Trained, cases: Cases, *, look_for_overlap: bool) -> Validation:
    """Ask the model, and compute all of it. Raises UserError where the model cannot be loaded."""
    run = found.run
    log.info(
        "%s: testing %s on %d images (%s).",
        run.path.resolve().name, cases.name, len(cases), cases.part,
    )  # fmt: skip
    logits = found.model.logits(cases.split.images)
    external = Predictions(cases.split.labels, logits, cases.split.groups)
    own = _own_data(found)
    shared = _NOT_ASKED if not look_for_overlap else own
    same = shared if isinstance(shared, str) else overlap.find(shared, cases)
    values = {
        "format": FORMAT,
        **identity(found, cases),
        **_described(found, cases),
        **_judged(found, external),
        "data_shift": asdict(data_shift.evaluate(found, own, cases, run.config.seed)),
        "overlap": same if isinstance(same, str) else _overlap(found, external, same),
        "subgroups": _by(found, external, cases.subgroups),
    }
    return Validation(found, cases, external, None if isinstance(same, str) else same, values)


def _described(found: Trained, cases: Cases) -> dict[str, Any]:
    """What was tested, on what, and what must be said of it."""
    positive, groups = found.run.config.dataset.positive_label, cases.split.groups
    return {
        "caveats": _caveats(found, cases),
        "size": found.cfg.size,
        "task": found.task.name,
        "positive_class": None if positive is None else found.class_names[positive],
        "data": dict(cases.provenance),
        "labels_left_out": list(cases.left_out),
        "images_converted": cases.converted,
        "images": len(cases),
        "patients": None if groups is None else len(set(groups)),
        "images_by_class": counts(cases.split.labels, len(found.class_names)),
    }


def _judged(found: Trained, external: Predictions) -> dict[str, Any]:
    """Everything that follows from labels and logits alone."""
    run, cfg, task = found.run, found.run.config, found.task
    positive = cfg.dataset.positive_label
    settings = {"seed": cfg.seed, "n_resamples": cfg.evaluate.n_resamples}
    use = tasks.Use(cfg.evaluate.prevalence, cfg.evaluate.point)
    val, test, outside = (
        columns.of(task, split, found.class_names, positive)
        for split in (run.val, run.test, external)
    )
    internal = {name: Estimate(**values) for name, values in run.metrics["test"].items()}
    metrics = tasks.evaluate(
        task,
        logits={"val": run.val.logits, "test": external.logits},
        labels={"val": run.val.labels, "test": external.labels},
        groups={"val": run.val.groups, "test": external.groups},
        class_names=found.class_names,
        positive=positive,
        use=use,
        own=evaluation.own_metrics(cfg),
        **settings,
    )
    cooled = metrics["temperature"].value if "temperature" in metrics else None
    apart = differences.between(internal, metrics)
    cuts = thresholds.evaluate(val, outside, use, exclusive=not task.several_labels, **settings)
    mended = recalibration.evaluate(task, external, positive, cooled, **settings)
    return {
        "external": {name: one.as_dict() for name, one in metrics.items()},
        "internal": {name: one.as_dict() for name, one in internal.items()},
        "differences": {name: asdict(one) for name, one in apart.items()},
        "without_skill": tasks.without_skill(task, metrics),
        "confusion": task.confusion(external.labels, external.logits).tolist(),
        "calibration": [asdict(one) for one in calibration.evaluate(test, outside)],
        "thresholds": [asdict(one) for one in cuts],
        "recalibration": [asdict(one) for one in mended],
    }


def _own_data(found: Trained) -> Data | str:
    """The run's own images, or why they cannot be compared with."""
    try:
        return found.data
    except UserError as e:
        said = str(e).partition("\n")[0]
        log.warning(
            "Note: the run's own images cannot be compared with: %s Give their place by "
            "run.data.root=..., or run.dataset.path=...", said,
        )  # fmt: skip
        return f"the run's own images could not be read: {said}"


def _caveats(found: Trained, cases: Cases) -> list[str]:
    inside, outside = found.run.metrics["caveats"], cases.caveats
    said = [f"internal and external: {c}" if c in outside else c for c in inside]
    said += [f"external: {c}" for c in outside if c not in inside]
    # RANDOM and SYNTHETIC first.
    return sorted(said, key=lambda c: not any(word.isupper() for word in c.split()[:4]))


def _overlap(found: Trained, external: Predictions, same: Overlap) -> dict[str, Any]:
    """What was found, and the headline numbers with such images and without them."""
    kinds = [_SEEN if seen else _NEW for seen in same.trained_on]
    split = _by(found, external, {"overlap": kinds})["overlap"] if same.trained_on.any() else {}
    return {**same.as_dict(), "metrics": split}


def _by(found: Trained, external: Predictions, by: Mapping[str, Any]) -> dict[str, Any]:
    return by_value.evaluate(
        found.task, external.labels, external.logits, by, class_names=found.class_names,
        positive=found.run.config.dataset.positive_label, patients=external.groups,
    )  # fmt: skip
