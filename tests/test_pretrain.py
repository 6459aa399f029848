"""`beitmed pretrain`: without labels and test images, resumed to the bit, taken by a training."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import beitmed
from PIL import Image
from pretrain_runs import FAST, TINY, WORDS, resolve
from test_families import tiny_config
from test_image_files import dicom
from test_pretrain_network import processor
from transformers import BeitForImageClassification, BeitForMaskedImageModeling

from beitmed import data
from beitmed.commands import jobs
from beitmed.config import PretrainRun
from beitmed.pretraining import batches, checkpoint, line, looks, sources
from beitmed.runs import failures, reader
from beitmed.storage.rows import Rows
from beitmed.training import unlabelled

RESULT = ("model.safetensors", "config.json", "preprocessor_config.json")
TRAIN = ("evaluate.n_resamples=100", "data.limit=8", "train.epochs=1", "unfreeze=1")


def pretrain(folder: Path, *overrides: str, cwd: Path, **kwargs):
    return beitmed(*FAST, f"data.root={folder}", *overrides, cwd=cwd, module="pretrain", **kwargs)


def done(folder: Path, *overrides: str, cwd: Path, name: str = "a") -> Path:
    """The finished run of these overrides."""
    found = pretrain(folder, *overrides, f"name={name}", cwd=cwd)
    assert found.returncode == 0, found.stdout + found.stderr
    return cwd / "pretrained" / name


def learnt(run: Path) -> bytes:
    return b"".join((run / "huggingface" / name).read_bytes() for name in RESULT)


@pytest.fixture(scope="module")
def finished(medmnist_folder, tmp_path_factory) -> Path:
    return done(medmnist_folder, cwd=tmp_path_factory.mktemp("finished"))


def test_a_run_leaves_all_that_it_should_and_is_skipped_once_finished(finished, medmnist_folder):
    names = {p.name for p in finished.iterdir()}
    assert names >= {
        "config.yaml", "data.json", "model.json", "history.csv", "environment.json", "run.log",
        "pretraining.json", "huggingface", "reconstructions.png", "pretraining_curves-column.svg",
    }  # fmt: skip
    assert not any(n.startswith(".") or n == "checkpoints" for n in names)
    rows = list(csv.DictReader((finished / "history.csv").open()))
    assert [float(row["epoch"]) for row in rows] == [2, 4]
    assert set(rows[0]) == {"epoch", "step", "learning_rate", "train_loss", "held_out_loss",
                            "val_auc_breast"}  # fmt: skip
    log = (finished / "run.log").read_text()
    assert "learning from 16 images (train, no labels), looking at 16 others" in log
    assert "RANDOM weights" in log and "reads labels of breast, to look at only" in log
    assert "images/s" in log and " left" in log
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.*")}
    again = pretrain(medmnist_folder, "name=a", cwd=finished.parents[1])
    assert "finished before" in again.stdout
    changed = {p.name for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert changed <= {"run.log"}


def test_the_card_and_the_configuration_say_what_it_saw(finished):
    card = (finished / "huggingface" / "README.md").read_text()
    assert "started from RANDOM numbers" in card
    assert "| breast | train | 16 | 16 | 1 | CC BY 4.0 |" in card
    assert "its test images were not read" in card
    about = json.loads((finished / "huggingface" / "config.json").read_text())["about"]
    assert set(about) == {"licence", "source", "trained_on", "overlap"}
    assert json.loads((finished / "pretraining.json").read_text())["about"] == about
    sets = json.loads((finished / "data.json").read_text())["sets"]
    assert set(sets[0]["digests"]) == {"train", "val"}


def test_a_training_takes_what_was_learnt(finished, medmnist_folder, tmp_path):
    found = beitmed(
        "backbone=auto", f"backbone.weights={finished / 'huggingface'}", "dataset=breast",
        f"data.root={medmnist_folder}", "data.allow_unofficial=true", *TRAIN, cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    [run] = (tmp_path / "outputs").glob("breast_28_full_beit_32x2_top1*")
    cfg = reader.read_config(run)
    assert cfg.backbone.about is not None and "breast" in cfg.backbone.about.trained_on
    assert "RANDOM" not in " ".join(reader.read(run).metrics["caveats"])


def test_going_on_from_what_was_learnt(finished, medmnist_folder, tmp_path):
    """In sequence: first on one set, then on another."""
    few = [o for o in FAST if not o.startswith("backbone.")]
    found = beitmed(
        *few, f"data.root={medmnist_folder}", "dataset=pneumonia", "backbone=auto",
        f"backbone.weights={finished / 'huggingface'}", "name=b", cwd=tmp_path, module="pretrain",
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert "checkpoint's own decoder goes on" in found.stdout
    card = (tmp_path / "pretrained" / "b" / "huggingface" / "README.md").read_text()
    assert "started from the checkpoint beit_32x2" in card


def test_neither_labels_nor_test_images_are_learnt_from(finished, edit_npz, tmp_path):
    rng = np.random.default_rng(9)
    changed = edit_npz(
        test_images=rng.integers(0, 256, (156, 28, 28), dtype=np.uint8),
        test_labels=rng.integers(0, 2, (156, 1), dtype=np.uint8),
    )
    other = done(changed, cwd=tmp_path)
    assert learnt(other) == learnt(finished)
    with np.load(changed / "breastmnist.npz") as npz:
        arrays = dict(npz)
    arrays["train_labels"] = 1 - arrays["train_labels"]
    (tmp_path / "labels").mkdir()
    np.savez(tmp_path / "labels" / "breastmnist.npz", **arrays)
    given = ("data.allow_unofficial=true", *TINY)
    one, two = (
        sources.load(resolve(*given, f"data.root={folder}"))[0]
        for folder in (changed, tmp_path / "labels")
    )
    assert np.array_equal(one.images[:], two.images[:]) and len(one.images) == 546


def test_a_hybrid_of_weight_0_is_pixels_to_the_bit(finished, medmnist_folder, tmp_path):
    same = done(medmnist_folder, "objective=hybrid", "objective.weight=0", cwd=tmp_path)
    weights = [(run / "huggingface" / "model.safetensors").read_bytes() for run in (same, finished)]
    assert weights[0] == weights[1]
    other = done(medmnist_folder, "objective=hybrid", cwd=tmp_path, name="b")
    assert learnt(other) != learnt(finished)
    header = (other / "history.csv").read_text().partition("\n")[0]
    assert "held_out_contrast" in header and "held_out_regression" in header


def test_visual_words_end_in_beits_own_format(medmnist_folder, tmp_path):
    run = done(medmnist_folder, *WORDS, "pretrain.probe=linear", cwd=tmp_path)
    model, report = BeitForMaskedImageModeling.from_pretrained(
        run / "huggingface", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.config.vocab_size == 16
    row = next(csv.DictReader((run / "history.csv").open()))
    assert 0 <= float(row["held_out_code_accuracy"]) <= 1
    assert json.loads((run / "pretraining.json").read_text())["caveats"][-1] == "RANDOM tokenizer"
    assert "RANDOM weights" in (run / "huggingface" / "README.md").read_text()


def test_words_of_changed_images_are_found_at_every_step(medmnist_folder, tmp_path):
    run = done(medmnist_folder, *WORDS, "pretrain.crop=0.5", "train.max_steps=2", "precision=bf16",
               cwd=tmp_path)  # fmt: skip
    assert "found once" not in (run / "run.log").read_text()
    assert next(csv.DictReader((run / "history.csv").open()))["step"] == "2"


@pytest.fixture(scope="module")
def no_token(tmp_path_factory) -> Path:
    """A checkpoint that was not pre-trained by masking."""
    config = tiny_config("beit")
    config.use_mask_token = False
    folder = tmp_path_factory.mktemp("no_token")
    BeitForImageClassification(config).save_pretrained(folder)
    processor("beit").save_pretrained(folder)
    return folder


class Killed(BaseException):
    pass


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    finished, medmnist_folder, tmp_path, monkeypatch
):
    real = unlabelled.history

    def killed(state):
        rows = real(state)
        if rows[-1]["epoch"] == 4:  # before the second checkpoint is written
            raise Killed
        return rows

    cfg = resolve(
        *FAST, f"data.root={medmnist_folder}", "name=a", f"output_dir={tmp_path / 'pretrained'}"
    )
    monkeypatch.setattr(unlabelled, "history", killed)
    with pytest.raises(Killed):
        line.run(cfg)
    monkeypatch.undo()
    run = tmp_path / "pretrained" / "a"
    assert (run / "checkpoints").is_dir() and not (run / "pretraining.json").exists()
    assert line.run(cfg) == run
    assert learnt(run) == learnt(finished)
    assert (run / "history.csv").read_bytes() == (finished / "history.csv").read_bytes()
    assert not (run / "checkpoints").exists()


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bytes(medmnist_folder, tmp_path):
    given = (*FAST, f"data.root={medmnist_folder}", "train.epochs=40", "name=a")
    whole = beitmed(*given, cwd=tmp_path, module="pretrain", process=True)
    assert whole.returncode == 0, whole.stderr
    (tmp_path / "killed").mkdir()
    command = [sys.executable, "-m", "beitmed", "pretrain", *given]
    process = subprocess.Popen(command, cwd=tmp_path / "killed", stdout=subprocess.DEVNULL)
    folder = tmp_path / "killed" / "pretrained" / "a"
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoints/*/complete")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (folder / "pretraining.json").exists()
    again = beitmed(*given, cwd=tmp_path / "killed", module="pretrain", process=True)
    assert again.returncode == 0, again.stderr
    assert learnt(folder) == learnt(tmp_path / "pretrained" / "a")


def test_several_sets_each_as_often_as_its_weight_says(medmnist_folder):
    cfg = resolve(
        *FAST, f"data.root={medmnist_folder}", "pretrain.datasets=[breast,pneumonia]",
        "pretrain.weights=[2.5,0.25]",
    )  # fmt: skip
    found = sources.load(cfg)
    order = batches.Order(found, cfg.seed)
    epochs = []
    for epoch in (0, 1, 0):
        order.set_epoch(epoch)
        epochs.append(list(order))
    assert epochs[0] == epochs[2] != epochs[1]
    images = np.array([image for _, _, image in epochs[0]])
    of_set = [images[images < 16], images[images >= 16]]
    assert [len(x) for x in of_set] == [40, 4]
    counts = np.bincount(of_set[0], minlength=16)
    assert set(counts) == {2, 3}
    assert len(order) == 44 and [p for _, p, _ in epochs[0]] == list(range(44))


def test_mirror_images_are_those_of_sets_whose_file_allows_them(medmnist_folder):
    given = (*FAST, f"data.root={medmnist_folder}", "pretrain.datasets=[breast,pneumonia]")
    for chosen, expected in (("null", [True, False]), ("true", [True] * 2), ("false", [False] * 2)):
        cfg = resolve(*given, f"pretrain.flip={chosen}")
        found = sources.load(cfg)
        assert [source.flip for source in found] == expected
        slots = [(epoch, place, image) for epoch in (1,) for place, image in enumerate(range(32))]
        view = batches.Batches(cfg, found, 4, None).__getitems__(slots)["view"]
        mirrored = view["boxes"][:, 2] < 0
        for allowed, of_set in zip(expected, (mirrored[:16], mirrored[16:]), strict=True):
            assert bool(of_set.any()) is allowed


def test_without_a_probe_no_label_is_read(medmnist_folder):
    cfg = resolve(*FAST, f"data.root={medmnist_folder}", "pretrain.probe=none")
    found = sources.load(cfg)
    network, _ = checkpoint.begin(cfg)
    assert set(looks.Looks(cfg, network, found)()) == {"held_out_loss"}


def test_val_is_learnt_from_only_by_choice(medmnist_folder):
    given = (*FAST, f"data.root={medmnist_folder}")
    [plain] = sources.load(resolve(*given))
    [with_val] = sources.load(resolve(*given, "pretrain.val=true", "pretrain.held_out=0.25"))
    assert (len(plain.images), len(plain.held)) == (16, 16)
    assert (len(with_val.images), len(with_val.held)) == (24, 8)
    pixels = {image.tobytes() for image in with_val.images}
    assert not pixels & {image.tobytes() for image in with_val.held}
    assert any(image.tobytes() in pixels for image in plain.held)


def test_ones_own_dataset_is_read_from_disk_and_its_test_split_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    for name in ("benign", "malignant"):
        pictures(tmp_path / "own" / name, 20)
    given = ("dataset=folder", "dataset.path=own", f"cache.root={tmp_path / 'cache'}")
    cfg = line.complete(resolve(*TINY, *given, "pretrain.val=true", "pretrain.held_out=0.25"))
    [source] = sources.load(cfg)
    splits = data.load(cfg.of_dataset(cfg.dataset.model_dump())).splits
    parts = {name: {image.tobytes() for image in split.images} for name, split in splits.items()}
    assert isinstance(source.images, Rows) and isinstance(source.held, Rows)
    seen = [image.tobytes() for rows in (source.images, source.held) for image in rows]
    assert set(seen) == parts["train"] | parts["val"] and len(seen) == len(set(seen))
    assert len(parts["test"]) > 1 and not set(seen) & parts["test"]
    assert source.facts["splits"] == "train and val" and len(source.held) == len(seen) // 4


def test_ones_own_images_without_labels(medmnist_folder, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 256, (40, 30 + i), np.uint8)
        (tmp_path / "in" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{i % 2}" / f"{i}.png")
    dicom(tmp_path / "in" / "x.dcm", rng.integers(0, 4096, (64, 64), np.uint16), BitsStored=12)
    given = ("pretrain.images=in", "pretrain.held_out=0.25")
    cache = f"cache.root={tmp_path / 'cache'}"
    run = done(medmnist_folder, *given, cache, cwd=tmp_path)
    [facts] = json.loads((run / "data.json").read_text())["sets"]
    assert (facts["set"], facts["images"], facts["held_out"]) == ("in", 10, 3)
    assert "val_auc" not in (run / "history.csv").read_text()
    said = (run / "run.log").read_text()
    assert "in, 28 px: converting 13 images" in said
    shutil.move(tmp_path / "in", tmp_path / "elsewhere")
    given = ("pretrain.images=elsewhere", given[1], cache)
    again = pretrain(medmnist_folder, *given, "name=a", cwd=tmp_path)
    assert "finished before" in again.stdout, again.stdout + again.stderr  # the same images
    # Other seeds read what was converted, from disk: they stay there, whatever their number.
    monkeypatch.chdir(tmp_path)
    [source] = sources.load(line.complete(resolve(*FAST, *given, "seed=1")))
    assert isinstance(source.images, Rows) and isinstance(source.held, Rows)
    assert len(source.images) == 10 and source.images.shape[1:] == (28, 28)
    assert len(list((tmp_path / "cache").glob("*/manifest.json"))) == 1
    (tmp_path / "elsewhere" / "0" / "bad.png").write_bytes(b"no image")
    bad = pretrain(medmnist_folder, *given, "name=b", cwd=tmp_path)
    assert bad.returncode == 2 and "bad.png" in bad.stderr
    assert "elsewhere has images that cannot be used (1)" in bad.stderr
    assert not (tmp_path / "pretrained" / "b").exists()
    assert len(list((tmp_path / "cache").glob("[!.]*"))) == 1  # nor a half of them there


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_unlabelled_images(tmp_path):
    few, many = np.arange(40, dtype=np.uint8), np.arange(25_000) % 251
    for name, values in (("few", few), ("many", many.astype(np.uint8))):
        images = np.repeat(values, 128 * 128).reshape(-1, 128, 128)
        np.savez_compressed(tmp_path / f"{name}.npz", train_images=images)
        size = images.nbytes
    given = (*FAST, "size=128", "train.max_steps=20", "pretrain.probe=none")
    peaks = []
    for name in ("few", "many"):
        run = beitmed(*given, f"pretrain.images={name}.npz", f"name={name}", "cache.root=cache",
                      cwd=tmp_path, module="pretrain", process=True)  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        environment = json.loads((tmp_path / "pretrained" / name / "environment.json").read_text())
        peaks.append(max(phase["peak_memory_bytes"] for phase in environment["phases"].values()))
    assert size > 400e6
    # What grows: the order of an epoch, some hundred bytes an image.
    assert peaks[1] - peaks[0] < 0.2 * size


# What is wrong with values is told at once, each with what was found and what is allowed.
WRONG = {
    "objective.mask_ratio=0.0": "greater than 0",
    "train.learning_rate=nan": "finite",
    "train.weight_decay=inf": "finite",
    "train.batch_size=0": "greater than or equal to 1",
    "pretrain.crop=0.0": "greater than 0",
    "pretrain.held_out=1.0": "less than 1",
    "pretrain.intensity=1.0": "less than 1",
    "pretrain.every=0": "greater than or equal to 1",
    "pretrain.datasets=[]": "at least 1",
    "pretrain.val=3": "true or false",
    "pretrain.probe=svm": "'knn', 'linear' or 'none'",
    "seed=-1": "greater than or equal to 0",
}
BAD = {
    "objective.mask_ratio=0": ["objective.mask_ratio: found 0", "greater than 0"],
    "objective.mask_ratio=1": ["objective.mask_ratio: found 1", "less than 1"],
    "objective.mask_ratio=nan": ["objective.mask_ratio: found nan"],
    "pretrain.dataset=breast": ["pretrain.dataset: no such key", "pretrain.datasets"],
    "unfreeze=1": ["unfreeze=1: found with beitmed pretrain", "does not read it"],
    "pretrain.images=nothing": ["nothing: no such file or folder"],
    "pretrain.images=empty": ["empty: no image there"],
    "pretrain.datasets=[mars]": ["pretrain.datasets: found 'mars'", "allowed: blood, breast"],
    "pretrain.datasets=[breast,breast]": ["pretrain.datasets: found ['breast', 'breast']"],
    "pretrain.weights=[1.0,2.0]": ["pretrain.weights: found 2 for 1 sets (breast)"],
    "pretrain.weights=[0.0]": ["pretrain.weights", "found 0.0", "greater than 0"],
    "pretrain.images=one": ["one has 1 images", "the least"],
    "pretrain.images=table.csv": ["table.csv: has no column 'path'"],
    "pretrain.images=test.npz": ["test.npz: has no train_images", "test_images"],
    "train.batch_size=1": ["train.batch_size: found 1 with objective=hybrid"],
    "objective.tokenizer_px=112": ["reads 112 px", "4 x 4 patches", "tokenizer_px=32"],
    "backbone.weights=nowhere": ["nowhere"],
    "backbone.weights=no_token": ["has no mask token", "objective=pixels"],
    "launcher=joblib": ["launcher: found joblib without -m"],
    "experiment=paper": ["experiment=paper: is of beitmed train"],
    "objective=tokens": [
        "objective.tokenizer: facebook/flava-image-codebook is not on this machine",
        "objective.tokenizer=random",
    ],
    "objective=words": ["objective", "pixels", "tokens", "hybrid"],
}


@pytest.mark.parametrize("override", BAD)
def test_bad_input_is_one_message_before_anything_is_learnt(
    override, medmnist_folder, tmp_path, no_token
):
    for name, count in (("empty", 0), ("one", 1)):
        pictures(tmp_path / name, count)
    (tmp_path / "table.csv").write_text("file\na.png\n")
    np.savez(tmp_path / "test.npz", test_images=np.zeros((4, 28, 28), np.uint8))
    (tmp_path / "no_token").symlink_to(no_token)
    beside = {"train.batch_size=1": ("objective=hybrid",), "objective.tokenizer_px=112": WORDS,
              "backbone.weights=no_token": ("backbone=auto", *WORDS)}  # fmt: skip
    few = [o for o in FAST if "no_token" not in override or not o.startswith("backbone.")]
    given = (*few, f"data.root={medmnist_folder}", f"cache.root={tmp_path / 'cache'}")
    found = beitmed(*given, *beside.get(override, ()), override, cwd=tmp_path, module="pretrain")
    assert found.returncode == 2, found.stdout + found.stderr
    # Before it there may be a bar of transformers, which has loaded a checkpoint.
    assert "beitmed: " in found.stderr and "Traceback" not in found.stderr
    for part in BAD[override]:
        assert part in found.stderr, found.stderr
    assert not list((tmp_path / "pretrained").glob("[!.]*"))


def test_every_wrong_value_is_told_at_once(medmnist_folder, tmp_path):
    found = pretrain(medmnist_folder, *WRONG, cwd=tmp_path)
    assert found.returncode == 2 and "Traceback" not in found.stderr
    lines = found.stderr.splitlines()
    for override, allowed in WRONG.items():
        key = override.partition("=")[0]
        [line] = [one for one in lines if one.strip().startswith(key)]
        assert "found" in line and allowed in line, line
    assert not (tmp_path / "pretrained").exists()


def test_a_dataset_that_is_not_read_is_refused(medmnist_folder, tmp_path):
    given = ("dataset=breast", "pretrain.datasets=[pneumonia]")
    found = pretrain(medmnist_folder, *given, cwd=tmp_path)
    assert found.returncode == 2 and "dataset=breast: found with" in found.stderr


def test_another_configuration_or_other_images_are_refused_in_a_runs_folder(
    finished, edit_npz, medmnist_folder
):
    cwd = finished.parents[1]
    other = pretrain(medmnist_folder, "name=a", "objective.mask_ratio=0.5", cwd=cwd)
    assert other.returncode == 2 and "objective.mask_ratio was 0.6, now 0.5" in other.stderr
    assert "train.learning_rate" not in other.stderr


def pictures(folder: Path, count: int = 4) -> None:
    rng = np.random.default_rng(len(folder.name))
    folder.mkdir()
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(folder / f"{i}.png")


def test_a_sweep_is_told_from_its_folders_and_retried(medmnist_folder, tmp_path):
    pictures(tmp_path / "one")
    given = ("-m", "pretrain.images=one,three", "train.epochs=1", "pretrain.every=1")
    found = pretrain(medmnist_folder, *given, cwd=tmp_path)
    assert found.returncode == 1, found.stdout + found.stderr
    [run] = (tmp_path / "pretrained").glob("[!.]*")
    assert run.name.startswith("images_28_pixels_beit_tiny_seed42_")
    [_, closing] = found.stdout.split("beitmed: 1 of the sweep's runs failed:")
    assert "pretrain.images=three" in closing and "three: no such file or folder" in closing
    assert "1 of the sweep's 2 runs are finished" in closing and "retry them" in closing
    [file] = tmp_path.glob("pretrained/.failures/*.json")
    assert failures.read(file).command.startswith("beitmed pretrain backbone.geometry")
    pictures(tmp_path / "three")
    again = pretrain(medmnist_folder, *given, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("finished before") == 1
    assert len(list((tmp_path / "pretrained").glob("[!.]*/pretraining.json"))) == 2
    assert not list(tmp_path.glob("pretrained/.failures/*"))


def test_keys_are_printed_and_a_report_passes_pretrainings_by(finished, medmnist_folder, tmp_path):
    shown = beitmed("--keys", *TINY, cwd=tmp_path, module="pretrain")
    values = yaml.safe_load(shown.stdout)
    assert values["pretrain"]["every"] == 10 and values["objective"]["name"] == "pixels"
    assert PretrainRun.model_validate(values)
    assert reader.find([finished.parent]) == (
        [], [f"{finished.parent}: no run in it (a run's folder has a config.yaml)."]
    )  # fmt: skip


def test_every_command_of_the_docs_composes():
    from test_docs import COMMANDS, words_of

    shown = [words_of(c)[1] for c in COMMANDS if words_of(c)[0] == "pretrain"]
    assert len(shown) >= 5
    for arguments in shown:
        planned = jobs.of(arguments, kind=PretrainRun)
        assert len(planned.configurations) == len(planned.found)
