"""Training: the paper's, step for step, and the same after an interruption."""

from __future__ import annotations

import contextlib
import math
import threading

import numpy as np
import pytest
import torch
from conftest import resolve
from transformers import Trainer, TrainingArguments, set_seed

from beitmed.backbones import weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.data.pixels import PixelDataset
from beitmed.errors import UserError
from beitmed.training import checkpoints, parts, prediction, trainer

N = 24


@pytest.fixture(scope="module")
def splits():
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    images = (rng.integers(0, 128, (N, 28, 28)) + 60 * labels[:, None, None]).astype(np.uint8)
    return images, labels


def config(*overrides: str):
    return resolve(
        "dataset=phantom", "backbone=beit_tiny", "train.batch_size=8", "train.epochs=3",
        "unfreeze=2", *overrides,
    )  # fmt: skip


def build(cfg):
    trainer.seed_everything(cfg.seed)
    beit, processor = weights.load(cfg.backbone, ("a", "b"), cfg.seed)
    return FreezableBackbone(beit, cfg.unfreeze, cfg.trunk_mode), processor


def run(cfg, splits, folder):
    network, processor = build(cfg)
    data = PixelDataset(*splits, processor)
    rows: list = []
    history = trainer.fit(
        network, data, data, cfg, folder / "checkpoints", lambda lo, la: {"n": len(la)}, rows.append
    )
    assert rows == history
    return history, prediction.logits(cfg, network, data), network


def plain_trainer_script(cfg, splits, folder):
    """What a user of transformers would write for the paper's recipe; nothing of ours but data."""
    beit, processor = weights.load(cfg.backbone, ("a", "b"), cfg.seed)
    for name, parameter in beit.named_parameters():
        top = ("classifier", "beit.pooler", "beit.layers.6.", "beit.layers.7.")
        parameter.requires_grad = name.startswith(top)
    set_seed(cfg.seed)
    script = Trainer(
        model=beit,
        args=TrainingArguments(
            output_dir=str(folder / "plain"), learning_rate=3e-4, num_train_epochs=3,
            per_device_train_batch_size=8, per_device_eval_batch_size=32, weight_decay=0.01,
            lr_scheduler_type="linear", seed=cfg.seed, eval_strategy="epoch",
            logging_strategy="epoch", save_strategy="no", report_to="none", disable_tqdm=True,
            remove_unused_columns=False, use_cpu=True,
        ),
        train_dataset=PixelDataset(*splits, processor),
        eval_dataset=PixelDataset(*splits, processor),
    )  # fmt: skip
    script.train()
    log = script.state.log_history
    return (
        [r["loss"] for r in log if "loss" in r],
        [r["eval_loss"] for r in log if "eval_loss" in r],
        script.predict(PixelDataset(*splits, processor)).predictions,
    )


def test_trunk_mode_train_gives_the_losses_of_a_plain_trainer_script(splits, tmp_path):
    cfg = config("trunk_mode=train", "device=cpu")
    history, logits, _ = run(cfg, splits, tmp_path)
    losses, eval_losses, predictions = plain_trainer_script(cfg, splits, tmp_path)
    assert [row["train_loss"] for row in history] == losses
    assert [row["val_loss"] for row in history] == eval_losses
    np.testing.assert_array_equal(logits, predictions.astype(np.float64))


def test_trunk_mode_eval_is_the_same_experiment_without_drop_path(splits, tmp_path):
    # Without drop path the two modes are one computation, in two groupings.
    off = "backbone.random.drop_path_rate=0.0"
    history, logits, _ = run(config("device=cpu", off), splits, tmp_path)
    losses, _, predictions = plain_trainer_script(config("device=cpu", off), splits, tmp_path)
    np.testing.assert_allclose([row["train_loss"] for row in history], losses, atol=1e-6)
    np.testing.assert_allclose(logits, predictions, atol=1e-5)
    # With it, they differ: the frozen layers of the paper's code drop paths too.
    random = run(config("device=cpu", "trunk_mode=train"), splits, tmp_path / "r")[0]
    frozen = run(config("device=cpu"), splits, tmp_path / "f")[0]
    assert random[0]["train_loss"] != frozen[0]["train_loss"]


def test_history_has_a_row_an_epoch_and_the_linear_schedule(splits, tmp_path):
    history, _, _ = run(config(), splits, tmp_path)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["step"] for row in history] == [3, 6, 9]
    # The rate of the last step of each epoch: 3e-4 * (1 - step / 9), counted from 0.
    rates = [row["learning_rate"] for row in history]
    np.testing.assert_allclose(rates, [3e-4 * (1 - s / 9) for s in (2, 5, 8)])
    assert all(row["val_n"] == N and math.isfinite(row["val_loss"]) for row in history)


def test_going_on_from_a_checkpoint_ends_in_the_same_bits(splits, tmp_path):
    whole, whole_logits, whole_network = run(config(), splits, tmp_path / "whole")

    class Killed(BaseException):
        pass

    cfg = config()
    network, processor = build(cfg)
    data = PixelDataset(*splits, processor)

    def report(row):
        if row["epoch"] == 3:  # before the third checkpoint is written
            raise Killed

    with pytest.raises(Killed):
        trainer.fit(network, data, data, cfg, tmp_path / "part" / "checkpoints",
                    lambda lo, la: {"n": len(la)}, report)  # fmt: skip
    # A checkpoint that a kill cut short has no mark and is not resumed from.
    broken = tmp_path / "part" / "checkpoints" / "checkpoint-9"
    broken.mkdir()
    (broken / "trainer_state.json").write_text("{")
    torch.manual_seed(99)  # whatever happened since must not matter
    rows: list = []
    network, processor = build(cfg)
    resumed = trainer.fit(
        network, data, data, cfg, tmp_path / "part" / "checkpoints",
        lambda lo, la: {"n": len(la)}, rows.append,
    )  # fmt: skip
    assert [row["epoch"] for row in rows] == [3]  # two were not trained again
    assert resumed == whole
    np.testing.assert_array_equal(prediction.logits(cfg, network, data), whole_logits)
    for (name, a), (_, b) in zip(
        network.trained_parameters(), whole_network.trained_parameters(), strict=True
    ):
        assert torch.equal(a, b), name


def test_a_thread_writes_a_checkpoint_as_it_was_one_at_a_time(tmp_path):
    written = checkpoints.Checkpoints(0, background=True)
    values = {"state": [{"a": torch.zeros(3)}]}
    go, order = threading.Event(), []

    def write(found, path):
        assert go.wait(30)
        order.append(path.parent.name)
        torch.save(found, path)

    for step in (1, 2):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        written.add(write, values, folder / "a.pt")
        values["state"][0]["a"] += 1  # the training goes on
        if step == 1:
            written.commit(folder)
            assert not written.due() and checkpoints.last_complete(tmp_path) is None
            folder.mkdir()  # which was removed, being no complete one
            go.set()
        else:
            written.commit(folder)
    written.wait()
    assert order == ["checkpoint-1", "checkpoint-2"]
    assert checkpoints.last_complete(tmp_path) == str(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-2"]
    assert torch.load(folder / "a.pt")["state"][0]["a"].tolist() == [1, 1, 1]

    full = tmp_path / "checkpoint-3"
    written.add(lambda values, path: path.write_bytes(b""), {}, full / "there is no such folder")
    written.commit(full)
    with pytest.raises(FileNotFoundError):
        written.wait()
    assert checkpoints.last_complete(tmp_path) == str(folder)


def test_a_training_that_reads_and_writes_by_threads_goes_on_to_the_same_bits(
    splits, tmp_path, monkeypatch
):
    cfg = config("train.epochs=2")
    _, whole, _ = run(cfg, splits, tmp_path / "whole")
    begun = trainer.PartsTrainer.__init__

    def in_the_background(self, *args, **kwargs):
        begun(self, *args, **kwargs)
        self.checkpoints = checkpoints.Checkpoints(self.checkpoints.size, background=True)

    class Killed(BaseException):
        pass

    def report(row):
        if row["epoch"] == 2:
            raise Killed

    monkeypatch.setattr(trainer.PartsTrainer, "__init__", in_the_background)
    monkeypatch.setattr(trainer, "_READ_AHEAD_FOR", ("cpu",))
    for end in (report, lambda row: None):
        network, processor = build(cfg)
        data = PixelDataset(*splits, processor)
        with contextlib.suppress(Killed):
            history = trainer.fit(
                network, data, data, cfg, tmp_path / "part", lambda lo, la: {"n": len(la)}, end
            )
    assert [row["epoch"] for row in history] == [1, 2]
    np.testing.assert_array_equal(prediction.logits(cfg, network, data), whole)


def test_a_checkpoint_that_costs_more_than_it_saves_is_not_written():
    large = 3 * 4 * 62_990_338  # BEiT-large's top five layers, with Adam's moments: 1.5 s to write
    assert not checkpoints.due(4.0, large)  # an epoch of PneumoniaMNIST on a fast GPU
    assert checkpoints.due(200.0, large)  # one of BreastMNIST on two cores
    assert checkpoints.due(0.1, 3 * 4 * 1_000_000)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((50, 96), [32]), ((197, 384), [16, 16]), ((197, 1024), [8] * 4), ((577, 1280), [2] * 16)],
)
def test_how_many_images_are_passed_at_once_goes_by_what_they_weigh(shape, sizes):
    network, _ = build(config("device=cpu"))
    labels = torch.zeros(32, dtype=torch.long)
    batch = {"features": torch.empty(32, *shape), "labels": labels}
    assert [len(part["labels"]) for _, part in parts.chunks(batch, network)] == sizes
    pixels = {"pixel_values": torch.empty(32, 3, 112, 112), "labels": labels}  # 50 tokens of 96
    assert len(list(parts.chunks(pixels, network))) == 1


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_loss_that_is_no_number_stops_the_run(splits, tmp_path, device, monkeypatch):
    if device == "gpu":  # losses are looked at many at once, and at an epoch's end
        monkeypatch.setattr(trainer, "_LOOKED_AT_ONCE_ON", ())
    with pytest.raises(UserError, match=r"loss is (nan|inf) at step \d+ of 9.*learning_rate"):
        run(config("train.learning_rate=1e30", "train.max_grad_norm=0"), splits, tmp_path)


def test_bf16_before_does_not_change_fp32_after_in_one_process(splits, tmp_path):
    _, alone, _ = run(config(), splits, tmp_path / "1")
    _, half, _ = run(config("precision=bf16", "seed=7"), splits, tmp_path / "2")
    _, after, _ = run(config(), splits, tmp_path / "3")
    np.testing.assert_array_equal(alone, after)
    assert not np.array_equal(alone, half)


def test_max_steps_ends_the_run_early_with_a_row_of_history(splits, tmp_path):
    history, logits, _ = run(config("train.max_steps=4"), splits, tmp_path)
    assert history[-1]["step"] == 4
    assert logits.shape == (N, 2)
    assert logits.dtype == np.float64


@pytest.mark.parametrize("override", ["device=cuda", "precision=fp16"])
def test_what_needs_a_gpu_says_so_without_one(splits, tmp_path, override):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="GPU"):
        run(config(override), splits, tmp_path)
