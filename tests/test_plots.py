"""Figures: valid, the same bytes each time, true to the data, and not broken by odd names."""

from __future__ import annotations

import html
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.metrics import roc_curve

from beitmed.plots import curves
from beitmed.statistics.estimates import Estimate

AUC = Estimate(0.93, 0.87, 0.96, 156, "logit DeLong", None)
ROWS = [
    {
        "epoch": i,
        "train_loss": 0.6 * 0.8**i,
        "val_loss": 0.5,
        "val_auc": None if i == 2 else 0.9,
        "val_accuracy": 0.8,
    }
    for i in range(1, 6)
]
HOSTILE = [
    "$x_1$ costs $5",
    "$\\frac{",
    "$\\frac{$",
    "<b>&amp;</b> ]]> --> <!--",
    "_hidden \\ % {} ^",
    "line\nbreak\ttab\x00\x1b[0m\ufffe",
    "",
    "long " * 100,
    "x" * 400,
    "Müller – β²",
]


def cases(n_pos=42, n_neg=114, *, ties=False, seed=0):
    labels = np.repeat([1, 0], [n_pos, n_neg])
    score = np.random.default_rng(seed).normal(labels * 1.5)
    return labels, np.round(score) if ties else score


def draw_roc(stem, **changes):
    labels, score = cases()
    arguments = {
        "labels": labels,
        "score": score,
        "auc": AUC,
        "title": "BreastMNIST",
        "positive_name": "malignant",
        "operating_point": (0.2, 0.9),
    }
    return curves.roc(stem, **{**arguments, **changes})


def figure_of(monkeypatch, draw):
    """The matplotlib figure that `draw` would have written."""
    seen = []
    monkeypatch.setattr(curves, "write", lambda figure, stem: seen.append(figure) or (stem, stem))
    draw()
    return seen[0]


def svg_text(path):
    """The texts of an SVG: matplotlib puts each before its outline, as a comment."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.parse(path, parser).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [node.text.strip() for node in root.iter() if node.tag is ET.Comment]
    return [html.unescape(text).replace("- -", "--") for text in texts]


@pytest.mark.parametrize("ties", [False, True])
def test_roc_points_agree_with_scikit_learn(ties):
    labels, score = cases(ties=ties)
    expected = roc_curve(labels, score, drop_intermediate=False)
    for got, reference in zip(curves.roc_points(labels, score), expected, strict=True):
        assert got == pytest.approx(reference, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "score", "message"),
    [
        ([1, 1], [0.0, 1.0], "2 of 2 positive"),
        ([0, 0], [0.0, 1.0], "0 of 2 positive"),
        ([0, 1], [0.0, np.nan], "1 of 2 are not finite"),
        ([0, 1, 1], [0.0, 1.0], "shape"),
        ([0, 2], [0.0, 1.0], "found"),
    ],
)
def test_roc_points_refuse(labels, score, message):
    with pytest.raises(ValueError, match=message):
        curves.roc_points(labels, np.array(score))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sizes", [(42, 114), (3, 4), (1, 1)])
def test_band_surrounds_the_curve_and_rises(ties, sizes):
    grid = np.linspace(0, 1, 501)
    for seed in range(20):
        labels, score = cases(*sizes, ties=ties, seed=seed)
        low, high = curves.roc_band(labels, score, grid)
        fpr, tpr, _ = curves.roc_points(labels, score)
        # On a vertical piece of the curve both of its ends are inside.
        inside = (low[None, :] <= tpr[:, None] + 1e-12) & (tpr[:, None] <= high[None, :] + 1e-12)
        assert inside[fpr[:, None] == grid[None, :]].all()
        curve = np.interp(grid, fpr, tpr)
        assert (low <= curve + 1e-12).all() and (curve <= high + 1e-12).all()
        assert (np.diff(low) >= 0).all() and (np.diff(high) >= 0).all()
        assert low.min() >= 0 and high.max() <= 1


def test_band_does_not_vanish_for_a_perfect_classifier():
    labels = np.repeat([1, 0], [10, 60])
    low, high = curves.roc_band(labels, labels * 1.0, np.array([0.0, 0.03, 0.5]))
    assert low.tolist() == pytest.approx([0, 0, 10 / (10 + 1.959964**2)])  # Wilson at 10 of 10
    assert high.tolist() == [1, 1, 1]


def test_band_covers_the_true_curve():
    """At three rates, 42 against 114 cases; below 1e-5 chance of a false alarm at coverage 95 %."""
    rng, trials, grid = np.random.default_rng(1), 300, np.array([0.02, 0.1, 0.7])
    truth = norm.sf(norm.isf(grid) - 2)
    labels = np.repeat([1, 0], [42, 114])
    hits = np.zeros(3)
    for _ in range(trials):
        low, high = curves.roc_band(labels, rng.normal(labels * 2.0), grid)
        hits += (low <= truth) & (truth <= high)
    assert (hits >= binom.ppf(3e-6, trials, 0.95)).all(), hits
    assert binom.ppf(3e-6, trials, 0.95) > 0.87 * trials


def test_files_are_a_png_at_200_dpi_and_an_svg(tmp_path):
    png, svg = draw_roc(tmp_path / "roc.v1")
    assert (png.name, svg.name) == ("roc.v1.png", "roc.v1.svg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["roc.v1.png", "roc.v1.svg"]
    picture = matplotlib.image.imread(png)
    assert picture.shape[1] == round(3.3 * 200)
    assert picture[..., :3].min() < 0.1 and picture[..., :3].max() == 1.0
    colours = picture[..., :3]
    assert np.ptp(colours, axis=-1).max() == 0  # nothing is told by colour
    texts = svg_text(svg)
    assert "BreastMNIST" in texts
    assert "AUC 0.930, 95 % CI 0.870–0.960 (logit DeLong)" in texts
    assert "Argmax: sensitivity 0.900, specificity 0.800" in texts
    assert "False positive rate (1 − specificity)" in texts
    assert "True positive rate (sensitivity)" in texts
    sizes = next(t for t in texts if t.startswith("Positive: malignant"))
    assert sizes.replace("\u00a0", " ") == "Positive: malignant (n = 42); negative: n = 114"


def test_legend_without_interval_value_or_operating_point(tmp_path):
    bare = Estimate(0.9, None, None, 3, None, "none")
    texts = svg_text(draw_roc(tmp_path / "a", auc=bare, operating_point=None)[1])
    assert "AUC 0.900 (no interval)" in texts
    assert not any(t.startswith("Argmax") for t in texts)
    texts = svg_text(draw_roc(tmp_path / "b", auc=Estimate.undefined("none"))[1])
    assert "AUC undefined" in texts


def test_roc_draws_the_curve_on_square_axes(monkeypatch, tmp_path):
    figure = figure_of(monkeypatch, lambda: draw_roc(tmp_path / "x"))
    (axes,) = figure.axes
    fpr, tpr, _ = curves.roc_points(*cases())
    curve, chance, point = axes.lines
    assert np.array_equal(curve.get_xdata(), fpr) and np.array_equal(curve.get_ydata(), tpr)
    assert list(chance.get_xdata()) == list(chance.get_ydata()) == [0, 1]
    assert (list(point.get_xdata()), list(point.get_ydata())) == ([0.2], [0.9])
    figure.draw_without_rendering()
    box = axes.get_window_extent()
    assert box.width == pytest.approx(box.height, rel=1e-6)


def test_nothing_overlaps_or_leaves_the_page(monkeypatch, tmp_path):
    for title in ("short", "long " * 100):
        figure = figure_of(monkeypatch, lambda t=title: draw_roc(tmp_path / "x", title=t))
        figure.draw_without_rendering()
        (axes,), (legend,), page = figure.axes, figure.legends, figure.bbox
        boxes = [a.get_window_extent() for a in (legend, axes.xaxis.label, axes, axes.title)]
        for below, above in pairwise(boxes):
            assert below.y1 <= above.y0 + 1, title
        for box in [*boxes, axes.yaxis.label.get_window_extent()]:
            assert page.x0 <= box.x0 and box.x1 <= page.x1, title
            assert page.y0 <= box.y0 and box.y1 <= page.y1 + 1, title


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_they_are(tmp_path, name):
    png, svg = draw_roc(tmp_path / "x", title=name, positive_name=name)
    assert matplotlib.image.imread(png).size
    texts = " ".join(svg_text(svg))
    shown = "".join(c if c.isprintable() else " " for c in name).split()
    assert all(word[:40] in texts for word in shown)


@pytest.mark.parametrize("name", ["roc", "history"])
def test_same_input_gives_the_same_bytes(tmp_path, name):
    def draw(stem):
        return draw_roc(stem) if name == "roc" else curves.history(stem, ROWS)

    first = [p.read_bytes() for p in draw(tmp_path / "a")]
    with mpl.rc_context({"lines.linewidth": 9, "svg.hashsalt": "other", "savefig.dpi": 30}):
        second = [p.read_bytes() for p in draw(tmp_path / "b")]
    assert first == second
    assert b"<dc:date>" not in first[1] and b"Matplotlib v" not in first[1] + first[0]


def test_another_process_gives_the_same_bytes_and_keeps_its_settings(tmp_path):
    here = [p.read_bytes() for p in curves.history(tmp_path / "a", ROWS)]
    code = f"""
import pathlib, sys, matplotlib as mpl
before = mpl.rcParams.copy()
from beitmed.plots import curves
curves.history(pathlib.Path("b"), {ROWS!r})
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
assert mpl.rcParams.copy() == before
"""
    env = {**os.environ, "PYTHONPATH": str(Path(curves.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    assert here == [(tmp_path / f"b.{kind}").read_bytes() for kind in ("png", "svg")]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    png, svg = curves.history(tmp_path / "h", ROWS)
    before = png.read_bytes(), svg.read_bytes()

    def fail(self, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="no space"):
        curves.history(tmp_path / "h", ROWS[:2])
    assert (png.read_bytes(), svg.read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_history_draws_each_column_with_gaps(monkeypatch, tmp_path):
    figure = figure_of(monkeypatch, lambda: curves.history(tmp_path / "x", ROWS))
    losses, scores = figure.axes
    drawn = {line.get_label(): line for axes in (losses, scores) for line in axes.lines}
    assert list(drawn) == ["Training", "Validation", "AUC", "Accuracy"]
    assert list(drawn["Training"].get_ydata()) == [row["train_loss"] for row in ROWS]
    assert np.isnan(drawn["AUC"].get_ydata()).tolist() == [False, True, False, False, False]
    assert list(drawn["Accuracy"].get_xdata()) == [1, 2, 3, 4, 5]
    for axes in (losses, scores):
        one, two = axes.lines
        assert one.get_linestyle() != two.get_linestyle() and one.get_marker() != two.get_marker()


@pytest.mark.parametrize("count", [1, 2, 300])
def test_history_of_any_length_has_whole_epochs(monkeypatch, tmp_path, count):
    rows = [{**ROWS[0], "epoch": i + 1} for i in range(count)]
    assert len(curves.history(tmp_path / "x", rows)) == 2
    figure = figure_of(monkeypatch, lambda: curves.history(tmp_path / "y", rows))
    ticks = [t for t in figure.axes[1].get_xticks() if 1 <= t <= count]
    assert 1 <= len(ticks) <= 15
    assert all(t == round(t) for t in ticks)


def test_history_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no rows"):
        curves.history(tmp_path / "x", [])
