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
from beitmed.backbones.families import FAMILIES
from beitmed.data import resampling
from beitmed.data.pixels import PixelDataset, to_rgb


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


SETTINGS = {
    "bilinear": {"size": {"height": 224, "width": 224}, "resample": 2, "do_center_crop": False},
    "bicubic": {"size": {"height": 224, "width": 224}, "resample": 3, "do_center_crop": False},
    "smaller": {"size": {"height": 48, "width": 40}, "resample": 3, "do_center_crop": False},
    "cropped": {"size": {"shortest_edge": 256}, "resample": 3, "do_center_crop": True,
                "crop_size": {"height": 224, "width": 224}, "image_mean": [0.1, 0.2, 0.3]},
}  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", ["beit", "vit", "deit", "dinov2"])
def test_what_a_gpu_makes_of_images_is_the_processors_own_to_the_bit(name, settings):
    # Integers in float64: the same on any device, so a CPU may show it.
    processor = FAMILIES[name].processor(**SETTINGS[settings])
    for shape in ((28, 28), (64, 64), (224, 224), (30, 30, 3)):
        images = np.random.default_rng(1).integers(0, 256, (4, *shape), np.uint8)
        images[0] = np.where(images[0] > 127, 255, 0)  # where a cubic overshoots
        arithmetic = resampling.of(processor, *shape[:2])
        expected = processor([to_rgb(i) for i in images], return_tensors="pt")["pixel_values"]
        assert torch.equal(arithmetic(torch.from_numpy(images)), expected), shape


def test_a_processor_of_other_arithmetic_is_left_to_itself():
    lanczos = FAMILIES["vit"].processor(size={"height": 224, "width": 224}, resample=1)
    of_floats = FAMILIES["dinov3_vit"].processor(size={"height": 224, "width": 224}, resample=3)
    assert resampling.of(lanczos, 28, 28) is None
    assert resampling.of(of_floats, 28, 28) is None
    assert resampling.of(of_floats, 224, 224) is not None  # nothing to be resized
