"""Cross-validation by patient of one's own images: the folds' runs, and the one result of all."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import beitmed, resolve
from PIL import Image

from beitmed import config, cross_validation
from beitmed.errors import UserError
from beitmed.runs import reader
from beitmed.statistics import folds

OPTIONS = (
    "dataset=folder", "dataset.name=own", "dataset.path=own.csv", "size=28", "cache.root=cache",
    "method=pixels_logistic", "method.C=[0.01]", "evaluate.n_resamples=100",
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 120 images of 60 patients, and the three runs of its cross-validation."""
    home, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(2)
    with (home / "own.csv").open("w") as f:
        f.write("path,label,patient\n")
        for i in range(120):
            p = i // 2
            pixels = rng.integers(0, 150, (28, 28)) + 6 * (p % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(home / f"{i}.png")
            f.write(f"{i}.png,{['well', 'ill'][p % 2]},p{p}\n")
    folds = "data.folds=3", "data.fold=0,1,2"
    done = beitmed(*OPTIONS, "experiment=cross_validation", *folds, cwd=home)
    assert done.returncode == 0, done.stderr
    return home


def runs(home: Path) -> list[reader.FinishedRun]:
    return reader.find([home / "outputs"])[0]


def test_each_image_is_held_out_once_and_no_patient_is_in_two_splits(home):
    held: list[str] = []
    for run in runs(home):
        files = list(csv.DictReader((run.path / "splits.csv").open()))
        places = {(f["patient"], f["split"]) for f in files}
        assert len(places) == len({f["patient"] for f in files}) == 60
        held += [f["file"] for f in files if f["split"] == "test"]
        assert f"_fold{run.config.data.fold}_seed" in run.path.name
        assert run.data["splits"] == f"fold {run.config.data.fold} of 3, drawn by patient"
    assert sorted(held) == sorted(f"{i}.png" for i in range(120))


def test_the_folds_are_joined_into_one_result(home):
    [joined], problems = cross_validation.join(runs(home))
    assert not problems and (joined.images, joined.patients) == (120, 60)
    right = [run.metrics["test"]["accuracy"]["value"] * len(run.test.labels) for run in joined.runs]
    assert joined.estimates["accuracy"].value == pytest.approx(sum(right) / 120)
    each = [run.metrics["test"]["auc"]["value"] for run in joined.runs]
    assert joined.by_fold["auc"] == each
    auc = joined.estimates["auc"]
    assert auc.value == pytest.approx(np.mean(each)) and auc.ci_low < auc.value < auc.ci_high
    whole = np.concatenate([run.correct for run in joined.runs]).astype(float)
    fold = np.repeat(np.arange(3), [len(run.correct) for run in joined.runs])
    _, low, high = folds.accuracy(whole, fold)
    known = joined.estimates["accuracy"]
    assert known.ci_high - known.ci_low != pytest.approx(high - low)  # patients count


def test_the_command_says_it(home):
    done = beitmed("outputs", cwd=home, module="folds")
    assert done.returncode == 0, done.stderr
    [joined], _ = cross_validation.join(runs(home))
    auc = joined.estimates["auc"]
    assert "in 3 folds, 120 images of 60 patients, each held out once" in done.stdout
    assert f"AUC {auc.value:.3f} [{auc.ci_low:.3f}, {auc.ci_high:.3f}]" in done.stdout


def test_the_report_says_it(home):
    done = beitmed("outputs", "to=report", "attention=false", "images=false", cwd=home,
                   module="report")  # fmt: skip
    assert done.returncode == 0, done.stderr
    [joined], _ = cross_validation.join(runs(home))
    assert joined.sentence() in done.stdout
    [row] = csv.DictReader((home / "report" / "tables" / "folds.csv").open())
    assert row["Folds"] == "3" and row["Patients"] == "60"


def test_folds_that_are_missing_or_there_twice_are_not_joined(home, tmp_path):
    several = runs(home)
    found, [problem] = cross_validation.join(several[:1])
    assert not found and "of its 3 folds 2 are not finished" in problem
    assert "-m data.fold=1,2" in problem
    copy = shutil.copytree(several[0].path, tmp_path / "copy")
    found, [problem] = cross_validation.join([*several, reader.read(copy)])
    assert not found and problem.startswith("fold 0 is there more than once")
    alone = tmp_path / "alone"
    shutil.copytree(several[0].path, alone / "run")
    done = beitmed(str(alone), cwd=tmp_path, module="folds")
    assert done.returncode == 1 and "Not joined" in done.stdout


def test_runs_without_folds_are_no_cross_validation(home, tmp_path):
    (tmp_path / "empty").mkdir()
    done = beitmed("empty", cwd=tmp_path, module="folds")
    assert done.returncode == 2 and "no fold of a cross-validation is here" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["dataset=folder", "data.fold=1"], r"data\.fold: found 1 without data\.folds"),
        (["dataset=folder", "data.folds=3"], r"found None with data\.folds=3; allowed: 0 to 2"),
        (["dataset=folder", "data.folds=3", "data.fold=3"], r"-m data\.fold=0,1,2"),
        (["data.folds=3", "data.fold=0"], "dataset=breast, whose splits are fixed"),
    ],
)
def test_folds_that_mean_nothing_are_refused(overrides, said):
    with pytest.raises(UserError, match=said):
        resolve(*overrides)


def test_a_fold_is_another_run_and_no_folds_change_no_name():
    first, second = (resolve("dataset=folder", "data.folds=3", f"data.fold={i}") for i in range(2))
    assert config.run_name(first) != config.run_name(second)
    assert config.without_fold(first) == config.without_fold(second)
    assert not {"data.fold", "data.folds"} & config.identity(resolve("dataset=folder")).keys()
