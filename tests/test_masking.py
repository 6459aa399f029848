"""Masks: as many patches as asked for, in blocks as BEiT's, by the given random numbers alone."""

from __future__ import annotations

import random

import numpy as np
import pytest

from beitmed.config.pretrain import PixelsObjective
from beitmed.pretraining import masking


def objective(how: str, ratio: float) -> PixelsObjective:
    return PixelsObjective(name="pixels", target="mae", masking=how, mask_ratio=ratio)


def drawn(how: str, ratio: float, side: int, n: int = 20, seed: int = 0) -> np.ndarray:
    return masking.draw(objective(how, ratio), np.random.default_rng(seed), n, side)


@pytest.mark.parametrize("how", ["blocks", "random"])
@pytest.mark.parametrize("side", [2, 4, 7, 14, 37])
@pytest.mark.parametrize("ratio", [0.01, 0.4, 0.75, 0.99])
def test_every_mask_has_as_many_patches_as_the_ratio_says(how, side, ratio):
    found = drawn(how, ratio, side, n=4)
    assert found.dtype == bool and found.shape == (4, side * side)
    wanted = min(max(1, round(ratio * side * side)), side * side - 1)
    assert set(found.sum(axis=1)) == {wanted}


def test_beits_masks_hide_78_of_196_patches():
    assert set(drawn("blocks", 0.4, 14, n=200).sum(axis=1)) == {78}


@pytest.mark.parametrize(("side", "most"), [(14, 78), (14, 3), (7, 20), (37, 500)])
def test_a_block_has_16_patches_or_more_and_a_shape_within_bounds(side, most):
    rng = np.random.default_rng(0)
    for _ in range(300):
        top, left, height, width = masking.block(rng, side, most)
        assert height * width >= 16
        assert 0.3 <= height / width <= 1 / 0.3
        assert 0 <= top <= side - height and 0 <= left <= side - width
        assert height * width <= max(16, most) * 1.35  # a rounded area


def test_blocks_hang_together_as_single_patches_do_not():
    def neighbours(masks: np.ndarray) -> float:
        grid = masks.reshape(-1, 14, 14)
        return float((grid[:, 1:] & grid[:, :-1]).sum() / grid.sum())

    blocks, single = (neighbours(drawn(how, 0.4, 14)) for how in ("blocks", "random"))
    assert single < 0.45 < 0.75 < blocks


@pytest.mark.parametrize("how", ["blocks", "random"])
def test_masks_go_by_the_given_random_numbers_alone(how):
    state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = drawn(how, 0.4, 14)
    assert random.getstate() == state[0]
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    random.seed(1)
    assert np.array_equal(first, drawn(how, 0.4, 14))
    assert not np.array_equal(first, drawn(how, 0.4, 14, seed=1))


@pytest.mark.parametrize("how", ["blocks", "random"])
def test_no_patch_is_spared(how):
    share = drawn(how, 0.4, 7, n=600).mean(axis=0)
    assert share.min() > 0.05 and share.max() < 0.95
