"""Figures of a pre-training: legible at both widths, whatever is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from figure_checks import assert_legible, assert_small_text_is_legible, rendered

from beitmed.plots import page
from beitmed.plots.pretraining_curves import pretraining_curves
from beitmed.plots.reconstructions import reconstructions

both = pytest.mark.parametrize("width", [page.WIDTH, page.FULL_WIDTH])


@both
@pytest.mark.parametrize("n", [1, 8])
def test_reconstructions(width, n):
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (n, 32, 32, 3), np.uint8))
    last = "its visual word: right (blue) or wrong (orange)"
    rows = [("image", images), ("masked", images), (last, images)]
    figure = rendered(reconstructions(rows, title="a_run " * 12, notes=["A note. " * 9],
                                      width=width))  # fmt: skip
    assert_legible(figure)
    assert_small_text_is_legible(figure)
    with pytest.raises(ValueError, match="rows"):
        reconstructions([("image", images), ("masked", images[:-1])], title="")


@both
@pytest.mark.parametrize("sets", [(), ("breast",), ("breast", "pneumonia", "organa")])
def test_curves(width, sets):
    rows = [
        {"epoch": e, "train_loss": 1 / e, "held_out_loss": None if e == 20 else 1.1 / e,
         **{f"val_auc_{s}": 0.6 + e / 900 for s in sets}}
        for e in range(10, 301, 10)
    ]  # fmt: skip
    figure = rendered(pretraining_curves(rows, title="a_run", width=width))
    assert_legible(figure)
    assert_small_text_is_legible(figure)
    rendered(pretraining_curves(rows[:1], title="one look", width=width))
    hardly = [{**row, "train_loss": 1.0045 - i / 1e4, "held_out_loss": 0.9995 - i / 2e4}
              for i, row in enumerate(rows)]  # fmt: skip
    assert_legible(rendered(pretraining_curves(hardly, title="hardly anything", width=width)))
