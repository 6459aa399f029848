"""The explain command on finished runs: what it shows, writes and refuses."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import run_folders
import torch
import yaml
from conftest import FAST, beitmed, randomise, resolve
from PIL import Image
from transformers import BeitConfig, BeitForImageClassification, BeitImageProcessorPil

from beitmed import data, evaluation, pipeline
from beitmed.backbones import weights
from beitmed.backbones.freezing import FreezableBackbone, load_top
from beitmed.data.pixels import PixelDataset
from beitmed.errors import UserError
from beitmed.explain import explanation, output, pictures, request, selection, written
from beitmed.explain.choice import Choice
from beitmed.explain.explanation import Explanation
from beitmed.report.content import explanations as report_explanations
from beitmed.report.content import variants
from beitmed.runs import folder as run_folder
from beitmed.runs import reader


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def _evaluate(run: Path) -> None:
    """Make the files of a run agree again after its predictions were changed."""
    evaluation.evaluate(run_folder.Run(run), reader.read_evaluated_config(run))


@pytest.fixture(scope="module")
def cls_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose classifier reads the CLS token, with a bias a layer."""
    folder = tmp_path_factory.mktemp("weights") / "cls-beit"
    geometry = resolve("backbone=beit_tiny").backbone.geometry.model_dump()
    torch.manual_seed(1)
    beit = BeitForImageClassification(
        BeitConfig(**geometry, use_relative_position_bias=True, use_mean_pooling=False)
    )
    randomise(beit)
    beit.save_pretrained(folder)
    BeitImageProcessorPil(size={"height": 112, "width": 112}, resample=2).save_pretrained(folder)
    return folder


def predictions(run: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [r for r in csv.DictReader((run / "predictions.csv").open()) if r["split"] == split]
    logits = np.array([[float(r["logit_0"]), float(r["logit_1"])] for r in rows])
    return np.array([int(r["label"]) for r in rows]), logits


def _asked(run: Path | list[Path], changes=(), **choice) -> Explanation:
    """Attention without tests, unless something else is asked for."""
    runs = run if isinstance(run, list) else [run]
    chosen = Choice(**{"methods": "attention", "tests": False, **choice})
    return explanation.explain(runs, chosen, changes)


def test_the_command_writes_what_it_says(run, tmp_path):
    """Two methods that need no gradient, on four images; all of it, tests and heads."""
    asked = ("images=9", "layer=7", "methods=attention,rollout", "tested_images=4", "heads=true")
    done = beitmed(str(run), *asked, module="explain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = run / "explanation"
    heads = "attention_layer7_patches"
    stems = ("overview", "tests", "test00009", f"overview_{heads}", f"test00009_{heads}")
    figures = {f"{s}{w}.{kind}" for s in stems for w in ("", "-column") for kind in ("png", "svg")}
    files = {"contents.json", "explanation.json", "explanation.npz", *figures}
    assert {p.name for p in out.iterdir()} == files
    said = json.loads((out / "explanation.json").read_text())
    assert said["caption"] in done.stdout and f"figures: {out}" in done.stdout
    attention = said["attention"]
    assert (attention["layer"], attention["rows"]) == (7, "patches")
    assert attention["rows_read_by_classifier"] == "patches"
    assert "after layer 8, not after this one" in said["caption"]
    labels, logits = predictions(run, "test")
    [image] = said["images"]
    assert (image["index"], image["label"]) == (9, labels[9])
    assert image["predicted"] == [image["target"]] == [logits[9].argmax()]
    assert image["logits"] == pytest.approx(logits[9], abs=0.01)  # its features were rounded
    with np.load(out / "explanation.npz") as npz:
        assert npz["heads"].shape == (1, 4, 7, 7)
        for name, shape in (("attention", (1, 7, 7)), ("rollout", (1, 7, 7))):
            assert npz[name].shape == shape == (1, *said["methods"][name]["cells"])
            total = npz[name].sum((-1, -2)) + npz[f"{name}_before_patches"]
            assert total == pytest.approx(1, abs=1e-5)
            # On the stored image of 28 px, a patch is 4 x 4 pixels.
            assert np.array_equal(npz[f"{name}_image"][0], npz[name][0].repeat(4, 0).repeat(4, 1))
    for name in ("attention", "rollout"):
        tests = said["tests"]["methods"][name]
        assert f"{name}: {tests['verdict']}" in done.stdout
        made = [tests[t]["passes"] for t in evidence_tests() if tests[t]["passes"] is not None]
        assert tests["passes"] == all(made) and len(made) == 5  # the phantom has masks
        assert tests["verdict"].startswith("passes 5 of 5" if all(made) else "FAILS")
    # Another process gives the same bytes, and in place of what is there.
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert beitmed(str(run), *asked, module="explain", cwd=tmp_path).returncode == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    # The report shows the tests and the figure, and is not taken for a run.
    [test_set], _ = variants.group([reader.read(run)])
    section = report_explanations.section(test_set, tmp_path, None)
    [table], [figure] = section.tables, section.figures
    assert [row[0].partition(": ")[2] for row in table.rows] == ["attention", "attention rollout"]
    assert table.rows[0][1] == said["tests"]["methods"]["attention"]["verdict"]
    assert figure.notes == [said["caption"]] and figure.file(tmp_path, "png").is_file()
    (run / "predictions.csv").write_text((run / "predictions.csv").read_text() + "\n")
    assert written.read(run) is None  # not of these predictions any more


def evidence_tests() -> tuple[str, ...]:
    from beitmed.explain import evidence

    return evidence.TESTS


def test_new_images_are_explained_without_labels(run, tmp_path):
    images = data.load(reader.read_config(run)).test.images
    (tmp_path / "new").mkdir()
    for i in (3, 0):
        Image.fromarray(images[i]).save(tmp_path / "new" / f"b{i}.png")
    (tmp_path / "new" / "broken.png").write_text("no image")
    done = beitmed(
        str(run), "new", "methods=occlusion,rollout", "tests=false", module="explain", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Not explained: " in done.stdout and "broken.png" in done.stdout
    said = json.loads((run / "explanation-new" / "explanation.json").read_text())
    assert [Path(image["name"]).name for image in said["images"]] == ["b0.png", "b3.png"]
    assert said["split"] is None and said["images"][0]["label"] is None
    assert "The methods were not tested" in said["caption"] and "without labels" in said["caption"]
    # The same as of the split's own images.
    own = _asked(run, images="0,3", methods="occlusion,rollout")
    with np.load(run / "explanation-new" / "explanation.npz") as npz:
        for name in ("occlusion", "rollout"):
            assert npz[name] == pytest.approx(own.answers.on_cells[name], abs=1e-5)
    for name, message in (("gone.png", "no such file"), ("new/broken.png", "can be read")):
        found = beitmed(str(run), name, "tests=false", module="explain", cwd=tmp_path)
        assert found.returncode == 2 and message in found.stderr, found.stderr


def test_the_values_are_those_of_the_network_put_together_by_hand(finished_run):
    found = _asked(finished_run, images="3,0", methods="attention,rollout")
    cfg = reader.read_config(finished_run)
    loaded = data.load(cfg)
    beit, processor = weights.load(cfg.backbone, loaded.class_names, cfg.seed)
    network = FreezableBackbone(beit, cfg.unfreeze).eval()
    load_top(network, finished_run / "top.safetensors")
    items = PixelDataset(loaded.test.images, loaded.test.labels, processor).__getitems__([3, 0])
    pixels = torch.stack([item["pixel_values"] for item in items])
    network.model.set_attn_implementation("eager")
    with torch.no_grad():
        out = network.model(pixel_values=pixels, output_attentions=True)
    joint = np.eye(50)
    for layer in out.attentions:
        joint = (layer.mean(1).double().numpy() + np.eye(50)) / 2 @ joint
    heads = out.attentions[-1][:, :, 1:].mean(2).numpy()
    answers = found.answers
    assert answers.attention.heads == pytest.approx(heads, abs=1e-6)
    assert answers.attention.rollout == pytest.approx(joint[:, 1:].mean(1), abs=1e-6)
    on_patches = heads[:, :, 1:].mean(1).reshape(2, 7, 7)
    assert answers.maps["attention"] == pytest.approx(on_patches, abs=1e-6)
    assert answers.logits == pytest.approx(out.logits.numpy(), abs=1e-5)
    assert np.array_equal(found.selected.images, loaded.test.images[[3, 0]])
    assert (answers.attention.rows, answers.attention.layer) == ("patches", 8)


def test_the_default_rows_follow_the_pooling_of_the_checkpoint(cls_weights, tmp_path):
    run = pipeline.run(
        resolve(*FAST, f"backbone.weights={cls_weights}", f"output_dir={tmp_path}/outputs")
    )
    found = _asked(run, images="0")
    read = found.answers.attention
    assert (read.rows, read.read_by_head) == ("cls", "cls")
    said = "row of CLS of layer 8 of 8: the classifier reads the CLS token"
    assert said in pictures.caption(found)
    other = _asked(run, images="0", rows="patches")
    assert "is NOT what the classifier reads" in pictures.caption(other)
    assert np.abs(other.answers.attention.heads - read.heads).max() > 1e-4
    # Weights that are elsewhere now.
    moved = tmp_path / "moved"
    shutil.copytree(cls_weights, moved)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["backbone"]["weights"] = str(tmp_path / "gone")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"backbone\.weights: found .*gone, which is neither"):
        _asked(run, images="0")
    again = _asked(run, [f"backbone.weights={moved}"], images="0")
    assert np.array_equal(again.answers.attention.heads, read.heads)


def test_weights_that_the_run_was_not_trained_on_are_refused(finished_run, tiny_weights):
    with pytest.raises(UserError, match="was trained on a trunk with SHA-256"):
        _asked(finished_run, [f"backbone.weights={tiny_weights}"], images="0")


def test_rows_that_the_classifier_does_not_read_are_labelled(finished_run):
    other = _asked(finished_run, images="1", rows="cls")
    said = "row of CLS of layer 8 of 8, which is NOT what the classifier reads"
    assert said in pictures.caption(other)
    own = _asked(finished_run, images="1")
    assert not np.allclose(
        own.answers.maps["attention"], other.answers.maps["attention"], atol=1e-5
    )


@pytest.mark.parametrize("split", ["test", "val"])
def test_errors_are_the_runs_own_surest_first(finished_run, split):
    labels, logits = predictions(finished_run, split)
    confidence = np.exp(logits).max(1) / np.exp(logits).sum(1)
    wrong = [i for i in range(len(labels)) if logits[i].argmax() != labels[i]]
    assert len(wrong) > 3  # else there is nothing to test
    expected = sorted(wrong, key=lambda i: -confidence[i])[:3]
    found = _asked(finished_run, images="errors:3", split=split)
    assert found.selected.indices.tolist() == expected
    assert all("(WRONG)" in name for name in pictures.image_names(found))
    assert "the 3 errors that the run was most sure of" in pictures.caption(found)


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_takes_the_first_of_each_class(finished_run, split):
    found = _asked(finished_run, images="each:2", split=split)
    labels = data.load(reader.read_config(finished_run)).splits[split].labels
    zeros, ones = (np.flatnonzero(labels == c)[:2].tolist() for c in (0, 1))
    assert found.selected.indices.tolist() == zeros + ones


def test_a_report_draws_one_figure_under_a_name_of_its_own(finished_run, tmp_path):
    [test_set], _ = variants.group([reader.read(finished_run)])
    section = report_explanations.section(test_set, tmp_path, None)
    stems = ("attention-phantom", "attention-phantom-column")
    files = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    assert {p.name for p in tmp_path.iterdir()} == files
    [figure] = section.figures
    assert "of the test split (the first 2 of each class)" in figure.notes[0]
    # By the run's name: a page names no folder of the machine that it was made on.
    command_line = re.search("`beitmed explain (.*)`", figure.notes[1])[1]
    assert command_line == finished_run.name


def test_logits_that_are_not_the_runs_are_told(run, caplog):
    _asked(run, images="0,1")
    assert caplog.text == ""
    lines = (run / "predictions.csv").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("test,1,"))
    *head, first, second = lines[at].split(",")
    lines[at] = ",".join([*head, str(float(first) + 9), second])
    (run / "predictions.csv").write_text("\n".join(lines) + "\n")
    _evaluate(run)
    _asked(run, images="0,1")
    assert "logits of test 1 are up to 9" in caplog.text and "test 0" not in caplog.text


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"images": "99"}, "images: found 99, but test has 16 images; allowed: 0 to 15"),
        ({"images": "40", "split": "train"}, "images: found 40, but train has 16"),
        ({"images": "-1"}, "images: found '-1'; allowed: indices such as"),
        ({"images": "each:0"}, "images: found 'each:0'"),
        ({"images": "errors:2", "split": "train"}, "keeps no predictions; allowed: split=val or"),
        ({"images": ",".join(["0"] * 60), "layer": "9"}, "layer: found '9'; allowed: 1 to 8, or"),
        ({"layer": "0"}, "layer: found '0'; allowed: 1 to 8, or last"),
        ({"layer": "top"}, "layer: found 'top'"),
        ({"rows": "all"}, "rows: found 'all'; allowed: head, patches, cls"),
        ({"split": "dev"}, "split: found 'dev'; allowed: test, val, train"),
        ({"methods": "saliency"}, "methods: found 'saliency'; allowed: all, or some of attention"),
        ({"methods": "gradcam,gradcam"}, "methods: found 'gradcam,gradcam'"),
        ({"methods": "gradcam", "heads": True}, "heads: found true, but no method here reads"),
        ({"target": "2"}, "target: found '2'; allowed: predicted, or of 0 (synthetic irregular"),
        ({"baseline": "white"}, "baseline: found 'white'; allowed: mean, blur, black"),
        ({"tested_images": "1"}, "tested_images: found '1'; allowed: 2 to 1000"),
    ],
)
def test_a_choice_that_is_not_there_is_refused(finished_run, choice, message):
    with pytest.raises(UserError) as caught:
        _asked(finished_run, **choice)
    assert message in str(caught.value)


def test_a_run_without_errors_is_told_so(run):
    rows = list(csv.reader((run / "predictions.csv").open()))
    right = [[s, i, k, *(["1", "0"] if k == "0" else ["0", "1"])] for s, i, k, *_ in rows[1:]]
    with (run / "predictions.csv").open("w", newline="") as f:
        csv.writer(f).writerows([rows[0], *right])
    _evaluate(run)
    with pytest.raises(UserError, match="the run makes no error in test"):
        _asked(run, images="errors:2")


def test_too_many_images_are_refused(finished_run, monkeypatch):
    monkeypatch.setattr(selection, "MOST_IMAGES", 3)
    with pytest.raises(UserError, match="means 4 images; allowed: at most 3"):
        _asked(finished_run, images="each:2")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _other_data(run: Path) -> None:
    facts = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**facts, "phantom_seed": 77}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: shutil.rmtree(run), "is not a run's folder (it has no config.yaml)"),
        (lambda run: (run / "metrics.json").unlink(), "this run is not finished"),
        (lambda run: (run / "config.yaml").write_text("a: ["), "config.yaml: cannot be read"),
        (lambda run: (run / "config.yaml").write_text("words"), "holds str, not keys"),
        (lambda run: (run / "config.yaml").open("a").write("depth: 3\n"), "depth: no such key"),
        (lambda run: (run / "top.safetensors").unlink(), "top.safetensors: cannot be read (No"),
        (lambda run: _truncate(run / "top.safetensors"), "top.safetensors: cannot be read"),
        (lambda run: (run / "predictions.csv").write_text("split\n"), "csv: cannot be read"),
        (lambda run: _truncate(run / "predictions.csv"), "predictions.csv: cannot be read"),
        (_other_data, "made from other data: phantom_seed was 77, now"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_finished_run_is_refused(run, damage, message):
    damage(run)
    with pytest.raises(UserError) as caught:
        _asked(run, images="0")
    assert message in str(caught.value)


def test_bad_input_is_exit_code_2_before_torch_is_imported(finished_run, tmp_path):
    """Each in one process, as the imports cost more than the checks."""
    bad = [
        [], [str(tmp_path)], [str(tmp_path / "none")], [str(finished_run)] * 2 + ["images=0"],
        *([str(finished_run), wrong] for wrong in ("images=99", "layer=9", "size=224",
          "device=tpu", "data.download=maybe", "images=each", "methods=x", "tests=off")),
    ]  # fmt: skip
    code = f"""
import sys
from beitmed.explain import __main__ as command
for arguments in {bad!r}:
    sys.argv = ["explain", *arguments]
    try:
        command.main()
    except SystemExit as e:
        print(e.code, arguments)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line[0] for line in done.stdout.splitlines()] == ["2"] * len(bad), done.stdout
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()
    assert sum(line.startswith("beitmed: ") for line in said) == len(bad)
    assert any("size=224: cannot be set for a run that is there" in line for line in said)
    assert any("device: found 'tpu'; allowed: 'auto', 'cpu' or 'cuda'" in line for line in said)


def test_a_folder_that_cannot_be_written_is_told(finished_run):
    asked = request.prepare([finished_run], Choice(images="0", tests=False))
    with pytest.raises(UserError, match="cannot be written"):
        output.write(asked, Path("/dev/null/explanation"))


def test_a_folder_of_something_else_is_left_as_it_is(run, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine")
    done = beitmed(
        str(run), "images=0", "tests=false", "methods=attention", "output_dir=own",
        module="explain", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2 and "is not empty and not an explanation" in done.stderr
    assert [p.name for p in (tmp_path / "own").iterdir()] == ["notes.txt"]


def test_a_runs_configuration_is_read_back_as_it_was(tmp_path):
    for k, overrides in enumerate((["experiment=smoke"], ["dataset=pneumonia", "unfreeze=all",
                                   "balanced=true", "train.max_grad_norm=1"])):  # fmt: skip
        cfg = resolve(*overrides, f"output_dir={tmp_path}/{k}")
        with run_folder.open_run(cfg) as opened:
            assert reader.read_config(opened.path) == cfg
            moved = reader.read_config(opened.path, ["data.root=/x=y", "data.download=false"])
    assert (moved.data.root, moved.data.download, moved.train) == ("/x=y", False, cfg.train)


def test_runs_that_are_no_seeds_of_one_variant_are_refused(finished_run, run, tmp_path):
    with pytest.raises(UserError, match="seed 42 was given before"):
        _asked([finished_run, run])
    other = tmp_path / "other"
    shutil.copytree(run, other)
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["train"]["epochs"] = 2
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"train\.epochs was 1, now 2.*differ in the seed alone"):
        _asked([finished_run, other])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method=majority",), "method=majority, through which no gradient passes"),
        (("method=features_knn", "backbone=beit_tiny"), "method=features_knn, through which"),
        (("method=resnet18",), "methods: found attention.*a convolutional network has no self-"),
        (("backbone=beit_tiny", "backbone.family=data2vec-vision"), "attention of a data2vec"),
    ],
)
def test_what_has_no_attention_is_refused_by_name(tmp_path, overrides, message):
    run = run_folders.make(tmp_path / "run", "dataset=breast", *overrides)
    with pytest.raises(UserError, match=message):
        _asked(run)


def test_all_leaves_out_what_a_run_cannot_have(tmp_path):
    run = run_folders.make(tmp_path / "run", "dataset=breast", "method=resnet18")
    names, left_out = Choice().of(run, reader.read_config(run))
    assert names == ("integrated_gradients", "occlusion", "gradcam")
    assert list(left_out) == ["attention", "rollout", "gradient_attention"]


def test_without_captum_its_method_is_refused_by_name(tmp_path, monkeypatch):
    run = run_folders.make(tmp_path / "run", "dataset=breast", "method=resnet18")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    names, left_out = Choice().of(run, reader.read_config(run))
    assert names == ("occlusion", "gradcam")
    assert r"pip install '.[explain]'" in left_out["integrated_gradients"]
    with pytest.raises(UserError, match="it needs the captum package"):
        Choice(methods="integrated_gradients").of(run, reader.read_config(run))


def _masks(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_masks_are_of_the_splits_images(finished_run, tmp_path):
    split = data.load(reader.read_config(finished_run)).test
    own = np.zeros(split.images.shape[:3], np.uint8)
    own[:, 3] = 255
    found = Choice(masks=_masks(tmp_path / "a.npz", test_masks=own))
    assert np.array_equal(selection.masks(found, split), own > 0)
    assert selection.masks(Choice(), split) is split.masks is not None  # of the phantom
    for file, message in (
        (_masks(tmp_path / "b.npz", test_masks=own[1:]), "but the images"),
        (_masks(tmp_path / "c.npz", masks=own), "it has no array test_masks, but masks"),
        (tmp_path / "none.npz", "cannot be read"),
        (Path(__file__), "cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            selection.masks(Choice(masks=file), split)


def test_a_named_class_is_what_the_maps_are_of(finished_run):
    zero = _asked(finished_run, images="0,1", methods="occlusion", target="0")
    one = _asked(finished_run, images="0,1", methods="occlusion", target="1")
    assert (zero.answers.targets.tolist(), one.answers.targets.tolist()) == ([0, 0], [1, 1])
    # Of two classes, what speaks for one speaks against the other.
    assert zero.answers.maps["occlusion"] == pytest.approx(-one.answers.maps["occlusion"], abs=1e-5)
    names = pictures.image_names(zero)
    predicted = zero.answers.logits.argmax(1)
    assert [("maps of: " in name) for name in names] == (predicted != 0).tolist()
