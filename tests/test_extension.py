"""What a user adds from outside the package: each a file in one place, and a command runs it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import beitmed, medmnist_arrays, resolve
from scipy.stats import bootstrap
from sklearn.metrics import balanced_accuracy_score, hamming_loss

from beitmed import config, data, methods, pipeline, tasks
from beitmed.data import label_subset
from beitmed.errors import UserError
from beitmed.report.content import contents, published, variants
from beitmed.runs import folder, reader, record
from beitmed.tasks import own_metrics

EXTENSION = """
import numpy as np

def youden(labels, logits):
    called = logits.argmax(axis=1) == 1
    return called[labels == 1].mean() - called[labels == 0].mean()

def drawn(labels, options, seed):
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    return np.concatenate([rng.choice(m, options["images"]) for m in members])

def broken(*arguments):
    return 1 / 0

def not_a_number(labels, logits):
    return float("nan")

def words(labels, logits):
    return "0.5"

def few(labels, options, seed):
    return np.flatnonzero(labels == 0)
"""
METHOD = """
import numpy as np
from beitmed import model

class Brightness:
    def __init__(self, sign, threshold):
        self.sign, self.threshold = sign, threshold

    def logits(self, images):
        mean = np.asarray(images).reshape(len(images), -1).mean(axis=1)
        score = self.sign * (mean - self.threshold) / 10
        return np.column_stack([-score, score])

def fit(cfg, data, indices, folder):
    kept = {"threshold": np.asarray(data.train.images[indices]).mean()}
    found = Brightness(cfg.method.options["sign"], **kept)
    logits = {name: found.logits(data.splits[name].images) for name in ("val", "test")}
    return model.Fit(logits, description={"own": True}, tensors=kept)

def load(cfg, folder, class_names):
    return Brightness(cfg.method.options["sign"], **model.read_tensors(folder))
"""
WRONG_METHODS = {
    "two_rows": """
import numpy as np
from beitmed.model import Fit

def fit(cfg, data, indices, folder):
    return Fit({"val": np.zeros((2, 2)), "test": np.zeros((2, 2))})

def load(cfg, folder, class_names):
    pass
""",
    "constant": "fit, load = 3, 4",
    "forgetful": "def fit(cfg, data, indices, folder):\n    pass",
    "unfinished": "def fit(:",
}
RECIPE = """
recipe:
  full: {batch_size: 16, weight_decay: 0.05, majority_ratio: null}
  balanced: {batch_size: 8, weight_decay: 0.1, majority_ratio: 1.0}
"""
FILES = {
    "my_extension.py": EXTENSION,
    "brightness.py": METHOD,
    # A file of MedMNIST's form of which the medmnist package knows nothing.
    "my/conf/dataset/mine.yaml": """
name: mine
source: medmnist
flag: mine
classes: [ill, healthy]
task: binary
positive_label: 1
"""
    + RECIPE,
    "my/conf/backbone/vit_mine.yaml": """
name: vit_mine
family: vit
weights: random
revision: null
geometry:
  hidden_size: 32
  num_hidden_layers: 3
  num_attention_heads: 2
  intermediate_size: 64
  image_size: 48
  patch_size: 12
random:
  init_seed: 1
  image_mean: [0.5, 0.5, 0.5]
  image_std: [0.5, 0.5, 0.5]
  resample: bilinear
""",
    "my/conf/balancing/drawn.yaml": """
name: drawn
function: my_extension.drawn
options: {images: 30}
""",
    "my/conf/method/brightness.yaml": """
name: brightness
title: mean brightness
module: brightness
options: {sign: 1}
""",
    "my/conf/experiment/mine.yaml": """# @package _global_
defaults:
  - override /dataset: mine
  - override /backbone: vit_mine
  - override /balancing: drawn

balanced: true
evaluate:
  metrics: {youden: my_extension.youden}
""",
}
COMMAND = (
    "-m", "--config-dir", "my/conf", "experiment=mine", "method=backbone,brightness", "seed=7",
    "unfreeze=1", "train.epochs=2", "evaluate.n_resamples=200", "data.root=.", "cache.root=cache",
)  # fmt: skip


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with everything that is added, and what the command said that ran it."""
    folder = tmp_path_factory.mktemp("extended")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content.lstrip("\n"))
    np.savez(folder / "mine.npz", **medmnist_arrays("breastmnist", 28, n=80))
    done = beitmed(*COMMAND, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def runs_of(folder: Path) -> dict[str, reader.FinishedRun]:
    found, problems = reader.find([folder / "outputs"])
    assert problems == []
    return {run.config.method.name: run for run in found}


def rows_of(run: Path) -> list[int]:
    return [int(r["index"]) for r in csv.DictReader((run / "train_indices.csv").open())]


def test_one_of_each_from_outside_is_run(extended):
    runs = runs_of(extended[0])
    assert set(runs) == {"backbone", "brightness"}
    ours, baseline = runs["backbone"], runs["brightness"]
    assert ours.path.name.startswith("mine_28_drawn_vit_mine_top1_seed7_")
    assert baseline.path.name.startswith("mine_28_drawn_brightness_seed7_")
    assert (ours.dataset, ours.data["class_names"]) == ("mine", ["ill", "healthy"])
    assert "the user's own file, not a published dataset" in ours.metrics["caveats"]
    assert "data file is not the official one" not in ours.metrics["caveats"]
    assert ours.config.train.weight_decay == 0.1  # its own recipe, balanced
    # 3 layers of 32 units; of the top one, the final norm and the classifier are trained.
    layer = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32
    assert ours.metrics["trained_parameters"] == layer + 2 * 32 + 2 * 33
    assert ours.metrics["parameters"] == 3 * layer + 2 * 32 + 2 * 33 + (
        32 + 17 * 32 + 3 * 12 * 12 * 32 + 32  # CLS token, positions, patches
    )
    assert baseline.model["own"] is True


def test_the_metric_is_scikit_learns_for_a_backbone_and_for_a_baseline(extended):
    for run in runs_of(extended[0]).values():
        stated = run.metrics["test"]["youden"]
        expected = balanced_accuracy_score(
            run.test.labels, run.test.logits.argmax(axis=1), adjusted=True
        )
        assert stated["value"] == pytest.approx(expected, abs=1e-12)
        assert (stated["n"], list(run.metrics["test"])[-1]) == (80, "youden")
        if stated["interval"] is None:
            assert stated["reason"]
        else:
            assert stated["interval"] == "BCa bootstrap"
            assert stated["ci_low"] < stated["value"] < stated["ci_high"]
    assert run.metrics["test"]["youden"]["interval"]  # of the baseline's, which is no constant
    assert "  youden             " in extended[1]


def test_the_rows_are_those_that_the_strategy_drew(extended):
    folder, said = extended
    labels = np.load(folder / "mine.npz")["train_labels"][:, 0]
    rng = np.random.default_rng(7)
    expected = np.sort(
        np.concatenate([rng.choice(np.flatnonzero(labels == c), 30) for c in (0, 1)])
    )
    different = len(np.unique(expected))
    assert different < 60  # drawn with replacement: what follows is of rows that repeat
    for run in runs_of(folder).values():
        assert rows_of(run.path) == expected.tolist()
        assert run.metrics["n"]["train"] == 60
        assert run.data["trained_on_by_class"] == [30, 30]
        assert run.metrics["balancing"] == "drawn"
    assert f"training on 60 images, {different} different ones of 80 (30 'ill'" in said
    steps = [row["step"] for row in runs_of(folder)["backbone"].history]
    assert steps == [8, 16]  # 60 rows in batches of 8


def test_the_method_is_asked_again_for_its_predictions(extended, monkeypatch):
    folder, _ = extended
    monkeypatch.syspath_prepend(folder)
    run = runs_of(folder)["brightness"]
    cfg = reader.read_config(run.path, [f"data.root={folder}"])
    loaded = data.load(cfg)
    found = methods.load(cfg, run.path, loaded.class_names).logits(loaded.test.images)
    assert (found == run.test.logits).all()


def test_it_all_stands_in_a_report(extended, tmp_path):
    runs = list(runs_of(extended[0]).values())
    document = contents.build(runs, [], tmp_path, contents.Options(images=False, attention=False))
    tables = {t.id: t for section in document.sections for t in section.tables}
    names = {str(row[0]) for row in tables["variants-mine"].rows}
    assert names == {"vit_mine top 1 (28) balanced by drawn, RANDOM weights",
                     "mean brightness (28) balanced by drawn"}  # fmt: skip
    more = tables["more-mine"]
    column = [c.label for c in more.columns].index("youden")
    by_name = {run.config.method.name: run.metrics["test"]["youden"] for run in runs}
    assert {row[column].value for row in more.rows} == {e["value"] for e in by_name.values()}
    assert "From outside the package: youden is my_extension.youden." in more.notes


def test_started_again_it_does_no_work_and_another_file_is_told(extended):
    folder, _ = extended
    done = beitmed(*COMMAND, cwd=folder)
    assert done.stdout.count("finished before, nothing to do") == 2
    values = runs_of(folder)["brightness"].config.model_dump()
    (other := folder / "other").mkdir()
    np.savez(other / "mine.npz", **medmnist_arrays("breastmnist", 28, n=80, seed=1))
    values["data"] |= {"root": str(other)}
    values["output_dir"] = str(folder / "outputs")
    with pytest.raises(UserError, match=r"mine\.npz: has MD5"):
        data.check_unchanged(config.check(values), runs_of(folder)["brightness"].data)


def test_other_commands_know_what_was_added(extended):
    folder, _ = extended
    own = ("--config-dir", "my/conf", "data.root=.", "unfreeze=1", "backbone=vit_mine")
    done = beitmed(*own, "dataset=mine", cwd=folder, module="prepare")
    assert done.returncode == 0, done.stderr
    assert "mine, 28 px  there, a file of your own" in done.stdout
    done = beitmed(*own, "dataset=mine", cwd=folder, module="audit")
    assert done.returncode == 0, done.stderr
    assert "80: 20 'ill'" in done.stdout
    done = beitmed("--config-dir", "nowhere", cwd=folder, module="audit")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "--config-dir: found nowhere, which is no folder" in done.stderr


# --- In this process: what is refused, and each task.


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Run a baseline of seconds with a part from outside the package."""
    (tmp_path / "my_extension.py").write_text(EXTENSION)
    for name, content in WRONG_METHODS.items():
        (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_extension", *WRONG_METHODS):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)

    def run(*overrides: str, **values: object) -> Path:
        cfg = resolve(
            "dataset=phantom", "data.limit=12", "evaluate.n_resamples=100", "method=majority",
            f"output_dir={tmp_path}/outputs", *overrides,
        )  # fmt: skip
        return pipeline.run(config.check(cfg.model_dump() | values))

    return run


def method(module: str) -> dict[str, object]:
    return {"name": "own", "title": None, "module": module}


def strategy(function: str) -> dict[str, object]:
    return {"name": "own", "function": function}


@pytest.mark.parametrize(
    ("overrides", "values", "said"),
    [
        ([], {"method": method("gone")}, ["method.module: gone cannot be imported", "PYTHONPATH"]),
        ([], {"method": method("two_rows")}, ["method.module: own gave", "shape and type ((2, 2)"]),
        ([], {"method": method("constant")}, ["method.module: constant.fit is no function"]),
        ([], {"method": method("forgetful")},
         ["method.module: forgetful.load cannot be imported", "no attribute 'load'"]),
        ([], {"method": method("unfinished")},
         ["method.module: unfinished cannot be imported: SyntaxError"]),
        (["balanced=true"], {"balancing": strategy("my_extension.gone")},
         ["balancing.function: my_extension.gone cannot be imported"]),
        (["balanced=true"], {"balancing": strategy("my_extension.broken")},
         ["balancing.function: the function raised ZeroDivisionError", "my_extension.py, line"]),
        (["balanced=true"], {"balancing": strategy("my_extension.few")},
         ["balancing.function: my_extension.few returned no image of class 1"]),
        (["evaluate.metrics={m: nowhere.m}"], {},
         ["evaluate.metrics.m: nowhere.m cannot be imported (No module named 'nowhere')"]),
        (["evaluate.metrics={m: my_extension.broken}"], {},
         ["evaluate.metrics.m: the function raised ZeroDivisionError", "my_extension.py, line"]),
        (["evaluate.metrics={m: my_extension.not_a_number}"], {},
         ["evaluate.metrics.m: the function returned nan", "None where it is undefined"]),
        (["evaluate.metrics={m: my_extension.words}"], {},
         ["evaluate.metrics.m: the function returned '0.5' (str); allowed: a number"]),
        (["evaluate.metrics={auc: my_extension.youden}"], {},
         ["evaluate.metrics: found auc", "a name of its own"]),
        (["evaluate.metrics={auc_class_1: my_extension.youden}"], {}, ["found auc_class_1"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_trained(outside, tmp_path, overrides, values,
                                                          said):  # fmt: skip
    with pytest.raises(UserError) as e:
        outside(*overrides, **values)
    for part in said:
        assert part in str(e.value)
    assert not list(tmp_path.glob("outputs/[!.]*"))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["evaluate.metrics={you-den: a.b}"], "the name 'you-den'; allowed: a letter"),
        (["evaluate.metrics={youden: ab}"], "evaluate.metrics.youden: found 'ab'; allowed: module"),
        (["evaluate.metrics={youden: 3}"], "evaluate.metrics: found 3"),
    ],
)
def test_a_wrong_name_or_function_is_told_by_the_configuration(overrides, said):
    with pytest.raises(UserError) as e:
        resolve(*overrides)
    assert said in str(e.value)


def test_another_metric_is_another_evaluation_of_the_same_run():
    plain, more = (resolve("dataset=breast", f"evaluate.metrics={m}") for m in ("{}", "{m: a.b}"))
    assert config.run_name(more) == config.run_name(plain)
    assert config.evaluation(more) != config.evaluation(plain)


def recall(y: np.ndarray, s: np.ndarray) -> float:
    return float(np.mean([(s.argmax(axis=1)[y == c] == c).mean() for c in np.unique(y)]))


#: By dataset: the package's own metric, and a function that is the same.
TASKS = {
    "breast": ("mcc", lambda y, s: np.corrcoef(y, s.argmax(axis=1))[0, 1]),
    "blood": ("balanced_accuracy", recall),
    "retina": ("mean_absolute_error", lambda y, s: float(np.abs(y - s.argmax(axis=1)).mean())),
    "chest": ("accuracy", lambda y, s: np.mean((s > 0) == y)),
}


@pytest.mark.parametrize("name", TASKS)
def test_the_interval_is_that_of_the_packages_own_metric(name):
    dataset = resolve(f"dataset={name}").dataset
    classes = {"breast": 2, "blood": 8, "retina": 5, "chest": 14}[name]
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, (120, 14)) if name == "chest" else np.arange(120) % classes
    member = y if y.ndim == 2 else y[:, None] == np.arange(classes)
    logits = rng.normal(size=(120, classes)) + member - (y.ndim == 2) / 2
    found = tasks.evaluate(
        tasks.of(dataset.task), logits={"val": logits, "test": logits},
        labels={"train": y, "val": y, "test": y}, class_names=tuple("abcdefghijklmn"[:classes]),
        positive=dataset.positive_label,
        seed=5, n_resamples=2000, own={"own": TASKS[name][1]},
    )  # fmt: skip
    *names, last = found
    assert last == "own" and all(map(tasks.taken, names)) and not tasks.taken("own")
    own, same = found["own"], found[TASKS[name][0]]
    assert (own.n, own.interval) == (120, "BCa bootstrap")
    assert own.value == pytest.approx(same.value, abs=1e-12)
    # For two classes the same resamples were drawn (but rounding breaks ties with the value),
    # elsewhere as many others.
    close = (0.002 if name == "breast" else 0.12) * (same.ci_high - same.ci_low)
    assert (own.ci_low, own.ci_high) == pytest.approx((same.ci_low, same.ci_high), abs=close)
    if name == "chest":  # of any images, as SciPy draws them
        assert 1 - own.value == pytest.approx(hamming_loss(y, logits > 0))
        low, high = bootstrap(
            (np.arange(120),), lambda rows: TASKS[name][1](y[rows], logits[rows]),
            vectorized=False, n_resamples=2000, rng=1,
        ).confidence_interval  # fmt: skip
        assert (own.ci_low, own.ci_high) == pytest.approx((low, high), abs=0.12 * (high - low))


def test_an_undefined_metric_has_its_reason_and_arrays_stay_as_they_were():
    def undefined(labels, logits):
        logits[:] = labels[:] = 0
        return

    def now_and_then(labels, logits):
        return None if (logits[:, 0] > 0.5).mean() > 0.33 else 1.0 * labels.sum()

    rng = np.random.default_rng(0)
    y, logits = np.arange(60) % 2, rng.normal(size=(60, 2))
    before = logits.copy()
    functions = {"undefined": undefined, "now_and_then": now_and_then}
    found = own_metrics.estimate(functions, y, logits, seed=1, n_resamples=200)
    assert (logits == before).all() and y.sum() == 30
    assert found["undefined"].value is None and "gives None" in found["undefined"].reason
    assert found["now_and_then"].value == 30.0 and found["now_and_then"].interval is None
    assert found["now_and_then"].reason.startswith("undefined in ")
    single = own_metrics.estimate({"m": lambda y, s: 1}, np.array([0, 0, 1]), logits[:3], seed=1,
                                  n_resamples=200)["m"]  # fmt: skip
    assert single.value == 1.0 and single.reason is not None


def test_a_run_that_goes_on_demands_the_same_training_images(tmp_path):
    cfg = resolve("dataset=phantom", "data.limit=12", "method=majority", "balanced=true",
                  f"output_dir={tmp_path}")  # fmt: skip
    loaded = data.load(cfg)
    for rows in (np.arange(24), np.arange(24)):
        with folder.open_run(cfg) as claimed:
            record.begin(cfg, claimed, loaded, rows, label_subset.choose(cfg, loaded))
    first, second = np.flatnonzero(loaded.train.labels == 0)[:2]
    other = np.where(np.arange(24) == first, second, np.arange(24))  # the counts are the same
    assert (loaded.train.labels[other] == loaded.train.labels).all()
    with pytest.raises(UserError, match=r"train_indices\.csv: this run was begun with other"), \
            folder.open_run(cfg) as claimed:  # fmt: skip
        record.begin(cfg, claimed, loaded, other, label_subset.choose(cfg, loaded))


def test_oversampled_and_undersampled_runs_are_two_variants_and_a_departure(tmp_path):
    np.savez(tmp_path / "breastmnist.npz", **medmnist_arrays("breastmnist", 28))
    for more in ([], ["balancing=oversample"], ["balancing=oversample", "majority_ratio=1"]):
        pipeline.run(resolve(
            "dataset=breast", f"data.root={tmp_path}", "data.allow_unofficial=true",
            "balanced=true", "method=majority", "evaluate.n_resamples=100",
            f"output_dir={tmp_path}/outputs", *more,
        ))  # fmt: skip
    found, problems = reader.find([tmp_path / "outputs"])
    [test_set], notes = variants.group(found)
    assert problems == notes == []
    names = {v.name: v.first for v in test_set.variants}
    by = "majority class (28) balanced by oversample"
    assert set(names) == {"majority class (28) balanced", f"{by} [majority_ratio=1]",
                          f"{by} [majority_ratio=1.5]"}  # fmt: skip
    # 137 of 546 images are of class 0: 409 / 1.5 = 272.7.
    over = names[f"{by} [majority_ratio=1.5]"]
    assert over.data["trained_on_by_class"] == [273, 409]
    said = [part for part in published.departures(over) if part.startswith("balancing")]
    assert said == ["balancing.name=oversample (paper: undersample)"]
    paper = published.departures(names["majority class (28) balanced"])
    assert not [part for part in paper if part.startswith("balancing")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flag": "nowhere", "classes": None}, "or, for a file of your own of MedMNIST's form"),
        ({"flag": "breastmnist"}, "whose classes MedMNIST names"),
        ({"classes": ["a", "b", "c"]}, "a binary task needs 2"),
        ({"classes": ["a", "a"]}, "a name of its own for each label"),
        ({"flag": "absent"}, "absent.npz: no such file. Put the dataset's file there"),
        ({"task": "multiclass", "positive_label": None, "classes": list("abc")},
         "has no image of class 2 (c) in train"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_ones_own_is_named(tmp_path, changes, said):
    np.savez(tmp_path / "mine.npz", **medmnist_arrays("breastmnist", 28, n=12))
    values = resolve(f"data.root={tmp_path}").model_dump()
    values["dataset"] |= {"name": "mine", "flag": "mine", "classes": ["ill", "healthy"]} | changes
    with pytest.raises(UserError) as e:
        data.load(config.check(values))
    assert said in str(e.value)


def test_a_file_of_ones_own_may_be_in_colour_and_of_several_labels(tmp_path):
    arrays = medmnist_arrays("chestmnist", 28, n=30)
    grey = {k: v for k, v in arrays.items() if k.endswith("images")}
    colour = {k: np.repeat(v[..., None], 3, axis=3) for k, v in grey.items()}
    np.savez(tmp_path / "mine.npz", **(arrays | colour))
    values = resolve("dataset=chest", f"data.root={tmp_path}").model_dump()
    names = [f"finding {i}" for i in range(14)]
    values["dataset"] |= {"name": "mine", "flag": "mine", "classes": names}
    loaded = data.load(config.check(values))
    assert loaded.train.images.shape == (30, 28, 28, 3) and loaded.class_names == tuple(names)
    assert (loaded.test.labels == arrays["test_labels"]).all()
