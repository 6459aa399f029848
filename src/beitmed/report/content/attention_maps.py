"""The report's attention figure: the paper's figure 4, of a test set's first backbone run."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

from beitmed.backbones import hub
from beitmed.config.backbone import BackboneConfig
from beitmed.errors import UserError
from beitmed.explain import explanation
from beitmed.explain.explanation import Choice
from beitmed.plots import attention_maps
from beitmed.plots.page import write_both
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Figure, Section, without_places
from beitmed.runs import reader

_IMAGES = "each:2"  # of each class


def section(test_set: TestSet, folder: Path, data_root: str | None) -> Section:
    """Attention maps of a few test images, or the sentence that says why there are none.

    Fetches nothing: weights that are not on this machine are a reason, not a download.
    """
    stem = folder / f"attention-{test_set.id}"
    # A baseline has no attention, so the first variant that may have some.
    trained = [v for v in test_set.variants if v.first.config.trains_backbone]
    variant = [*trained, *test_set.variants][0]
    run = variant.first.path
    title = f"{test_set.name}: self-attention of {variant.name}, first seed"
    changes = ["data.download=false", *([f"data.root={data_root}"] if data_root else [])]
    try:
        _weights_are_here(reader.read_config(run, changes).backbone)
        explained, _ = explanation.explain(run, Choice(_IMAGES), changes)
    except UserError as e:
        said = without_places(f"There is no attention figure: {str(e).partition(chr(10))[0]}")
        return Section(f"maps-{test_set.id}", title, paragraphs=[said])
    write_both(partial(attention_maps.overview, explained), stem)
    figure = Figure(
        id=stem.name,
        title=title,
        alternative="Test images, the mean attention over heads, and attention rollout.",
        stem=stem,
        notes=[explained.caption, f"Every head: `beitmed explain {shlex.quote(run.name)}`."],
    )
    return Section(f"maps-{test_set.id}", title, figures=[figure])


def _weights_are_here(backbone: BackboneConfig) -> None:
    there = (
        backbone.random_weights
        or Path(backbone.weights).expanduser().is_dir()
        or hub.cached(backbone.weights, backbone.revision or "main") is not None
    )
    if not there:
        raise UserError(f"the weights {backbone.weights} are not on this machine.")
