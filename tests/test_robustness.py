"""Runs on worse images: what is asked, what it costs, what is written and refused."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, REAL_DATA, beitmed, medmnist_arrays, resolve

from beitmed import pipeline, trained
from beitmed.data import corruptions
from beitmed.report.content import robustness as content
from beitmed.report.content import variants
from beitmed.robustness import answers, evaluation
from beitmed.robustness.choice import Choice
from beitmed.runs import reader

LINEAR = ("method=pixels_logistic", "method.C=[0.001]", "evaluate.n_resamples=100",
          "data.allow_unofficial=true", "data.download=false")  # fmt: skip


def linear(folder: Path, root: Path, *overrides: str) -> Path:
    """A run of a method that is fitted in no time."""
    return pipeline.run(
        resolve(*LINEAR, f"data.root={root}", f"output_dir={folder}", f"cache.root={folder}/cache",
                *overrides)
    )  # fmt: skip


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two variants on BreastMNIST's form, one of them of two seeds, and a result."""
    folder = tmp_path_factory.mktemp("robust") / "outputs"
    arrays, rng = medmnist_arrays("breastmnist", 28), np.random.default_rng(3)
    for name, values in arrays.items():  # not so easy that nothing can be lost
        if name.endswith("labels"):
            arrays[name] = np.where(rng.random(values.shape) < 0.2, 1 - values, values)
    np.savez(folder.parent / "breastmnist.npz", **arrays)
    for overrides in (["balanced=true", "seed=1"], ["balanced=true", "seed=2"], []):
        linear(folder, folder.parent, "dataset=breast", *overrides)
    done = beitmed(str(folder), "corruptions=contrast_down,brightness_up", module="robustness",
                   cwd=folder.parent)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / "run"))


def robustness(run: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return beitmed(str(run), *arguments, module="robustness", cwd=run.parent)


def results_of(folder: Path) -> dict:
    return json.loads((folder / "robustness" / "robustness.json").read_text())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file()}  # fmt: skip


def test_a_backbone_is_asked_about_a_deployments_shifts(run: Path):
    arguments = ("severities=1,5", "corruptions=rotation,jpeg")
    done = robustness(run, *arguments)
    assert done.returncode == 0, done.stderr
    out = run.parent / "robustness"
    made = {p.name for p in out.iterdir()}
    assert {"robustness.json", "values.csv", "report.html", "report.md", "curves-auc.png",
            "corruptions.svg", "contents.json"} <= made  # fmt: skip
    results = results_of(run.parent)
    assert list(results["corruptions"]) == ["rotation", "jpeg"]
    assert results["severities"] == [1, 5] and not results["benchmark"] and not results["pairs"]
    said = (out / "report.md").read_text()
    assert "SYNTHETIC" in said and "RANDOM" in said
    with np.load(run / "corrupted" / "224" / "rotation.npz", allow_pickle=False) as npz:
        assert set(npz.files) == {"of", "1", "5"} and npz["5"].shape == (16, 2)
        stored = npz["5"]
    # What is stored is what the model says of these very images.
    opened = trained.open_run(run)
    rotation = corruptions.set_of("deployment", None)["rotation"]
    images = np.asarray(opened.data.test.images)
    worse = corruptions.corrupt(images, np.arange(16), rotation, 5)
    np.testing.assert_array_equal(opened.model.logits(worse), stored)

    before = files_of(out)
    again = robustness(run, *arguments)
    assert again.returncode == 0, again.stderr
    assert "corrupted copies" not in again.stderr  # nothing is asked twice
    assert files_of(out) == before


def test_a_stopped_command_goes_on_and_a_damaged_file_is_asked_anew(
    run: Path, caplog: pytest.LogCaptureFixture
):
    def ask(*severities: int) -> tuple[answers.Answers, str]:
        caplog.clear()
        choice = Choice(named={"gamma_up": None}, severities=severities)
        with caplog.at_level("INFO"):
            return answers.ask([trained.open_run(run)], choice.of(None), choice), caplog.text

    first, said = ask(3)
    assert "1 corrupted copies of 16 test images" in said
    stored = run / "corrupted" / "224" / "gamma_up.npz"
    whole = stored.read_bytes()
    stored.write_bytes(whole[:100])
    again, said = ask(3)
    assert stored.read_bytes() == whole and said
    more, said = ask(1, 3)
    assert "1 corrupted copies" in said  # the third is there
    for found in (again, more):
        np.testing.assert_array_equal(found.of(run, "gamma_up", 3), first.of(run, "gamma_up", 3))
    with np.load(stored) as npz:
        assert set(npz.files) == {"of", "1", "3"}


def test_seeds_of_one_trunk_pass_an_image_through_it_once(tiny_weights: Path, tmp_path: Path):
    runs = [
        pipeline.run(
            resolve(*FAST, f"output_dir={tmp_path}", f"cache.root={tmp_path}/cache",
                    "backbone=auto", f"backbone.weights={tiny_weights}", f"seed={seed}")
        )
        for seed in (1, 2)
    ]  # fmt: skip
    choice = Choice(named={"gamma_up": None}, severities=(4,))
    chosen = choice.of(None)
    opened = [trained.open_run(run) for run in runs]
    found = answers.ask(opened, chosen, choice)
    alone = trained.open_run(runs[1])
    images = np.asarray(alone.data.test.images)
    worse = corruptions.corrupt(images, np.arange(len(images)), chosen["gamma_up"], 4)
    np.testing.assert_array_equal(found.of(runs[1], "gamma_up", 4), alone.model.logits(worse))
    sizes = [sum(p.numel() for p in o.model.network.parameters()) for o in opened]
    assert sizes[1] < sizes[0] == sum(p.numel() for p in alone.model.network.parameters())


def test_variants_are_averaged_over_seeds_and_compared_in_pairs(two: Path):
    results = results_of(two)
    assert [len(v["seeds"]) for v in results["variants"]] == [1, 2]
    assert len(results["pairs"]) == 6  # a pair, three measures, by drop and by value
    for pair in results["pairs"]:
        assert pair["p_holm"] is None or pair["p_holm"] >= pair["p"]
    name, members = (results["variants"][1][key] for key in ("name", "runs"))
    rows = {
        (r["corruption"], r["severity"]): r for r in results["rows"]
        if r["variant"] == name and r["measure"] == "auc"
    }  # fmt: skip
    clean = rows[None, 0]["value"]["value"]
    each = []
    for severity in range(1, 6):
        row = rows["brightness_up", severity]
        assert row["drop"]["value"] == pytest.approx(clean - row["value"]["value"])
        each.append(row["drop"]["value"])
    mean = rows["brightness_up", None]["drop"]
    assert mean["value"] == pytest.approx(np.mean(each))
    assert mean["low"] <= mean["value"] <= mean["high"]
    both = [rows[c, None]["drop"]["value"] for c in results["corruptions"]]
    assert rows[None, None]["drop"]["value"] == pytest.approx(np.mean(both))
    auc = [run.metrics["test"]["auc"]["value"] for run in reader.find([two])[0]
           if run.path.name in members]  # fmt: skip
    assert clean == pytest.approx(np.mean(auc))


def test_errors_relative_to_alexnet_where_its_own_are_no_noise(two: Path):
    found = {(b["corruption"], b["variant"]): b for b in results_of(two)["benchmark"]}
    name = results_of(two)["variants"][0]["name"]
    noise = found["contrast_down", name]
    assert noise["rbe"]["value"] is None and "0.013" in noise["rbe"]["reason"]
    assert noise["be"]["value"] > 0
    sound = found["brightness_up", name]
    rows = (r for r in results_of(two)["rows"] if r["variant"] == name and r["severity"] is None)
    row = next(
        r for r in rows if (r["corruption"], r["measure"]) == ("brightness_up", "balanced_accuracy")
    )
    published = corruptions.published()["breastmnist"]
    alexnet = published["corruptions"]["brightness_up"]["alexnet_error"]
    assert sound["be"]["value"] == pytest.approx((1 - row["value"]["value"]) / alexnet)
    gap = alexnet - published["alexnet_clean_error"]
    assert sound["rbe"]["value"] == pytest.approx(row["drop"]["value"] / gap)
    said = (two / "robustness" / "report.md").read_text()
    assert "n/a (noise: AlexNet itself loses 0.013" in said
    assert "no comparison with that network" in said


def test_the_values_as_csv_are_those_of_the_json(two: Path):
    with (two / "robustness" / "values.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    results = results_of(two)
    assert len(rows) == len(results["rows"])
    for row, expected in zip(rows, results["rows"], strict=True):
        value = expected["value"]["value"]
        assert row["value_value"] == ("" if value is None else repr(value))


def test_a_report_shows_results_that_lie_beside_the_runs(two: Path, tmp_path: Path):
    runs, problems = reader.find([two])
    assert len(runs) == 3 and not problems  # the result is taken for no run
    [test_set], _ = variants.group(runs)
    [section] = content.sections(test_set, tmp_path)
    assert "2 corruptions (MedMNIST-C)" in section.title
    assert len(section.tables[0].rows) == 2 and section.figures[0].file(tmp_path, "png").is_file()
    (two / "other").mkdir(exist_ok=True)
    (two / "other" / "robustness.json").write_text("{}")
    assert len(content.beside(test_set)) == 1


def measured(run: Path, choice: Choice) -> dict[str, dict]:
    """What one corruption at one severity gives, by measure, without a folder of figures."""
    opened = trained.open_run(run)
    [test_set], _ = variants.group([opened.run])
    chosen = choice.of(opened.cfg.dataset.flag)
    found = answers.ask([opened], chosen, choice)
    results = evaluation.evaluate(test_set, chosen, choice.severities, found)
    return {r["measure"]: r for r in results["rows"] if r["severity"] == choice.severities[0]}


@pytest.mark.parametrize("flag", ["dermamnist", "chestmnist"])
def test_several_classes_and_several_labels(flag: str, tmp_path: Path):
    np.savez(tmp_path / f"{flag}.npz", **medmnist_arrays(flag, 28, n=60))
    run = linear(tmp_path / "outputs", tmp_path, f"dataset={flag.removesuffix('mnist')}")
    rows = measured(run, Choice(None, {"brightness_down": None}, (5,), "stored"))
    assert list(rows) == ["auc", "balanced_accuracy", "calibration_error"]
    assert all(
        r["value"]["value"] is not None and r["drop"]["value"] is not None for r in rows.values()
    )


OWN = """
import numpy as np

def fog(image, severity, rng):
    assert image.ndim == 3 and 1 <= severity <= 5
    return (image * (1 - severity / 10) + 25 * severity).clip(0, 255).astype(np.uint8)

def wrong(image, severity, rng):
    return image[:, :, 0]

def fails(image, severity, rng):
    return {}["missing"]
"""


def test_a_function_of_ones_own_is_a_corruption(run: Path):
    (run.parent / "my_weather.py").write_text(OWN)
    done = robustness(run, "corruptions={fog: my_weather.fog}", "severities=5")
    assert done.returncode == 0, done.stderr
    assert results_of(run.parent)["corruptions"] == {
        "fog": {"source": "own", "said": "my_weather.fog"}
    }
    for name, said in (("wrong", "returned uint8 (28, 28)"), ("fails", "KeyError: 'missing'"),
                       ("absent", "cannot be imported")):  # fmt: skip
        done = robustness(run, f"corruptions=x:my_weather.{name}")
        assert done.returncode == 2 and "corruptions.x: " in done.stderr and said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["severities=0,6"], "severities: found 0,6; allowed: numbers from 1 to 5"),
        (["severities=1,1"], "severities: found 1,1"),
        (["set=mine"], "set: found 'mine'; allowed: medmnist_c, deployment, all"),
        (["set=medmnist_c"], "MedMNIST-C has no corruptions for these images"),
        (["corruptions=pixelate"], "corruptions: found pixelate; allowed: resolution, gamma_up"),
        (["corruptions=jpeg,jpeg"], "twice"),
        (["corruptions=a:b"], "name:module.function"),
        (["at=112"], "at: found '112'; allowed: 224, stored"),
        (["colour=red"], "cannot be set for a run that is there"),
    ],
)
def test_what_means_nothing_is_refused(finished_run: Path, arguments: list[str], said: str):
    done = robustness(finished_run, *arguments)
    assert done.returncode == 2 and said in done.stderr
    assert not (finished_run.parent / "robustness").exists()


def test_runs_of_two_test_sets_and_no_runs_are_refused(two: Path, finished_run: Path, tmp_path):
    done = beitmed(str(two), str(finished_run), module="robustness", cwd=tmp_path)
    assert done.returncode == 2 and "the runs are of 2 test sets" in done.stderr
    assert beitmed(module="robustness", cwd=tmp_path).returncode == 2
    (tmp_path / "empty").mkdir()
    assert "no finished run" in beitmed("empty", module="robustness", cwd=tmp_path).stderr
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    done = beitmed(str(finished_run), f"output_dir={kept}", "severities=1", module="robustness",
                   cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2 and "not a robustness result" in done.stderr
    assert (kept / "mine.txt").read_text() == "mine"


@pytest.mark.real_data
def test_real_images_are_corrupted_and_measured(tmp_path: Path):
    run = linear(tmp_path / "outputs", REAL_DATA, "dataset=breast")
    row = measured(run, Choice(None, {"brightness_down": None}, (5,)))["auc"]
    assert row["drop"]["low"] < row["drop"]["value"] < row["drop"]["high"]


def test_the_choice_says_what_is_asked():
    choice = Choice.parse({"corruptions": "{fog: m.fog, pixelate}", "severities": "5,1"})
    assert choice.named == {"fog": "m.fog", "pixelate": None} and choice.severities == (1, 5)
