"""Corruptions: published parameters, pure functions, the same pixels in any order."""

from __future__ import annotations

import numpy as np
import pytest

from beitmed.data import corruptions
from beitmed.data.corruptions import blur, catalogue
from beitmed.data.corruptions.corrupt import enlarge, reduce
from beitmed.errors import UserError

GREY, COLOUR = "breastmnist", "dermamnist"
RGB = ("pathmnist", "bloodmnist", "dermamnist", "retinamnist")


def pictures(n: int = 3, side: int = 28, colour: bool = False) -> np.ndarray:
    """Smooth pictures with noise on them, of all grey levels."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:side, :side] / side
    waves = [100 + 90 * np.sin(5 * (i + 1) * x + 3 * y) for i in range(n)]
    noisy = np.stack(waves) + rng.normal(0, 12, (n, side, side))
    grey = np.clip(noisy, 0, 255).astype(np.uint8)
    return np.stack([grey, 255 - grey, grey // 2], axis=-1) if colour else grey


def everything() -> list[tuple[str, str]]:
    return [(flag, name) for flag in sorted(corruptions.published())
            for name in corruptions.set_of("all", flag)]  # fmt: skip


def test_every_medmnist_c_data_set_has_five_severities_of_known_kinds_and_an_alexnet():
    found = corruptions.published()
    assert len(found) == 12
    for entry in found.values():
        assert 0 < entry["alexnet_clean_error"] < 1
        for one in entry["corruptions"].values():
            assert one["kind"] in catalogue.KINDS
            assert len(one["severities"]) == 5
            assert 0 < one["alexnet_error"] < 1
    breast = found["breastmnist"]
    gap = breast["corruptions"]["contrast_down"]["alexnet_error"] - breast["alexnet_clean_error"]
    assert gap == pytest.approx(0.013, abs=5e-4)


def test_the_published_parameters_are_those_of_the_package():
    found = corruptions.published()
    assert list(found["breastmnist"]["corruptions"]) == [
        "pixelate", "jpeg_compression", "speckle_noise", "motion_blur", "brightness_up",
        "brightness_down", "contrast_down",
    ]  # fmt: skip
    assert found["pneumoniamnist"]["corruptions"]["gaussian_blur"]["severities"] == [3, 5, 7, 9, 11]
    assert found["pathmnist"]["corruptions"]["bubble"]["severities"][4] == [17, 25]


@pytest.mark.parametrize("at", corruptions.AT)
def test_every_corruption_gives_images_of_the_same_form_and_changes_them(at: str):
    seen = set()
    for flag, name in everything():
        one = corruptions.set_of("all", flag)[name]
        if (kind := (one.said.split()[0], flag in RGB)) in seen:
            continue
        seen.add(kind)
        images = pictures(1, colour=flag in RGB)
        before = images.copy()
        found = corruptions.corrupt(images, np.array([4]), one, 5, at)
        assert (found.shape, found.dtype) == (images.shape, np.uint8), name
        assert (images == before).all(), name
        # Letters, and a blur of 2 px of 224, may leave 28 px as they are; the rest cannot.
        assert (found != images).any() or "blur" in name or name == "characters"


@pytest.mark.parametrize("name", ["speckle_noise", "motion_blur", "crop", "rotation"])
def test_an_images_pixels_depend_on_its_index_alone(name: str):
    one, images = corruptions.set_of("all", GREY)[name], pictures(3)
    whole = corruptions.corrupt(images, np.arange(3), one, 3)
    order = np.array([2, 0, 1])
    np.testing.assert_array_equal(corruptions.corrupt(images[order], order, one, 3), whole[order])
    np.testing.assert_array_equal(corruptions.corrupt(images[1:2], np.array([1]), one, 3)[0],
                                  whole[1])  # fmt: skip
    others = [corruptions.corrupt(images[:1], np.array([i]), one, 3)[0] for i in range(1, 6)]
    assert any((other != whole[0]).any() for other in others)


def test_severities_and_corruptions_draw_numbers_of_their_own():
    noise = corruptions.set_of("medmnist_c", "pneumoniamnist")
    flat = np.full((1, 28, 28), 128, np.uint8)
    first, second = (
        corruptions.corrupt(flat, np.array([0]), noise[n], s, "stored").astype(float) - 128
        for n, s in (("gaussian_noise", 5), ("speckle_noise", 5))
    )
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.2


def test_enlarging_and_reducing_gives_the_stored_image_again():
    images = pictures(3)
    for image in images:
        again = reduce(enlarge(image, 224), 28).astype(int)
        assert np.abs(again - image).max() <= 3 and np.abs(again - image).mean() < 0.1
    colour = pictures(1, 64, colour=True)[0]
    assert np.abs(reduce(enlarge(colour, 224), 64).astype(int) - colour).mean() < 0.5


def test_at_the_stored_size_noise_is_of_each_stored_pixel():
    noise = corruptions.set_of("medmnist_c", "pneumoniamnist")["gaussian_noise"]
    flat = np.full((4, 28, 28), 128, np.uint8)
    spread = [corruptions.corrupt(flat, np.arange(4), noise, 5, at).std() for at in corruptions.AT]
    # Three channels of 0.08, weighed as luma is; and the mean over 64 pixels of that.
    expected = 255 * 0.08 * np.sqrt(0.299**2 + 0.587**2 + 0.114**2)
    assert spread[1] == pytest.approx(expected, rel=0.1)
    assert spread[0] == pytest.approx(expected / 8, rel=0.3)


def test_motion_blur_is_a_one_sided_trail():
    image = np.zeros((21, 21, 1), np.uint8)
    image[10, 10] = 255
    found = blur.trail(image, (3, 2), 0.0, 1.0)[:, :, 0]
    rows, columns = np.nonzero(found)
    assert set(rows) == {10} and columns.max() == 10
    weights = np.exp(-(np.arange(7) ** 2) / 8)
    expected = (255 * weights / weights.sum()).astype(np.uint8)
    np.testing.assert_array_equal(found[10, 10:3:-1], expected)


def test_defocus_and_zoom_keep_a_flat_image():
    flat = np.full((1, 224, 224, 3), 90, np.uint8)
    for name, severity in (("defocus_blur", 1), ("zoom_blur", 5), ("motion_blur", 5)):
        one = corruptions.set_of("medmnist_c", COLOUR)[name]
        found = corruptions.corrupt(flat, np.array([0]), one, severity).astype(int)
        assert np.abs(found - 90).max() <= 1, name


def test_saturate_keeps_the_brightest_channel():
    one = corruptions.set_of("medmnist_c", "pathmnist")["saturate"]
    image = pictures(1, 28, colour=True)
    found = corruptions.corrupt(image, np.array([0]), one, 5, "stored").astype(int)
    assert np.abs(found.max(axis=-1) - image.max(axis=-1).astype(int)).max() <= 1
    assert (found.min(axis=-1) <= image.min(axis=-1)).all()


def test_a_set_that_is_not_there_is_refused():
    with pytest.raises(UserError, match=r"set=deployment"):
        corruptions.set_of("medmnist_c", None)
    assert list(corruptions.set_of(None, None)) == [
        "resolution", "gamma_up", "gamma_down", "jpeg", "crop", "rotation",
    ]  # fmt: skip
    assert {"pixelate", "rotation"} <= set(corruptions.set_of("all", GREY))
