"""Run folders read back: as they were written, and not at all where their files do not agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import run_folders
from sklearn.metrics import accuracy_score, roc_auc_score

from beitmed import config
from beitmed.errors import UserError
from beitmed.runs import reader
from beitmed.statistics import calibration


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folders.make(tmp_path_factory.mktemp("runs") / "one", "backbone=beit_tiny", "seed=3")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return shutil.copytree(written, tmp_path / "runs" / "one")


def test_a_run_is_read_back_as_it_was_written(written: Path):
    run = reader.read(written)
    assert (run.dataset, run.seed, run.task.name, run.positive) == ("breast", 3, "binary", 1)
    assert len(run.val.labels) == 24 and run.test.logits.shape == (40, 2)
    assert run.history[1] == {
        "epoch": 2.0, "step": 18.0, "learning_rate": 5e-4, "train_loss": 0.35, "val_loss": 0.4,
        "val_auc": 0.6, "val_accuracy": 0.7,
    }  # fmt: skip
    test = run.metrics["test"]
    assert roc_auc_score(run.actual, run.score) == pytest.approx(test["auc"]["value"], abs=1e-12)
    right = accuracy_score(run.test.labels, run.test.logits.argmax(axis=1))
    assert run.correct.mean() == right == pytest.approx(test["accuracy"]["value"], abs=1e-12)


@pytest.mark.parametrize("positive", [0, 1])
def test_ties_are_decided_as_the_metrics_decide_them(tmp_path: Path, positive: int):
    rng = np.random.default_rng(0)
    logits = rng.integers(-1, 2, size=(40, 2)).astype(float)  # a third of them tied
    path = run_folders.make(
        tmp_path / "tied", "backbone=beit_tiny", f"dataset.positive_label={positive}", logits=logits
    )
    run = reader.read(path)
    called = calibration.decide(run.score, 0.0, positive)
    assert np.array_equal(run.correct, called == run.actual)
    assert (run.score == 0).sum() > 8
    assert run.correct.mean() == run.metrics["test"]["accuracy"]["value"]


@pytest.mark.parametrize(
    ("dataset", "task", "single"),
    [("blood", "multiclass", True), ("retina", "ordinal", True), ("chest", "multilabel", False)],
)
def test_every_task_is_read(tmp_path: Path, dataset: str, task: str, single: bool):
    run = reader.read(run_folders.make(tmp_path / "x", f"dataset={dataset}", "backbone=beit_tiny"))
    assert (run.task.name, run.binary, not run.task.several_labels) == (task, False, single)
    assert run.test.labels.ndim == (1 if single else 2)


def test_a_single_class_test_split_and_an_empty_validation_split_are_read(tmp_path: Path):
    labels = np.ones(40, np.int64)
    path = run_folders.make(tmp_path / "x", "backbone=beit_tiny", labels=labels)
    run = reader.read(path)
    assert run.metrics["test"]["auc"]["value"] is None and run.actual.all()
    lines = (path / "predictions.csv").read_text().splitlines(keepends=True)
    (path / "predictions.csv").write_text("".join(x for x in lines if not x.startswith("val")))
    values = json.loads((path / "metrics.json").read_text())
    run_folders.edit(path / "metrics.json", n=values["n"] | {"val": 0})
    data = json.loads((path / "data.json").read_text())
    run_folders.edit(path / "data.json", images_by_class=data["images_by_class"] | {"val": [0, 0]})
    assert reader.read(path).val.logits.shape == (0, 2)


def test_places_and_resamples_are_no_part_of_the_identity(tmp_path: Path, written: Path):
    moved = run_folders.make(
        tmp_path / "x", "backbone=beit_tiny", "seed=3", "name=mine", "output_dir=/elsewhere",
        "evaluate.n_resamples=100", "train.eval_batch_size=7", "data.root=/nowhere",
    )  # fmt: skip
    one, other = reader.read(moved).config, reader.read(written).config
    assert config.identity(one) == config.identity(other)
    assert config.evaluation(one) != config.evaluation(other)


# --- Damaged, foreign and mixed-up folders


def text(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "half-written metrics": (
        lambda f: text(f / "metrics.json", lambda s: s[:200]), r"metrics\.json: cannot be read"
    ),
    "metrics of another version": (
        lambda f: run_folders.edit(f / "metrics.json", format=99), r"format 99, but this .* reads 2"
    ),
    "metrics are a list": (
        lambda f: (f / "metrics.json").write_text("[1]"), r"metrics\.json: holds list"
    ),
    "metrics lack the headlines": (
        lambda f: run_folders.edit(f / "metrics.json", test={}), r"lacks 'auc'"
    ),
    "metrics lack the classes": (
        lambda f: run_folders.edit(f / "metrics.json", negative_class=None),
        r"lacks 'negative_class'",
    ),
    "metrics lack the counts": (
        lambda f: run_folders.edit(f / "metrics.json", n=None), r"lacks 'n'"
    ),
    "caveats of another form": (
        lambda f: run_folders.edit(f / "metrics.json", caveats="none"), r"caveats 'none'"
    ),
    "an estimate of another form": (
        lambda f: run_folders.edit(f / "metrics.json", test={"auc": 0.9}), r"expected form"
    ),
    "metrics lack what was asked for": (
        lambda f: run_folders.edit(f / "metrics.json", evaluation=None), r"lacks what was asked for"
    ),
    "no class names": (
        lambda f: run_folders.edit(f / "data.json", class_names=None), r"lacks 'class_names'"
    ),
    "class names of another number": (
        lambda f: run_folders.edit(f / "data.json", class_names=["a", "b", "c"]), r"2 logits"
    ),
    "config is a text": (lambda f: (f / "config.yaml").write_text("hello"), r"holds str"),
    "config is no YAML": (
        lambda f: (f / "config.yaml").write_text("a: [1"), r"config\.yaml: cannot be read"
    ),
    "config lacks the seed's neighbours": (
        lambda f: text(f / "config.yaml", lambda s: s.replace("  name: breast\n", "")),
        r"config\.yaml: was written by another version.*\n.*dataset\.name: is missing",
    ),
    "no data.json": (lambda f: (f / "data.json").unlink(), r"data\.json: cannot be read"),
    "no config.yaml": (lambda f: (f / "config.yaml").unlink(), r"has no config\.yaml"),
    "history of words": (
        lambda f: text(f / "history.csv", lambda s: s.replace("0.35", "low")),
        r"history\.csv: cannot be read",
    ),
    "history with too many fields": (
        lambda f: text(f / "history.csv", lambda s: s + "1,2,3,4,5,6,7,8\n"),
        r"history\.csv: cannot be read",
    ),
    "predictions empty": (
        lambda f: (f / "predictions.csv").write_text(""), r"predictions\.csv.*columns lacking"
    ),
    "predictions of another table": (
        lambda f: (f / "predictions.csv").write_text("a,b\n1,2\n"), r"columns a, b"
    ),
    "predictions cut within a line": (
        lambda f: text(f / "predictions.csv", lambda s: s[: s.rindex(",")]),
        r"predictions\.csv: cannot be read \(line 65 has 4 fields",
    ),
    "predictions cut between lines": (
        lambda f: text(f / "predictions.csv", lambda s: "\n".join(s.splitlines()[:-3]) + "\n"),
        r"test images: 40 in metrics\.json, in predictions\.csv 37",
    ),
    "predictions without a line": (
        lambda f: text(
            f / "predictions.csv", lambda s: "\n".join(x for x in s.splitlines() if "t,7," not in x)
        ),
        r"rows of test are missing or out of order",
    ),
    "a NUL in the predictions": (
        lambda f: text(f / "predictions.csv", lambda s: s.replace("test,3", "test,\0")),
        r"predictions\.csv: cannot be read",
    ),
    "predictions that are no text": (
        lambda f: (f / "predictions.csv").write_bytes(b"\xff\xfe\x00"),
        r"predictions\.csv: cannot be read",
    ),
    "a logit that is no number": (
        lambda f: text(f / "predictions.csv", lambda s: s.rstrip("\n") + "e\n"),
        r"predictions\.csv: cannot be read",
    ),
    "a logit that is not finite": (
        lambda f: text(f / "predictions.csv", lambda s: s[: s.rindex(",")] + ",nan\n"),
        r"not finite",
    ),
    "a label out of range": (
        lambda f: text(f / "predictions.csv", lambda s: s.replace("test,5,1,", "test,5,2,")),
        r"labels of test: found 0 to 2",
    ),
    "a label that is no integer": (
        lambda f: text(f / "predictions.csv", lambda s: s.replace("test,5,1,", "test,5,1e30,")),
        r"predictions\.csv: cannot be read",
    ),
    "a label that was changed": (
        lambda f: text(f / "predictions.csv", lambda s: s.replace("test,5,1,", "test,5,0,")),
        r"test images by class: \[10, 30\] in data\.json, in predictions\.csv \[11, 29\]",
    ),
    "a logit that was changed": (
        lambda f: text(
            f / "predictions.csv", lambda s: s[: s.rindex("\n", 0, -3)] + "\ntest,39,1,90.0,-90.0\n"
        ),
        r"do not belong together: test auc: 0\.\d+ in metrics\.json, of predictions\.csv 0\.\d+",
    ),
    "another seed's config": (
        lambda f: text(f / "config.yaml", lambda s: s.replace("\nseed: 3\n", "\nseed: 4\n")),
        r"seed is 3 in metrics\.json, in config\.yaml 4",
    ),
    "another size's config": (
        lambda f: text(f / "config.yaml", lambda s: s.replace("\nsize: 28\n", "\nsize: 224\n")),
        r"size is 28 in metrics\.json, in config\.yaml 224",
    ),
    "another dataset's config": (
        lambda f: text(f / "config.yaml", lambda s: s.replace("name: breast", "name: pneumonia")),
        r"dataset is breast in metrics\.json, in config\.yaml pneumonia",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_named_with_what_is_wrong(folder: Path, damage: str):
    change, message = DAMAGES[damage]
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        reader.read(folder)
    assert str(folder) in str(caught.value)


def test_predictions_of_another_run_of_the_same_test_set_are_noticed(folder: Path, tmp_path: Path):
    other = run_folders.make(tmp_path / "other", "backbone=beit_tiny", "seed=4")
    shutil.copy(other / "predictions.csv", folder / "predictions.csv")
    with pytest.raises(UserError, match="do not belong together"):
        reader.read(folder)


# --- Finding them


def test_runs_are_found_below_folders_once_and_by_path(written: Path, tmp_path: Path):
    root = tmp_path / "outputs"
    for name in ("b/deeper/run", "a", ".sweep/run", "too/deep/for/a/run"):
        shutil.copytree(written, root / name)
    (root / "link").symlink_to(root / "a")
    runs, problems = reader.find([root, root / "a"])
    assert [str(run.path.relative_to(root)) for run in runs] == ["a", "b/deeper/run"]
    assert problems == []


def test_what_is_no_finished_run_is_named_and_the_rest_is_read(folder: Path):
    root = folder.parent
    (root / "begun").mkdir()
    (root / "begun" / "config.yaml").write_text("seed: 1\n")
    (root / "foreign").mkdir()
    (root / "foreign" / "metrics.json").write_text('{"loss": 1}')
    (root / "report").mkdir()
    (root / "report" / "contents.json").write_text("{}")
    (root / "a file").write_text("x")
    runs, problems = reader.find([root])
    assert [run.path.name for run in runs] == ["one"]
    begun, foreign = problems
    assert "begun: no finished run" in begun and "goes on" in begun
    assert "foreign" in foreign and "format None" in foreign


def test_a_folder_that_is_not_there_or_empty(tmp_path: Path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        reader.find([tmp_path / "nowhere"])
    runs, [problem] = reader.find([tmp_path])
    assert not runs and "no run in it" in problem
