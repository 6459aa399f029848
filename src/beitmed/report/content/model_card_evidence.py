"""What a model card says of data, results, calibration and training; no number is made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beitmed import config
from beitmed.data import medmnist_files
from beitmed.report.content import run_tables
from beitmed.report.content.comparison_tables import no_accuracy, positive_class
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Section, Table, without_places
from beitmed.runs.reader import FinishedRun


def data(run: FinishedRun) -> Section:
    """What it was trained and tested on: source, licence, splits, patients, images by class."""
    cfg, facts = run.config, run.data
    said = []
    if cfg.dataset.flag is not None and cfg.dataset.classes is None:
        known = medmnist_files.info(cfg.dataset.flag)
        said.append(f'The medmnist package says of it: "{known["description"]}"')
        said.append(f"Licence of these images, by the same: {known['license']}.")
    if cfg.dataset.synthetic:
        said.append("SYNTHETIC pictures that a program drew, of no patient.")
    how, patients = facts.get("splits"), facts.get("patients")
    unit = "image" if patients is None else "patient"
    said.append(
        "The splits are the dataset's own."
        if how is None
        else f"The splits were {how}{'' if how == 'given' else f', drawn by {unit}'}."
    )
    said.append(
        "Which images are of one patient is not known."
        if patients is None
        else f"The images are of {patients:,} patients."
    )
    if "md5" in facts:
        official = "the official file" if facts["official"] else "NOT the official file"
        said.append(f"Read from {facts['source']}, MD5 {facts['md5']}: {official}.")
    if cfg.balanced:
        said.append(f"The training images were balanced by {cfg.balancing.name}.")
    by_class, images = facts["images_by_class"], facts["images"]
    splits = list(by_class)
    rows: list[Sequence[Cell]] = [
        [name, *(by_class[s][i] for s in splits), facts["trained_on_by_class"][i]]
        for i, name in enumerate(facts["class_names"])
    ]
    rows.append(["all images", *(images[s] for s in splits), run.metrics["n"]["train"]])
    table = Table(
        "data", "Images by class",
        [Column(run.task.unit.capitalize()), *(Column(s, 0) for s in splits),
         Column("trained on", 0)],
        rows,
    )  # fmt: skip
    return Section("data", "Data", said, [table])


def results(run: FinishedRun, test_set: TestSet) -> Section:
    """Every metric of the model as it is exported, with its interval, and what it is of."""
    task = run.task
    names = [n for n, m in task.metrics.items() if m.rule == "argmax" and n in run.metrics["test"]]
    notes = [
        *positive_class(test_set),
        *no_accuracy(test_set),
        "A label is called above a probability of 0.5."
        if task.several_labels
        else "The likelier class is called.",
        "Without skill: what the best constant prediction reaches on the same images.",
    ]
    tables = [
        _metrics("results", "Metrics on the test split, with 95 % intervals", run, names, notes)
    ]
    if task.parts:
        tables.append(run_tables.by_part(test_set))
    return Section("results", "Test results", [f"On {test_set.images}."], tables)


def _metrics(
    name: str, title: str, run: FinishedRun, metrics: Sequence[str], notes: Sequence[str]
) -> Table:
    found: Mapping[str, Any] = run.metrics["test"]
    constant = any(found[m]["no_skill"] is not None for m in metrics)
    heads = [Column("Metric"), Column("Value"), Column("n", 0), Column("Interval"),
             *[Column("Without skill")] * constant, Column("What it is")]  # fmt: skip
    rows: list[Sequence[Cell]] = [
        [
            run.task.title(m, run.data["class_names"], run.config.dataset.positive_label),
            run_tables.estimate(found[m]),
            _cases(found[m]),
            "" if found[m]["value"] is None else found[m]["interval"] or found[m]["reason"],
            *[found[m]["no_skill"]] * constant,
            run.task.metrics[m].meaning,
        ]
        for m in metrics
    ]
    return Table(name, title, heads, rows, notes)


def _cases(found: Mapping[str, Any]) -> Cell:
    n, groups = found["n"], found["groups"]
    return n if groups is None else f"{n:,} of {groups:,} patients"


def fitted(run: FinishedRun) -> Section:
    """Which probabilities the model gives, and what was fitted on the validation split."""
    stated = {
        n: found
        for n, m in run.task.metrics.items()
        if m.rule != "argmax" and (found := run.metrics["test"].get(n)) is not None
        and found["value"] is not None
    }  # fmt: skip
    said = [
        "The probabilities of this model are those of its run, "
        + ("a sigmoid" if run.task.several_labels else "the softmax")
        + " of the logits, and are not calibrated."
    ]
    if "temperature" in stated:
        t = stated["temperature"]["value"]
        said.append(
            f"A temperature of {t:.4f} was fitted on the validation split. To use it, divide the "
            "logits by it before the softmax; it changes no ranking and no call of the likelier "
            "class."
        )
    if run.binary:
        said.append(
            "Thresholds are in log odds of the positive class: its logit minus the other's. A "
            "probability p is at log odds ln(p / (1 - p))."
        )
    if not stated:
        return Section("calibration", "Calibration and thresholds", said)
    notes = ["Thresholds and temperature are fitted on the validation split and count as fixed."]
    table = _metrics("fitted", "Fitted on the validation split, measured on the test split", run,
                     list(stated), notes)  # fmt: skip
    return Section("calibration", "Calibration and thresholds", said, [table])


def training(run: FinishedRun) -> Section:
    """The recipe: every setting that decides predictions, but those of data and backbone."""
    settings = {
        key: value
        for key, value in config.identity(run.config).items()
        if not key.startswith(("dataset.", "backbone."))
    }
    versions = ", ".join(
        f"{name} {run.environment[name]}"
        for name in ("beitmed", "torch", "transformers")
        if name in run.environment
    )
    rows = [[key, "" if v is None else without_places(str(v))] for key, v in settings.items()]
    return Section(
        "training",
        "Training",
        [
            "Every setting that decides its predictions is below; data and backbone are above. "
            f"Made with {versions}."
        ],
        [Table("settings", "Settings", [Column("Key"), Column("Value")], rows)],
    )
