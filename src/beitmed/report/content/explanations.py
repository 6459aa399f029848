"""The report's explanations: what `beitmed explain` has found of the runs, or else attention maps.

Nothing is tested here, which takes minutes: the tests of methods are read where they were made.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from beitmed.backbones import hub
from beitmed.config.backbone import BackboneConfig
from beitmed.errors import UserError
from beitmed.explain import request, written
from beitmed.explain.choice import Choice
from beitmed.plots import attention_maps
from beitmed.plots.page import write_both
from beitmed.report.content.variants import TestSet, Variant
from beitmed.report.document import Column, Figure, Interval, Section, Table, text, without_places
from beitmed.runs import reader

_IMAGES = "each:2"  # of each class
_MEANINGS = {
    "deletion": "How much lower the probability of the class is, on the average of the way, where "
    "cells are removed in the map's order, than in random order; and than from the centre.",
    "insertion": "The same of cells put in, how much higher.",
    "randomisation": "Rank correlation with the maps of networks of shuffled weights; and how much "
    "less that is than theirs with one another. One of the two must hold.",
    "repeatability": "Rank correlation of the maps over seeds, or under slight noise.",
    "localisation": "ROC area of the map for a known mask; and how much higher than of networks of "
    "shuffled weights.",
}
_SHOWN = {
    "deletion": ("better_than_random", "better_than_centre"),
    "insertion": ("better_than_random", "better_than_centre"),
    "randomisation": ("similarity", "less_than_among"),
    "repeatability": ("similarity",),
    "localisation": ("area", "better_than_random_networks"),
}


def section(test_set: TestSet, folder: Path, data_root: str | None) -> Section:
    """The tests of the methods and the maps of the runs that were explained.

    Where none was, attention maps of a few test images, or the sentence that says why there are
    none. Fetches nothing: weights that are not on this machine are a reason, not a download.
    """
    found = [
        (variant, run.path, said)
        for variant in test_set.variants
        for run in variant.runs
        if (said := written.read(run.path)) is not None
    ]
    if not found:
        return _attention(test_set, folder, data_root)
    rows = [
        [f"{variant.name}: {method['label']}", *_cells(said["tests"], name)]
        for variant, _, said in found
        for name, method in said["methods"].items()
    ]
    title = f"{test_set.name}: explanations and their tests"
    table = Table(
        f"explanations-{test_set.id}",
        title,
        [Column("Method"), Column("Tests"), *(Column(test.capitalize(), meaning=meaning)
         for test, meaning in _MEANINGS.items())],
        rows,
        [_how(variant, said) for variant, _, said in found],
    )  # fmt: skip
    figures = [
        _copied(test_set, variant, run, said, folder, k)
        for k, (variant, run, said) in enumerate(found)
    ]
    return Section(
        f"maps-{test_set.id}",
        title,
        paragraphs=[
            "A method passes a test only where the whole 95 % interval over images does; the tests "
            "of several methods are not corrected for their number. A map of a method that fails "
            "shows something, but not what the prediction rests on."
        ],
        tables=[table],
        figures=figures,
    )


def _cells(tests: Mapping[str, Any] | None, name: str) -> list[str]:
    if tests is None:
        return ["not tested", *("" for _ in _MEANINGS)]
    of_method = tests["methods"][name]
    return [of_method["verdict"], *(_cell(of_method[test], _SHOWN[test]) for test in _MEANINGS)]


def _cell(result: Mapping[str, Any], shown: tuple[str, ...]) -> str:
    if result["passes"] is None:
        return f"n/a ({result['reason']})"
    values = [
        Interval(result[k]["value"], result[k]["ci_low"], result[k]["ci_high"]) for k in shown
    ]
    return f"{'passes' if result['passes'] else 'FAILS'}: {'; '.join(map(text, values))}"


def _how(variant: Variant, said: Mapping[str, Any]) -> str:
    """On what the methods were tested."""
    if (tests := said["tests"]) is None:
        return f"{variant.name}: its maps were drawn without tests."
    over = next(iter(tests["methods"].values()))["repeatability"]["over"]
    return (
        f"{variant.name}, seed {tests['seeds'][0]}: tested on {tests['images']} images of the "
        f"{tests['split']} split; cells replaced by {said['baseline']}; repeatability over {over}."
    )


def _copied(
    test_set: TestSet, variant: Variant, run: Path, said: Mapping[str, Any], folder: Path, k: int
) -> Figure:
    """The figure that the explanation has drawn, under a name of the report's."""
    stem = folder / f"explanation-{test_set.id}-{k + 1}"
    for ending in written.ENDINGS:
        source = run / written.FOLDER / f"{written.OVERVIEW}{ending}"
        shutil.copyfile(source, stem.with_name(f"{stem.name}{ending}"))
    return Figure(
        id=stem.name,
        title=f"{test_set.name}: maps of {variant.name}",
        alternative="Images, and the map of each method over each of them.",
        stem=stem,
        notes=[said["caption"]],
    )


def _attention(test_set: TestSet, folder: Path, data_root: str | None) -> Section:
    stem = folder / f"attention-{test_set.id}"
    # A baseline has no attention, so the first variant that may have some.
    trained = [v for v in test_set.variants if v.first.config.trains_backbone]
    variant = [*trained, *test_set.variants][0]
    run = variant.first.path
    title = f"{test_set.name}: self-attention of {variant.name}, first seed"
    changes = ["data.download=false", *([f"data.root={data_root}"] if data_root else [])]
    try:
        _weights_are_here(reader.read_config(run, changes).backbone)
        choice = Choice(_IMAGES, methods="attention", tests=False)
        asked = request.prepare([run], choice, changes)
        from beitmed.explain import explanation  # torch: seconds, so after the checks

        found = explanation.answer(asked)
    except UserError as e:
        said = without_places(f"There is no attention figure: {str(e).partition(chr(10))[0]}")
        return Section(f"maps-{test_set.id}", title, paragraphs=[said])
    from beitmed.explain import pictures

    explained = pictures.attention(found)
    write_both(partial(attention_maps.overview, explained), stem)
    command = f"beitmed explain {shlex.quote(run.name)}"
    figure = Figure(
        id=stem.name,
        title=title,
        alternative="Test images, the mean attention over heads, and attention rollout.",
        stem=stem,
        notes=[explained.caption, f"Further methods, each tested on this run: `{command}`."],
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
