"""What a report shows of the images: examples of each class, and the errors."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from beitmed import data
from beitmed.data import Data
from beitmed.errors import UserError
from beitmed.plots import pictures
from beitmed.report.content import figures, overlap
from beitmed.report.content.variants import TestSet
from beitmed.report.document import ErrorImage, Section, without_places
from beitmed.runs.reader import FinishedRun

log = logging.getLogger(__name__)
_ERRORS = 8


def sections(test_set: TestSet, folder: Path, data_root: str | None) -> list[Section]:
    """The parts that need the data file; where it cannot be had, a section that says why."""
    found = load(test_set.first, data_root)
    title = f"{test_set.name}: images"
    if isinstance(found, str):
        log.warning("Note: no images of %s: %s", test_set.name, found)
        said = (
            "Examples, errors as images, and the check for test images that training had seen "
            f"need the data file: {without_places(found)}"
        )
        return [Section(id=f"images-{test_set.id}", title=title, paragraphs=[said])]
    return [
        Section(
            id=f"images-{test_set.id}",
            title=title,
            paragraphs=_errors_said(test_set),
            figures=figures.images(test_set, found, folder),
            errors=errors(test_set, found),
        ),
        overlap.section(test_set, found),
    ]


def load(run: FinishedRun, data_root: str | None) -> Data | str:
    """The data that a run was made from, or the reason for not having it. Downloads nothing."""
    changes = {"download": False} | ({} if data_root is None else {"root": data_root})
    try:
        place = run.config.data.model_copy(update=changes)
        loaded = data.load(run.config.model_copy(update={"data": place}))
    except UserError as e:
        return " ".join(line.strip() for line in str(e).splitlines())
    if loaded.test.digest != run.data["digests"]["test"]:
        return "the file that is there is not the one of the runs; name its folder by data.root=..."
    return loaded


def _errors_said(test_set: TestSet) -> list[str]:
    if test_set.task.several_labels:
        return []
    wrong = np.stack([~run.correct for run in test_set.runs])
    always = int(wrong.all(axis=0).sum())
    never, runs = int((~wrong.any(axis=0)).sum()), len(test_set.runs)
    if runs == 1:
        return [f"{always:,} of {test_set.n:,} test images are classified wrongly."]
    return [
        f"Of {test_set.n:,} test images, {always:,} are classified wrongly by every one of the "
        f"{runs:,} runs, {never:,} rightly by every one."
    ]


def errors(test_set: TestSet, loaded: Data) -> list[ErrorImage]:
    """The test images that the first seed of the first variant got wrong with most confidence."""
    if test_set.task.several_labels:
        return []
    run, names = test_set.first, loaded.class_names
    logits = run.test.logits - run.test.logits.max(axis=1, keepdims=True)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = run.test.logits.argmax(axis=1)
    wrong = np.flatnonzero(~run.correct)
    confidence = probability[wrong, predicted[wrong]]
    worst = wrong[np.argsort(-confidence, kind="stable")[:_ERRORS]]
    return [
        ErrorImage(
            run=f"{test_set.variants[0].name}, seed {run.seed}",
            index=int(i),
            actual=names[run.test.labels[i]],
            predicted=names[predicted[i]],
            confidence=float(probability[i, predicted[i]]),
            png=pictures.png_bytes(np.asarray(loaded.test.images[i])),
        )
        for i in worst
    ]
