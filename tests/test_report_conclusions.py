"""What a report concludes: sentences made from the numbers, and no rank within noise."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import run_folders

from beitmed.report.content import comparison_tables, conclusions, variants
from beitmed.report.content import evidence as evidence_module
from beitmed.report.content.evidence import Evidence, Question
from beitmed.runs import reader
from beitmed.statistics import planning, seeds

TINY = "backbone=beit_tiny"
N = 200  # test images
Make = Callable[..., Evidence]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Evidence of variants by their skill, one learning rate each; seeds of each."""

    count = iter(range(100))

    def made(
        *skills: float, seeds: int = 1, dataset: str = "breast", size: int = 28,
        patients: int = 1, margin: float | None = None,
    ) -> Evidence:  # fmt: skip
        runs, here = [], tmp_path / str(next(count))
        groups = [str(i // patients) for i in range(N)] if patients > 1 else None
        labels = run_folders.labels_of(run_folders.resolved((TINY, f"dataset={dataset}")), N)
        if dataset == "chest":  # each label is there
            labels = (np.arange(14) == np.arange(N)[:, None] % 14).astype(np.int64)
        for i, skill in enumerate(skills):
            for seed in range(seeds):
                folder = here / f"{i}-{seed}"
                run_folders.make(
                    folder, TINY, f"dataset={dataset}", f"train.learning_rate={(i + 1) / 1000}",
                    f"seed={seed}", f"size={size}", skill=skill, labels=labels, draw=10 * i + seed,
                    groups=groups,
                )  # fmt: skip
                runs.append(reader.read(folder))
        [test_set], notes = variants.group(runs)
        assert notes == []
        return Evidence(test_set, Question(margin))

    return made


def all_said(evidence: Evidence) -> list[str]:
    said = conclusions.conclude(evidence)
    return said.run + said.found + said.doubt + said.context


def whole(evidence: Evidence, measure: str = "AUC") -> list[str]:
    """The full verdicts on the pairs by a measure."""
    start = f"breast, {measure}: Between "
    return [s for s in conclusions.conclude(evidence).context if s.startswith(start)]


def test_equal_variants_get_no_order(make: Make):
    said = conclusions.conclude(make(1.0, 1.0, 1.0))
    assert said.run == [
        'breast: 3 variants, 3 runs, 200 test images, positive class "normal, benign".'
    ]
    for name in ("AUC", "accuracy"):
        [sentence] = [s for s in said.found if s.startswith(f"breast, {name}: ")]
        assert "no pair differs beyond noise (3 between two trained models" in sentence
        assert sentence.endswith("The order of the variants is no finding.")
        [sentence] = [s for s in said.context if s.startswith(f"breast, {name}: Between")]
        assert "no difference beyond noise in any of 3 pairs (smallest p = " in sentence
        assert "after Holm for 3 comparisons" in sentence
    assert not any("is above" in s for s in said.found)


def test_a_verdict_of_single_seeds_is_of_these_trained_models_and_says_so(make: Make):
    single, several = make(0.0, 3.0), make(0.0, 3.0, seeds=3)
    [one] = whole(single)
    assert "Between these trained models (one seed each: another training may differ)" in one
    [brief] = [s for s in conclusions.conclude(single).found if s.startswith("breast, AUC")]
    assert "between two trained models (one seed each: of these two alone)" in brief
    [one] = whole(several)
    assert "Between procedures (several seeds each)" in one
    [brief] = [s for s in conclusions.conclude(several).found if s.startswith("breast, AUC")]
    assert "between procedures (several seeds)" in brief and "trained model" not in brief


def test_a_difference_is_named_with_its_direction_and_the_rest_left_untold(make: Make):
    evidence = make(0.0, 3.0, 3.0)
    [found] = whole(evidence)
    assert "2 of 3 pairs differ beyond noise (p < 0.05 after Holm for 3 comparisons)" in found
    worst = evidence.test_set.variants[0].name
    assert (
        len(re.findall(rf'is above "{re.escape(worst)}" by 0\.\d+ \[0\.\d+, 0\.\d+\], p <', found))
        == 2
    )
    assert f'"{worst}" is above' not in found
    assert found.endswith("The other pair cannot be told apart, and its order is no finding.")


def test_the_sentences_agree_with_the_adjusted_p(make: Make):
    evidence = make(0.0, 0.4, 0.8, 1.6, 3.0)
    tested = evidence.pairs["auc"]
    apart = [pair for pair in tested if pair.p is not None and pair.p < evidence_module.LEVEL]
    assert 0 < len(apart) < 10  # else this shows nothing
    [found] = whole(evidence)
    assert f"{len(apart)} of 10 pairs differ" in found and found.count("is above") == len(apart)
    for pair in apart:
        assert pair.difference.value is not None
        high, low = (pair.first, pair.second)[:: 1 if pair.difference.value > 0 else -1]
        assert f'"{high}" is above "{low}"' in found
    [brief] = [s for s in conclusions.conclude(evidence).found if s.startswith("breast, AUC")]
    assert f"{len(apart)} of 10 between two trained models" in brief


def test_more_than_ten_pairs_are_not_all_named(make: Make):
    [found] = whole(make(-9.0, -3.0, -1.0, 0.2, 1.4, 3.0))
    count = int(re.search(r"(\d+) of 15 pairs", found)[1])
    assert count > 10 and found.count("is above") == 10
    assert f"; and {count - 10} more, in the table." in found


def test_two_variants_are_spoken_of_as_two(make: Make):
    [said] = whole(make(1.0, 1.0))
    assert 'no difference beyond noise between "' in said and "Holm" not in said
    [said] = whole(make(0.0, 4.0))
    assert "the two differ beyond noise (p < 0.05): " in said


def test_one_variant_alone_is_not_compared(make: Make):
    said = conclusions.conclude(make(1.0))
    assert said.found == []
    assert any("one seed only of every variant" in s for s in said.doubt)
    assert not any("pair" in s or "were tried" in s for s in all_said(make(1.0)))


def test_the_resolution_is_said_with_the_power_that_is_computed_for_it(make: Make):
    evidence = make(1.0, 1.0)
    [pair] = evidence.pairs["auc"]
    low, high = pair.difference.low, pair.difference.high
    assert low is not None and high is not None
    half = (high - low) / 2
    [said] = [
        s for s in conclusions.conclude(evidence).context if "AUC: the 95 % interval of a" in s
    ]
    assert f"reaches {half:.3f} to either side" in said and "about half the time" in said
    found = planning.detectable(pair.difference.se, pair.difference.df)
    assert f"one of {found:.3f} in 80 %, so" in said


def test_what_weighs_more_is_said_only_where_its_interval_tells(make: Make):
    evidence = make(1.0, 1.0, seeds=3)
    [sentence] = [s for s in conclusions.conclude(evidence).context
                  if "AUC: the standard deviation between seeds" in s]  # fmt: skip
    sds = sorted(s.sd for s in evidence.summaries["auc"].values() if s.sd is not None)
    assert f"{sds[0]:.4f} to {sds[1]:.4f}" in sentence
    for variant in evidence.test_set.variants:
        ratio = seeds.seed_ratio(evidence.measures["auc"][variant.name])
        assert ratio is not None
        told = f"({ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}])"
        [clause] = [part for part in sentence.split(". ") if told in part]
        expected = {
            None: "cannot be told", "seed": "The seed moves", "test images": "The test images move"
        }  # fmt: skip
        assert expected[ratio.heavier] in clause


def test_beside_the_paper_stand_a_difference_and_its_interval(make: Make):
    said = conclusions.conclude(make(1.0, seeds=1)).context
    [auc] = [s for s in said if "AUC, measured less the paper's single run" in s]
    assert "(seeds assumed 0.0" in auc and "It presumes the paper's protocol." in auc
    assert any("1 of these variants did not follow the paper's protocol" in s for s in said)
    [auc] = [s for s in conclusions.conclude(make(1.0, seeds=3)).context
             if "AUC, measured less the paper's single run" in s]  # fmt: skip
    assert "assumed" not in auc
    assert not any("holds the paper" in s for s in said)


def test_nothing_is_said_of_the_paper_at_a_size_that_it_has_not(make: Make):
    assert not any("paper" in s for s in all_said(make(1.0, size=64)))


@pytest.mark.parametrize(
    ("dataset", "measures"),
    [("blood", {"AUC", "accuracy"}), ("chest", {"AUC"}),
     ("retina", {"AUC", "accuracy", "quadratic-weighted kappa", "mean absolute error (grades)"})],
)  # fmt: skip
def test_macro_measures_are_tested_in_pairs(make: Make, dataset: str, measures: set[str]):
    evidence = make(0.0, 2.0, dataset=dataset)
    said = conclusions.conclude(evidence).found
    assert {
        s.split(": ")[0].split(", ", 1)[1] for s in said if ", " in s.split(": ")[0]
    } == measures
    for name, [pair] in evidence.pairs.items():
        assert pair.p is not None and pair.p < 0.05, name
    untested = "no paired test of average precision" in " ".join(said)
    assert untested == (dataset == "chest")


def test_a_margin_gives_one_of_four_verdicts(make: Make):
    evidence = make(1.0, 1.0, margin=0.5)
    [said] = [s for s in conclusions.conclude(evidence).found if "AUC: by the margin of 0.5" in s]
    assert "1 equivalent (" in said
    evidence = make(1.0, 1.0, margin=0.001)
    [said] = [s for s in conclusions.conclude(evidence).found if "AUC: by the margin" in s]
    assert "1 cannot be told" in said
    table = comparison_tables.pairs(evidence)[0]
    assert "cannot be told" in table.rows[0]
    evidence = make(0.0, 4.0, margin=0.02, dataset="retina")  # lower is better: second is better
    [pair] = evidence.pairs["mean_absolute_error"]
    found = evidence.equivalence("mean_absolute_error", pair.difference)
    assert pair.difference.value > 0 and found is not None and found.verdict == "inferior"


def test_planned_comparisons_are_corrected_for_these_alone(make: Make):
    every = make(0.5, 1.0, 1.5, 2.0)
    name = every.test_set.variants[1].name
    planned = Evidence(every.test_set, Question(reference=name))
    pairs = planned.pairs["auc"]
    assert len(pairs) == 3 and {pair.second for pair in pairs} == {name}
    raw = sorted(pair.difference.p for pair in pairs)
    assert min(pair.p for pair in pairs) == pytest.approx(min(3 * raw[0], 1))
    assert any(f"planned with {name}" in s for s in conclusions.conclude(planned).found)


def test_the_best_of_many_is_corrected_and_the_number_tried_said(make: Make):
    evidence = make(*[1.0] * 6)
    [said] = [s for s in conclusions.conclude(evidence).doubt if "were tried" in s]
    assert "6 variants were tried on the same test images, as counted from these runs." in said
    name, best = evidence.selected
    assert best.corrected < best.value
    assert f'of "{name}", is {best.corrected:.3f} [' in said


def test_patients_are_counted_and_go_into_every_interval(make: Make):
    alone, of = make(1.0, 2.0), make(1.0, 2.0, patients=4)
    assert of.test_set.images == "200 test images of 50 patients"
    assert "200 test images of 50 patients" in conclusions.conclude(of).run[0]
    for measure in ("auc", "accuracy"):
        [one], [other] = alone.pairs[measure], of.pairs[measure]
        assert one.difference.value == other.difference.value
        assert one.difference.se != other.difference.se
    assert next(iter(of.measures["auc"].values())).contributions.shape == (1, 50)


def test_no_sentence_ranks_or_leaves_a_gap(make: Make):
    for said in all_said(make(0.0, 3.0, 3.0, seeds=2)):
        assert not re.search(r"\b(best|outperform|nan|None(?! of these)|-0\.000)\b", said), said
        assert said.endswith((".", ".)")), said
        assert "  " not in said and said[0].islower()
