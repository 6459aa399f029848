"""Evaluation apart from training: the same predictions, asked something else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import beitmed
from sklearn.metrics import roc_auc_score

from beitmed.runs import reader

FAST = ("experiment=smoke", "data.limit=8", "evaluate.n_resamples=100")
OWN = """
def youden(labels, logits):
    called = logits.argmax(axis=1) == 1
    return float(called[labels == 1].mean() - called[labels == 0].mean())
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    done = beitmed(*FAST, "method=pixels_logistic", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of the folder that the run was made in."""
    shutil.copytree(trained, tmp_path / "home")
    return tmp_path / "home"


def run_of(folder: Path) -> Path:
    [path] = folder.glob("outputs/[!.]*")
    return path


def metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def files(run: Path) -> dict[str, bytes]:
    derived = ("metrics", "run", "environment", "roc", "confusion", "decision", "reliability")
    return {p.name: p.read_bytes() for p in run.iterdir() if p.stem not in derived}


def test_another_positive_class_is_evaluated_and_nothing_is_trained(folder: Path):
    run = run_of(folder)
    before, facts = metrics(run), files(run)
    done = beitmed(str(run), "dataset.positive_label=0", module="evaluate", cwd=folder)
    assert done.returncode == 0, done.stderr
    after = metrics(run)
    assert after["positive_class"]["label"] == 0 == 1 - before["positive_class"]["label"]
    assert after["test"]["sensitivity"]["value"] == before["test"]["specificity"]["value"]
    assert after["test"]["auc"]["value"] == pytest.approx(before["test"]["auc"]["value"])
    assert files(run) == facts
    found = reader.read(run)
    assert found.config.dataset.positive_label == 0
    auc = roc_auc_score(found.test.labels == 0, found.score)
    assert after["test"]["auc"]["value"] == pytest.approx(auc)


@pytest.mark.parametrize(
    "asked",
    ["dataset.positive_label=0", "evaluate.n_resamples=150", "evaluate.metrics={y: own.youden}"],
)
def test_the_training_command_with_another_evaluation_does_not_train_again(
    folder: Path, asked: str
):
    (folder / "own.py").write_text(OWN)
    run, facts = run_of(folder), files(run_of(folder))
    done = beitmed(*FAST, "method=pixels_logistic", asked, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "The predictions are there" in done.stdout and "validation AUC" not in done.stdout
    assert run_of(folder) == run and files(run) == facts
    key = asked.partition("=")[0]
    assert metrics(run)["evaluation"][key] == {
        "dataset.positive_label": 0, "evaluate.n_resamples": 150,
        "evaluate.metrics": {"y": "own.youden"},
    }[key]  # fmt: skip
    again = beitmed(*FAST, "method=pixels_logistic", asked, cwd=folder)
    assert "finished before, nothing to do" in again.stdout


def test_what_is_not_given_stays_as_the_last_evaluation_had_it(folder: Path):
    run = run_of(folder)
    for asked in ("dataset.positive_label=0", "evaluate.n_resamples=120"):
        assert beitmed(str(run), asked, module="evaluate", cwd=folder).returncode == 0
    assert metrics(run)["evaluation"]["dataset.positive_label"] == 0


def test_a_run_that_was_killed_between_training_and_metrics_is_evaluated(folder: Path):
    run, before = run_of(folder), metrics(run_of(folder))
    (run / "metrics.json").unlink()
    assert beitmed(str(run), module="evaluate", cwd=folder).returncode == 0
    assert metrics(run) == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["seed=1"], ["seed=1", "cannot be set", "dataset.positive_label=..."]),
        (["dataset.positive_label=2"], ["dataset.positive_label", "2"]),
        (["evaluate.n_resamples=[1"], ["evaluate.n_resamples", "no value"]),
        (["--fast"], ["--fast", "no such option"]),
    ],
)
def test_what_cannot_be_asked_is_refused_and_nothing_is_lost(folder: Path, asked, said):
    run, before = run_of(folder), metrics(run_of(folder))
    done = beitmed(str(run), *asked, module="evaluate", cwd=folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for part in said:
        assert part in done.stderr
    assert metrics(run) == before


def test_no_folder_or_another_is_refused(folder: Path, tmp_path: Path):
    for arguments, said in (
        ([], "no run folder given"),
        ([str(tmp_path)], "is not a run's folder"),
    ):
        done = beitmed(*arguments, module="evaluate", cwd=folder)
        assert done.returncode == 2 and said in done.stderr


def test_it_needs_neither_torch_nor_images(folder: Path):
    code = (
        "import sys; sys.argv[1:] = ['evaluate', *sys.argv[1:]]\n"
        "from beitmed.commands import front\n"
        "try: front.main()\n"
        "except SystemExit as e: assert e.code == 0, e.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(run_of(folder))], cwd=folder, check=True)
