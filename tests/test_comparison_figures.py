"""Curves and bars of a report: true to their numbers, legible, told apart without colour."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import partial

import matplotlib.colors
import numpy as np
import pytest
from figure_checks import (
    HOSTILE,
    assert_legible,
    assert_small_text_is_legible,
    assert_whole,
    rendered,
    texts,
)
from scipy.special import expit
from sklearn.calibration import calibration_curve
from statsmodels.stats.proportion import proportion_confint

from beitmed.plots import text as plot_text
from beitmed.plots.class_shares import ClassCounts, class_shares
from beitmed.plots.confusion import Confusion, confusion
from beitmed.plots.forest import Row, forest
from beitmed.plots.learning_curves import Histories, learning_curves
from beitmed.plots.page import FULL_WIDTH, WIDTH, write, write_both
from beitmed.plots.reliability import Reliability, reliability, reliability_bins
from beitmed.plots.roc import RocCurve
from beitmed.plots.roc import roc as draw_roc
from beitmed.plots.roc_points import roc_band, roc_points
from beitmed.statistics.estimates import Estimate

Y = np.repeat([True, False], [114, 42])
AUC = Estimate(0.91, 0.867, 0.953, 156, "logit DeLong", None)
ECE = Estimate(0.083, None, None, 156, None, "no interval")


def scores(seed):
    return np.random.default_rng(seed).normal(Y * 1.8)


def curves(count, name="variant {}"):
    return [RocCurve(name.format(i), Y, scores(i), AUC) for i in range(count)]


def roc(given, **changes):
    more = {"title": "BreastMNIST", "positive_name": "normal, benign", **changes}
    return draw_roc(given, **more)


def history(seed, epochs=5):
    rng = np.random.default_rng(seed)
    keys = ("train_loss", "val_loss", "val_auc", "val_accuracy")
    return [{"epoch": e + 1, **dict(zip(keys, rng.random(4), strict=True))} for e in range(epochs)]


GROUPS = [Histories(f"variant {i}", [history(9 * i + s) for s in range(3)]) for i in (0, 1)]
RELIABILITY = [Reliability("a run", Y, scores(1), ECE, 1.5, ECE)]
MATRIX = np.array([[33, 9], [8, 106]])
CONFUSIONS = [Confusion(f"variant {i}", MATRIX) for i in range(4)]
ROWS = [
    Row("first", 0.90, 0.86, 0.94, "0.900 [0.860, 0.940]", [0.88, 0.9, 0.92], 0.9098),
    Row("second", 0.95, 0.91, 0.98, "0.950 [0.910, 0.980]", [0.94, 0.96], None),
    Row("third", 0.80, 0.75, 0.85, "0.800 [0.750, 0.850]"),
    Row("none", None, None, None, "n/a (no positive case)"),
]
SPLITS = [
    ClassCounts("train", {"malignant": 147, "normal, benign": 399}),
    ClassCounts("val", {"malignant": 21, "normal, benign": 57}),
    ClassCounts("test", {"malignant": 42, "normal, benign": 114}),
]
CLASSES = ["malignant", "normal, benign"]
ELEVEN = np.random.default_rng(0).integers(0, 2000, (11, 11))
#: Every figure from usual input.
USUAL = {
    "roc": partial(roc, curves(4)),
    "roc of two": partial(roc, curves(2)),
    "learning": partial(learning_curves, GROUPS, title="t"),
    "reliability": partial(reliability, RELIABILITY, title="t", positive_name="p"),
    "confusion": partial(confusion, CONFUSIONS, title="t", class_names=CLASSES),
    "confusion of eleven": partial(
        confusion,
        [Confusion("a", ELEVEN)],
        title="t",
        class_names=[f"organ {i}" for i in range(11)],
    ),
    "forest": partial(forest, ROWS, title="t", xlabel="AUC"),
    "classes": partial(class_shares, SPLITS, title="t"),
}


def named(name):
    """Every figure with this name at every place that takes one, as many as lie side by side."""
    splits = [ClassCounts(f"{name}{i}", {name: 3, f"{name}b": 5}) for i in range(3)]
    spots = [Reliability(name, Y, scores(i), ECE, 123.4, ECE) for i in range(2)]
    rows = [Row(name, r.value, r.low, r.high, r.written, r.seeds, r.published) for r in ROWS]
    return {
        "roc": partial(roc, curves(3, name.replace("{", "(") + "{}"), title=name,
                       positive_name=name),
        "learning": partial(
            learning_curves, [Histories(name, g.seeds) for g in GROUPS * 2], title=name),
        "reliability": partial(reliability, spots, title=name, positive_name=name),
        "confusion": partial(
            confusion, [Confusion(name, MATRIX)] * 5, title=name, class_names=[name, "b"]),
        "forest": partial(forest, [*rows, Row(name, None, None, None, f"n/a ({name})")],
                          title=name, xlabel=name),
        "classes": partial(class_shares, splits, title=name),
    }  # fmt: skip


WIDTHS = {"page": FULL_WIDTH, "column": WIDTH}


@pytest.mark.parametrize("kind", [k for k in USUAL if k != "roc of two"])
def test_files_are_whole_and_the_same_each_time(kind, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        stem = tmp_path / folder / "fig.v1"
        assert_whole(write(USUAL[kind](), stem), stem, (WIDTH, FULL_WIDTH))
    for suffix in ("png", "svg"):
        first, second = (tmp_path / f / f"fig.v1.{suffix}" for f in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_both_widths_are_written(tmp_path):
    write_both(USUAL["forest"], tmp_path / "v1.0")
    sides = {p.name: matplotlib.image.imread(p).shape[1] for p in tmp_path.glob("*.png")}
    assert sides == {"v1.0.png": 1380, "v1.0-column.png": 660}
    assert (tmp_path / "v1.0-column.svg").is_file()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", USUAL)
def test_no_text_overlaps_leaves_the_page_or_is_too_small(kind, width):
    figure = rendered(USUAL[kind](width=WIDTHS[width]))
    assert figure.get_figwidth() <= WIDTHS[width]
    assert_legible(figure)
    assert_small_text_is_legible(figure)


@pytest.mark.parametrize(
    ("name", "width"),
    [*((name, WIDTH) for name in HOSTILE), (HOSTILE[1], FULL_WIDTH)],
    ids=["markup", "wide", "long", "empty", "wide on a page"],
)
@pytest.mark.parametrize("kind", named("x"))
@pytest.mark.filterwarnings("error::UserWarning")
def test_hostile_names_are_text_and_stay_in_their_place(kind, name, width):
    figure = rendered(named(name)[kind](width=width))
    assert_legible(figure)
    for text in texts(figure):
        assert not (set(text.get_text()) & set("\x00\x1b\ufffe\U0001f9ec\u6f22"))
        assert not (text.get_parse_math() and "$" in text.get_text()), text


def test_hostile_names_leave_an_svg_that_is_valid(tmp_path):
    _, svg = write(named(HOSTILE[0])["roc"](), tmp_path / "x")
    root = ET.parse(svg).getroot()
    assert {node.tag for node in root.iter() if node.tag.endswith("script")} == set()
    assert "alert(1)" in svg.read_text()


# --- ROC curves


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_roc_overlay_draws_every_curve_in_a_look_of_its_own(count):
    given = curves(count)
    figure = rendered(roc(given))
    chance, *lines = figure.axes[0].lines
    assert list(chance.get_xdata()) == list(chance.get_ydata())
    assert len(lines) == count
    for line, curve in zip(lines, given, strict=True):
        fpr, tpr, _ = roc_points(curve.y, curve.score)
        assert np.array_equal(line.get_xdata(), fpr) and np.array_equal(line.get_ydata(), tpr)
    # `get_linestyle` calls every pattern "--"; the pattern itself is what is seen.
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == count
    assert len({line.get_marker() for line in lines}) == count
    for line, handle in zip(lines, figure.legends[0].get_lines(), strict=False):
        assert line._unscaled_dash_pattern == handle._unscaled_dash_pattern
        assert line.get_marker() == handle.get_marker()


def test_roc_bands_are_in_the_plot_of_two_and_beside_it_from_three_on():
    def bands(axes):
        return [c for c in axes.collections if c.get_paths()]

    def agrees(band, curve):
        box, grid = band.get_paths()[0].get_extents(), np.linspace(0, 1, 401)
        low, high = roc_band(curve.y, curve.score, grid)
        corners = band.get_paths()[0].vertices
        return (
            box.y0 == pytest.approx(low.min())
            and box.y1 == pytest.approx(high.max())
            and set(np.round(low, 9)) | set(np.round(high, 9)) == set(np.round(corners[:, 1], 9))
        )

    two = curves(2)
    (axes,) = rendered(roc(two)).axes
    outlines = [band for band in bands(axes) if band.get_linewidth()[0] > 0]
    assert len({band.get_hatch() or "" for band in outlines}) == 2
    assert all(agrees(*pair) for pair in zip(outlines, two, strict=True))
    assert not agrees(outlines[0], two[1])  # the check can fail

    three = curves(3)
    overlay, *small = rendered(roc(three)).axes
    assert bands(overlay) == [] and len(small) == 3
    for axes, curve in zip(small, three, strict=True):
        (band,) = bands(axes)
        assert agrees(band, curve)
        assert matplotlib.colors.to_rgb(band.get_facecolor()[0])[0] > 0.8


def test_roc_legend_names_auc_interval_and_sizes():
    given = [
        RocCurve("mine", Y, scores(1), AUC),
        RocCurve("bare", Y, scores(2), Estimate(0.8, None, None, 3, None, "none")),
        RocCurve("one class", np.ones(9, bool), np.zeros(9), Estimate.undefined("none")),
    ]
    figure = rendered(roc(given))
    entries = [t.get_text() for t in figure.legends[0].get_texts()]
    assert entries == [
        "mine\nAUC 0.910, 95 % CI 0.867–0.953 (logit DeLong)\nn = 114 positive, 42 negative",
        "bare\nAUC 0.800 (no interval)\nn = 114 positive, 42 negative",
        "one class\nAUC undefined\nn = 9 positive, 0 negative\n"
        "no curve: the test set has one class",
        "Chance",
    ]
    assert len(figure.axes[0].lines) == 3  # chance and two curves
    assert_legible(figure)


def test_roc_says_which_curves_are_left_out():
    figure = rendered(roc(curves(11)))
    said = " ".join(t.get_text() for t in figure.texts).replace("\u00a0", " ")
    assert "The first 8 of 11 curves are shown." in said
    assert "Positive: normal, benign (n = 114); negative: n = 42" in said
    entries = [t.get_text().splitlines()[0] for t in figure.legends[0].get_texts()]
    assert entries == [*(f"variant {i}" for i in range(8)), "Chance"]
    with pytest.raises(ValueError, match="at least one"):
        roc([])


# --- Learning curves


def test_learning_curves_draw_seeds_thin_and_their_mean_thick():
    figure = rendered(learning_curves(GROUPS, title="t"))
    assert len(figure.axes) == 4
    for i, keys in enumerate([("train_loss", "val_loss"), ("val_auc", "val_accuracy")] * 2):
        group, lines = GROUPS[i // 2], figure.axes[i].lines
        assert len(lines) == 8
        looks = []
        for key, four in zip(keys, (lines[:4], lines[4:]), strict=True):
            values = np.array([[row[key] for row in rows] for rows in group.seeds])
            assert np.array_equal([line.get_ydata() for line in four[:3]], values)
            assert four[3].get_ydata() == pytest.approx(values.mean(axis=0), abs=1e-12)
            assert all(line.get_linewidth() < 0.6 for line in four[:3])
            assert four[3].get_linewidth() >= 1.5
            looks.append((four[3].get_linestyle(), four[3].get_marker()))
        assert looks[0][0] != looks[1][0] and looks[0][1] != looks[1][1]
    for a, b in ((0, 2), (1, 3)):
        assert figure.axes[a].get_ylim() == figure.axes[b].get_ylim()
        assert figure.axes[a].get_xlim() == figure.axes[b].get_xlim()


def test_learning_curves_have_a_mean_only_where_every_seed_has_a_value():
    short, full = history(1, 3), history(2, 5)
    full[1]["val_auc"] = None
    groups = [Histories("a", [short, full]), Histories("b", [history(3, 1)])]
    figure = rendered(learning_curves(groups, title="t"))
    means = {line.get_label(): line.get_ydata() for axes in figure.axes[:2] for line in axes.lines}
    assert np.isnan(means["Validation loss"]).tolist() == [False, False, False, True, True]
    assert np.isnan(means["AUC"]).tolist() == [False, True, False, True, True]
    assert "1 seed" in " ".join(t.get_text() for t in figure.texts)
    for nothing in ([], [Histories("a", [])], [Histories("a", [[]])]):
        with pytest.raises(ValueError, match="at least one"):
            learning_curves(nothing, title="t")


# --- Reliability


@pytest.mark.parametrize("bins", [10, 15])
def test_reliability_bins_agree_with_scikit_learn_and_statsmodels(bins):
    y, score = Y[::6], 1.7 * scores(3)[::6]
    of = reliability_bins(y, score, bins)
    share, mean = calibration_curve(y, expit(score), n_bins=bins)
    full = of["count"] > 0
    assert of["count"].sum() == y.size and not full.all()
    assert of["share"][full] == pytest.approx(share, abs=1e-12)
    assert of["mean"][full] == pytest.approx(mean, abs=1e-12)
    hits = np.rint(of["share"][full] * of["count"][full])
    low, high = proportion_confint(hits, of["count"][full], method="wilson")
    assert of["low"][full] == pytest.approx(low, abs=1e-9)
    assert of["high"][full] == pytest.approx(high, abs=1e-9)
    for key in ("mean", "share", "low", "high"):
        assert np.isnan(of[key][~full]).all()


def test_reliability_bins_are_closed_below_and_the_last_on_both_sides():
    score = np.array([0.0, -1e3, 1e3])  # probabilities 0.5, 0 and 1 exactly
    of = reliability_bins(np.array([True, False, True]), score, 10)
    assert np.flatnonzero(of["count"]).tolist() == [0, 5, 9]


def test_reliability_draws_before_and_after_the_temperature():
    score, after = scores(4) * 3, Estimate(0.02, None, None, 156, None, "no interval")
    panels = [
        Reliability("hot", Y, score, ECE, 2.5, after),
        Reliability("plain", Y, scores(5), None),
    ]
    figure = rendered(reliability(panels, title="t", positive_name="benign",
                                    bins=10),
    )  # fmt: skip
    for axes, strip, drawn in zip(
        figure.axes[::2], figure.axes[1::2], (score, score / 2.5, scores(5)), strict=True
    ):
        of = reliability_bins(Y, drawn, 10)
        chance, points = axes.lines
        assert list(chance.get_xdata()) == [0, 1]
        assert np.array_equal(points.get_ydata(), of["share"], equal_nan=True)
        assert np.array_equal(points.get_xdata(), of["mean"], equal_nan=True)
        assert [bar.get_height() for bar in strip.patches] == of["count"].tolist()
        (bars_drawn,) = axes.collections
        ends = [s[:, 1].tolist() for s in bars_drawn.get_segments() if len(s) == 2]
        full = of["count"] > 0
        assert ends == np.column_stack([of["low"], of["high"]])[full].tolist()
    said = [t.get_text() for t in figure.texts]
    for line in ("hot\nbefore, error 0.083", "hot\nT = 2.50, error 0.020", "plain\nn = 156"):
        assert line in said
    notes = " ".join(said)
    assert "10 bins of equal width" in notes


# --- Confusion matrices


def contrast(ink, paper):
    """WCAG 2.2 contrast of two grey levels, 1 to 21."""
    light, dark = sorted(
        (g / 12.92 if g <= 0.04045 else ((g + 0.055) / 1.055) ** 2.4 for g in (ink, paper)),
        reverse=True,
    )
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("k", [2, 3, 5, 11])
def test_confusion_shows_counts_and_row_shares_legibly(k):
    counts = np.random.default_rng(k).integers(0, 2000, (k, k))
    counts[0], counts[0, 0], counts[1] = 0, 7, 0
    names = [f"class number {i}" for i in range(k)]
    panels = [Confusion("a", counts)] * (1 if k == 11 else 3)
    figure = rendered(confusion(panels, title="t", class_names=names),
    )  # fmt: skip
    assert_legible(figure)
    axes = figure.axes[0]
    shown = [t.get_text() for t in axes.texts]
    percent = [
        "–" if row.sum() == 0 else f"{100 * n / row.sum():.1f} %" for row in counts for n in row
    ]
    assert shown == [f"{n:,}\n{p}" for n, p in zip(counts.ravel(), percent, strict=True)]
    grey = axes.collections[0].get_array().ravel()
    assert grey[0] == pytest.approx(0.2) and grey[k] == 1  # a full share, and none
    for text, paper in zip(axes.texts, grey, strict=True):
        assert contrast(matplotlib.colors.to_rgb(text.get_color())[0], paper) >= 4.5
    assert [t.get_text().replace("\n", " ") for t in axes.get_yticklabels()] == names
    assert axes.get_ylim() == (k, 0)  # the first class is at the top


def test_confusion_refuses_counts_of_another_form(tmp_path):
    for panels in ([], [Confusion("a", np.zeros((3, 3), int))]):
        with pytest.raises(ValueError, match=r"\[2, 2\]"):
            confusion(panels, title="t", class_names=CLASSES)


# --- Intervals


def test_forests_keep_the_order_given_and_show_every_number():
    figure = rendered(forest(ROWS, title="t", xlabel="AUC"),
    )  # fmt: skip
    (axes,) = figure.axes
    at = {}
    for line in axes.lines:
        at.setdefault((line.get_marker(), line.get_linestyle()), []).append(
            (round(float(np.mean(line.get_ydata()))), list(line.get_xdata()))
        )
    assert at["o", "-"] == [(0, [0.90]), (1, [0.95]), (2, [0.80])]  # not by value
    assert at["|", "-"] == [(0, [0.86, 0.94]), (1, [0.91, 0.98]), (2, [0.75, 0.85])]
    assert at["|", "None"] == [(0, [0.88, 0.9, 0.92]), (1, [0.94, 0.96])]
    assert at["D", "None"] == [(0, [0.9098])]
    (diamond,) = [line for line in axes.lines if line.get_marker() == "D"]
    assert diamond.get_markerfacecolor() == "none"
    low, high = axes.get_ylim()
    assert low > high  # the first row is at the top
    said = {t.get_text().replace("\n", " "): t.get_position()[1] for t in figure.texts}
    names = [row.name for row in ROWS]
    assert sorted(names, key=lambda name: -said[name]) == names
    assert "0.900 [0.860, 0.940]" in said and "n/a (no positive case)" in said
    entries = [t.get_text() for t in figure.legends[0].get_texts()]
    assert entries == ["Mean with 95 % interval", "One seed", "The paper's"]


def test_forests_mark_zero_where_differences_lie_around_it():
    rows = [Row("a", 0.01, -0.02, 0.04, "")]
    figure = rendered(forest(rows, title="t", xlabel="d"))
    assert any(list(line.get_xdata()) == [0, 0] for line in figure.axes[0].lines)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["Value with 95 % interval"]
    with pytest.raises(ValueError, match="at least one"):
        forest([], title="t", xlabel="d")


def test_a_forest_of_differences_holds_0_though_all_of_them_are_larger():
    rows = [Row("a", 0.2, 0.1, 0.3, "0.2 [0.1, 0.3]")]
    for differences, line in ((True, [[0, 0]]), (False, [])):
        [axes] = forest(rows, title="t", xlabel="d", differences=differences).axes
        found = [list(x.get_xdata()) for x in axes.lines if x.get_linestyle() not in ("-", "None")]
        assert found == line


# --- Class counts


def test_class_counts_draw_shares_of_each_split_with_hatches():
    splits = [*SPLITS, ClassCounts("empty", {}), ClassCounts("x", {"malignant": 2})]
    figure = rendered(class_shares(splits, title="t"))
    assert_legible(figure)
    (axes,) = figure.axes
    widths = [bar.get_width() for bar in axes.patches]
    shares = [[147 / 546, 21 / 78, 42 / 156, 0, 1], [399 / 546, 57 / 78, 114 / 156, 0, 0]]
    assert widths == pytest.approx(100 * np.ravel(shares))
    assert [t.get_text() for t in axes.texts][:5] == [
        "147 (26.9 %)", "21 (26.9 %)", "42 (26.9 %)", "no images", "2 (100.0 %)",
    ]  # fmt: skip
    looks = {(bar.get_hatch(), bar.get_facecolor()) for bar in axes.patches[:5]}
    assert len(looks) == 5
    entries = [t.get_text() for t in figure.legends[0].get_texts()]
    assert entries[0] == "train (n = 546)" and entries[3] == "empty (n = 0)"
    for wrong in ([], [ClassCounts("a", {})], SPLITS * 3):
        with pytest.raises(ValueError, match="1 to 6 splits"):
            class_shares(wrong, title="t")


# --- Text


@pytest.mark.parametrize("text", [*HOSTILE, "breast_28_full_beit_large_5_seed42_ab12cd34", "a b"])
def test_fitted_text_is_no_wider_and_no_longer_than_asked(text):
    for inches, lines in ((0.12, 1), (0.4, 1), (1.0, 2), (6.0, 4)):
        rows = plot_text.fitted(text, inches, lines=lines, size=7).split("\n")
        assert len(rows) <= lines
        assert all(plot_text.width_of(row, 7) <= inches for row in rows)


def test_fitted_text_keeps_what_fits_and_both_ends_of_what_does_not():
    assert plot_text.fitted("normal, benign", 2) == "normal, benign"
    names = [f"breast_28_full_beit_large_5_seed{i}_ab12" for i in (41, 42)]
    short = [plot_text.fitted(name, 1.5) for name in names]
    assert short[0] != short[1]
    assert all(s.startswith("breast") and s.endswith("ab12") and "…" in s for s in short)
    assert plot_text.fitted("a" * 3000 + "the end", 4).endswith("the end")
    assert len(plot_text.fitted("abcdefgh", 0.12, size=7)) <= 3
