"""Pixels: equal to the Hugging Face processor's, and to the arithmetic that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import REAL_DATA, resolve
from PIL import Image
from torch.utils.data import DataLoader
from transformers import AutoImageProcessor

from beitmed.backbones import weights
from beitmed.data.pixels import PixelDataset


@pytest.fixture(params=[28, 224])
def images(request) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, request.param, request.param), np.uint8)


def test_equal_to_the_checkpoints_own_processor(images, tiny_weights):
    cfg = resolve("backbone=beit_tiny", f"backbone.weights={tiny_weights}")
    _, processor = weights.load(cfg.backbone, ("a", "b"), seed=0)
    dataset = PixelDataset(images, np.zeros(5, int), processor, np.array([3, 0]))
    oracle = AutoImageProcessor.from_pretrained(tiny_weights, backend="pil")
    for item, row in zip(dataset, (3, 0), strict=False):
        rgb = Image.fromarray(np.stack([images[row]] * 3, axis=-1))
        assert torch.equal(
            item["pixel_values"], oracle(rgb, return_tensors="pt")["pixel_values"][0]
        )


@pytest.mark.parametrize("backbone", ["beit_tiny", "beit_base", "beit_large"])
def test_equal_to_resize_rescale_and_normalise_by_hand(images, backbone):
    cfg = resolve(f"backbone={backbone}").backbone
    _, processor = weights._random(cfg) if backbone == "beit_tiny" else (None, _processor(cfg))
    item = PixelDataset(images, np.zeros(5, int), processor)[2]
    size = (cfg.geometry.image_size,) * 2
    resized = np.asarray(Image.fromarray(images[2]).resize(size, Image.Resampling.BILINEAR))
    by_hand = (resized.astype(np.float64) / 255 - 0.5) / 0.5
    assert item["pixel_values"].shape == (3, *size)
    for channel in item["pixel_values"].numpy():
        np.testing.assert_allclose(channel, by_hand, atol=1e-6)


def _processor(cfg):
    # Building all of BEiT-large for its processor would take a quarter of a minute.
    small = cfg.geometry.model_copy(update={"num_hidden_layers": 1})
    return weights._random(cfg.model_copy(update={"geometry": small}))[1]


def test_colour_images_keep_their_colours():
    image = np.zeros((1, 224, 224, 3), np.uint8)
    image[..., 1] = 255
    cfg = resolve("backbone=beit_tiny").backbone
    pixels = PixelDataset(image, np.zeros(1, int), weights._random(cfg)[1])[0]["pixel_values"]
    assert [round(float(c.mean()), 3) for c in pixels] == [-1, 1, -1]


@pytest.mark.real_data
def test_a_batch_of_real_images_is_what_single_images_are():
    with np.load(REAL_DATA / "breastmnist.npz") as npz:
        images, labels = npz["test_images"], npz["test_labels"][:, 0]
    dataset = PixelDataset(
        images, labels, weights._random(resolve("backbone=beit_tiny").backbone)[1]
    )
    batch = next(iter(DataLoader(dataset, batch_size=8)))
    for i in range(8):
        assert torch.equal(batch["pixel_values"][i], dataset[i]["pixel_values"])
        assert batch["labels"][i] == labels[i]
