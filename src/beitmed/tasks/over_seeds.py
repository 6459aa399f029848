"""A metric of several models on the same test images, with what each image contributes to it."""

from __future__ import annotations

import numpy as np

from beitmed.statistics import jackknife
from beitmed.statistics.clusters import Groups
from beitmed.statistics.level import Floats
from beitmed.statistics.spread import Measure
from beitmed.tasks import estimates
from beitmed.tasks.metric import Metric
from beitmed.tasks.task import Labels


def of_tables(metric: Metric, calls: Labels, labels: Labels, groups: Groups) -> Measure:
    """Return the measure of a metric of confusion tables (kind "table").

    calls [S, n] are the classes that S models call, labels [n] the actual ones, groups [n] the
    patients, where known. The contributions are the jackknife's.
    """
    assert metric.kind == "table", metric
    k, own = int(max(calls.max(), labels.max())) + 1, estimates.clustered(groups)

    def function(sums: Floats) -> Floats:
        tables = np.rint(sums).astype(np.int64).reshape(-1, k, k)
        found: Floats = metric.function(tables)
        return found[:, None]

    values, parts = [], []
    for called in calls:
        (value,), _, (part,) = jackknife.of_sums(
            function, np.eye(k * k)[labels * k + called], groups=own
        )
        values.append(float(value))
        parts.append(part)
    return jackknife.measure(np.array(values), np.stack(parts), own)
