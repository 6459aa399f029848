"""What a report concludes: sentences made from the numbers, and no rank within noise."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import run_folders

from beitmed.report.content import conclusions, variants
from beitmed.report.content import evidence as evidence_module
from beitmed.report.content.evidence import Evidence
from beitmed.runs import reader
from beitmed.statistics import planning

TINY = "backbone=beit_tiny"
N = 200  # test images
Make = Callable[..., Evidence]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Evidence of variants by their skill, one learning rate each; seeds of each."""

    def made(*skills: float, seeds: int = 1, dataset: str = "breast", size: int = 28) -> Evidence:
        runs = []
        labels = run_folders.labels_of(run_folders.resolved((TINY, f"dataset={dataset}")), N)
        for i, skill in enumerate(skills):
            for seed in range(seeds):
                folder = tmp_path / f"{i}-{seed}"
                run_folders.make(
                    folder, TINY, f"dataset={dataset}", f"train.learning_rate={(i + 1) / 1000}",
                    f"seed={seed}", f"size={size}", skill=skill, labels=labels, draw=10 * i + seed,
                )  # fmt: skip
                runs.append(reader.read(folder))
        [test_set], notes = variants.group(runs)
        assert notes == []
        return Evidence(test_set)

    return made


def all_said(evidence: Evidence) -> list[str]:
    said = conclusions.conclude(evidence)
    return said.found + said.context


def test_equal_variants_get_no_order(make: Make):
    said = conclusions.conclude(make(1.0, 1.0, 1.0)).found
    assert said[0] == "breast: 3 variants, 3 runs, 200 test images."
    for name in ("AUC", "accuracy"):
        [sentence] = [s for s in said if s.startswith(f"breast, {name}: ")]
        assert "no difference beyond noise in any of 3 pairs (smallest p after" in sentence
        assert sentence.endswith(f"The order of the variants by {name} is no finding.")
    assert not any("is above" in s for s in said)


def test_a_difference_is_named_with_its_direction_and_the_rest_left_untold(make: Make):
    evidence = make(0.0, 3.0, 3.0)
    said = conclusions.conclude(evidence).found
    found = next(s for s in said if s.startswith("breast, AUC"))
    assert found.startswith("breast, AUC: 2 of 3 pairs differ beyond noise (p < 0.05 after Holm's")
    worst = evidence.test_set.variants[0].name
    assert (
        len(re.findall(rf'is above "{re.escape(worst)}" by 0\.\d+ \[0\.\d+, 0\.\d+\], p <', found))
        == 2
    )
    assert f'"{worst}" is above' not in found
    assert "breast, AUC: the other pair cannot be told apart, and its order is no finding." in said


def test_the_sentences_agree_with_the_adjusted_p(make: Make):
    evidence = make(0.0, 0.4, 0.8, 1.6, 3.0)
    tested = evidence.pairs["auc"]
    apart = [pair for pair in tested if pair.p is not None and pair.p < evidence_module.LEVEL]
    assert 0 < len(apart) < 10  # else this shows nothing
    said = conclusions.conclude(evidence).found
    found = next(s for s in said if s.startswith("breast, AUC"))
    assert found.startswith(f"breast, AUC: {len(apart)} of 10 pairs differ")
    assert found.count("is above") == len(apart)
    for pair in apart:
        assert pair.difference.value is not None
        high, low = (pair.first, pair.second)[:: 1 if pair.difference.value > 0 else -1]
        assert f'"{high}" is above "{low}"' in found


def test_more_than_ten_pairs_are_not_all_named(make: Make):
    said = conclusions.conclude(make(-9.0, -3.0, -1.0, 0.2, 1.4, 3.0)).found
    found = next(s for s in said if s.startswith("breast, AUC"))
    count = int(found.split(" ")[2])
    assert count > 10 and found.count("is above") == 10
    assert f"; and {count - 10} more, in the table." in found


def test_two_variants_are_spoken_of_as_two(make: Make):
    said = conclusions.conclude(make(1.0, 1.0)).found
    assert any(
        "AUC: no difference beyond noise between the two variants (p = 0." in s for s in said
    )
    assert not any("1 pair" in s or "Holm" in s for s in said)


def test_two_that_differ(make: Make):
    said = conclusions.conclude(make(0.0, 4.0)).found
    assert any("AUC: the two variants differ beyond noise (p < 0.05): " in s for s in said)


def test_one_variant_alone_is_not_compared(make: Make):
    said = all_said(make(1.0))
    assert said[0] == "breast: 1 variant, 1 run, 200 test images."
    assert "one seed only of every variant" in said[1]
    assert not any("pair" in s or "noise" in s for s in said)


def test_resolution_is_said_with_the_power_it_means(make: Make):
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
    assert f"one of {found:.3f} in 80 % (before the correction" in said


def test_seed_and_test_variance_stand_beside_one_another(make: Make):
    evidence = make(1.0, 1.0, seeds=3)
    said = conclusions.conclude(evidence)
    [sentence] = [s for s in said.context if "AUC: the standard deviation between seeds" in s]
    sds = sorted(s.sd for s in evidence.summaries["auc"].values() if s.sd is not None)
    assert f"{sds[0]:.4f} to {sds[1]:.4f}" in sentence
    ses = [s.test_se for s in evidence.summaries["auc"].values() if s.test_se is not None]
    weighs = "the choice of test images" if np.median(ses) > np.median(sds) else "the seed"
    assert f": {weighs} weighs more than" in sentence
    assert not any("one seed only" in s for s in said.found)


def test_the_paper_s_figures_are_counted_and_departures_said(make: Make):
    said = conclusions.conclude(make(1.0, seeds=1)).context
    [auc] = [s for s in said if "breast, AUC: the measured 95 % interval holds the paper's" in s]
    assert re.search(r"for [01] of the 1 variant that the paper has\. None of these f", auc)


def test_nothing_is_said_of_the_paper_at_a_size_that_it_has_not(make: Make):
    assert not any("paper" in s for s in all_said(make(1.0, size=64)))


def test_many_classes_are_compared_by_accuracy_alone(make: Make):
    said = all_said(make(1.0, 1.0, dataset="blood"))
    assert any(s.startswith("blood, accuracy: no difference") for s in said)
    assert any("blood: no paired test of AUC is made for this task" in s for s in said)
    assert not any("AUC: no" in s or "above" in s for s in said)


def test_several_labels_are_not_compared_and_this_is_said(make: Make):
    said = all_said(make(1.0, 1.0, dataset="chest"))
    assert said[1].startswith(
        "chest: no paired test of AUC and average precision is made for this task"
    )


def test_no_sentence_ranks_or_leaves_a_gap(make: Make):
    for said in all_said(make(0.0, 3.0, 3.0, seeds=2)):
        assert not re.search(r"\b(best|outperform|nan|None(?! of these)|-0\.000)\b", said), said
        assert said.endswith(".") and "  " not in said and said[0].islower()
