"""Figures of explanations: what is drawn, and that nothing covers anything else."""

from __future__ import annotations

import numpy as np
import pytest
from figure_checks import assert_legible, assert_small_text_is_legible, rendered

from beitmed.plots import explanation_tests, explanations, overlays
from beitmed.plots.explanation_tests import CENTRE, RANDOM, TestCurves
from beitmed.plots.explanations import Explained, MethodMaps
from beitmed.plots.page import FULL_WIDTH, WIDTH

LONG = "a class with $quite$ a long name_{indeed} & <more>"
VERDICT = "FAILS 2 of 5 tests (deletion, insertion): " + ", ".join(
    f"{test} -0.12 [-0.24, -0.01]"
    for test in ("deletion", "insertion", "randomisation", "repeatability", "localisation")
)
LABELS = ("attention", "attention rollout", "gradient × attention", "integrated gradients",
          "occlusion", "Grad-CAM")  # fmt: skip


def explained(n: int = 2, count: int = 6, colour: bool = False, **changes) -> Explained:
    rng = np.random.default_rng(0)
    methods = [
        MethodMaps(label, "part of the log odds", k in (3, 4), rng.normal(size=(n, 7, 7)) ** (
            1 if k in (3, 4) else 2), VERDICT)
        for k, label in enumerate(LABELS[:count])
    ]  # fmt: skip
    images = rng.integers(0, 255, (n, 28, 28, 3) if colour else (n, 28, 28), dtype=np.uint8)
    values = {
        "title": "breast_28_full_beit_tiny_top5_seed1_00000000; " + "caveat, " * 12,
        "images": images,
        "names": tuple(f"test {i}: {LONG}; predicted: {LONG} 0.93 (WRONG)" for i in range(n)),
        "methods": methods,
        "covered": (1.0, 1.0),
        "caption": "What the maps show. " * 12,
    }
    return Explained(**{**values, **changes})


@pytest.mark.parametrize("width", [FULL_WIDTH, WIDTH])
@pytest.mark.parametrize("changes", [{}, {"n": 1, "count": 1}, {"count": 3, "colour": True}])
def test_nothing_overlaps_or_leaves_the_page(changes, width):
    found = explained(**changes)
    for figure in (
        explanations.overview(found, width=width),
        explanations.one_image(found, 0, width=width),
    ):
        rendered(figure)
        assert_legible(figure)
        assert_small_text_is_legible(figure)


def test_maps_are_drawn_in_their_order_on_scales_that_start_at_zero():
    found = explained(2)
    figure = explanations.overview(found)
    panels = [axes.images for axes in figure.axes if axes.images and not axes.axison]
    assert [len(images) for images in panels] == [1, *[2] * 6] * 2
    for i in range(2):
        for k, method in enumerate(found.methods):
            photo, overlay = panels[7 * i + 1 + k]
            assert np.array_equal(photo.get_array(), found.images[i])
            assert overlay.get_array().data == pytest.approx(method.values[i])
            low, high = overlay.norm.vmin, overlay.norm.vmax
            assert low == (-high if method.signed else 0) and high > 0
            # The images of a method share a scale.
            assert overlay.norm.vmax == panels[1 + k][1].norm.vmax


@pytest.mark.parametrize("width", [FULL_WIDTH, WIDTH])
@pytest.mark.parametrize("count", [1, 6])
def test_curves_of_the_tests_are_legible(count, width):
    rng = np.random.default_rng(0)
    names = [*LABELS[:count], RANDOM, CENTRE]
    parts = ["as trained", "head", "layers 24 to 19", "layers 18 to 13", "layers 12 to 7",
             "layers 6 to 1", "embeddings"]  # fmt: skip
    curves = TestCurves(
        {name: rng.random(11) for name in names},
        {name: rng.random(11) for name in names},
        parts,
        {name: 2 * rng.random(7) - 1 for name in names[:-2]},
    )
    figure = explanation_tests.test_curves(
        curves, title="a run; " + "caveat, " * 12, notes=["Means over 24 images."], width=width
    )
    rendered(figure)
    assert_legible(figure)
    assert_small_text_is_legible(figure)
    assert [len(axes.lines) for axes in figure.axes] == [count + 2, count + 2, count + 1]
    drawn = figure.axes[0].lines[0]
    assert drawn.get_ydata() == pytest.approx(curves.deletion[names[0]])
    assert drawn.get_xdata()[[0, -1]].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("top", "shown"),
    [(0.4, ["-0.4", "0", "0.3"]), (1.6e-4, ["0.00008", "0", "0.00016"]),
     (2e-7, ["8.0e-08", "0", "1.6e-07"])],
)  # fmt: skip
def test_values_beside_a_bar_are_written_alike(top, shown):
    assert [overlays.tick(float(text), top) for text in shown] == shown
