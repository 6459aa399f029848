"""In what the external images and labels differ from the run's own test split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from beitmed.audit import split_checks
from beitmed.data import Data, Split
from beitmed.errors import UserError
from beitmed.external import features, image_statistics
from beitmed.external.cases import Cases
from beitmed.statistics import two_samples
from beitmed.statistics.clusters import Groups
from beitmed.tasks import estimates
from beitmed.trained import Trained


@dataclass(frozen=True)
class DataShift:
    """Class shares, image properties and the distance of features; JSON values.

    images and features are a sentence where the run's own images cannot be had.
    """

    classes: Mapping[str, Any]
    images: Any
    features: Any


def evaluate(found: Trained, own: Data | str, cases: Cases, seed: int) -> DataShift:
    """Compare with the run's test split; own: the run's data, or why they cannot be had."""
    test, p = split_checks.independence(found.run.test.labels, cases.split.labels)
    shares = {
        "internal": _shares(found, found.run.test.labels),
        "external": _shares(found, cases.split.labels),
        "test": test,
        "p": p,
    }
    if isinstance(own, str):
        return DataShift(shares, own, own)
    groups = _groups(own.test), _groups(cases.split)
    measured = [image_statistics.measure(split.images) for split in (own.test, cases.split)]
    properties = image_statistics.compare(measured[0], measured[1], groups)
    return DataShift(
        shares, [asdict(one) for one in properties], _features(found, own, cases, seed)
    )


def _shares(found: Trained, labels: np.ndarray) -> list[dict[str, Any]]:
    return [asdict(share) for share in split_checks.shares_of(labels, found.class_names)]


def _features(found: Trained, own: Data, cases: Cases, seed: int) -> Any:
    try:
        read, what = features.reader(found)
    except UserError as e:
        return str(e)
    taken, groups = {}, {}
    for name, split in {"val": own.val, "test": own.test, "external": cases.split}.items():
        rows = features.chosen(len(split.labels), seed)
        taken[name] = np.asarray(read(split.images[rows]), np.float64)
        patients = None if split.groups is None else np.asarray(split.groups)[rows]
        groups[name] = estimates.clustered(patients)
    apart = {
        name: two_samples.energy(taken[name], taken["test"], (groups[name], groups["test"]), seed)
        for name in ("external", "val")
    }
    return {
        "features": what,
        "images": {name: len(rows) for name, rows in taken.items()},
        "external_test": asdict(apart["external"]),
        "val_test": asdict(apart["val"]),  # the yardstick: two splits of one source
    }


def _groups(split: Split) -> Groups:
    return estimates.clustered(None if split.groups is None else np.asarray(split.groups))
