"""The predict command on finished runs: what it writes, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REAL_DATA, beitmed, resolve
from PIL import Image
from predict_checks import assert_predicts, column, predict, table
from pyarrow import parquet
from safetensors.numpy import load_file

from beitmed import data, pipeline, trained
from beitmed.predict import unlikeness
from beitmed.runs import reader


@pytest.fixture(scope="module")
def test_images(finished_run: Path) -> np.ndarray:
    return np.asarray(data.load(reader.read_config(finished_run)).test.images)


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def folder(test_images: np.ndarray, tmp_path: Path) -> Path:
    """The run's own test images as files."""
    (tmp_path / "images").mkdir()
    for i, image in enumerate(test_images):
        Image.fromarray(image).save(tmp_path / "images" / f"{i:02d}.png")
    return tmp_path / "images"


def test_the_runs_own_test_images_give_its_predictions(run, folder, test_images, tmp_path):
    values = assert_predicts(run, test_images, tmp_path)
    stated = reader.read(run).test.logits
    said = predict(run, folder, "logits=true", "overwrite=true", cwd=tmp_path)
    rows = table(tmp_path / "out.csv")
    np.testing.assert_array_equal(column(rows, "logit_"), stated)
    assert [Path(row["file"]).name for row in rows] == sorted(p.name for p in folder.iterdir())
    # In another order, and of other blocks.
    names = [f"images/{i:02d}.png" for i in np.random.default_rng(0).permutation(len(rows))[:-3]]
    (tmp_path / "table.csv").write_text("\n".join(["path", *names]))
    predict(run, "table.csv", "logits=true", cwd=tmp_path, out="other.csv")
    other = table(tmp_path / "other.csv")
    assert [row["file"] for row in other] == names
    order = [int(Path(name).stem) for name in names]
    np.testing.assert_allclose(column(other, "logit_"), stated[order], atol=1e-4)
    # What it means, on the terminal and beside the table.
    assert values["runs"][0]["caveats"] == reader.read(run).metrics["caveats"] != []
    for text in ("Note: SYNTHETIC", "Probabilities: ", "Abstains (risk=0.1)", "unlike:"):
        assert text in said
    assert values["images"] == {
        "looked_at": len(rows), "predicted": len(rows), "unreadable": 0, "left_out_by_ending": 0,
    }  # fmt: skip
    assert sum(values["predicted"].values()) == len(rows)


def test_parquet_holds_what_csv_holds(run, folder, tmp_path):
    predict(run, folder, cwd=tmp_path)
    predict(run, folder, cwd=tmp_path, out="out.parquet", code=2)  # out.json is there
    predict(run, folder, "overwrite=true", cwd=tmp_path, out="out.parquet")
    found, rows = parquet.read_table(tmp_path / "out.parquet"), table(tmp_path / "out.csv")
    assert found.column_names == list(rows[0])
    for name, values in found.to_pydict().items():
        kind = type(values[0])
        told = [row[name] == "true" if kind is bool else kind(row[name]) for row in rows]
        assert values == told
    assert not list(tmp_path.glob(".*tmp"))


def test_unreadable_images_are_named_and_the_rest_is_predicted(run, folder, test_images, tmp_path):
    (folder / "03.png").write_bytes(b"no image")
    (folder / "04.png").unlink()
    (folder / "04.png").symlink_to("nowhere")
    said = predict(run, folder, "logits=true", cwd=tmp_path, code=1)
    for text in ("2 images could not be read:", "03.png: is of no supported", "04.png: does not"):
        assert text in said
    rows, values = table(tmp_path / "out.csv"), json.loads((tmp_path / "out.json").read_text())
    assert len(rows) == len(test_images) - 2 and len(values["unreadable"]) == 2
    kept = np.delete(reader.read(run).test.logits, [3, 4], axis=0)
    np.testing.assert_allclose(column(rows, "logit_"), kept, atol=1e-4)
    for file in folder.iterdir():
        file.unlink()
        file.write_bytes(b"no image")
    before = sorted(tmp_path.iterdir())
    said = predict(run, folder, cwd=tmp_path, code=2, out="none.csv")
    assert "None could be read, so nothing was written" in said
    assert sorted(tmp_path.iterdir()) == before


def test_the_mean_of_several_runs_with_its_spread(run, folder, tmp_path):
    cfg = reader.read_config(run)
    other = pipeline.run(
        resolve("experiment=smoke", "data.limit=8", "train.epochs=1", "seed=5",
                "evaluate.n_resamples=100", f"output_dir={tmp_path}", f"cache.root={tmp_path}/c")
    )  # fmt: skip
    assert cfg.seed != 5
    for i, one in enumerate((run, other)):
        predict(one, folder, cwd=tmp_path, out=f"{i}.csv")
    said = predict(run, other, folder, "logits=true", cwd=tmp_path)
    single = [column(table(tmp_path / f"{i}.csv"), "probability_") for i in (0, 1)]
    rows = table(tmp_path / "out.csv")
    np.testing.assert_allclose(column(rows, "probability_"), np.mean(single, axis=0), atol=1e-12)
    np.testing.assert_allclose(column(rows, "sd_"), np.std(single, axis=0, ddof=1), atol=1e-12)
    np.testing.assert_allclose(column(rows, "lowest_"), np.min(single, axis=0), atol=1e-12)
    np.testing.assert_allclose(column(rows, "highest_"), np.max(single, axis=0), atol=1e-12)
    assert "the mean of 2 runs" in said and any(key.endswith("_run1") for key in rows[0])
    assert len(json.loads((tmp_path / "out.json").read_text())["runs"]) == 2


def test_unlikeness_is_kept_and_needs_no_training_images_again(run, folder, tmp_path):
    # Of a file that is here no more.
    config = (run / "config.yaml").read_text()
    for state in ("fitted", "kept"):
        predict(run, folder, cwd=tmp_path, out=f"{state}.csv")
        found = load_file(run / unlikeness.FILE)
        assert set(found) == {"mean", "scale", "whitening", "val"}
    assert (tmp_path / "fitted.csv").read_text() == (tmp_path / "kept.csv").read_text()
    (run / unlikeness.FILE).write_bytes(b"damaged")
    predict(run, folder, cwd=tmp_path, out="again.csv")
    assert (tmp_path / "fitted.csv").read_text() == (tmp_path / "again.csv").read_text()
    said = predict(run, folder, "unlike=off", cwd=tmp_path, out="off.csv")
    assert "not asked for (unlike=off)" in said
    assert not {"unlike", "unlike_percentile"} & set(table(tmp_path / "off.csv")[0])
    # Training data that are others now: the rest is said all the same.
    (run / unlikeness.FILE).unlink()
    changed = json.loads((run / "data.json").read_text())
    changed["digests"]["train"] = "0" * 64
    (run / "data.json").write_text(json.dumps(changed))
    said = predict(run, folder, cwd=tmp_path, out="without.csv")
    assert "none, since the run's training images are needed once" in said
    assert "made from other data" in json.loads(
        (tmp_path / "without.json").read_text())["unlikeness"]["reason"]  # fmt: skip
    assert (run / "config.yaml").read_text() == config


def test_stored_features_say_the_same_as_computed_ones(finished_run, run):
    found = trained.open_run(run)
    model, loaded = found.model, found.data
    stored = model.features_of(loaded, "train", np.arange(5))
    np.testing.assert_allclose(
        stored, model.with_features(np.asarray(loaded.train.images))[1][:5], atol=1e-6
    )
    again = trained.open_run(run, [f"cache.root={run}/none"])
    np.testing.assert_allclose(
        stored, again.model.features_of(again.data, "train", np.arange(5)), atol=1e-2
    )


def test_what_lies_elsewhere_is_unlike(run, test_images, tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (20, *test_images.shape[1:]), np.uint8)
    np.savez(tmp_path / "noise.npz", test_images=noise)
    predict(run, "noise.npz", cwd=tmp_path)
    rows = table(tmp_path / "out.csv")
    assert np.mean([row["unlike"] == "true" for row in rows]) > 0.9
    assert (column(rows, "unlike_percentile") == 100).mean() > 0.9


def test_colour_is_noted_or_refused(run, folder, tmp_path):
    Image.new("RGB", (40, 40), (200, 30, 30)).save(folder / "99.png")
    said = predict(run, folder, cwd=tmp_path)
    assert "in colour, read as grey: 1" in said
    assert table(tmp_path / "out.csv")[-1]["note"] == "in colour, read as grey"
    said = predict(run, folder, "colour=refuse", "overwrite=true", cwd=tmp_path, code=1)
    assert "99.png: is in colour, and the run was trained on grey images" in said


WRONG = {
    "no run": (["images"], "found no run's folder"),
    "no image": (["run"], "found no image among run"),
    "nothing": ([], "found no run's folder (it has a config.yaml) among no arguments"),
    "no such file": (["run", "none.png"], "none.png: no such file or folder"),
    "an empty folder": (["run", "empty"], "empty: no image there"),
    "an ending": (["run", "images", "to=out.txt"], "to: found out.txt; allowed"),
    "no folder": (["run", "images", "to=none/out.csv"], "is no folder that can be written"),
    "a key": (["run", "images", "treshold=0.5"], "treshold"),
    "a threshold": (["run", "images", "threshold=high"], "threshold: found 'high'; allowed"),
    "no point": (["run", "images", "threshold=operating_point"], "the runs have None"),
    "unfinished": (["unfinished", "images"], "this run is not finished"),
    "foreign": (["run", "foreign", "images"], "is not a run's folder (it has no config.yaml)"),
    "weights": (["run", "images", "backbone.weights=none"], "none"),
    "model": (["damaged", "images"], "top.safetensors: cannot be read"),
    "archive": (["run", "words.npz"], "words.npz: cannot be read as an .npz archive"),
    "column": (["run", "table.csv"], "has no column 'path'; found: file"),
    "decides": (["run", "images", "dataset.fit=crop"], "dataset.fit"),
}


@pytest.fixture(scope="module")
def place(finished_run, test_images, tmp_path_factory) -> Path:
    """A folder with all that bad input needs."""
    root = tmp_path_factory.mktemp("wrong")
    for name, file in (
        ("run", None),
        ("unfinished", "metrics.json"),
        ("damaged", "top.safetensors"),
    ):
        shutil.copytree(finished_run, root / name)
        if file:
            (root / name / file).unlink()
    for name in ("images", "empty", "foreign"):
        (root / name).mkdir()
    (root / "foreign" / "metrics.json").write_text("{}")
    Image.fromarray(test_images[0]).save(root / "images" / "a.png")
    (root / "words.npz").write_text("words")
    (root / "table.csv").write_text("file\nimages/a.png\n")
    return root


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_message_and_nothing_is_written(case, place):
    arguments, message = WRONG[case]
    before = sorted(str(p) for p in place.rglob("*"))
    done = beitmed(*arguments, cwd=place, module="predict")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("beitmed: ") and message in done.stderr
    assert "Traceback" not in done.stderr
    left = {p for p in map(str, place.rglob("*")) if not p.endswith(unlikeness.FILE)}
    assert sorted(left) == [p for p in before if not p.endswith(unlikeness.FILE)]


def test_what_is_there_is_not_replaced_without_being_asked(place):
    (place / "out.csv").write_text("mine")
    assert "out.csv is there already" in predict("run", "images", cwd=place, code=2)
    assert (place / "out.csv").read_text() == "mine"
    (place / "out.csv").unlink()


def test_it_refuses_before_torch_is_imported(place):
    code = (
        "import sys; from beitmed.commands import predict, cli\n"
        "words = ['run', 'images', 'threshold=operating_point']\n"
        "code = cli.guarded(lambda: predict.predict(words))\n"
        "sys.exit(3 if 'torch' in sys.modules else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=place, check=False)
    assert done.returncode == 2


@pytest.mark.slow
def test_many_images_take_no_more_memory_than_a_few(tmp_path):
    """20,000 files and 2,000, by the peak of a process: what grows is a list of names."""
    run = pipeline.run(
        resolve("dataset=phantom", "method=majority", "evaluate.n_resamples=100",
                f"output_dir={tmp_path}", "data.limit=20")
    )  # fmt: skip
    (tmp_path / "many").mkdir()
    (tmp_path / "few").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png", compress_level=0)
    for i in range(20_000):
        os.link(tmp_path / "one.png", tmp_path / ("few" if i < 2000 else "many") / f"{i}.png")
    code = (
        "import resource, sys; from beitmed.commands import front\n"
        "sys.argv = ['beitmed', 'predict', *sys.argv[1:]]\n"
        "try:\n    front.main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = [
        int(subprocess.run([sys.executable, "-c", code, run, name, f"to={name}.csv"], cwd=tmp_path,
                           check=True, capture_output=True, text=True).stdout.split()[-1])
        for name in ("few", "many")
    ]  # fmt: skip
    assert peaks[1] - peaks[0] < 40_000, peaks  # kB; the images would be 1.2 GB
    assert len(table(tmp_path / "many.csv")) == 18_000


@pytest.mark.slow
@pytest.mark.real_data
def test_real_breast_ultrasound_and_what_is_none(tmp_path):
    run = pipeline.run(
        resolve("dataset=breast", "backbone=beit_tiny", "unfreeze=5", "train.epochs=1",
                "evaluate.n_resamples=100", f"data.root={REAL_DATA}", "data.download=false",
                "data.allow_unofficial=true", f"output_dir={tmp_path}", f"cache.root={tmp_path}/c")
    )  # fmt: skip
    flagged = {}
    for name in ("breastmnist", "pneumoniamnist"):
        predict(run, REAL_DATA / f"{name}.npz", "logits=true", cwd=tmp_path, out=f"{name}.csv")
        rows = table(tmp_path / f"{name}.csv")
        flagged[name] = np.mean([row["unlike"] == "true" for row in rows])
        if name == "breastmnist":
            np.testing.assert_array_equal(column(rows, "logit_"), reader.read(run).test.logits)
    assert flagged["breastmnist"] < 0.12 and flagged["pneumoniamnist"] > 0.8
    values = json.loads((tmp_path / "breastmnist.json").read_text())
    low, high = values["abstention"]["classes"]["malignant"]["kept_possible"]["really"]
    assert (round(100 * low), round(100 * high)) == (79, 98)
