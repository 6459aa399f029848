"""`beitmed validate`: a finished run on other data, from the command line to the report."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import REAL_DATA, REPOSITORY, beitmed, medmnist_arrays, resolve
from PIL import Image
from sklearn.metrics import log_loss, roc_auc_score
from statsmodels.stats.proportion import confint_proportions_2indep

from beitmed import config, data, pipeline, tasks, trained
from beitmed.config import Config
from beitmed.errors import UserError
from beitmed.external import cases, classes, figures, overlap, sentences, thresholds, validation
from beitmed.external.columns import Column
from beitmed.report.content import external
from beitmed.runs import reader
from beitmed.statistics import decisions
from beitmed.trained import Trained

OTHER = ("dataset=phantom", "dataset.phantom_seed=9", "data.limit=15", "split=test",
         "dataset.name=elsewhere")  # fmt: skip
IRREGULAR, SMOOTH = "synthetic irregular lesion", "synthetic smooth or no lesion"
SMALL = ("evaluate.n_resamples=100", "data.allow_unofficial=true")


def values_of(folder: Path) -> dict:
    return json.loads((folder / "external.json").read_text())


@pytest.fixture(scope="module")
def tested(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an external test, beside a copy of its run."""
    folder = tmp_path_factory.mktemp("external")
    run = Path(shutil.copytree(finished_run, folder / "run"))
    done = beitmed(str(run), *OTHER, cwd=folder, module="validate")
    assert done.returncode == 0, done.stderr
    assert "external less internal" in done.stdout and "SYNTHETIC images" in done.stdout
    return folder / "run_on_elsewhere_test"


def test_its_folder_is_a_neighbour_and_says_all(tested, finished_run):
    found, run = values_of(tested), reader.read(finished_run)
    assert {p.name for p in tested.iterdir()} >= {
        "predictions.csv", "roc.png", "reliability.png", "differences.svg", "classes-column.png",
        "contents.json",
    }  # fmt: skip
    assert (found["images"], found["split"], found["patients"]) == (30, "test", None)
    assert found["internal"] == run.metrics["test"]
    with (tested / "predictions.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    y = np.array([int(row["label"]) for row in rows])
    logits = np.array([[float(row[f"logit_{i}"]) for i in (0, 1)] for row in rows])
    score = logits[:, 1] - logits[:, 0]
    assert found["external"]["auc"]["value"] == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    k, n = int((logits.argmax(1) == y).sum()), len(y)
    inside = run.metrics["test"]["accuracy"]
    limits = confint_proportions_2indep(
        k, n, round(inside["value"] * inside["n"]), inside["n"], compare="diff", method="newcomb"
    )
    apart = found["differences"]["accuracy"]
    assert (apart["ci_low"], apart["ci_high"]) == pytest.approx(limits, abs=1e-9)
    assert apart["value"] == pytest.approx(k / n - inside["value"], abs=1e-12)
    [plain, *_] = found["recalibration"]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert plain["log_loss"]["value"] == pytest.approx(log_loss(y, probability), abs=1e-9)
    assert plain["brier"]["value"] == pytest.approx(found["external"]["brier"]["value"], abs=1e-12)
    assert [one["kind"] for one in found["recalibration"]][-3:] == ["shift", "temperature", "both"]
    assert "SYNTHETIC" in found["caveats"][0] and "RANDOM" in " ".join(found["caveats"][:2])


def test_thresholds_are_carried_over_and_chosen_anew(tested, finished_run):
    found, run = values_of(tested)["thresholds"], reader.read(finished_run)
    names = [(one["rule"], one["source"].split()[0]) for one in found]
    assert names[0] == ("probability 0.5", "of")
    assert names[1:3] == [("highest accuracy", "of"), ("highest accuracy", "chosen")]
    carried = {one["rule"]: one for one in found if one["source"].startswith("of the run's")}
    for rule, metric in (
        ("highest accuracy", "val_threshold"),
        ("sensitivity of 95 %", "threshold_at_val_sensitivity_95"),
    ):
        stated = run.metrics["test"][metric]["value"]
        assert carried[rule]["threshold"] == pytest.approx(stated, abs=1e-9)
    rates = values_of(tested)["external"]["sensitivity_at_val_sensitivity_95"]
    assert carried["sensitivity of 95 %"]["sensitivity"] == rates
    anew = found[names.index(("sensitivity of 95 %", "chosen"))]
    assert anew["sensitivity"]["apparent"] >= 0.95
    assert anew["sensitivity"]["ci_low"] < anew["sensitivity"]["value"]


def test_again_it_writes_the_same_bytes_and_other_data_do_not_take_its_place(tested):
    before = {p.name: p.read_bytes() for p in tested.iterdir()}
    done = beitmed("run", *OTHER, cwd=tested.parent, module="validate")
    assert done.returncode == 0, done.stderr
    assert {p.name: p.read_bytes() for p in tested.iterdir()} == before
    other = [o.replace("seed=9", "seed=8") for o in OTHER]
    done = beitmed("run", *other, cwd=tested.parent, module="validate")
    assert done.returncode == 2 and "holds another external test (digest differ)" in done.stderr
    assert {p.name: p.read_bytes() for p in tested.iterdir()} == before
    assert not [p for p in tested.parent.iterdir() if p.name.endswith(".tmp")]


def test_the_report_shows_it_beside_the_internal_results(tested, tmp_path):
    options = ("images=false", "attention=false", "to=report")
    done = beitmed(str(tested.parent), *options, cwd=tmp_path, module="report")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "report.md").read_text()
    assert "external testing | 1 test: elsewhere, test (30 images)." in page
    assert "external test of run on elsewhere (split test): AUC: internal" in page
    with next((tmp_path / "report/tables").glob("external-metrics-*.csv")).open() as f:
        assert "AUC" in f.read()
    assert next((tmp_path / "report").glob("external-*-roc-column.png")).is_file()
    # Of other predictions it is not shown, and that is said.
    shutil.copytree(tested.parent, tmp_path / "runs")
    file = tmp_path / "runs/run_on_elsewhere_test/external.json"
    file.write_text(file.read_text().replace('"run_predictions_sha256": "', '"run_predictions_'
                    'sha256": "0'))  # fmt: skip
    done = beitmed("runs", *options, cwd=tmp_path, module="report")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "report.md").read_text()
    assert "elsewhere, test" not in page and "of other predictions than run has now" in page
    assert "None: all test images are of the source of the training images" in page


def test_a_test_that_lies_elsewhere_is_found_where_its_folder_is_given(tested, tmp_path):
    shutil.copytree(tested.parent / "run", tmp_path / "runs" / "run")
    shutil.copytree(tested, tmp_path / "tests" / tested.name)
    runs, problems = reader.find([tmp_path / "runs", tmp_path / "tests"])
    assert (len(runs), problems) == (1, [])
    assert external.find(runs, [tmp_path / "runs"]) == ({}, [])
    for given in (tmp_path / "tests", tmp_path / "tests" / tested.name):
        found, problems = external.find(runs, [given])
        assert problems == [] and len(found[runs[0].path]) == 1
    file = tmp_path / "tests" / tested.name / "external.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 0'))
    found, [problem] = external.find(runs, [tmp_path / "tests"])
    assert found == {} and "format 0, but this version reads 1" in problem


def test_an_external_test_that_is_none_is_a_doubt(tested, finished_run):
    values = values_of(tested) | {"overlap": {"in_train_or_val": 3}}
    found = {finished_run: [external.ExternalTest(tested, values)]}
    [said] = external.doubts(found)
    assert said.startswith("3 of 30 images of the external test elsewhere, test were in the train")


def test_a_dataset_from_a_folder_of_ones_own(tested, tmp_path):
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    shipped = (config.conf_dir() / "dataset" / "phantom.yaml").read_text()
    (tmp_path / "conf" / "dataset" / "mine.yaml").write_text(shipped)
    options = ("--config-dir", str(tmp_path / "conf"), "dataset=mine", "split=half")
    done = beitmed(str(tested.parent / "run"), *options, cwd=tmp_path, module="validate")
    assert done.returncode == 2 and "split: found 'half'" in done.stderr
    options = (*options[:3], "classes={up: x}")
    done = beitmed(str(tested.parent / "run"), *options, cwd=tmp_path, module="validate")
    assert done.returncode == 2 and "Those of phantom:" in done.stderr, done.stderr


def test_torch_is_not_needed_to_refuse(tested, tmp_path):
    code = (
        "import sys; sys.argv = ['beitmed', 'validate', *sys.argv[1:]]\n"
        "from beitmed.commands import front\n"
        "try: front.main()\n"
        "except SystemExit as e: print(e.code, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tested.parent / "run"), *OTHER, "classes={up: x}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "False"], done.stderr
    assert f"The run's classes: {IRREGULAR!r}, {SMOOTH!r}. Those of elsewhere:" in done.stderr


# --- Bad input: one message, exit 2, nothing written


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dataset=phantom"], "found 0 run folders (none); allowed: one"),
        (["run", "run", "dataset=phantom"], "found 2 run folders"),
        (["run"], "dataset: not given; name the new data"),
        (["run", "dataset=nowhere"], "nowhere"),
        (["run", "dataset=phantom,breast"], "found 2 datasets; allowed: one"),
        (["run", *OTHER[:2], "split=half"], "split: found 'half'; allowed: all, train, val, test"),
        (["run", *OTHER[:2], "size=64"], "size=64: cannot be set here. Allowed: dataset=..."),
        (["run", *OTHER[:2], "run.unfreeze=1"], "unfreeze=1: cannot be set for a run that is"),
        (["run", *OTHER, "classes=left"], "classes: found 'left'. Allowed: the run's class"),
        (["run", *OTHER, f"classes={{{IRREGULAR}: {SMOOTH}, up: x}}"], "the run has no class 'up'"),
        (["run", *OTHER, f"classes={{{IRREGULAR}: {SMOOTH}}}"], "is given to several of the run's"),
        (["run", "dataset=chest"], "has task multilabel, but"),
        (["run", "dataset=folder", "dataset.path=none"], "dataset.path: none does not exist"),
        (["run", "dataset=breast", "data.download=false"], "no such file, and data.download=false"),
        (["unfinished", *OTHER], "this run is not finished (it has no metrics.json)"),
        (["foreign", *OTHER], "is not a run's folder (it has no config.yaml)"),
    ],
)  # fmt: skip
def test_bad_input(arguments, said, tested, tmp_path):
    for name in ("run", "unfinished"):
        shutil.copytree(tested.parent / "run", tmp_path / name)
    (tmp_path / "unfinished" / "metrics.json").unlink()
    (tmp_path / "foreign").mkdir()
    before = sorted(p.name for p in tmp_path.iterdir())
    if "dataset=breast" in arguments:
        arguments = [*arguments, f"data.root={tmp_path}", _MAPPED]
    done = beitmed(*arguments, cwd=tmp_path, module="validate")
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != ".locks") == before


_MAPPED = f'classes={{{IRREGULAR}: malignant, {SMOOTH}: "normal, benign"}}'


def test_a_folder_that_is_somebody_elses_is_left_alone(tested, tmp_path):
    shutil.copytree(tested.parent / "run", tmp_path / "run")
    (tmp_path / "run_on_elsewhere_test").mkdir()
    (tmp_path / "run_on_elsewhere_test" / "thesis.txt").write_text("mine")
    done = beitmed("run", *OTHER, cwd=tmp_path, module="validate")
    assert done.returncode == 2 and "is not empty and not an external test" in done.stderr
    assert [p.name for p in (tmp_path / "run_on_elsewhere_test").iterdir()] == ["thesis.txt"]


# --- Which class is which


def match(of_run: Sequence[str], of_data: Sequence[str], text: str | None, several=False):
    return classes.match(
        of_run, of_data, classes.parse(text), name="clinic", several_labels=several
    )


def test_classes_are_the_same_by_name_or_as_stated():
    assert match(["a", "b"], ["b", "a"], None) == (("a",), ("b",))
    assert match(["a", "b"], ["b", "x"], "{a: x}") == (("x",), ("b",))
    assert match(["no", "yes"], ["01", "2", "3"], "{no: 01, yes: [2, 3]}") == (("01",), ("2", "3"))
    assert match(["normal, benign", "m"], ["ok", "m"], '{"normal, benign": ok}') == (
        ("ok",), ("m",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("of_data", "text", "said"),
    [
        (["a", "x"], None, "clinic has nothing for 'b'; the run knows no 'x'"),
        (["a", "b", "c"], None, "the run knows no 'c'"),
        (["a", "b"], "{a: z}", "clinic has no class 'z'"),
        (["a", "b"], "{a: []}", "classes: found '{a: []}'. Allowed"),
        (["a", "b"], "{a: {b: c}}", "Allowed: the run's class, a colon"),
        (["a", "b"], "{a", "which is no YAML"),
    ],
)
def test_other_classes_are_refused_with_both_lists(of_data, text, said):
    with pytest.raises(UserError) as e:
        match(["a", "b"], of_data, text)
    assert said in str(e.value)
    if "found" not in said and "YAML" not in said and "colon" not in said:
        listed = ", ".join(map(repr, of_data))
        assert f"The run's classes: 'a', 'b'. Those of clinic: {listed}." in str(e.value)


def test_labels_become_the_runs():
    labels = np.array([0, 1, 2, 0])
    of_data = ["benign", "healthy", "malignant"]
    matched = match(["healthy", "lesion"], of_data, "{lesion: [benign, malignant]}")
    assert classes.relabelled(labels, of_data, matched).tolist() == [1, 0, 1, 1]
    several = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    matched = match(["b", "a"], ["a", "b", "c"], None, several=True)
    assert classes.relabelled(several, ["a", "b", "c"], matched).tolist() == [
        [0, 1], [0, 0], [1, 0],
    ]  # fmt: skip


# --- Own images, patients, subgroups, and images that the run was made from


def trained_on_phantom(folder: Path, *overrides: str) -> Trained:
    run = pipeline.run(
        resolve(
            "dataset=phantom", "data.limit=20", *SMALL, *overrides, f"output_dir={folder}/runs",
            f"cache.root={folder}/cache",
        )
    )  # fmt: skip
    return trained.open_run(run)


def cfg_of(found: Trained, *overrides: str) -> Config:
    cfg = resolve(f"size={found.cfg.size}", *overrides)
    return cfg.model_copy(update={"cache": found.cfg.cache})


def clinic(folder: Path, images: np.ndarray, labels: Sequence[str], rows: Sequence[str]) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    lines = [f"{i:03d}.png,{label},{row}" for i, (label, row) in enumerate(zip(labels, rows,
             strict=True))]  # fmt: skip
    (folder / "table.csv").write_text("path,label,patient,sex\n" + "\n".join(lines) + "\n")
    return folder / "table.csv"


@pytest.fixture(scope="module")
def phantom_run(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_on_phantom(tmp_path_factory.mktemp("phantom"), "method=pixels_logistic")


def test_own_images_in_colour_with_patients_subgroups_and_some_of_the_runs_own(
    phantom_run, tmp_path
):
    own, rng = phantom_run.data, np.random.default_rng(0)
    new = cases.read(phantom_run, cfg_of(phantom_run, *OTHER[:3]), {}, "test").split
    near = np.roll(own.train.images[:1], 1, axis=2)
    images = np.concatenate([new.images, own.train.images[:2], own.val.images[:1], near])
    colour = np.stack([images] * 3, axis=-1)
    colour[:4, ..., 1] //= 2  # four that are really coloured
    names = np.array(["low", "high", "odd"])
    labels = np.concatenate([new.labels, own.train.labels[:2], own.val.labels[:1],
                             own.train.labels[:1]])  # fmt: skip
    of_data = names[np.where((labels == 1) & (rng.random(len(labels)) < 0.5), 2, labels)]
    rows = [f"p{i // 2},{'fm'[i % 2]}" for i in range(len(labels))]
    table = clinic(tmp_path / "clinic", colour, of_data, rows)
    cfg = cfg_of(
        phantom_run, "dataset=folder", f"dataset.path={table}", "dataset.name=clinic",
        "dataset.columns.subgroups=[sex]",
    )  # fmt: skip
    stated = classes.parse(f"{{{IRREGULAR}: low, {SMOOTH}: [high, odd]}}")
    found = cases.read(phantom_run, cfg, stated, None)
    assert found.part == "all" and found.split.labels.tolist() == labels.tolist()
    assert found.split.images.shape == images.shape
    assert found.converted == f"4 of {len(labels)} images are really coloured: their luminance"
    np.testing.assert_array_equal(found.split.images[4:], images[4:])
    values = validation.validate(phantom_run, found, look_for_overlap=True).values
    assert values["patients"] == 17 and values["external"]["auc"]["groups"] == 17
    assert {k: v["images"] for k, v in values["subgroups"]["sex"].items()} == {"f": 17, "m": 17}
    same = values["overlap"]
    assert same["exact"] == {"train or val": 3, "test": 0}
    assert same["in_train_or_val"] == 4 and same["patients_in_train_or_val"] is None
    kept = slice(0, len(labels) - 4)
    logits = phantom_run.model.logits(found.split.images)
    rest = same["metrics"]["in neither"]
    score = logits[kept, 1] - logits[kept, 0]
    assert rest["auc"]["value"] == pytest.approx(roc_auc_score(labels[kept], score), abs=1e-12)
    assert "(all images, NOT EXTERNAL: 4 of 34 images in train" in sentences.headline(values)
    said = " ".join(sentences.summary(values))
    assert "NOT EXTERNAL: 4 of 34 external images also stand in the run's train or val (3 " in said
    assert "Without them (30 images): AUC" in said
    shift = values["data_shift"]
    assert shift["features"]["features"] == "pixels at 28 px"
    assert {one["name"] for one in shift["images"]} >= {"brightness", "sharpness"}
    assert [s["n"] for s in shift["classes"]["external"]] == np.bincount(labels).tolist()


def test_the_runs_operating_point_is_carried_over():
    columns = [
        Column(1, "lesion", score, np.arange(40) % 2 == 0, None)
        for score in np.random.default_rng(0).normal(size=(2, 40)) + 1.5 * (np.arange(40) % 2 == 0)
    ]
    use = tasks.Use(operating_point=("specificity", 0.8))
    rows = thresholds.evaluate(
        *[[c] for c in columns], use, exclusive=True, seed=0, n_resamples=100
    )
    carried, anew = rows[-2:]
    assert carried.rule == anew.rule == "operating point, specificity of 80 %"
    expected = decisions.threshold_at("specificity", 0.8, columns[0].score, columns[0].y)
    assert carried.threshold == expected
    hit = columns[1].score >= expected
    assert carried.sensitivity["value"] == hit[columns[1].y].mean()
    assert anew.specificity["apparent"] >= 0.8


def test_shared_patients_are_counted():
    def split(*patients):
        files = tuple((f"{p}.png", "a", p) for p in patients)
        return data.Split(np.zeros((len(files), 28, 28), np.uint8), np.zeros(len(files)), files)

    before = (split("1", "2", "2"), split("3"))
    assert overlap._patients(before, split("2", "3", "4", "4")) == 2
    assert overlap._patients(before, split("9")) == 0
    unknown = data.Split(np.zeros((1, 28, 28), np.uint8), np.zeros(1))
    assert overlap._patients(before, unknown) is overlap._patients((unknown,), before[0]) is None


def test_its_own_dataset_means_its_test_split_and_the_same_logits(phantom_run, caplog):
    own = cfg_of(phantom_run, "dataset=phantom", "data.limit=20")
    found = cases.read(phantom_run, own, {}, None)
    assert found.part == "test"
    result = validation.validate(phantom_run, found, look_for_overlap=True)
    np.testing.assert_allclose(
        result.external.logits, phantom_run.run.test.logits, rtol=0, atol=1e-6
    )
    assert result.values["overlap"]["in_test"] == len(found)
    apart = result.values["differences"]["auc"]
    assert apart["value"] == 0 and apart["ci_low"] < 0 < apart["ci_high"]
    for metric in ("auc", "accuracy", "brier", "calibration_slope"):
        inside, outside = result.values["internal"][metric], result.values["external"][metric]
        assert inside == outside
    for part in ("all", "train", "val"):
        with pytest.raises(UserError, match=r"the very dataset that .* allowed: split=test"):
            cases.read(phantom_run, own, {}, part)


def test_where_the_runs_own_images_are_gone_the_rest_is_done(tmp_path):
    arrays = medmnist_arrays("breastmnist", 28, n=40)
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "breastmnist.npz", **arrays)
    arrays["train_images"][0] += 1
    np.savez(tmp_path / "there" / "breastmnist.npz", **arrays)
    run = pipeline.run(
        resolve("dataset=breast", "method=majority", f"data.root={tmp_path}/here", *SMALL,
                "data.download=false", f"output_dir={tmp_path}/runs")
    )  # fmt: skip
    (tmp_path / "here" / "breastmnist.npz").unlink()
    found = trained.open_run(run)
    there = cfg_of(found, "dataset=breast", f"data.root={tmp_path}/there", *SMALL[1:])
    values = validation.validate(
        found, cases.read(found, there, {}, None), look_for_overlap=True
    ).values
    assert values["images"] == 120 and values["external"]["auc"]["value"] == 0.5
    for part in (values["overlap"], values["data_shift"]["images"]):
        assert part.startswith("the run's own images could not be read: ")
    assert any("could not be read" in line for line in sentences.summary(values))


METHODS = {
    "features_knn": ("method=features_knn", "backbone=beit_tiny"),
    "resnet18": ("method=resnet18", "method.epochs=1", "method.batch_size=16"),
    "majority": ("method=majority",),
}


@pytest.mark.parametrize(
    "method", ["majority", "features_knn", pytest.param("resnet18", marks=pytest.mark.slow)]
)
def test_every_method_is_validated(method, tmp_path):
    found = trained_on_phantom(tmp_path, *METHODS[method], "data.limit=10")
    read = cases.read(found, cfg_of(found, *OTHER[:3]), {}, "val")
    values = validation.validate(found, read, look_for_overlap=False).values
    assert values["external"]["auc"]["value"] is not None
    assert values["overlap"] == "not looked for (overlap=false)"
    features = values["data_shift"]["features"]
    assert 0 <= features["external_test"]["value"] < 1 and 0 < features["val_test"]["p"] <= 1
    kind = {"majority": "pixels", "resnet18": "last layer of the resnet18"}
    assert kind.get(method, "pooled output of beit_tiny") in features["features"]


def own_file(folder: Path, flag: str, classes: int, seed: int) -> None:
    """A file of MedMNIST's form with some of its classes, under the flag "own"."""
    arrays = medmnist_arrays(flag, 28, seed=seed, n=40)
    for split in ("train", "val", "test"):
        labels = arrays[f"{split}_labels"]
        several = labels.shape[1] > 1
        arrays[f"{split}_labels"] = labels[:, :classes] if several else labels % classes
    folder.mkdir()
    np.savez(folder / "own.npz", **arrays)


@pytest.mark.parametrize(
    ("flag", "task"), [("bloodmnist", "multiclass"), ("chestmnist", "multilabel")]
)
def test_several_classes_and_several_labels(flag, task, tmp_path):
    own_file(tmp_path / "here", flag, 3, 0)
    own_file(tmp_path / "there", flag, 4 if task == "multilabel" else 3, 7)
    own = (f"dataset={flag.removesuffix('mnist')}", "dataset.flag=own", *SMALL)
    run = pipeline.run(
        resolve(*own, "+dataset.classes=[a,b,c]", "method=pixels_logistic", "method.C=[0.001]",
                f"data.root={tmp_path}/here", f"output_dir={tmp_path}/runs")
    )  # fmt: skip
    found = trained.open_run(run)
    names = "[b,a,c,z]" if task == "multilabel" else "[b,a,c]"
    other = cfg_of(found, *own[:2], f"+dataset.classes={names}", f"data.root={tmp_path}/there")
    read = cases.read(found, other, {}, "test")
    assert read.left_out == (("z",) if task == "multilabel" else ())
    with np.load(tmp_path / "there" / "own.npz") as npz:
        labels = npz["test_labels"]
    expected = labels[:, [1, 0, 2]] if task == "multilabel" else np.array([1, 0, 2])[labels[:, 0]]
    np.testing.assert_array_equal(read.split.labels, expected)
    result = validation.validate(found, read, look_for_overlap=False)
    values = result.values
    assert values["external"]["auc"]["value"] == pytest.approx(
        found.task.score(result.external.logits, expected, None)["auc"], abs=1e-12
    )
    assert values["differences"]["auc"]["ci_low"] < values["differences"]["auc"]["ci_high"]
    assert values["differences"][found.task.part_name("auc", 0)]["value"] is not None
    assert [one["name"] for one in values["calibration"]] == ["a", "b", "c"]
    assert len(values["thresholds"]) == (0 if task == "multiclass" else 7 * 3)
    kinds = {one["kind"]: one for one in values["recalibration"]}
    both = kinds["both"]
    assert both["gain"]["apparent"] > both["gain"]["value"] and len(both["shift"]) == 3
    assert both["log_loss"]["apparent"] < both["log_loss"]["value"]
    assert values["labels_left_out"] == list(read.left_out)
    (tmp_path / "figures").mkdir()
    figures.draw(result, tmp_path / "figures")
    assert (tmp_path / "figures" / "reliability.png").is_file() == (task == "multiclass")
    assert sentences.summary(values)
    with pytest.raises(UserError, match="the run has no class 'nothing'"):
        cases.read(found, other, {"nothing": ("x",)}, None)


@pytest.mark.real_data
def test_real_images_of_another_organ_are_another_distribution(tmp_path):
    run = pipeline.run(
        resolve("dataset=breast", "method=pixels_logistic", f"data.root={REAL_DATA}", *SMALL,
                f"output_dir={tmp_path}/runs")
    )  # fmt: skip
    found = trained.open_run(run)
    other = cfg_of(found, "dataset=pneumonia", f"data.root={REAL_DATA}", *SMALL[1:])
    stated = classes.parse('{malignant: pneumonia, "normal, benign": normal}')
    values = validation.validate(
        found, cases.read(found, other, stated, "test"), look_for_overlap=False
    ).values
    assert values["images"] == 624
    apart = values["data_shift"]["features"]
    assert apart["external_test"]["value"] > 10 * apart["val_test"]["value"]
    assert apart["external_test"]["p"] == 0.001 < apart["val_test"]["p"]
    assert values["data_shift"]["classes"]["p"] < 1e-6
    brightness = values["data_shift"]["images"][0]
    assert brightness["ci_low"] > 0.9


def test_the_two_sets_of_the_docs_are_made(tmp_path):
    np.savez(tmp_path / "file.npz", **medmnist_arrays("pneumoniamnist", 28, n=40))
    script = REPOSITORY / "scripts" / "other_hospital.py"
    command = [sys.executable, str(script), "file.npz", "out"]
    subprocess.run(command, cwd=tmp_path, check=True)
    with np.load(tmp_path / "file.npz") as old, np.load(tmp_path / "out/resplit.npz") as new:
        assert {k: v.shape for k, v in new.items()} == {k: v.shape for k, v in old.items()}
        every = [sorted(image.tobytes() for s in ("train", "val", "test")
                        for image in npz[f"{s}_images"]) for npz in (old, new)]  # fmt: skip
        assert every[0] == every[1] and (new["test_images"] != old["test_images"]).any()
    counts = [len(list((tmp_path / "out/shifted" / c).iterdir())) for c in ("normal", "pneumonia")]
    assert counts[0] == 10 and 0 < counts[1] < 20


def test_data_in_one_piece_are_its_splits_after_another(phantom_run):
    whole = data.joined(phantom_run.data)
    start = len(phantom_run.data.train.labels)
    np.testing.assert_array_equal(whole.images[start : start + 3], phantom_run.data.val.images[:3])
    assert len(whole.labels) == sum(len(s.labels) for s in phantom_run.data.splits.values())
