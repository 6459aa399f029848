"""Predictions averaged over views at test time: beside the plain ones, and compared with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, beitmed, resolve
from scipy.special import expit, logit, softmax

from beitmed import config, pipeline, tasks, trained
from beitmed.data.views import VIEWS
from beitmed.errors import UserError
from beitmed.report.content import test_time as report_table
from beitmed.report.content import variants
from beitmed.runs import reader, view_predictions
from beitmed.tasks import views


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "outputs" / finished_run.name))


def metrics_of(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_a_finished_run_is_asked_about_views_without_training(run: Path, tmp_path: Path):
    plain = (run / "predictions.csv").read_bytes()
    with pytest.raises(UserError, match=r"training command with evaluate\.tta=flip"):
        view_predictions.read(run, "flip")
    done = beitmed(str(run), "evaluate.tta=flip", module="evaluate", cwd=tmp_path)
    assert done.returncode == 2 and "predictions_tta_flip.csv" in done.stderr
    assert metrics_of(run)["test_time"] is None

    cfg = resolve(*FAST, f"output_dir={run.parent}", "evaluate.tta=flip")
    assert pipeline.run(cfg) == run
    assert (run / "predictions.csv").read_bytes() == plain
    found = view_predictions.read(run, "flip")
    opened = trained.open_run(run)
    images = np.asarray(opened.data.test.images)
    both = np.stack([opened.run.test.logits, opened.model.logits(images[:, :, ::-1].copy())])
    np.testing.assert_allclose(softmax(found, axis=1), softmax(both, axis=2).mean(axis=0))

    told = metrics_of(run)
    assert told["test_time"]["views"] == "flip"
    for name, of in told["test_time"]["measures"].items():
        if of["change"] is not None and name != "calibration_error":
            assert of["plain"] == pytest.approx(told["test"][name]["value"])
            assert of["change"] == pytest.approx(of["averaged"] - of["plain"])
    # The headline stays the plain one, and the file is made once.
    before = (run / "predictions_tta_flip.csv").stat().st_mtime_ns
    (run / "metrics.json").unlink()
    pipeline.run(cfg)
    assert (run / "predictions_tta_flip.csv").stat().st_mtime_ns == before
    assert metrics_of(run) == told
    [test_set], _ = variants.group([reader.read(run)])
    [table] = report_table.tables(test_set)
    assert table.rows[0][2] == "flip"
    # The file is there now: no image and no model are needed.
    done = beitmed(str(run), "evaluate.tta=flip", module="evaluate", cwd=tmp_path)
    assert done.returncode == 0 and "Averaged over views (flip), AUC" in done.stdout
    (run / "predictions_tta_flip.csv").write_text("split\n")
    with pytest.raises(UserError, match="cannot be read"):
        view_predictions.read(run, "flip")


def test_it_decides_nothing_about_which_run_it_is():
    plain, asked = resolve(), resolve("evaluate.tta=flip")
    assert config.identity(plain) == config.identity(asked)
    assert config.evaluation(plain) != config.evaluation(asked)
    assert plain.evaluate.tta is None


def test_flip_is_refused_where_left_and_right_mean_something():
    for name in ("chest", "pneumonia", "organa", "organc", "organs"):
        with pytest.raises(UserError, match=r"evaluate.tta: found flip, but a mirror image"):
            resolve(f"dataset={name}", "evaluate.tta=flip")
        assert resolve(f"dataset={name}", "evaluate.tta=crops").evaluate.tta == "crops"
    for name in ("breast", "derma", "retina", "oct", "path", "blood", "tissue", "phantom"):
        assert resolve(f"dataset={name}", "evaluate.tta=flip").dataset.flip
    with pytest.raises(UserError, match=r"evaluate.tta: found 'turn'"):
        resolve("evaluate.tta=turn")


@pytest.mark.parametrize("colour", [False, True])
def test_views_are_of_the_images_form(colour: bool):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 28, 28, *([3] if colour else [])), np.uint8)
    for name, made in (("flip", 1), ("crops", 5)):
        assert len(VIEWS[name]) == made
        for view in VIEWS[name]:
            found = view(images)
            assert (found.shape, found.dtype) == (images.shape, np.uint8)
            assert (found != images).any()
    np.testing.assert_array_equal(VIEWS["flip"][0](images)[:, :, 0], images[:, :, -1])
    corner = np.zeros((1, 28, 28), np.uint8)
    corner[0, :14, :14] = 255
    brightest = [view(corner).mean() for view in VIEWS["crops"]]
    assert np.argmax(brightest) == 0 and np.argmin(brightest) == 3


def test_probabilities_are_averaged_without_losing_the_order_of_saturated_ones():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 20, 4)) * 3
    found = views.averaged(tasks.of("multiclass"), logits)
    np.testing.assert_allclose(softmax(found, axis=1), softmax(logits, axis=2).mean(axis=0))
    found = views.averaged(tasks.of("multilabel"), logits)
    np.testing.assert_allclose(found, logit(expit(logits).mean(axis=0)))
    sure = np.array([[[0.0, 60.0], [0.0, 80.0]]] * 2)
    odds = np.diff(views.averaged(tasks.of("binary"), sure), axis=1)[:, 0]
    np.testing.assert_allclose(odds, [60, 80])


def test_the_change_of_patients_images_counts_patients():
    labels = np.arange(60) % 2
    rng = np.random.default_rng(2)
    plain = rng.normal(size=(60, 2)) + 1.5 * (labels[:, None] == np.arange(2))
    other = plain + 0.5 * rng.normal(size=(60, 2))
    patients = [str(i // 6) for i in range(60)]
    task = tasks.of("binary")
    alone, grouped = (views.compared(task, labels, plain, other, 1, p) for p in (None, patients))
    assert alone["auc"]["change"] == pytest.approx(grouped["auc"]["change"])
    assert alone["auc"]["ci_low"] != grouped["auc"]["ci_low"]
    one_class = views.compared(task, np.ones(60, np.int64), plain, other, 1, None)
    assert one_class["auc"]["change"] is None and "lack" in one_class["auc"]["reason"]
    assert "undefined" in next(views.lines("flip", one_class))
