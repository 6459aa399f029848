"""`beitmed export`: what others load gives the run's probabilities, and says what it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from ast import literal_eval
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import run_folders
import torch
from conftest import FAST, REPOSITORY, beitmed, randomise, resolve
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from beitmed import pipeline, tasks, trained
from beitmed.backbones import families, weights
from beitmed.backbones.families import FAMILIES
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config.method import NAMES
from beitmed.errors import UserError
from beitmed.export import card, forms, hugging_face, onnx_file, output, portable
from beitmed.export.portable import Portable
from beitmed.methods import resnet_network
from beitmed.methods.resnet_network import ResNet
from beitmed.runs import reader

SIDE = 32
every_family = pytest.mark.parametrize("name", FAMILIES)


def export(run: Path, *arguments: str, **kwargs) -> subprocess.CompletedProcess[str]:
    return beitmed(str(run), *arguments, cwd=run.parent, module="export", **kwargs)


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory) -> dict[str, Path]:
    """Both forms of one run, as the command makes them."""
    made = {}
    for to in (forms.HUGGING_FACE, forms.ONNX):
        folder = tmp_path_factory.mktemp("export") / to
        done = export(finished_run, f"to={to}", f"output_dir={folder}")
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert re.search(r"checked: .*largest difference of a logit .* \(allowed: 1e-05\)",
                         done.stdout)  # fmt: skip
        assert "caveat:  SYNTHETIC images" in done.stdout
        made[to] = folder
    return made


def run_logits(finished_run: Path, images: np.ndarray) -> np.ndarray:
    """What the run's network says in float32, without rounded features on the way."""
    model = trained.open_run(finished_run).model
    pixels = portable.PixelDataset(images, np.zeros(len(images), np.int64), model.processor)
    with torch.no_grad():
        return model.network(pixel_values=pixels.batch(0, len(images)))["logits"].double().numpy()


STRANGER = """
import os, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("beitmed", "hydra", "omegaconf"):
            raise ImportError("this environment has no " + name)

sys.meta_path.insert(0, Nothing())
for folder in ("huggingface", "onnx"):
    os.chdir(folder)
    exec(open("code.py").read())
    os.chdir("..")
assert not [name for name in sys.modules if name.startswith("beitmed")]
"""


def test_who_has_not_this_package_gets_the_runs_probabilities(exported, finished_run, tmp_path):
    """The code of each card, in a process that cannot import beitmed."""
    image = np.asarray(trained.open_run(finished_run).data.test.images[3])
    names = trained.open_run(finished_run).class_names
    expected = torch.tensor(run_logits(finished_run, image[None])[0]).softmax(0).tolist()
    for to, folder in exported.items():
        there = shutil.copytree(folder, tmp_path / to)
        Image.fromarray(image).save(there / "image.png")
        [code] = re.findall(r"```python\n(.*?)```", (there / "README.md").read_text(), re.DOTALL)
        (there / "code.py").write_text(code)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", STRANGER], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    of_pipeline, of_onnx = map(literal_eval, done.stdout.strip().splitlines())
    for said in ({one["label"]: one["score"] for one in of_pipeline}, of_onnx):
        assert [said[name] for name in names] == pytest.approx(expected, abs=1e-5)


def test_the_image_processor_is_the_runs_whatever_is_installed(exported, finished_run):
    from transformers import AutoImageProcessor

    ours = trained.open_run(finished_run).model.processor
    noise = np.random.default_rng(0).integers(0, 256, (50, 64, 3), np.uint8)  # of another size
    picture = Image.fromarray(noise)
    for folder in exported.values():
        found = AutoImageProcessor.from_pretrained(folder)
        assert found.backend == "pil"
        pixels = [p(picture, return_tensors="np")["pixel_values"] for p in (ours, found)]
        assert np.array_equal(*pixels)


def test_onnx_takes_any_batch_and_says_its_classes(exported, finished_run):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported["onnx"] / onnx_file.MODEL)
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["class_names"]) == list(trained.open_run(finished_run).class_names)
    assert "RANDOM weights, not pre-trained" in json.loads(said["caveats"])
    pixels = np.random.default_rng(0).normal(size=(5, 3, 112, 112)).astype(np.float32)
    whole = session.run(None, {"pixel_values": pixels})
    for n in (1, 2, 3):
        part = session.run(None, {"pixel_values": pixels[:n]})
        for a, b in zip(part, whole, strict=True):
            np.testing.assert_allclose(a, b[:n], atol=1e-6)
    assert whole[1].sum(axis=1) == pytest.approx(1)


# --- The card


def test_the_card_says_caveats_first_and_every_metric_with_its_interval(exported, finished_run):
    metrics = json.loads((finished_run / "metrics.json").read_text())
    for to, folder in exported.items():
        found = ModelCard.load(folder / "README.md")
        lines = [line for line in found.text.splitlines() if line.strip()]
        assert lines[1] == "> **What must be known first**"
        assert lines[3].startswith("> - SYNTHETIC images")
        assert lines[4].startswith("> - RANDOM weights")
        assert "say nothing about a pre-trained model on real images" in found.text
        headings = [line for line in lines if line.startswith("## ")]
        assert headings == [
            "## What it is", "## Intended use", "## Limits", "## How to use it", "## Data",
            "## Test results", "## Calibration and thresholds", "## Training",
            "## What was checked when it was exported", "## To cite",
            "## What its author has to add",
        ]  # fmt: skip
        auc = metrics["test"]["auc"]
        low, high = auc["ci_low"], auc["ci_high"]
        assert (
            f"| AUC | {auc['value']:.3f} \\[{low:.3f}, {high:.3f}\\] | {auc['n']} |" in found.text
        )
        temperature = metrics["test"]["temperature"]["value"]
        assert temperature is None or f"A temperature of {temperature:.4f}" in found.text
        assert "are not calibrated" in found.text
        assert "| train.learning_rate | 0.001 |" in found.text
        assert "(internal testing)" in found.text
        assert "Not a medical device" in found.text
        assert str(finished_run.parent) not in found.content
        assert found.data.library_name == {"onnx": "onnx"}.get(to, "transformers")


def test_the_hub_reads_the_metadata_and_leaves_the_licence_open(exported, finished_run):
    metrics = json.loads((finished_run / "metrics.json").read_text())
    of_hub = ModelCard.load(exported["huggingface"] / "README.md")
    assert of_hub.data.license is None
    text = (exported["huggingface"] / "README.md").read_text()
    assert text.startswith("---\n# license: left to the author.")
    assert of_hub.data.pipeline_tag == "image-classification"
    assert of_hub.data.datasets is None  # of synthetic images there is none
    assert {"random-weights", "synthetic-images"} <= set(of_hub.data.tags)
    found = {one.metric_type: one for one in of_hub.data.eval_results}
    one, auc = found["roc_auc"], metrics["test"]["auc"]
    assert one.metric_value == auc["value"]
    assert one.metric_args["ci_low"] == auc["ci_low"]
    assert f"[{auc['ci_low']:.3f}, {auc['ci_high']:.3f}]" in one.metric_name
    assert "SYNTHETIC" in one.dataset_name and "RANDOM" in one.dataset_name


def test_the_card_of_known_patients_and_own_images_says_how_to_prepare_one(tmp_path):
    groups = [f"p{i // 2}" for i in range(run_folders.N["test"])]
    run = run_folders.make(
        tmp_path / "r", "dataset=folder", "dataset.name=mine", "dataset.task=binary",
        "dataset.positive_label=1", "dataset.intensity=minmax", "backbone=beit_tiny",
        groups=groups, data={"patients": 44, "splits": "drawn", "patients_by_split": None},
    )  # fmt: skip
    text = card.text(reader.read(run), forms.ONNX, "scaled", ["Checked."])
    assert "Padded to a square" not in text and "padded to a square, by Pillow's bicubic" in text
    assert "from its darkest to its brightest value" in text
    assert "The images are of 44 patients." in text
    assert "drawn by patient" in text
    assert "Patients are not known" not in text


@pytest.mark.parametrize("dataset", ["breast", "blood", "chest", "retina"])
def test_each_task_has_a_card_with_its_data_and_the_weights_that_it_stands_on(dataset, tmp_path):
    run = reader.read(run_folders.make(tmp_path / "r", f"dataset={dataset}"))
    text = card.text(run, forms.HUGGING_FACE, "scaled", ["Checked."])
    (tmp_path / "README.md").write_text(text)
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.base_model == "microsoft/beit-large-patch16-224-pt22k"
    assert data.datasets == [f"{dataset}mnist"]
    assert len(data.eval_results) > 2
    assert "Research on methods, teaching" in text
    assert "Licence of these images, by the same: CC BY" in text
    assert f"trained on {dataset.capitalize()}MNIST at 28 px" in text
    assert ("a sigmoid of the logits" in text) == (dataset == "chest")
    assert "Network: H. Bao et al., BEiT" in text
    for name in run.data["class_names"]:
        assert name.split(",")[0] in text


# --- Families, heads and methods


def tiny(name: str, **changes) -> Portable:
    """A network of a family as a run has it, top layer trained, and what it says of images."""
    geometry = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 64, "image_size": SIDE, "patch_size": 8}  # fmt: skip
    if "registers" in name or "v3" in name:
        geometry["num_register_tokens"] = 2
    settings = families.random_config(name, geometry, layer_scale=0.5, drop_path=None)
    for key, value in changes.items():
        setattr(settings, key, value)
    torch.manual_seed(0)
    model = FAMILIES[name].classifier(settings)
    randomise(model)
    weights.new_head(model, ("a", "b", "c"), seed=1)
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # logits of ordinary size
    size = {"height": SIDE, "width": SIDE}
    processor = FAMILIES[name].processor(size=size, do_center_crop=False)
    run = SimpleNamespace(
        model=portable.BackboneModel(None, FreezableBackbone(model, 1).eval(), processor),
        task=tasks.of("multiclass"),
    )
    return portable.of(run, IMAGES)


IMAGES = np.random.default_rng(3).integers(0, 256, (3, 28, 28), np.uint8)


def agrees(made: Portable, found: tuple[np.ndarray, np.ndarray]) -> None:
    assert np.abs(made.expected).max() > 0.3
    np.testing.assert_allclose(found[0], made.expected, atol=2e-5)
    odds = np.exp(made.expected)
    np.testing.assert_allclose(found[1], odds / odds.sum(1, keepdims=True), atol=1e-5)


HAS_CLASSIFIER = sorted(set(FAMILIES) - set(forms.WITHOUT_CLASSIFIER))


@pytest.mark.parametrize("name", [*HAS_CLASSIFIER, "beit of the CLS token"])
def test_transformers_gives_the_logits_of_every_family_that_it_has_a_classifier_of(name, tmp_path):
    changes = {"use_mean_pooling": False} if "CLS" in name else {}
    made = tiny(name.partition(" ")[0], **changes)
    hugging_face.write(made, tmp_path)
    agrees(made, hugging_face.ask(tmp_path, IMAGES, ("a", "b", "c")))


def test_the_families_that_are_refused_are_those_whose_classifier_is_ours():
    ours = {name for name, f in FAMILIES.items() if f.classifier.__module__.startswith("beitmed")}
    assert ours == set(forms.WITHOUT_CLASSIFIER)


@pytest.mark.slow
@every_family
def test_onnxruntime_gives_the_logits_of_every_family(name, tmp_path):
    made = tiny(name)
    onnx_file.write(made, tmp_path, False, {})
    agrees(made, onnx_file.ask(tmp_path, IMAGES))


def of_resnet(name: str, size: int, channels: int) -> tuple[Portable, np.ndarray]:
    torch.manual_seed(0)
    network = resnet_network.build(name, size, channels, 3)
    network.eval()
    with torch.no_grad():
        for module in network.modules():  # as training leaves them: no mean at 0, no variance at 1
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    shape = (3, size, size) if channels == 1 else (3, size, size, 3)
    images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    model = ResNet(None, network, 2)
    with torch.no_grad():  # logits of ordinary size
        network.fc.weight.mul_(3 / network(model.pixels(images)).abs().max())
    run = SimpleNamespace(
        model=model, task=tasks.of("multiclass"), class_names=("a", "b", "c"),
        cfg=SimpleNamespace(size=size),
    )  # fmt: skip
    return portable.of(run, images), images


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet18", 1), pytest.param("resnet50", 3, marks=pytest.mark.slow)]
)
def test_transformers_has_a_resnet_of_ordinary_size(name, channels, tmp_path):
    made, images = of_resnet(name, 64, channels)
    hugging_face.write(made, tmp_path)
    agrees(made, hugging_face.ask(tmp_path, images, ("a", "b", "c")))


@pytest.mark.slow
def test_onnxruntime_gives_the_logits_of_a_resnet_of_small_images(tmp_path):
    made, images = of_resnet("resnet18", 28, 1)
    onnx_file.write(made, tmp_path, False, {})
    agrees(made, onnx_file.ask(tmp_path, images))


def several_labels() -> Portable:
    made = tiny("vit")
    made.network.config.problem_type = tasks.of("multilabel").problem_type
    return made


def test_of_several_labels_each_has_a_probability_of_its_own(tmp_path):
    made = several_labels()
    hugging_face.write(made, tmp_path)
    found = hugging_face.ask(tmp_path, IMAGES, ("a", "b", "c"))[1]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-made.expected)), atol=1e-5)


@pytest.mark.slow
def test_of_several_labels_each_has_a_probability_of_its_own_in_onnx(tmp_path):
    made = several_labels()
    onnx_file.write(made, tmp_path, True, {})
    found = onnx_file.ask(tmp_path, IMAGES)[1]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-made.expected)), atol=1e-5)


RESNETS = {"resnet18", "resnet18_short", "resnet50"}


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"backbone", *RESNETS}))
def test_a_method_without_such_a_form_says_so(name, tmp_path):
    run = run_folders.make(tmp_path / "run", "dataset=breast", f"method={name}")
    for to in ("huggingface", "onnx"):
        done = export(run, f"to={to}")
        assert done.returncode == 2
        assert f"method: found {name}, which has no such form" in done.stderr
    assert not (run / "huggingface").exists() and not (run / "onnx").exists()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["backbone=mae_base"], "no image classifier of type vit_mae with its head"),
        (["backbone=dinov3_base"], "no image classifier of type dinov3_vit with its head"),
        (["method=resnet18"], "at 28 px: a 3x3 convolution without pooling"),
    ],
)
def test_what_transformers_has_no_class_for_is_refused_by_name(settings, why, tmp_path):
    cfg = resolve("dataset=breast", *settings)
    with pytest.raises(UserError, match=f"found huggingface, but .*{why}.*Set to=onnx"):
        forms.refuse(cfg, forms.HUGGING_FACE)
    forms.refuse(cfg, forms.ONNX)


# --- The folder


def test_an_export_replaces_one_of_the_same_run_and_nothing_else(exported, finished_run, tmp_path):
    folder = shutil.copytree(exported["huggingface"], tmp_path / "here")
    arguments = (finished_run, "to=huggingface", f"output_dir={folder}")
    done = export(*arguments)
    assert done.returncode == 0, done.stderr
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("# license: left", "license: mit\n# left"))
    done = export(*arguments)
    assert done.returncode == 2
    assert "files that were added or changed since the last one (README.md)" in done.stderr
    assert "license: mit" in readme.read_text()
    contents = folder / "contents.json"
    contents.write_text(contents.read_text().replace('"of": "', '"of": "0'))
    assert "not an export of the same run" in export(*arguments).stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    done = export(finished_run, "to=onnx", f"output_dir={tmp_path / 'mine'}")
    assert done.returncode == 2 and "is left as it is; set output_dir=..." in done.stderr
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "mine"]


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "run")


def test_predictions_of_another_network_are_refused_and_nothing_is_left(run):
    with safe_open(run / "top.safetensors", "pt") as f:
        facts, values = f.metadata(), {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    values["classifier.bias"] = values["classifier.bias"] + torch.tensor([3.0, -3.0])
    save_file(values, run / "top.safetensors", metadata=facts)
    done = export(run, "to=huggingface")
    assert done.returncode == 2
    assert "predictions.csv differs by" in done.stderr and "restore the folder" in done.stderr
    assert not (run / "huggingface").exists()
    assert not list(run.glob(".*"))


def test_a_difference_above_what_is_allowed_is_an_error(finished_run):
    run = trained.open_run(finished_run)
    sample = output.Sample(IMAGES, "3 pictures", None)
    expected = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    odds = np.exp(expected)
    p = odds / odds.sum(1, keepdims=True)
    assert len(output.compare(run, sample, expected, (expected, p), "x")) == 1
    for wrong in (p + 2e-5, p * np.nan):
        with pytest.raises(
            UserError, match=r"differs from the run's network .* Nothing was written"
        ):
            output.compare(run, sample, expected, (expected, wrong), "x")


def test_without_the_runs_images_it_is_checked_on_generated_ones(run):
    facts = json.loads((run / "data.json").read_text())
    facts["digests"]["train"] = "0" * 64
    (run / "data.json").write_text(json.dumps(facts))
    done = export(run, "to=huggingface")
    assert done.returncode == 0, done.stderr
    assert "Checked on generated pixels only" in done.stdout
    assert "on 8 generated pictures (the run's are not here)" in done.stdout
    assert "predictions.csv" not in done.stdout
    assert "8 generated pictures" in (run / "huggingface" / "README.md").read_text()


def test_the_key_of_a_run_writes_the_same_folder_and_refuses_early(tmp_path, exported):
    common = (*FAST, f"output_dir={tmp_path}/outputs", f"cache.root={tmp_path}/cache",
              "cache.dtype=fp32", "export=true")  # fmt: skip
    with pytest.raises(UserError, match="found huggingface, but transformers has no image class"):
        pipeline.run(resolve(*common, "backbone.family=vit_mae"))
    assert not (tmp_path / "outputs").exists()
    run = pipeline.run(resolve(*common))
    names = sorted(p.name for p in exported["huggingface"].iterdir())
    assert sorted(p.name for p in (run / "huggingface").iterdir()) == names
    opened = trained.open_run(run)
    images = opened.data.test.images
    found, _ = hugging_face.ask(run / "huggingface", images, opened.class_names)
    np.testing.assert_allclose(found, opened.predictions["test"].logits, atol=1e-5)
    shutil.rmtree(run / "huggingface")
    pipeline.run(resolve(*common))  # finished: nothing is trained, and the folder is there again
    assert (run / "huggingface" / "README.md").is_file()


# --- Bad input


def test_bad_input_is_one_message_and_exit_code_2(finished_run, tmp_path, monkeypatch):
    unfinished = shutil.copytree(finished_run, tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    (tmp_path / "foreign").mkdir()
    for arguments, said in (
        ([], "found 0 run folders"),
        ([finished_run, finished_run, "to=onnx"], "found 2 run folders"),
        ([finished_run], "to: is missing; give to=huggingface or to=onnx"),
        ([finished_run, "to=pickle"], "to: found 'pickle'; allowed: huggingface, onnx"),
        ([finished_run, "to=onnx", "seed=3"], "seed=3: cannot be set for a run that is there"),
        ([tmp_path / "none", "to=onnx"], "is not a run's folder"),
        ([tmp_path / "foreign", "to=onnx"], "is not a run's folder"),
        ([unfinished, "to=onnx"], "this run is not finished"),
    ):
        done = beitmed(*map(str, arguments), cwd=tmp_path, module="export")
        assert done.returncode == 2, (arguments, done.stderr)
        assert said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = export(finished_run, "to=onnx")
    assert done.returncode == 2
    assert "which needs onnxruntime: pip install '.[onnx]'" in done.stderr
    assert not (finished_run / "onnx").exists()


def test_a_refusal_imports_no_torch(tmp_path):
    run = run_folders.make(tmp_path / "run", "dataset=breast", "method=majority")
    code = (
        "import sys; sys.argv = ['beitmed', 'export', sys.argv[1], 'to=onnx']\n"
        "from beitmed.commands import front\n"
        "try: front.main()\n"
        "except SystemExit as e: assert e.code == 2\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], cwd=REPOSITORY, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
