"""ROC panels: the same curves as the points, every class shown, names shown as they are."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve
from test_plots import HOSTILE, svg_text

from beitmed.plots import curves, roc_panels
from beitmed.tasks import estimates


def cases(k: int, n: int = 200):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, k, n)
    member = labels[:, None] == np.arange(k)
    return member, rng.normal(size=(n, k)) + 2 * member


def draw(stem, member, score, names, title="path, 28 px"):
    aucs = [estimates.one_auc(y, s) for y, s in zip(member.T, score.T, strict=True)]
    return roc_panels.draw(
        stem, member=member, score=score, names=names, aucs=aucs, title=title
    ), aucs


@pytest.mark.parametrize("ties", [False, True])
def test_corners_are_scikit_learns_without_the_points_between(ties):
    member, score = cases(3)
    score = np.round(score) if ties else score
    for y, s in zip(member.T, score.T, strict=True):
        fpr, tpr, threshold = roc_panels.corners(y, s)
        whole = curves.roc_points(y, s)
        points = set(zip(fpr, tpr, threshold, strict=True))
        assert points < set(zip(*whole, strict=True))
        assert np.trapezoid(tpr, fpr) == pytest.approx(np.trapezoid(*whole[1::-1]), abs=1e-12)
        # scikit-learn drops what lies on a straight line, which may leave a few points more.
        assert set(threshold) <= set(roc_curve(y, s, drop_intermediate=True)[2])


@pytest.mark.parametrize("k", [2, 5, 14])
def test_every_class_has_a_panel_with_its_name_auc_and_n(tmp_path, k):
    member, score = cases(k)
    names = [f"finding {i}" for i in range(k)]
    (png, svg), aucs = draw(tmp_path / "roc", member, score, names)
    assert png.read_bytes().startswith(b"\x89PNG")
    texts = svg_text(svg)
    for i, (name, auc) in enumerate(zip(names, aucs, strict=True)):
        assert name in texts
        assert f"AUC {auc.value:.3f} [{auc.ci_low:.3f}, {auc.ci_high:.3f}]" in texts
        assert f"n = {member[:, i].sum()} of 200" in texts


def test_odd_names_break_nothing_and_an_absent_class_says_so(tmp_path):
    member, score = cases(len(HOSTILE))
    member[:, 0] = False
    (_, svg), _ = draw(tmp_path / "roc", member, score, HOSTILE, "$x_1$ " * 3)
    texts = svg_text(svg)
    assert "$x_1$ costs $5" in texts and "AUC undefined" in texts and "0 of 200 cases" in texts
    assert "$x_1$ $x_1$ $x_1$" in " ".join(texts)


def test_nothing_overlaps_or_leaves_the_page(tmp_path, monkeypatch):
    seen: list[Figure] = []
    monkeypatch.setattr(roc_panels, "write", lambda figure, stem: seen.append(figure))
    member, score = cases(14)
    names = ["immature granulocytes(myelocytes, metamyelocytes and promyelocytes)"] * 14
    draw(tmp_path / "roc", member, score, names, "chest, 28 px; " * 12)
    [figure] = seen
    figure.draw_without_rendering()
    page = figure.bbox
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.axison]
    assert len(boxes) == 14
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= page.x1 and b.y1 <= page.y1 for b in boxes)
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1)
