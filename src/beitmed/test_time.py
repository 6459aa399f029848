"""A second set of test predictions: probabilities averaged over views of each image.

They stand beside the run's own (`predictions_tta_<views>.csv`) and never in their place.
"""

from __future__ import annotations

import logging

import numpy as np

from beitmed import data, methods, tasks
from beitmed.config import Config
from beitmed.data.views import VIEWS
from beitmed.runs import predictions, reader, view_predictions
from beitmed.runs.folder import Run
from beitmed.runs.predictions import Predictions
from beitmed.statistics.level import Floats
from beitmed.tasks import views as of_views

log = logging.getLogger(__name__)
_BLOCK = 1024  # images of which views are held at a time


def predict(cfg: Config, folder: Run) -> None:
    """Ask the run's model about every view of its test images, unless that was done before.

    The image itself is a view too; its logits are those that the run predicted. Raises UserError
    where the model or the data cannot be loaded.
    """
    views = cfg.evaluate.tta
    assert views is not None
    name = view_predictions.file_name(views)
    if (folder.path / name).exists():
        return
    recorded = reader.read_predictions(folder.path)["test"]
    loaded = data.load(cfg)
    model = methods.load(cfg, folder.path, loaded.class_names)
    images, found = loaded.test.images, [recorded.logits]
    log.info("Test-time views: %d more of each test image.", len(VIEWS[views]))
    for view in VIEWS[views]:
        parts: list[Floats] = []
        for start in range(0, len(images), _BLOCK):
            parts.append(model.logits(view(np.asarray(images[start : start + _BLOCK]))))
            folder.tick()
        found.append(np.concatenate(parts))
    averaged = of_views.averaged(tasks.of(cfg.dataset.task), np.stack(found))
    test = Predictions(recorded.labels, averaged, recorded.groups)
    folder.write_csv(name, *predictions.table({"test": test}))
