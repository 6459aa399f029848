"""The explain command on finished runs: what it shows, writes and refuses."""

from __future__ import annotations

import csv
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
from transformers import BeitConfig, BeitForImageClassification, BeitImageProcessorPil

from beitmed import data, evaluation, pipeline
from beitmed.backbones import weights
from beitmed.backbones.freezing import FreezableBackbone, load_top
from beitmed.data.pixels import PixelDataset
from beitmed.errors import UserError
from beitmed.explain import explanation, output
from beitmed.explain.explanation import Choice
from beitmed.report.content import attention_maps as report_attention
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


def test_the_command_writes_what_it_says(run, tmp_path):
    done = beitmed(str(run), "images=9", "layer=7", module="explain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = run / "attention"
    stems = ("overview_test_layer7_patches", "test00009_layer7_patches")
    figures = {f"{s}{w}.{kind}" for s in stems for w in ("", "-column") for kind in ("png", "svg")}
    assert {p.name for p in out.iterdir()} == {"attention.json", "attention.npz", *figures}
    said = json.loads((out / "attention.json").read_text())
    assert said["caption"] in done.stdout and f"figures: {out}" in done.stdout
    assert (said["layer"], said["layers"], said["rows"]) == (7, 8, "patches")
    assert said["rows_read_by_classifier"] == "patches"
    assert "after layer 8, not after this one" in said["caption"]
    assert "Attention is not attribution" in said["caption"]
    labels, logits = predictions(run, "test")
    [image] = said["images"]
    assert (image["index"], image["label"]) == (9, labels[9])
    assert image["prediction"] == logits[9].argmax()
    assert image["logits"] == pytest.approx(logits[9], abs=0.01)  # its features were rounded
    with np.load(out / "attention.npz") as npz:
        assert npz["heads"].shape == (1, 4, 7, 7)
        for name in ("heads", "mean", "rollout"):
            assert list(npz[name].shape) == said["values"][name]
            total = npz[name].sum((-1, -2)) + npz[f"{name}_on_cls"]
            assert total == pytest.approx(1, abs=1e-5)
    # Another process gives the same bytes.
    output.write(run, tmp_path / "again", Choice(images="9", layer="7"))
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_values_are_those_of_the_network_put_together_by_hand(finished_run):
    explained, logits = explanation.explain(finished_run, Choice(images="3,0"))
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
    assert explained.heads == pytest.approx(
        out.attentions[-1][:, :, 1:].mean(2).numpy(), abs=1e-6
    )  # fmt: skip
    assert explained.rollout == pytest.approx(joint[:, 1:].mean(1), abs=1e-6)
    assert logits == pytest.approx(out.logits.numpy(), abs=1e-5)
    assert np.array_equal(explained.images, loaded.test.images[[3, 0]])
    assert (explained.rows, explained.layer) == ("patches", 8)


def test_the_default_rows_follow_the_pooling_of_the_checkpoint(cls_weights, tmp_path):
    run = pipeline.run(
        resolve(*FAST, f"backbone.weights={cls_weights}", f"output_dir={tmp_path}/outputs")
    )
    explained, _ = explanation.explain(run, Choice(images="0"))
    assert (explained.rows, explained.read_by_head) == ("cls", "cls")
    assert "row of CLS of layer 8 of 8: the classifier reads the CLS token" in explained.caption
    other, _ = explanation.explain(run, Choice(images="0", rows="patches"))
    assert "is NOT what the classifier reads" in other.caption
    assert np.abs(other.heads - explained.heads).max() > 1e-4
    # Weights that are elsewhere now.
    moved = tmp_path / "moved"
    shutil.copytree(cls_weights, moved)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["backbone"]["weights"] = str(tmp_path / "gone")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"backbone\.weights: found .*gone, which is neither"):
        explanation.explain(run, Choice(images="0"))
    again, _ = explanation.explain(run, Choice(images="0"), [f"backbone.weights={moved}"])
    assert np.array_equal(again.heads, explained.heads)


def test_weights_that_the_run_was_not_trained_on_are_refused(finished_run, tiny_weights):
    with pytest.raises(UserError, match="was trained on a trunk with SHA-256"):
        explanation.explain(finished_run, Choice(images="0"), [f"backbone.weights={tiny_weights}"])


def test_rows_that_the_classifier_does_not_read_are_labelled(finished_run):
    explained, _ = explanation.explain(finished_run, Choice(images="1", rows="cls"))
    assert "row of CLS of layer 8 of 8, which is NOT what the classifier reads" in explained.caption
    reading, _ = explanation.explain(finished_run, Choice(images="1"))
    assert not np.allclose(reading.heads, explained.heads, atol=1e-5)


@pytest.mark.parametrize("split", ["test", "val"])
def test_errors_are_the_runs_own_surest_first(finished_run, split):
    labels, logits = predictions(finished_run, split)
    confidence = np.exp(logits).max(1) / np.exp(logits).sum(1)
    wrong = [i for i in range(len(labels)) if logits[i].argmax() != labels[i]]
    assert len(wrong) > 3  # else there is nothing to test
    expected = sorted(wrong, key=lambda i: -confidence[i])[:3]
    explained, _ = explanation.explain(finished_run, Choice(images="errors:3", split=split))
    assert explained.indices.tolist() == expected
    assert (explained.predictions != explained.labels).all()
    assert "the 3 errors that the run was most sure of" in explained.caption


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_takes_the_first_of_each_class(finished_run, split):
    explained, _ = explanation.explain(finished_run, Choice(images="each:2", split=split))
    labels = data.load(reader.read_config(finished_run)).splits[split].labels
    zeros, ones = (np.flatnonzero(labels == c)[:2].tolist() for c in (0, 1))
    assert explained.indices.tolist() == zeros + ones


def test_a_report_draws_one_figure_under_a_name_of_its_own(finished_run, tmp_path):
    [test_set], _ = variants.group([reader.read(finished_run)])
    section = report_attention.section(test_set, tmp_path, None)
    stems = ("attention-phantom", "attention-phantom-column")
    files = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    assert {p.name for p in tmp_path.iterdir()} == files
    [figure] = section.figures
    assert "of the test split (the first 2 of each class)" in figure.notes[0]
    # By the run's name: a page names no folder of the machine that it was made on.
    command_line = re.search("`beitmed explain (.*)`", figure.notes[1])[1]
    assert command_line == finished_run.name


def test_logits_that_are_not_the_runs_are_told(run, caplog):
    explanation.explain(run, Choice(images="0,1"))
    assert caplog.text == ""
    lines = (run / "predictions.csv").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("test,1,"))
    *head, first, second = lines[at].split(",")
    lines[at] = ",".join([*head, str(float(first) + 9), second])
    (run / "predictions.csv").write_text("\n".join(lines) + "\n")
    _evaluate(run)
    explanation.explain(run, Choice(images="0,1"))
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
    ],
)
def test_a_choice_that_is_not_there_is_refused(finished_run, choice, message):
    with pytest.raises(UserError) as caught:
        explanation.explain(finished_run, Choice(**choice))
    assert message in str(caught.value)


def test_a_run_without_errors_is_told_so(run):
    rows = list(csv.reader((run / "predictions.csv").open()))
    right = [[s, i, k, *(["1", "0"] if k == "0" else ["0", "1"])] for s, i, k, *_ in rows[1:]]
    with (run / "predictions.csv").open("w", newline="") as f:
        csv.writer(f).writerows([rows[0], *right])
    _evaluate(run)
    with pytest.raises(UserError, match="the run makes no error in test"):
        explanation.explain(run, Choice(images="errors:2"))


def test_too_many_images_are_refused(finished_run, monkeypatch):
    monkeypatch.setattr(explanation, "MOST_IMAGES", 3)
    with pytest.raises(UserError, match="means 4 images; allowed: at most 3"):
        explanation.explain(finished_run, Choice(images="each:2"))


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
        explanation.explain(run, Choice(images="0"))
    assert message in str(caught.value)


def test_bad_input_is_exit_code_2_before_torch_is_imported(finished_run, tmp_path):
    """Each in one process, as the imports cost more than the checks."""
    bad = [
        [], [str(tmp_path)], [str(tmp_path / "none")], [str(finished_run)] * 2,
        *([str(finished_run), wrong] for wrong in ("images=99", "layer=9", "size=224",
          "device=tpu", "data.download=maybe", "images=each")),
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
    with pytest.raises(UserError, match="cannot be written"):
        output.write(finished_run, Path("/dev/null/attention"), Choice(images="0"))


def test_a_runs_configuration_is_read_back_as_it_was(tmp_path):
    for k, overrides in enumerate((["experiment=quickstart"], ["dataset=pneumonia", "unfreeze=all",
                                   "balanced=true", "train.max_grad_norm=1"])):  # fmt: skip
        cfg = resolve(*overrides, f"output_dir={tmp_path}/{k}")
        with run_folder.open_run(cfg) as opened:
            assert reader.read_config(opened.path) == cfg
            moved = reader.read_config(opened.path, ["data.root=/x=y", "data.download=false"])
    assert (moved.data.root, moved.data.download, moved.train) == ("/x=y", False, cfg.train)


def test_a_run_of_several_labels_an_image_is_refused(tmp_path):
    run = run_folders.make(tmp_path / "run", "dataset=chest", "backbone=beit_tiny")
    with pytest.raises(UserError, match="an image of chest has several labels"):
        explanation.explain(run)
