"""ROC panels: the same curves as the points, every class shown, names shown as they are."""

from __future__ import annotations

import numpy as np
import pytest
from figure_checks import assert_legible, assert_small_text_is_legible, rendered
from sklearn.metrics import roc_curve
from test_roc import HOSTILE, svg_text

from beitmed.plots.page import FULL_WIDTH, WIDTH, write
from beitmed.plots.roc_panels import roc_panels
from beitmed.plots.roc_points import corners, roc_points
from beitmed.tasks import estimates
from beitmed.tasks.task import Curves


def cases(k: int, n: int = 200):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, k, n)
    member = labels[:, None] == np.arange(k)
    return member, rng.normal(size=(n, k)) + 2 * member


def draw(member, score, names, title="path, 28 px", width=FULL_WIDTH):
    aucs = [estimates.one_auc(y, s) for y, s in zip(member.T, score.T, strict=True)]
    curves = Curves(member, score, names, [], "class", "")
    return roc_panels(curves, aucs=aucs, title=title, width=width), aucs


@pytest.mark.parametrize("ties", [False, True])
def test_corners_are_scikit_learns_without_the_points_between(ties):
    member, score = cases(3)
    score = np.round(score) if ties else score
    for y, s in zip(member.T, score.T, strict=True):
        fpr, tpr, threshold = corners(y, s)
        whole = roc_points(y, s)
        points = set(zip(fpr, tpr, threshold, strict=True))
        assert points < set(zip(*whole, strict=True))
        assert np.trapezoid(tpr, fpr) == pytest.approx(np.trapezoid(*whole[1::-1]), abs=1e-12)
        # scikit-learn drops what lies on a straight line, which may leave a few points more.
        assert set(threshold) <= set(roc_curve(y, s, drop_intermediate=True)[2])


@pytest.mark.parametrize("k", [2, 5, 14])
def test_every_class_has_a_panel_with_its_name_auc_and_n(tmp_path, k):
    member, score = cases(k)
    names = [f"finding {i}" for i in range(k)]
    figure, aucs = draw(member, score, names)
    png, svg = write(figure, tmp_path / "roc")
    assert png.read_bytes().startswith(b"\x89PNG")
    texts = svg_text(svg)
    for i, (name, auc) in enumerate(zip(names, aucs, strict=True)):
        assert name in texts
        assert f"AUC {auc.value:.3f} [{auc.ci_low:.3f}, {auc.ci_high:.3f}]" in texts
        assert f"n = {member[:, i].sum()} of 200" in texts


def test_odd_names_break_nothing_and_an_absent_class_says_so(tmp_path):
    member, score = cases(len(HOSTILE))
    member[:, 0] = False
    _, svg = write(draw(member, score, HOSTILE, "$x_1$ " * 3)[0], tmp_path / "roc")
    texts = svg_text(svg)
    assert "$x_1$ costs $5" in texts and "AUC undefined" in texts and "0 of 200 cases" in texts
    assert "$x_1$ $x_1$ $x_1$" in " ".join(texts)


@pytest.mark.parametrize("width", [FULL_WIDTH, WIDTH])
@pytest.mark.parametrize("k", [2, 14])
def test_nothing_overlaps_or_leaves_the_page(k, width):
    member, score = cases(k)
    names = ["immature granulocytes(myelocytes, metamyelocytes and promyelocytes)"] * k
    figure = rendered(draw(member, score, names, "chest, 28 px; " * 12, width)[0])
    assert len(figure.axes) == k
    assert_legible(figure)
    assert_small_text_is_legible(figure)
