"""Figures: valid, the same bytes each time, true to the data, and not broken by odd names."""

from __future__ import annotations

import html
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
from figure_checks import assert_legible, rendered
from scipy.stats import binom, norm
from sklearn.metrics import roc_curve

from beitmed.plots import page
from beitmed.plots.learning_curves import Histories, learning_curves
from beitmed.plots.page import WIDTH, write
from beitmed.plots.roc import RocCurve, roc
from beitmed.plots.roc_points import roc_band, roc_points
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


def draw_roc(*, auc=AUC, operating_point=(0.2, 0.9), **changes):
    labels, score = cases()
    curve = RocCurve("", labels == 1, score, auc, operating_point)
    more = {"title": "BreastMNIST", "positive_name": "malignant", "width": WIDTH, **changes}
    return roc([curve], **more)


def history(rows):
    return learning_curves([Histories("", [rows])], title="BreastMNIST", width=WIDTH)


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
    for got, reference in zip(roc_points(labels, score), expected, strict=True):
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
        roc_points(labels, np.array(score))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sizes", [(42, 114), (3, 4), (1, 1)])
def test_band_surrounds_the_curve_and_rises(ties, sizes):
    grid = np.linspace(0, 1, 501)
    for seed in range(20):
        labels, score = cases(*sizes, ties=ties, seed=seed)
        low, high = roc_band(labels, score, grid)
        fpr, tpr, _ = roc_points(labels, score)
        # On a vertical piece of the curve both of its ends are inside.
        inside = (low[None, :] <= tpr[:, None] + 1e-12) & (tpr[:, None] <= high[None, :] + 1e-12)
        assert inside[fpr[:, None] == grid[None, :]].all()
        curve = np.interp(grid, fpr, tpr)
        assert (low <= curve + 1e-12).all() and (curve <= high + 1e-12).all()
        assert (np.diff(low) >= 0).all() and (np.diff(high) >= 0).all()
        assert low.min() >= 0 and high.max() <= 1


def test_band_does_not_vanish_for_a_perfect_classifier():
    labels = np.repeat([1, 0], [10, 60])
    low, high = roc_band(labels, labels * 1.0, np.array([0.0, 0.03, 0.5]))
    assert low.tolist() == pytest.approx([0, 0, 10 / (10 + 1.959964**2)])  # Wilson at 10 of 10
    assert high.tolist() == [1, 1, 1]


def test_band_covers_the_true_curve():
    """At three rates, 42 against 114 cases; below 1e-5 chance of a false alarm at coverage 95 %."""
    rng, trials, grid = np.random.default_rng(1), 300, np.array([0.02, 0.1, 0.7])
    truth = norm.sf(norm.isf(grid) - 2)
    labels = np.repeat([1, 0], [42, 114])
    hits = np.zeros(3)
    for _ in range(trials):
        low, high = roc_band(labels, rng.normal(labels * 2.0), grid)
        hits += (low <= truth) & (truth <= high)
    assert (hits >= binom.ppf(3e-6, trials, 0.95)).all(), hits
    assert binom.ppf(3e-6, trials, 0.95) > 0.87 * trials


def test_files_are_a_png_at_200_dpi_and_an_svg(tmp_path):
    png, svg = write(draw_roc(), tmp_path / "roc.v1")
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
    said = " ".join(texts).replace("\u00a0", " ")
    assert "Positive: malignant (n = 42); negative: n = 114" in said


def test_legend_without_interval_value_or_operating_point():
    def entries(figure):
        return [text.get_text() for text in figure.legends[0].get_texts()]

    bare = Estimate(0.9, None, None, 3, None, "none")
    said = entries(draw_roc(auc=bare, operating_point=None))
    assert said == ["AUC 0.900 (no interval)", "Chance", "95 % band, pointwise"]
    assert entries(draw_roc(auc=Estimate.undefined("none")))[0] == "AUC undefined"


def test_roc_draws_the_curve_on_square_axes():
    (axes,) = draw_roc().axes
    fpr, tpr, _ = roc_points(*cases())
    chance, curve, point = axes.lines
    assert np.array_equal(curve.get_xdata(), fpr) and np.array_equal(curve.get_ydata(), tpr)
    assert list(chance.get_xdata()) == list(chance.get_ydata()) == [0, 1]
    assert (list(point.get_xdata()), list(point.get_ydata())) == ([0.2], [0.9])
    box = axes.get_window_extent()
    assert box.width == pytest.approx(box.height, rel=1e-6)


@pytest.mark.parametrize("title", ["short", "long " * 100, *HOSTILE])
def test_nothing_overlaps_or_leaves_the_page(title):
    assert_legible(rendered(draw_roc(title=title, positive_name=title)))
    assert_legible(rendered(learning_curves([Histories(title, [ROWS])], title=title, width=WIDTH)))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_they_are(tmp_path, name):
    texts = " ".join(svg_text(write(draw_roc(title=name, positive_name=name), tmp_path / "x")[1]))
    shown = "".join(c if c.isprintable() else " " for c in name).split()
    assert all(word[:20] in texts for word in shown)


@pytest.mark.parametrize("draw", [draw_roc, lambda: history(ROWS)], ids=["roc", "history"])
def test_same_input_gives_the_same_bytes(tmp_path, draw):
    first = [p.read_bytes() for p in write(draw(), tmp_path / "a")]
    with mpl.rc_context({"lines.linewidth": 9, "svg.hashsalt": "other", "savefig.dpi": 30}):
        second = [p.read_bytes() for p in write(draw(), tmp_path / "b")]
    assert first == second
    assert b"<dc:date>" not in first[1] and b"Matplotlib v" not in first[1] + first[0]


def test_another_process_gives_the_same_bytes_and_keeps_its_settings(tmp_path):
    here = [p.read_bytes() for p in write(history(ROWS), tmp_path / "a")]
    code = f"""
import pathlib, sys, matplotlib as mpl
before = mpl.rcParams.copy()
from beitmed.plots.learning_curves import Histories, learning_curves
from beitmed.plots.page import WIDTH, write
figure = learning_curves([Histories("", [{ROWS!r}])], title="BreastMNIST", width=WIDTH)
write(figure, pathlib.Path("b"))
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
assert mpl.rcParams.copy() == before
"""
    env = {**os.environ, "PYTHONPATH": str(Path(page.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    assert here == [(tmp_path / f"b.{kind}").read_bytes() for kind in ("png", "svg")]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    png, svg = write(history(ROWS), tmp_path / "h")
    before = png.read_bytes(), svg.read_bytes()

    def fail(self, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="no space"):
        write(history(ROWS[:2]), tmp_path / "h")
    assert (png.read_bytes(), svg.read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_history_draws_each_column_with_gaps():
    losses, scores = history(ROWS).axes
    shown = {line.get_label(): line for axes in (losses, scores) for line in axes.lines}
    assert list(shown) == ["Training loss", "Validation loss", "AUC", "Accuracy"]
    assert list(shown["Training loss"].get_ydata()) == [row["train_loss"] for row in ROWS]
    assert np.isnan(shown["AUC"].get_ydata()).tolist() == [False, True, False, False, False]
    assert list(shown["Accuracy"].get_xdata()) == [1, 2, 3, 4, 5]
    for axes in (losses, scores):
        one, two = axes.lines
        assert one.get_linestyle() != two.get_linestyle() and one.get_marker() != two.get_marker()


@pytest.mark.parametrize("count", [1, 2, 300])
def test_history_of_any_length_has_whole_epochs(count):
    figure = history([{**ROWS[0], "epoch": i + 1} for i in range(count)])
    ticks = [t for t in figure.axes[1].get_xticks() if 1 <= t <= count]
    assert 1 <= len(ticks) <= 15
    assert all(t == round(t) for t in ticks)
