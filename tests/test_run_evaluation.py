"""What the evaluation of a run leaves in its folder and says in its last lines."""

from __future__ import annotations

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import beitmed, medmnist_arrays, resolve
from figure_checks import HOSTILE, assert_legible, rendered
from medmnist.evaluator import Evaluator
from scipy.special import expit

from beitmed import config, pipeline, tasks
from beitmed.errors import UserError
from beitmed.plots.decision_curve import decision_curve
from beitmed.plots.page import FULL_WIDTH, WIDTH
from beitmed.runs import caveats, evaluator_files, last_lines, predictions, published
from beitmed.runs.predictions import Predictions
from beitmed.statistics import decisions


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


# --- The files that medmnist's own Evaluator reads


@pytest.mark.parametrize(
    ("dataset", "size", "method"),
    [
        ("breast", 28, "features_knn"),  # whose neighbours tie images
        ("breast", 64, "pixels_logistic"),
        ("blood", 28, "features_knn"),
        ("retina", 28, "pixels_logistic"),
        ("chest", 28, "pixels_logistic"),
    ],
)
def test_medmnists_evaluator_reads_our_numbers_from_its_files(dataset, size, method, tmp_path):
    flag = f"{dataset}mnist"
    suffix = "" if size == 28 else f"_{size}"
    np.savez(tmp_path / f"{flag}{suffix}.npz", **medmnist_arrays(flag, size, n=60))
    run = pipeline.run(
        resolve(
            f"dataset={dataset}", f"size={size}", f"method={method}", "backbone=beit_tiny",
            f"data.root={tmp_path}", "data.allow_unofficial=true", "evaluate.n_resamples=100",
            f"output_dir={tmp_path}/outputs", f"cache.root={tmp_path}/cache",
        )
    )  # fmt: skip
    task = tasks.of(resolve(f"dataset={dataset}").dataset.task)
    random = "RANDOM-weights-" if method == "features_knn" else ""

    class Rooted(Evaluator):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs, root=str(tmp_path))

    for name, split in predictions.read(run / "predictions.csv").items():
        [file] = run.glob(f"{flag}{suffix}_{name}_*.csv")
        assert file.name.endswith(f"@{random}seed42.csv")
        ours = task.score(split.logits, split.labels, 1 if task.has_positive else None)
        theirs = Rooted.parse_and_evaluate(str(file))
        assert pytest.approx(ours["auc"], abs=1e-4) == theirs.AUC
        assert pytest.approx(ours["accuracy"], abs=1e-12) == theirs.ACC
        # It writes what it found under its own name: that is the file itself.
        assert [p.name for p in run.glob(f"{flag}{suffix}_{name}_*.csv")] == [file.name]


def test_scores_tell_images_apart_whose_probabilities_are_equal():
    logits = np.array([[0.0, 40], [0, 60], [0, 50], [0, -1], [0, 0]])
    found = evaluator_files.scores(tasks.of("binary"), logits)[:, 1]
    assert found.argsort().tolist() == [3, 4, 0, 2, 1] and found.max() < 1
    assert (found > 0.5).tolist() == [True, True, True, False, False]
    kept = evaluator_files.scores(tasks.of("binary"), logits[3:])[:, 1]
    assert kept.tolist() == np.round(expit([-1.0, 0.0]), 12).tolist()


# --- Figures, tables and metrics.json


def test_tables_and_figures_say_what_they_rest_on_and_agree(finished_run: Path):
    summary = json.loads((finished_run / "metrics.json").read_text())
    test = predictions.read(finished_run / "predictions.csv")["test"]
    counts = np.array(summary["confusion"])
    assert counts.trace() / counts.sum() == summary["test"]["accuracy"]["value"]
    assert counts.sum(axis=1).tolist() == np.bincount(test.labels).tolist()
    assert summary["patients"] == {"val": None, "test": None} and summary["published"] is None
    for figure in ("roc", "confusion", "decision", "history"):
        assert (finished_run / f"{figure}.png").stat().st_size > 1000
        svg = (finished_run / f"{figure}.svg").read_text()
        assert "SYNTHETIC" in svg and "RANDOM" in svg, figure
    for table in ("roc.csv", "decision.csv", "reliability.csv"):
        notes = {row["note"] for row in rows(finished_run / table)}
        assert notes == {"SYNTHETIC images; RANDOM weights, not pre-trained"}, table
    p, y = expit(test.logits[:, 1] - test.logits[:, 0]), test.labels == 1
    for row in rows(finished_run / "decision.csv"):
        cut = float(row["threshold"])
        called = p >= cut
        worth = ((called & y).sum() - (called & ~y).sum() * cut / (1 - cut)) / y.size
        assert float(row["net_benefit"]) == pytest.approx(worth, abs=1e-12)
    bins = rows(finished_run / "reliability.csv")
    assert sum(int(row["n"]) for row in bins) == y.size
    hits = sum(int(row["n"]) * float(row["observed"]) for row in bins)
    assert hits == pytest.approx(y.sum())


def test_evaluate_states_another_use(finished_run: Path, tmp_path: Path):

    run = shutil.copytree(finished_run, tmp_path / "run")
    asked = ["evaluate.prevalence=0.05", "evaluate.operating_point=specificity:0.9"]
    done = beitmed(str(run), *asked, module="evaluate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((run / "metrics.json").read_text())
    assert summary["evaluation"]["evaluate.prevalence"] == 0.05
    assert summary["test"]["ppv_at_prevalence"]["value"] is not None
    assert summary["test"]["specificity_at_operating_point"]["ci_low"] is not None
    last = done.stdout.splitlines()
    start = next(i for i, line in enumerate(last) if line.startswith("Test set: 16 images; "))
    assert "SYNTHETIC images" in last[start + 1]
    titles = [line.strip().split("  ")[0] for line in last[start + 3 : start + 8]]
    names = json.loads((run / "data.json").read_text())["class_names"]
    assert titles == ["AUC", "Accuracy", "Balanced accuracy", f"Sensitivity, {names[1]}",
                      f"Sensitivity, {names[0]}"]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["evaluate.prevalence=1.0"], ["evaluate.prevalence", "1.0"]),
        (["evaluate.operating_point=0.95"], ["operating_point: found '0.95'", "sensitivity:0.95"]),
        (["evaluate.operating_point=specificity:1.0"], ["specificity:1.0", "between 0 and 1"]),
        (["dataset=blood", "evaluate.prevalence=0.1"], ["found 0.1 with task multiclass", "null"]),
    ],
)
def test_a_use_that_cannot_be_is_refused(overrides, said):
    with pytest.raises(UserError) as e:
        resolve(*overrides)
    for part in said:
        assert part in str(e.value)


def test_every_published_dataset_says_whether_patients_have_several_images():
    for path in sorted((config.conf_dir() / "dataset").glob("*.yaml")):
        cfg = resolve(
            f"dataset={path.stem}", *(["dataset.path=x"] if path.stem == "folder" else [])
        )
        several = cfg.dataset.several_images_per_patient
        assert several == (cfg.dataset.source == "medmnist"), path.stem
        if several:
            said = caveats.of(cfg, {"official": True})
            assert "patients not known: intervals may be too narrow" in said


# --- Beside the paper, and the last lines


@pytest.fixture(scope="module")
def breast():
    """A made-up test set of BreastMNIST's size, and what is estimated of it."""
    rng = np.random.default_rng(3)
    y = (np.arange(156) % 4 > 0).astype(int)
    logits = rng.normal(size=(156, 2)) + 1.4 * np.eye(2)[y]
    test = Predictions(y, logits, tuple(str(i // 2) for i in range(156)))
    of = {"val": (logits[:40], y[:40]), "test": (logits, y)}
    found = tasks.evaluate(
        tasks.of("binary"), logits={s: x for s, (x, _) in of.items()},
        labels={s: x for s, (_, x) in of.items()}, groups={"test": test.groups},
        class_names=("malignant", "normal, benign"), positive=1, seed=0, n_resamples=100,
    )  # fmt: skip
    return test, found


def test_a_variant_of_the_paper_stands_beside_the_papers_run(breast):
    _, estimates = breast
    beside = published.beside(resolve("dataset=breast"), True, estimates)
    assert beside["auc"]["paper"] == 0.9098
    assert beside["auc"]["difference"] == pytest.approx(estimates["auc"].value - 0.9098)
    # Two single trainings, each with the seeds' standard deviation.
    half = (beside["auc"]["ci_high"] - beside["auc"]["ci_low"]) / 2
    assert half == pytest.approx(1.96 * 2**0.5 * beside["auc"]["assumed_sd"], rel=1e-3)
    stated = [0.0082, 0.0044, 0.027, 0.0136, 0.0057, 0.0026]
    assert beside["auc"]["assumed_sd"] == pytest.approx(np.sqrt(np.mean(np.square(stated))))
    first, second, last = published.sentences(beside)
    assert "The paper's AUC: 0.9098" in first and "accuracy: 0.8910" in second
    assert "6 published networks" in first and "trunk_mode=eval (paper: train" in last
    protocol = published.beside(resolve("dataset=breast", "trunk_mode=train"), True, estimates)
    assert published.sentences(protocol)[-1].endswith("It is the paper's.")
    beside = partial(published.beside, official=True, estimates=estimates)
    assert beside(resolve("dataset=breast", "method=majority")) is None
    assert beside(resolve("dataset=breast", "size=64")) is None


def test_the_last_lines_name_patients_both_classes_and_what_chance_reaches(breast):
    test, estimates = breast
    said = last_lines.lines(
        resolve("dataset=breast"), ("malignant", "normal, benign"), test, estimates, ["a"], None
    )
    assert said[0] == 'Test set: 156 images of 78 patients; positive class "normal, benign".'
    assert said[1] == "Note: a."
    table = {line[2:].split("  ")[0]: line for line in said[3:8]}
    assert set(table) == {"AUC", "Accuracy", "Balanced accuracy", "Sensitivity, normal, benign",
                          "Sensitivity, malignant"}  # fmt: skip
    e = estimates["accuracy"]
    for part in (f"{e.value:.3f}", f"[{e.ci_low:.3f}, {e.ci_high:.3f}]", "0.750"):
        assert part in table["Accuracy"]
    assert said[-1].endswith("(the best constant, or chance).") == (e.ci_low <= 0.75)


def test_what_does_not_beat_a_constant_is_named():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 5 // 4  # 4 : 1
    for skill, beaten in ((0.0, False), (8.0, True)):
        logits = rng.normal(size=(200, 2)) + skill * np.eye(2)[labels]
        found = tasks.evaluate(
            tasks.of("binary"), logits={"val": logits, "test": logits},
            labels={"val": labels, "test": labels}, class_names=("a", "b"), positive=1, seed=0,
            n_resamples=200,
        )  # fmt: skip
        assert found["accuracy"].no_skill == 0.8 and found["sensitivity"].no_skill is None
        without = tasks.without_skill(tasks.of("binary"), found)
        assert ({"accuracy", "brier"} <= {*without}) != beaten
        assert not (beaten and without)


@pytest.mark.parametrize("name", ["normal, benign", *HOSTILE])
@pytest.mark.parametrize("width", [WIDTH, FULL_WIDTH])
def test_a_decision_curve_shows_the_model_and_both_policies(name, width):
    rng = np.random.default_rng(1)
    y = rng.random(200) < 0.3
    p = expit(rng.normal(size=200) + 2 * y - 1)
    points = decisions.decision_curve(p, y, np.arange(1, 100) / 100)
    drawn = decision_curve(points, title=f"RANDOM weights; {name}", positive_name=name, width=width)
    figure = rendered(drawn)
    assert_legible(figure)
    [axes] = figure.axes
    everyone, _, model = axes.lines
    assert model.get_ydata().tolist() == [point.value for point in points]
    assert everyone.get_ydata().tolist() == [point.treat_all for point in points]
    with pytest.raises(ValueError, match="at least one"):
        decision_curve([], title="t", positive_name="p")
