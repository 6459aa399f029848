"""An explanation as what figures show, and in words."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from beitmed.explain.explanation import Explanation
from beitmed.explain.maps import METHODS
from beitmed.plots import attention_maps, explanations
from beitmed.plots.explanation_tests import CENTRE, RANDOM, TestCurves

_BASELINES = {"mean": "the image's mean", "blur": "the image blurred", "black": "black"}


def title(found: Explanation) -> str:
    """The run, and the caveats of its numbers."""
    run = found.run.run
    return "; ".join([run.path.resolve().name, *run.metrics["caveats"]])


def image_names(found: Explanation) -> tuple[str, ...]:
    """What each image is, what is predicted and what the maps are of, in one line."""
    selected, answers, task = found.selected, found.answers, found.run.task
    classes = found.run.class_names
    probability = expit(task.log_odds(answers.logits))
    actual = None
    if selected.labels is not None:
        actual = task.members(selected.labels, len(classes))
    said = []
    for i, name in enumerate(selected.names):
        called = np.flatnonzero(found.predicted[i])
        shown = ", ".join(f"{classes[c]} {probability[i, c]:.2f}" for c in called) or "none"
        line = f"predicted: {shown}"
        if actual is None:
            line = f"{name}; {line}"
        else:
            own = ", ".join(classes[c] for c in np.flatnonzero(actual[i])) or "none"
            right = (actual[i] == found.predicted[i]).all()
            line = f"{name}: {own}; {line} ({'correct' if right else 'WRONG'})"
        target = int(answers.targets[i])
        if called.tolist() != [target]:
            line += f"; maps of: {classes[target]}"
        said.append(line)
    return tuple(said)


def verdict(found: Explanation, name: str) -> str:
    """What a method's tests came to, in words."""
    evidence = found.answers.evidence
    if evidence is None:
        return "not tested"
    return f"{evidence.verdict(name)}: {evidence.numbers(name)}"


def caption(found: Explanation) -> str:
    """What the maps show, what they were tested by, and what they cannot show."""
    choice, answers = found.choice, found.answers
    of = {"predicted": "the class that is predicted"}.get(choice.target, "one class (see above)")
    rows, columns = next(iter(answers.on_cells.values())).shape[1:]
    parts = [
        f"Maps over {found.selected.chosen}, of {of}, on {rows} × {columns} cells; lines enclose "
        "the tenth of the cells with the highest values. Signed maps: above zero spoke for the "
        "class, below against it. Where pixels are replaced, it is by "
        f"{_BASELINES[choice.baseline]} (the baseline)."
    ]
    if (evidence := answers.evidence) is None:
        parts.append("The methods were not tested on this run: nothing says that they hold.")
    else:
        of_patients = "" if evidence.patients is None else f" of {evidence.patients} patients"
        parts.append(
            f"Tested on {len(evidence.indices)} images{of_patients} of the {choice.split} split; "
            "a method passes a test only where its 95 % interval does. Maps of a method that fails "
            "are shown, and should not be read as what decided. Numbers: of deletion and insertion "
            "the smaller gain in probability, on random order or on an order from the centre; of "
            "randomisation and repeatability a rank correlation; of localisation a ROC area."
        )
        tests = next(iter(evidence.results.values())).items()
        parts += [f"Not tested: {name} ({r.reason})." for name, r in tests if r.passes is None]
    if answers.attention is not None:
        parts.append(
            "Attention is of the " + attention(found).shown_rows + ". It shows where tokens took "
            "values from, not for which class."
        )
    return " ".join(parts)


def explained(found: Explanation) -> explanations.Explained:
    """The maps of all methods, for their figures."""
    methods = [
        explanations.MethodMaps(
            METHODS[name].label, METHODS[name].unit, METHODS[name].signed, values,
            verdict(found, name),
        )
        for name, values in found.answers.on_cells.items()
    ]  # fmt: skip
    return explanations.Explained(
        title(found), found.selected.images, image_names(found), methods, found.answers.covered,
        caption(found),
    )  # fmt: skip


def attention(found: Explanation) -> attention_maps.Explained:
    """The attention of every head, for its figures."""
    read = found.answers.attention
    assert read is not None
    return attention_maps.Explained(
        title=title(found),
        chosen=found.selected.chosen,
        images=found.selected.images,
        names=image_names(found),
        layer=read.layer,
        layers=found.run.cfg.backbone.known_geometry.num_hidden_layers,
        rows=read.rows,
        read_by_head=read.read_by_head,
        heads=read.heads,
        rollout=read.rollout,
        prefix=read.prefix,
        covered=found.answers.covered,
    )


def curves(found: Explanation) -> TestCurves | None:
    """The curves of the tests, None where none were made."""
    evidence = found.answers.evidence
    if evidence is None:
        return None
    of = {METHODS[name].label: tests for name, tests in evidence.results.items()}
    first = next(iter(of.values()))
    removed = {
        kind: {name: tests[kind].more["curve"] for name, tests in of.items()}
        | {
            RANDOM: first[kind].more["curve_random"],
            CENTRE: first[kind].more["curve_centre"],
        }
        for kind in ("deletion", "insertion")
    }
    parts = [stage["part"] for stage in first["randomisation"].more["stages"]]
    similarity = {
        name: [1.0, *(stage["similarity"] for stage in tests["randomisation"].more["stages"])]
        for name, tests in of.items()
    }
    return TestCurves(**removed, parts=["as trained", *parts], similarity=similarity)


def test_notes(found: Explanation) -> list[str]:
    """What stands above the curves."""
    evidence = found.answers.evidence
    assert evidence is not None
    return [
        f"Means over {len(evidence.indices)} images of the {found.choice.split} split. What is "
        f"removed is replaced by {_BASELINES[found.choice.baseline]}. Randomisation: rank "
        "correlation of a map with that of the network re-drawn from its head down to the part "
        "named."
    ]
