"""AutoGluon as a second process: what goes to it, what comes back, and what is said where not.

The process is a real one, in an environment of its own. AutoGluon itself is not in the tests'
environment; a small classifier stands where it would, under its name, so that everything of ours
runs. With BEITMED_AUTOGLUON_PYTHON=VENV/bin/python one test runs AutoGluon itself.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import venv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from conftest import beitmed, medmnist_arrays, resolve
from predict_checks import assert_predicts
from scipy.special import log_softmax

from beitmed import config, data, methods, pipeline
from beitmed.errors import UserError
from beitmed.methods import autogluon, autogluon_worker
from beitmed.report.content import baselines
from beitmed.runs import reader
from beitmed.runs.reader import read_config

SMALL = ("dataset=phantom", "data.limit=12", "evaluate.n_resamples=100", "method=autogluon")
REAL = os.environ.get("BEITMED_AUTOGLUON_PYTHON")
# The distance of an image's mean brightness to that of each class: a softmax of its negative.
STANDS_IN = """
import json
from pathlib import Path
import numpy as np
import pandas as pd
from PIL import Image

class MultiModalPredictor:
    total_parameters, trainable_parameters = 7, 5

    def __init__(self, label, problem_type, path):
        self.label, self.path = label, Path(path).resolve()
        assert problem_type == "binary"

    def fit(self, train_data, tuning_data, **settings):
        checkpoint = settings["hyperparameters"].get("model.timm_image.checkpoint_name")
        if checkpoint == "from_the_hub":
            raise RuntimeError("no network to fetch from")
        assert set(tuning_data) == {"image", "label"} and len(tuning_data) == 24
        print("much that nobody wants to read")
        x = self._brightness(train_data)
        self.means = [x[train_data[self.label] == c].mean() for c in (0, 1)]
        self.settings = settings
        self.path.mkdir()
        (self.path / "means.json").write_text(json.dumps(self.means))

    @classmethod
    def load(cls, path):
        found = cls(None, "binary", path)
        found.means = json.loads((found.path / "means.json").read_text())
        return found

    def _brightness(self, table):
        images = [Image.open(name) for name in table["image"]]
        assert {(image.mode, image.size) for image in images} == {("RGB", (28, 28))}
        return np.array([np.asarray(image).mean() for image in images])

    def predict_proba(self, table, as_pandas):
        assert as_pandas and list(table) == ["image"]
        root = Path(table["image"].iloc[0]).parents[1]
        assert not any("label" in file.read_text() for file in root.glob("*.csv"))
        x = self._brightness(table)
        p = np.exp(-np.abs(x[:, None] - [self.means[1], self.means[0]]))
        return pd.DataFrame(p / p.sum(axis=1, keepdims=True), columns=[1, 0])

    def fit_summary(self):
        return {"seconds": self.settings["time_limit"], "seed": self.settings["seed"],
                "lr": self.settings["hyperparameters"]["optim.lr"],
                "cpu": self.settings["hyperparameters"].get("env.accelerator") == "cpu"}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of an environment of its own, with what stands in for AutoGluon in it."""
    root = tmp_path_factory.mktemp("venv")
    venv.create(root, symlinks=True, with_pip=False)
    [site] = root.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(str(Path(np.__file__).parents[1]))
    (site / "autogluon" / "multimodal").mkdir(parents=True)
    (site / "autogluon" / "multimodal" / "__init__.py").write_text(STANDS_IN)
    (site / "autogluon_multimodal-0.0.1.dist-info").mkdir()
    (site / "autogluon_multimodal-0.0.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: autogluon.multimodal\nVersion: 0.0.1\n"
    )
    return root / "bin" / "python"


def go(folder: Path, *overrides: str) -> Path:
    return pipeline.run(resolve(*SMALL, f"output_dir={folder}/outputs", *overrides))


def test_a_run_is_that_of_the_other_process(python, tmp_path, caplog):
    with caplog.at_level("INFO"):
        run = go(tmp_path, f"method.python={python}", "method.time_budget_s=9", "device=cpu",
                 "seed=3", "+method.hyperparameters.optim.lr=0.25")  # fmt: skip
    assert "autogluon: training for up to 9 s" in caplog.text
    assert "nobody wants" not in caplog.text
    read = reader.read(run)
    known = data.load(resolve(*SMALL))
    chosen = [int(r["index"]) for r in csv.DictReader((run / "train_indices.csv").open())]
    x = {n: s.images.reshape(len(s.labels), -1).mean(axis=1) for n, s in known.splits.items()}
    y = known.train.labels[chosen]
    means = np.array([x["train"][chosen][y == c].mean() for c in (0, 1)])
    for split, found in (("val", read.val), ("test", read.test)):
        expected = log_softmax(-np.abs(x[split][:, None] - means), axis=1)
        floor = np.log(autogluon._SMALLEST)
        np.testing.assert_allclose(found.logits, np.maximum(expected, floor), atol=1e-6)
    said = json.loads((run / "model.json").read_text())
    assert "stand-in for AutoKeras" in said["program"] and said["version"] == "0.0.1"
    assert said["summary"] == {"seconds": 9, "seed": 3, "lr": 0.25, "cpu": 1}
    assert (said["parameters"], said["trained_parameters"]) == (7, 5)
    assert [p.name for p in (run / "autogluon").iterdir()] == ["predictor"]
    assert not list(run.glob(".*")) and not list(run.glob("*.autogluon"))
    # Moved, it is asked again; PNG files and tables are gone.
    moved = run.rename(tmp_path / "moved")
    cfg = read_config(moved)
    again = methods.load(cfg, moved, known.class_names)
    for split, found in (("val", read.val), ("test", read.test)):
        assert (again.logits(known.splits[split].images) == found.logits).all()
    asked = assert_predicts(moved, known.test.images, tmp_path)
    assert "pixels" in asked["unlikeness"]["runs"][0]["features"]
    shutil.rmtree(moved / "autogluon")
    with pytest.raises(UserError, match="autogluon: no such folder"):
        methods.load(cfg, moved, known.class_names)
    moved.rename(run)
    [one] = reader.find([tmp_path / "outputs"])[0]
    assert baselines.departures(one)[0].startswith("AutoGluon MultiModal for 9 s stands in")
    for title in ("AutoKeras", "Google AutoML Vision"):
        assert baselines.is_counterpart({"method": title, "size": "28"}, one)
    assert not baselines.is_counterpart({"method": "auto-sklearn", "size": "28"}, one)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("null", ["method.python: is missing", "environment of its own", "pip install"]),
        ("no/such/python", ["no/such/python is not a program", "pip install"]),
        (sys.executable, ["finds no AutoGluon", "autogluon", "pip install"]),
        ("/bin/false", ["finds no AutoGluon (no message)"]),
    ],
)
def test_an_environment_without_autogluon_is_named(given, said, tmp_path):
    with pytest.raises(UserError) as e:
        go(tmp_path, f"method.python={given}")
    for part in ("method.python", *said):
        assert part in str(e.value)
    assert not list(tmp_path.glob("outputs/[!.]*"))


def test_its_failure_is_a_message_with_the_end_of_what_it_said(python, tmp_path):
    done = beitmed(
        *SMALL, f"method.python={python}", "method.checkpoint=from_the_hub", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "RuntimeError: no network to fetch from" in done.stderr
    assert "exit code 1" in done.stderr and "method.pretrained=false" in done.stderr
    assert 'File "' not in done.stderr.partition("beitmed: ")[0]  # no traceback of ours
    assert not list(tmp_path.glob("outputs/[!.]*"))


def test_several_labels_or_a_single_class_are_refused_before_anything(python, tmp_path):
    np.savez(tmp_path / "chestmnist.npz", **medmnist_arrays("chestmnist", 28, n=20))
    with pytest.raises(UserError, match=r"several labels.*method=automl"):
        go(tmp_path, f"method.python={python}", "dataset=chest", "data.allow_unofficial=true",
           f"data.root={tmp_path}", "data.limit=2")  # fmt: skip
    loaded = data.load(resolve(*SMALL))
    of_one = np.flatnonzero(loaded.train.labels == 1)
    with pytest.raises(UserError, match="a single class"):
        autogluon._check_labels(loaded, of_one)


@pytest.mark.parametrize("bad", [np.ones((3, 2)), np.full((4, 2), 0.5), np.full((3, 2), np.nan)])
def test_what_are_no_probabilities_of_the_images_is_refused(bad, tmp_path):
    np.save(tmp_path / "val.npy", bad)
    with pytest.raises(UserError, match="AutoGluon gave val probabilities of shape"):
        autogluon._logits(tmp_path / "val.npy", 3, 2)


def test_a_class_without_training_images_gets_the_probability_zero():
    class Knows02:
        def predict_proba(self, table, as_pandas):
            return pd.DataFrame({2: [0.9, 0.2], 0: [0.1, 0.8]})

    found = autogluon_worker._probabilities(Knows02(), pd.DataFrame({"image": ["a", "b"]}), 3)
    assert found.tolist() == [[0.1, 0, 0.9], [0.8, 0, 0.2]]


def test_which_python_it_was_is_not_part_of_a_runs_identity():
    names = {
        config.run_name(resolve("method=autogluon", *more))
        for more in ([], ["method.python=a"], ["method.python=b"])
    }
    assert len(names) == 1
    assert names != {config.run_name(resolve("method=autogluon", "method.time_budget_s=9"))}


def test_random_weights_are_those_of_a_named_model():
    with pytest.raises(UserError, match=r"method\.pretrained: found false without a method\.check"):
        resolve("method=autogluon", "method.pretrained=false")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_checkpoint_of_random_weights_is_one_that_autogluon_reads(name, tmp_path):
    folder = Path(autogluon_worker._random_checkpoint(tmp_path, name, 3))
    facts = json.loads((folder / "config.json").read_text())
    # As its TimmAutoModelForImagePrediction makes a model of a folder.
    model = timm.create_model(
        facts["architecture"], checkpoint_path=folder / "pytorch_model.bin", num_classes=0
    ).eval()
    pixels = torch.zeros(1, *facts["pretrained_cfg"]["input_size"])
    assert model(pixels).shape == (1, facts["num_features"])


@pytest.mark.skipif(REAL is None, reason="BEITMED_AUTOGLUON_PYTHON names no Python of AutoGluon's")
def test_autogluon_itself(tmp_path):
    run = go(tmp_path, f"method.python={REAL}", "method.time_budget_s=20", "device=cpu",
             "method.pretrained=false", "method.checkpoint=resnet18")  # fmt: skip
    said = json.loads((run / "model.json").read_text())
    assert said["parameters"] > 11e6 and said["summary"]["training_time"] > 0
    read = reader.read(run)
    np.testing.assert_allclose(np.exp(read.test.logits).sum(axis=1), 1, atol=1e-3)
    assert len(np.unique(read.test.logits)) > 10
    moved = run.rename(tmp_path / "moved")
    known = data.load(read_config(moved))
    again = methods.load(read_config(moved), moved, known.class_names)
    np.testing.assert_array_equal(again.logits(known.test.images), read.test.logits)
