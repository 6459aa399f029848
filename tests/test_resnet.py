"""ResNets: MedMNIST's architecture and protocol, and going on after a kill."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import resolve
from sklearn.metrics import roc_auc_score

from beitmed import data, pipeline
from beitmed.errors import UserError
from beitmed.methods import epochs, resnet_network
from beitmed.methods.resnet_training import Training
from beitmed.model import Row
from beitmed.runs.folder import open_run

SMALL = ("dataset=phantom", "data.limit=8", "evaluate.n_resamples=100", "method=resnet18",
         "method.epochs=3", "method.batch_size=8")  # fmt: skip


def blocks(n: int, kinds: list[tuple[int, int]], stem: int, last: int, classes: int) -> int:
    """Parameters counted by hand: stem and convolutions with their batch norms, classifier."""
    return stem * n + 2 * 64 + sum(c + 2 * norm for c, norm in kinds) + last * classes + classes


def resnet18_by_hand(stem: int, channels: int, classes: int) -> int:
    kinds, before = [], 64
    for width in (64, 128, 256, 512):
        for i in range(2):
            kinds += [
                ((before if i == 0 else width) * width * 9, width),
                (width * width * 9, width),
            ]
            if i == 0 and before != width:
                kinds.append((before * width, width))
        before = width
    return blocks(channels, kinds, 64 * stem, 512, classes)


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_networks_are_those_of_the_benchmark():
    with torch.device("meta"):
        for channels, classes in ((1, 2), (3, 9)):
            small = resnet_network.build("resnet18", 28, channels, classes)
            assert count(small) == resnet18_by_hand(9, channels, classes)
            large = resnet_network.build("resnet18", 224, channels, classes)
            assert count(large) == resnet18_by_hand(49, channels, classes)
        assert round(count(resnet_network.build("resnet18", 28, 3, 2)) / 1e6, 1) == 11.2
        assert round(count(resnet_network.build("resnet50", 28, 3, 2)) / 1e6, 1) == 23.5


@pytest.mark.parametrize(("size", "side"), [(28, 28), (64, 16), (224, 56)])
def test_what_the_first_stage_sees(size, side):
    with torch.device("meta"):
        network = resnet_network.build("resnet18", size, 1, 2)
        seen: list[tuple[int, ...]] = []
        network.layer1.register_forward_hook(lambda m, x, y: seen.append(tuple(y.shape)))
        assert network(torch.empty(2, 1, size, size)).shape == (2, 2)
    assert seen == [(2, 64, side, side)]


@pytest.mark.parametrize(("size", "gain"), [(28, 1 / 3), (224, 2)])
def test_first_weights_are_those_of_the_benchmarks_networks(size, gain):
    # PyTorch's own: uniform of variance 1 / (3 inputs); torchvision's: normal of 2 / outputs.
    torch.manual_seed(0)
    weight = resnet_network.build("resnet18", size, 1, 2).layer3[1].conv1.weight
    assert weight.var().item() == pytest.approx(gain / (9 * 256), rel=0.02)
    assert (weight.abs().max().item() < (9 * 256) ** -0.5) == (size == 28)


def test_in_bf16_the_products_are_and_the_loss_is_not(tmp_path):
    half, loaded = begin(tmp_path, "precision=bf16")
    whole, _ = begin(tmp_path)
    half.network.eval(), whole.network.eval()
    pixels = half.model.pixels(loaded.val.images[:4])
    with torch.inference_mode():
        rounded, exact = half.model.scores(pixels), whole.model.scores(pixels)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05 * exact.abs().max() + 0.05
    half.next_epoch()
    assert np.isfinite(half.history[0]["train_loss"])
    with pytest.raises(UserError, match=r"precision: found fp16 with method=resnet18"):
        begin(tmp_path, "precision=fp16")


def test_the_learning_rate_falls_after_epochs_50_and_75(tmp_path):
    training, _ = begin(tmp_path, "method.epochs=100", "method.batch_size=128")
    rates = []
    for _ in range(100):
        rates.append(training.optimizer.param_groups[0]["lr"])
        training.optimizer.step()
        training.schedule.step()
    assert rates == pytest.approx([1e-3] * 50 + [1e-4] * 25 + [1e-5] * 25)
    assert isinstance(training.optimizer, torch.optim.Adam)


def begin(tmp_path: Path, *overrides: str) -> tuple[Training, data.Data]:
    cfg = resolve(*SMALL, f"output_dir={tmp_path}/outputs", *overrides)
    loaded = data.load(cfg)
    return Training(cfg, loaded, np.arange(len(loaded.train.labels))), loaded


def row(epoch: int, auc: float, loss: float) -> Row:
    return {"epoch": epoch, "val_auc": auc, "val_loss": loss, "val_accuracy": 1 - auc}


def test_the_validation_auc_alone_chooses_the_epoch():
    nan = float("nan")
    history = [row(1, nan, 0.1), row(2, 0.6, 0.9), row(3, 0.8, 0.9), row(4, 0.8, 0.1)]
    assert epochs.best(history) == 3
    assert epochs.best(history[:1]) == 1
    assert epochs.best([row(1, nan, 0.1), row(2, nan, 0.9)]) == 2


def test_images_are_normalised_to_minus_one_and_one_in_their_channels(tmp_path):
    training, loaded = begin(tmp_path)
    pixels = training.model.pixels(loaded.val.images[:3])
    assert pixels.shape == (3, 1, 28, 28)
    expected = (loaded.val.images[:3] / 255 - 0.5) / 0.5
    assert pixels[:, 0].numpy() == pytest.approx(expected, abs=1e-6)


def test_the_scores_are_the_best_epochs_and_a_killed_run_ends_in_the_same(tmp_path):
    whole = pipeline.run(resolve(*SMALL, f"output_dir={tmp_path}/whole"))
    history = list(csv.DictReader((whole / "history.csv").open()))
    aucs = [float(r["val_auc"]) for r in history]
    best = int(np.argmax(aucs)) + 1
    assert [float(r["epoch"]) for r in history] == [1, 2, 3]
    assert [int(r["step"]) for r in history] == [2, 4, 6]
    described = json.loads((whole / "model.json").read_text())
    assert described["best_epoch"] == best
    tested = json.loads((whole / "metrics.json").read_text())["test"]["auc"]["value"]
    assert (described["last_epoch_test"]["auc"] == tested) == (best == 3)
    rows = [r for r in csv.DictReader((whole / "predictions.csv").open()) if r["split"] == "val"]
    margin = [float(r["logit_1"]) - float(r["logit_0"]) for r in rows]
    labels = [int(r["label"]) for r in rows]
    assert roc_auc_score(labels, margin) == pytest.approx(max(aucs), abs=1e-9)

    cfg = resolve(*SMALL, f"output_dir={tmp_path}/cut")
    training, _ = begin(tmp_path)
    training.next_epoch()
    with open_run(cfg) as folder:
        training.save(folder.checkpoints / "epoch.pt")
    cut = pipeline.run(cfg)
    assert "going on after epoch 1 of 3" in (cut / "run.log").read_text()
    for name in ("predictions.csv", "history.csv", "model.safetensors"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert not (cut / "checkpoints").exists()


def test_a_damaged_checkpoint_and_a_lost_loss_are_named(tmp_path):
    training, _ = begin(tmp_path)
    damaged = tmp_path / "epoch.pt"
    damaged.write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(UserError, match=r"epoch\.pt: cannot be read.*Delete it"):
        training.resume(damaged)
    with torch.no_grad():
        training.network.fc.bias.fill_(float("inf"))
    with pytest.raises(UserError, match=r"the loss is .* in epoch 1.*method\.learning_rate"):
        training.next_epoch()
