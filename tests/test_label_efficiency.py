"""Label efficiency: how many labels are needed, and what a report says of runs that differ in them.

The coverage of its intervals is simulated by `scripts/simulate.py` (`labels_needed`).
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import run_folders
import yaml
from conftest import beitmed, resolve
from figure_checks import assert_legible, rendered

from beitmed import config
from beitmed.commands import jobs
from beitmed.plots.curves import Line, Panel
from beitmed.plots.label_curves import label_curves
from beitmed.plots.page import FULL_WIDTH, WIDTH
from beitmed.report.content import label_curves as curves_of
from beitmed.report.content import label_efficiency as content
from beitmed.report.content.evidence import Evidence, Question
from beitmed.report.content.variants import group
from beitmed.runs import reader
from beitmed.statistics import label_efficiency
from beitmed.statistics.spread import Measure

LABELS = [5, 27, 55, 137, 273, 546]
FRACTIONS = (0.01, 0.05, 0.1, 0.25, 0.5, 1)


def flat(*values: float, seeds: int = 3, images: int = 50, noise: float = 1e-9) -> list[Measure]:
    """Measures of next to no variance around values."""
    parts = np.random.default_rng(0).normal(size=(seeds, images)) * noise
    return [Measure(np.full(seeds, v), parts - parts.mean()) for v in values]


def at(values: list[float], within: float = 0.02, target: float | None = None) -> float:
    curve = flat(*values)
    [aim] = flat(values[-1] if target is None else target)
    return label_efficiency.needed(LABELS, curve, aim, within).value


def test_a_target_is_reached_on_a_line_over_the_logarithm():
    assert at([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], 0.1) == pytest.approx(273)
    half_way = math.sqrt(137 * 273)
    assert at([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], 0.15) == pytest.approx(half_way)


def test_the_fewest_labels_stand_for_that_or_fewer_and_infinity_for_never():
    assert at([0.9] * 6) == 5
    assert at([0.5, 0.6, 0.7, 0.8, 0.9, 0.9], target=1.0) == math.inf
    assert at([0.5, 0.6, 0.7, 0.8, 0.9, 0.9], target=0.92) == pytest.approx(273)


def test_a_dip_counts_as_noise():
    """0.9 and 0.7 in the middle are taken for 0.8 twice."""
    dipping = [0.5, 0.6, 0.9, 0.7, 0.85, 0.9]
    assert label_efficiency.rising(np.array([dipping])).tolist() == [
        pytest.approx([0.5, 0.6, 0.8, 0.8, 0.85, 0.9])
    ]
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(3)
    for curve in rng.normal(size=(50, 7)):
        expected = IsotonicRegression().fit_transform(np.arange(7), curve)
        assert label_efficiency.rising(curve[None])[0] == pytest.approx(expected)


def test_limits_come_from_images_and_from_seeds():
    rising = np.linspace(0.6, 0.9, 6)
    still = label_efficiency.needed(LABELS, flat(*rising), flat(0.9)[0], 0.02)
    assert still.high - still.low < 0.1
    images = label_efficiency.needed(
        LABELS, [Measure(m.values, m.contributions * (1e7 + 1e7 * i)) for i, m in
                 enumerate(flat(*rising))], flat(0.9)[0], 0.02,
    )  # fmt: skip
    assert images.high / images.low > 1.05
    shift = np.array([-0.05, 0.0, 0.05])
    apart = [Measure(m.values + shift * (-1) ** i, m.contributions) for i, m in
             enumerate(flat(*rising))]  # fmt: skip
    seeds = label_efficiency.needed(LABELS, apart, flat(0.9)[0], 0.02)
    assert seeds.high / seeds.low > 1.5
    same = label_efficiency.needed(LABELS, apart, flat(0.9)[0], 0.02)
    assert (seeds.low, seeds.high) == (same.low, same.high)  # drawn from a seed of its own


# --- The experiment and the report


def test_the_experiment_is_a_grid_of_methods_labels_and_seeds():
    """Composed for one seed, which takes a fifth of the time."""
    config.register_resolvers()
    made = jobs.configurations(["experiment=label_efficiency", "backbone=beit_tiny", "seed=3"])
    methods = ("backbone", "features_logistic", "features_knn", "resnet18_short")
    assert [(c.method.name, c.label_fraction) for c in made] == [
        (m, f) for m in methods for f in FRACTIONS
    ]
    assert len({config.digest(c) for c in made}) == 24
    asked = yaml.safe_load((config.conf_dir() / "experiment/label_efficiency.yaml").read_text())
    assert asked["hydra"]["sweeper"]["params"]["seed"] == "1,2,3,4,5"
    # Other points by the same name: labels per class instead of shares.
    few = ["label_fraction=1", "shots=1,5", "method=majority", "seed=1"]
    assert [c.shots for c in jobs.configurations(["experiment=label_efficiency", *few])] == [1, 5]


SKILL = {
    "backbone": [0.1, 0.3, 0.7, 1.0, 1.3, 1.5],
    "features_knn": [0.4, 0.8, 0.9, 1.0, 1.05, 1.1],
    "resnet18_short": [0.1, 0.3, 0.7, 1.4, 2.8, 3.5],
}


def make(root: Path, method: str, skill: float, seed: int, *overrides: str, labelled: int) -> Path:
    part = {"images": labelled, "patients": None, "by_class": [1, labelled - 1]}
    whole = not any(o.startswith(("label_fraction", "shots")) for o in overrides)
    return run_folders.make(
        root / f"{method}-{'-'.join(overrides)}-{seed}",
        "dataset=breast", "backbone=beit_tiny", "evaluate.n_resamples=100", f"method={method}",
        f"seed={seed}", *overrides, skill=skill, draw=seed + 10 * len(method),
        data={} if whole else {"labelled": part},
    )  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labels") / "outputs"
    for method, skills in SKILL.items():
        for fraction, n, skill in zip((0.1, 0.5, 1), (6, 30, 60), skills[::-2][::-1], strict=True):
            for seed in (1, 2):
                part = [] if fraction == 1 else [f"label_fraction={fraction}"]
                make(root, method, skill, seed, *part, labelled=n)
    return root


def evidence_of(outputs: Path, **question: object) -> Evidence:
    runs, problems = reader.find([outputs])
    assert not problems
    [test_set], _ = group(runs)
    return Evidence(test_set, Question(**question))


def test_a_report_has_a_section_on_labels(outputs, tmp_path):
    done = beitmed(str(outputs), "to=here", "images=false", module="report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "here" / "report.md").read_text()
    assert "## breast: label efficiency" in page
    assert "part of the train split" in page and "validation labels" in page
    with (tmp_path / "here" / "tables" / "labels-points-breast.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert [(r["Labels"], r["Labelled images"], r["Seeds"]) for r in rows[:3]] == [
        ("10 %", "6", "2"), ("50 %", "30", "2"), ("100 %", "60", "2"),
    ]  # fmt: skip
    assert len(rows) == 9 and {r["Steps"] for r in rows} == {"18"}
    for kind in ("png", "svg"):
        assert (tmp_path / "here" / f"labels-breast.{kind}").is_file()
    sentences = [line for line in done.stdout.splitlines() if "label efficiency, AUC" in line]
    assert any('full-data result of "ResNet-18, short (28)"' in s for s in sentences)
    assert sum("its own full-data result" in s for s in sentences) == 3
    with (tmp_path / "here" / "tables" / "labels-needed-breast.csv").open() as f:
        assert len(list(csv.DictReader(f))) == 9  # each by itself and by the other two
    with (tmp_path / "here" / "tables" / "labels-pairs-auc-breast.csv").open() as f:
        pairs = list(csv.DictReader(f))
    assert [p["Labels"] for p in pairs] == ["10 %"] * 3 + ["50 %"] * 3 + ["100 %"] * 3


def test_names_say_which_part_of_the_labels_and_methods_do_not(outputs):
    test_set = evidence_of(outputs).test_set
    names = [v.name for v in test_set.variants]
    assert names[:3] == [
        "beit_tiny top 5 (28), RANDOM weights",
        "beit_tiny top 5 (28), 50 % of labels, RANDOM weights",
        "beit_tiny top 5 (28), 10 % of labels, RANDOM weights",
    ]
    curves = curves_of.of(test_set)
    assert [c.method for c in curves][1] == "ResNet-18, short (28)"
    assert all("labels" not in c.method and len(c.points) == 3 and c.full for c in curves)


def test_pairs_are_those_of_equal_labels_and_adjusted_together(outputs):
    evidence = evidence_of(outputs)
    rows = content._pairs(evidence, "auc", curves_of.of(evidence.test_set), None)
    raw = [d.p for _, _, _, d, _ in rows]
    adjusted = [p for *_, p in rows]
    assert len(rows) == 9
    assert min(p for p in adjusted) == pytest.approx(min(1.0, 9 * min(raw)))
    planned = evidence_of(outputs, reference="top 5 (28), RANDOM weights")
    name = planned.reference
    assert name is not None
    reference = curves_of.reference(planned, curves_of.of(planned.test_set))
    assert reference is not None and reference.method.startswith("beit_tiny top 5")
    rows = content._pairs(planned, "auc", curves_of.of(planned.test_set), reference)
    assert len(rows) == 6 and all(reference.method in row[1:3] for row in rows)


def test_within_decides_what_counts_as_reached(outputs):
    def own(within: float) -> float:
        evidence = evidence_of(outputs, within=within)
        found = curves_of.reached(evidence, "auc", curves_of.of(evidence.test_set))
        return next(r.found.value for r in found if r.of is r.curve and r.found)

    assert own(0.3) <= own(0.05) <= own(0.001) <= 60


@pytest.mark.parametrize("value", ["0", "1", "little"])
def test_a_wrong_distance_is_refused(outputs, tmp_path, value):
    done = beitmed(str(outputs), f"within={value}", module="report", cwd=tmp_path)
    assert done.returncode == 2 and f"within: found '{value}'; allowed: a number between" in (
        done.stderr
    )


def test_shots_have_a_curve_of_their_own(outputs, tmp_path):
    for seed in (1, 2):
        make(tmp_path, "backbone", 0.5, seed, "shots=3", labelled=6)
        make(tmp_path, "backbone", 1.5, seed, labelled=60)
    [curve] = curves_of.of(evidence_of(tmp_path).test_set)
    assert [p.part for p in curve.points] == ["3 per class", "100 %"]
    make(tmp_path, "backbone", 1.0, 1, "label_fraction=0.5", labelled=30)
    make(tmp_path, "backbone", 1.0, 2, "label_fraction=0.5", labelled=30)
    parts, shots = curves_of.of(evidence_of(tmp_path).test_set)
    assert [p.part for p in parts.points] == ["50 %", "100 %"]
    assert shots.method == f"{parts.method}, labels per class" and shots.full is parts.full


def test_runs_of_all_labels_have_no_such_section(tmp_path):
    for seed in (1, 2):
        make(tmp_path, "backbone", 1.5, seed, labelled=60)
    evidence = evidence_of(tmp_path)
    assert content.section(evidence, tmp_path) == (None, [])


def test_a_part_of_the_labels_is_not_held_against_published_figures(outputs):
    from beitmed.report.content import baselines, published

    runs, _ = reader.find([outputs])
    parts = [run for run in runs if run.config.part_of_labels]
    assert parts and all(published.paper_run(run) is None for run in parts)
    cfg = resolve("method=resnet18", "label_fraction=0.1")
    said = baselines.departures(
        reader.FinishedRun(Path(), {}, cfg, {"official": True}, {}, {}, [], None, None)  # type: ignore[arg-type]
    )
    assert said == ["part of the training labels"]


@pytest.mark.parametrize(
    ("value", "low", "high", "told", "text"),
    [
        (30.0, 10.0, 60.0, True, "50 % [17 %, 100 %]"),
        (30.0, 6.0, 60.0, False, "50 % [10 % or less, 100 %]"),
        (6.0, 6.0, 30.0, True, "10 % or less [10 % or less, 50 %]"),
        (30.0, 20.0, math.inf, False, "50 % [33 %, not with all labels]"),
        (math.inf, math.inf, math.inf, True, "not with all labels"),
    ],
)
def test_what_cannot_be_told_is_said(outputs, value, low, high, told, text):
    evidence = evidence_of(outputs)
    curve, other, _ = curves_of.of(evidence.test_set)
    needed = label_efficiency.Needed(value, low, high, 2)
    own = curves_of.Reached(curve, curve, 0.9, needed)
    assert (own.told, own.text()) == (told, text)
    said = content._sentence(evidence, "auc", own)
    cross = content._sentence(evidence, "auc", curves_of.Reached(curve, other, 0.9, needed))
    if value == math.inf:
        assert "does not reach" in cross and "with all 60 labels" in cross
    elif told:
        assert said.endswith(f"within 0.02 at {text} of the labels.")
    else:
        assert "at which share of the labels it reaches its own full-data result" in said
        assert f'whether it reaches the full-data result of "{other.method}"' in cross
        assert "cannot be told" in said and "cannot be told" in cross


@pytest.mark.parametrize("width", [WIDTH, FULL_WIDTH])
def test_the_figure_keeps_its_parts_apart(width):
    curves = [
        Line(name, LABELS, np.linspace(0.5, top, 6).tolist(), [0.4] * 5 + [None],
                   [0.95] * 5 + [None])
        for name, top in (("a method", 0.8), ("a method of a name that is far too long " * 3, 0.9),
                          ("a third", 0.7), ("$x_1$, RANDOM weights", 0.6))
    ]  # fmt: skip
    panels = [Panel("Test AUC", curves, 0.5), Panel("Test accuracy", curves)]
    ticks = [(n, f"{f:g} %") for n, f in zip(LABELS, (1, 5, 10, 25, 50, 100), strict=True)]
    figure = label_curves(panels, title="breast", ticks=ticks, width=width)
    assert_legible(rendered(figure))
    shown = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert shown[0] == "546\n100 %" and len(shown) >= 5
    assert figure.axes[0].get_xscale() == "log"
    with pytest.raises(ValueError, match="panels: none"):
        label_curves([], title="", ticks=[])
