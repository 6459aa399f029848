"""Attention figures: the numbers that are drawn, and that nothing covers anything else."""

from __future__ import annotations

from itertools import combinations

import matplotlib.image
import numpy as np
import pytest
from figure_checks import assert_legible, assert_small_text_is_legible, rendered
from transformers import BeitImageProcessorPil

from beitmed.data import pixels
from beitmed.plots import attention_maps, overlays
from beitmed.plots.attention_maps import Explained
from beitmed.plots.page import FULL_WIDTH, WIDTH, write

LONG = "a class with $quite$ a long name_{indeed} & <more>"


def explained(n=3, count=16, side=14, names=("malignant", "normal, benign"), prefix=1, **changes):
    rng = np.random.default_rng(0)
    tokens = prefix + side * side
    values = {
        "title": "breast_28_full_beit_large_top5_seed42_00000000; " + "caveat, " * 20,
        "chosen": "images of the test split (the first 3 of each class)",
        "images": rng.integers(0, 255, (n, 28, 28), dtype=np.uint8),
        "names": tuple(f"test {i}: {names[0]}; predicted: {names[1]} (WRONG)" for i in range(n)),
        "layer": 24,
        "layers": 24,
        "rows": "patches",
        "read_by_head": "patches",
        "heads": rng.dirichlet(np.full(tokens, 0.3), size=(n, count)),
        "rollout": rng.dirichlet(np.full(tokens, 90.0), size=n),
        "prefix": prefix,
    }
    return Explained(**{**values, **changes})


@pytest.mark.parametrize("width", [FULL_WIDTH, WIDTH])
@pytest.mark.parametrize(
    "changes",
    [{}, {"n": 1, "count": 4, "side": 7}, {"n": 6, "count": 12, "names": (LONG, LONG + LONG)},
     {"n": 2, "rows": "cls", "layer": 3}, {"prefix": 5, "rows": "both", "read_by_head": "both"},
     {"n": 1, "prefix": 0}],
)  # fmt: skip
def test_nothing_overlaps_or_leaves_the_page(changes, width):
    e = explained(**{"n": 3, **changes})
    for figure in (
        attention_maps.overview(e, width=width),
        attention_maps.one_image(e, len(e.names) - 1, width=width),
    ):
        rendered(figure)
        assert_legible(figure)
        assert_small_text_is_legible(figure)
        boxes = [("axes", axes.get_window_extent()) for axes in figure.axes]
        boxes += [(text.get_text(), text.get_window_extent()) for text in figure.texts]
        for (one, a), (other, b) in combinations(boxes, 2):
            wide = min(a.x1, b.x1) - max(a.x0, b.x0)
            high = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert wide <= 1 or high <= 1, (one, other)


def test_each_head_is_drawn_where_its_number_stands():
    e = explained(2)
    figure = attention_maps.one_image(e, 1)
    drawn = [axes.images for axes in figure.axes if axes.images and not axes.axison]
    assert [len(images) for images in drawn] == [1] + [2] * 18  # image; mean, rollout, 16 heads
    for images, shares in zip(drawn[1:], [e.mean[1], e.rollout[1], *e.heads[1]], strict=True):
        photo, overlay = images
        assert np.array_equal(photo.get_array(), e.images[1])
        assert overlay.get_array().data == pytest.approx(100 * shares[1:].reshape(14, 14))
        assert photo.get_extent() == overlay.get_extent() == [0, 1, 1, 0]
        assert photo.get_interpolation() == overlay.get_interpolation() == "nearest"
    scales = {(images[1].norm.vmin, images[1].norm.vmax) for images in drawn[3:]}
    assert len(scales) == 1 and scales.pop()[0] == 0


def test_a_nearly_uniform_map_is_not_stretched():
    rng = np.random.default_rng(0)
    flat = rng.dirichlet(np.full(50, 1e4), size=(1, 4))
    e = explained(1, 4, 7, heads=flat, rollout=flat[:, 0])
    figure = attention_maps.overview(e)
    overlay = figure.axes[1].images[1]
    assert (overlay.norm.vmin, overlay.norm.vmax) == pytest.approx((0, 4))  # twice the even spread
    assert figure.axes[1].collections[0].get_segments() == []  # and nothing is outlined


def test_the_outline_encloses_what_stands_out():
    inside = np.zeros((4, 4), bool)
    inside[1, 2] = inside[1, 3] = True
    edges = {frozenset(edge) for edge in overlays.outline(inside)}
    assert edges == {
        frozenset(edge)
        for edge in [
            ((2, 1), (3, 1)), ((3, 1), (4, 1)), ((2, 2), (3, 2)), ((3, 2), (4, 2)),
            ((2, 1), (2, 2)), ((4, 1), (4, 2)),
        ]
    }  # fmt: skip


def test_shown_in_the_files(tmp_path):
    e = explained(2, names=("a $b$", "c"))
    png, svg = write(attention_maps.overview(e), tmp_path / "a.b")
    assert (png.name, svg.name) == ("a.b.png", "a.b.svg")
    assert matplotlib.image.imread(png).shape[1] == round(6.9 * 200)
    text = svg.read_text().replace("\n", " ")
    assert "a $b$" in text and "Attention is not attribution" in text
    again = write(attention_maps.overview(e), tmp_path / "again")
    assert [p.read_bytes() for p in again] == [png.read_bytes(), svg.read_bytes()]


@pytest.mark.parametrize(("crop", "share"), [(None, 1.0), (56, 0.5), (84, 0.75)])
def test_maps_cover_what_the_processor_lets_through(crop, share):
    more = {} if crop is None else {
        "do_center_crop": True, "crop_size": {"height": crop, "width": crop}
    }  # fmt: skip
    processor = BeitImageProcessorPil(size={"height": 112, "width": 112}, resample=0, **more)
    covered = pixels.covered(processor, (112, 112))
    assert covered == (share, share)
    rim = round((1 - share) / 2 * 112)
    image = np.zeros((112, 112), np.uint8)
    image[rim : 112 - rim, rim : 112 - rim] = 255
    [item] = pixels.PixelDataset(image[None], np.array([0]), processor).batch(0, 1)
    assert (item == item.max()).all()  # just the white part passes
    e = explained(1, covered=covered)
    figure = attention_maps.overview(e)
    left, right, bottom, top = figure.axes[1].images[1].get_extent()
    assert (left * 112, top * 112, right * 112, bottom * 112) == (rim, rim, 112 - rim, 112 - rim)
