"""`beitmed power`: the numbers are those of `statistics.planning`, and bad input is refused."""

from __future__ import annotations

import re

import pytest
from conftest import beitmed
from scipy import stats
from statsmodels.stats.power import NormalIndPower

from beitmed.statistics import planning


def asked(tmp_path, *arguments: str) -> dict[int, str]:
    done = beitmed(*arguments, cwd=tmp_path, module="power")
    assert done.returncode == 0, done.stderr
    return {
        int(seeds): n for seeds, n in re.findall(r"^ +(\d+) +([\d,]+|no number)", done.stdout, re.M)
    }


def test_the_images_of_one_seed_are_those_of_a_normal_test(tmp_path):
    options = "metric=accuracy", "difference=0.05", "value=0.8", "correlation=0.4", "seeds=1"
    images = int(asked(tmp_path, *options)[1])
    differing = planning.differing_share(0.85, 0.8, 0.4)
    effect = 0.05 / (differing - 0.05**2) ** 0.5
    # A test of one mean: that of two groups of twice the size each.
    expected = NormalIndPower(ddof=0).solve_power(effect, power=0.8, alpha=0.05, ratio=0)
    assert images == pytest.approx(expected, abs=1)


def test_more_seeds_need_fewer_images_and_noise_of_training_more_of_both(tmp_path):
    found = asked(tmp_path)
    assert list(found) == [1, 3, 5, 10] and found[3] == "no number"
    assert int(found[5].replace(",", "")) > int(found[10].replace(",", ""))
    quiet = asked(tmp_path, "seed_sd=0")
    assert len(set(quiet.values())) == 1
    several = asked(tmp_path, "seed_sd=0", "comparisons=10")
    assert int(several[1].replace(",", "")) > int(quiet[1].replace(",", ""))


def test_the_share_that_differs_is_that_of_correlated_correctness():
    p1, p2, r = 0.9, 0.8, 0.3
    both = p1 * p2 + r * (p1 * 0.1 * p2 * 0.2) ** 0.5
    assert planning.differing_share(p1, p2, r) == pytest.approx((p1 - both) + (p2 - both))
    most = planning.most_correlated(p1, p2)
    assert planning.differing_share(p1, p2, most) == pytest.approx(p1 - p2)
    assert stats.bernoulli(planning.differing_share(p1, p2, 0.0)).mean() == pytest.approx(0.26)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("difference=0.2", "difference: found 0.2; allowed: a number above 0 and below 0.1"),
        ("difference=x", "difference: found x"),
        ("value=1", "value: found 1; allowed: a number above 0 and below 1"),
        ("seeds=0", "seeds: found 0; allowed: whole numbers from 1"),
        ("metric=f1", "metric: found 'f1'; allowed: auc, accuracy"),
        ("comparisons=1,2", "comparisons: found 1,2; allowed: one number"),
        ("outputs", "found outputs; allowed: metric"),
        ("power=0.01", "power: found 0.01"),
    ],
)
def test_bad_input_is_one_message(argument, said, tmp_path):
    done = beitmed(argument, cwd=tmp_path, module="power")
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_models_that_cannot_be_so_alike_are_refused(tmp_path):
    options = "metric=accuracy", "difference=0.09", "correlation=0.5"
    done = beitmed(*options, cwd=tmp_path, module="power")
    assert (
        done.returncode == 2
        and "correlation: found 0.5; allowed: a number 0 or more" in done.stderr
    )
