"""One report of runs of all four tasks and a baseline of each, against the runs' own numbers."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, medmnist_arrays, resolve

from beitmed import pipeline, tasks
from beitmed.commands import report as command

TASKS = {"breast": "binary", "blood": "multiclass", "retina": "ordinal", "chest": "multilabel"}
ACCURACIES = {
    "Accuracy (labels)": "accuracy",
    "Accuracy of never calling any": "accuracy_all_negative",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict]]]:
    """The report's folder, and metrics.json of each dataset's runs: by seed, the baseline last."""
    root = tmp_path_factory.mktemp("tasks")
    runs: dict[str, list[dict]] = {}
    for dataset in TASKS:
        np.savez(root / f"{dataset}mnist.npz", **medmnist_arrays(f"{dataset}mnist", 28, n=42))
        for more in (["seed=1"], ["method=majority"]):
            cfg = resolve(
                *FAST, f"dataset={dataset}", f"data.root={root}", "data.allow_unofficial=true",
                "data.limit=null", f"output_dir={root}/outputs", f"cache.root={root}/cache",
                "unfreeze=1", *more,
            )  # fmt: skip
            run = pipeline.run(cfg)
            runs.setdefault(dataset, []).append(json.loads((run / "metrics.json").read_text()))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as e:
        arguments = [f"{root}/outputs", f"to={root}/report", "attention=false"]
        patch.setattr(sys, "argv", ["report", *arguments])
        command.main()
    assert e.value.code == 0
    return root / "report", runs


def rows(report: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((report / "tables" / f"{name}.csv").open()))


def limits(row: dict[str, str], label: str) -> list[float | None]:
    return [float(x) if (x := row[label + end]) else None for end in ("", " low", " high")]


def numbers(estimate: dict) -> list[float | None]:
    return [estimate[key] for key in ("value", "ci_low", "ci_high")]


@pytest.mark.parametrize("dataset", TASKS)
def test_the_variants_have_the_numbers_of_their_runs(dataset, made):
    report, runs = made
    trained, baseline = runs[dataset]
    assert {run["task"] for run in runs[dataset]} == {TASKS[dataset]}
    found = rows(report, f"variants-{dataset}")
    assert [row["Variant"] for row in found] == [
        "beit_tiny top 1 (28), RANDOM weights",
        "majority class (28)",
    ]
    headlines = {"AUC": "auc"} | ({} if dataset == "chest" else {"Accuracy": "accuracy"})
    for label, name in headlines.items():
        for row, run in zip(found, (trained, baseline), strict=True):
            assert limits(row, label) == pytest.approx(numbers(run["test"][name]))
    assert ("Accuracy" in found[0]) == (dataset != "chest")
    besides = {"retina": "kappa_quadratic", "chest": "average_precision"}.get(dataset)
    if besides is not None:
        label = {"retina": "Quadratic-weighted kappa", "chest": "Average precision"}[dataset]
        assert limits(found[0], label) == pytest.approx(numbers(trained["test"][besides]))


@pytest.mark.parametrize(("dataset", "kind"), [("blood", "class"), ("chest", "label")])
def test_each_class_or_label_has_its_name_and_the_numbers_of_the_first_seed(dataset, kind, made):
    report, runs = made
    found = rows(report, f"by-{kind}-{dataset}")
    first, baseline = runs[dataset][0], runs[dataset][-1]
    expected = [
        (name, run["test"][f"auc_{kind}_{i}"])
        for i, name in enumerate(first["classes"])
        for run in (first, baseline)
    ]
    assert [row[kind.capitalize()] for row in found] == [name for name, _ in expected]
    for row, (_, estimate) in zip(found, expected, strict=True):
        assert limits(row, "AUC") == pytest.approx(numbers(estimate))


@pytest.mark.parametrize("dataset", TASKS)
def test_no_metric_of_a_run_vanishes_from_the_tables(dataset, made):
    """Four did, for want of a label: two thresholds and the references of the ECE."""
    report, runs = made
    task = tasks.of(TASKS[dataset])
    by_label = {}
    for kind in ("runs", "more", "rules"):
        if (report / "tables" / f"{kind}-{dataset}.csv").exists():
            for column, cell in rows(report, f"{kind}-{dataset}")[0].items():
                by_label[column] = cell
    whole = [name for name in runs[dataset][0]["test"] if task.part_of(name) is None]
    assert len(whole) > 4
    names = [runs[dataset][0].get(f"{k}_class", {}).get("name") for k in ("negative", "positive")]
    for name in whole:
        value = runs[dataset][0]["test"][name]["value"]
        cell = by_label[task.title(name, names, 1 if task.has_positive else None)]
        assert (float(cell) if cell else None) == pytest.approx(value), name


def test_the_accuracy_of_several_labels_stands_beside_that_of_calling_none(made):
    report, runs = made
    found = rows(report, "more-chest")
    for row, run in zip(found, runs["chest"], strict=True):
        for label, name in ACCURACIES.items():
            assert limits(row, label) == pytest.approx(numbers(run["test"][name]))
    share = runs["chest"][0]["test"]["accuracy_all_negative"]["value"]
    share = f"{share:.1%}".replace("%", " %")
    assert (report / "report.md").read_text().count(f"is right for {share} of the labels") == 3
    assert not list(report.glob("accuracy-chest*"))


def test_only_runs_of_one_test_set_are_compared(made):
    report, _ = made
    text = (report / "report.md").read_text()
    summary = text.partition("## What differs beyond noise\n\n")[2].partition("\n\n")[0]
    lines = summary.splitlines()
    assert lines and all(sum(name in line for name in TASKS) == 1 for line in lines)
    paired = {path.stem for path in report.glob("tables/pairs-*.csv")}
    of_accuracy = {f"pairs-accuracy-{name}" for name in TASKS if name != "chest"}
    graded = {"pairs-kappa-quadratic-retina", "pairs-mean-absolute-error-retina"}
    assert paired == of_accuracy | graded | {f"pairs-auc-{name}" for name in TASKS}
    for name in paired:
        assert len(rows(report, name)) == 1
