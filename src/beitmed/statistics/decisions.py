"""What a decision at a threshold is worth: net benefit, predictive values, operating points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, logit

from beitmed.statistics import clusters, jackknife
from beitmed.statistics.clusters import Groups, codes
from beitmed.statistics.level import Bools, Floats, Ints
from beitmed.statistics.proportions import wilson

Rate = tuple[float, float, float]  # value, low, high


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit of a model at one threshold probability, with 95 % limits.

    `treat_all` is that of calling every case positive; calling none has net benefit 0. `gain` is
    the model's less the better of the two, with its limits.
    """

    threshold: float
    value: float
    low: float
    high: float
    treat_all: float
    gain: float
    gain_low: float
    gain_high: float


def decision_curve(
    probability: Floats, y: Bools, thresholds: Floats, groups: Groups = None
) -> list[NetBenefit]:
    """Return the net benefit at each threshold probability, between 0 and 1 and neither.

    True positives less false positives times the odds of the threshold, per case (Vickers and
    Elkin 2006, Med. Decis. Making 26:565). Being a mean over cases it has the variance of one, over
    clusters where there are any; t limits with as many degrees of freedom as cases that matter.
    """
    found = []
    for cut in thresholds.tolist():
        worth = np.where(y, 1.0, -cut / (1 - cut))
        model = np.where(probability >= cut, worth, 0.0)
        better = worth if worth.mean() > 0 else np.zeros(y.size)
        value, low, high = _mean(model, groups)
        gain, gain_low, gain_high = _mean(model - better, groups)
        found.append(
            NetBenefit(cut, value, low, high, float(worth.mean()), gain, gain_low, gain_high)
        )
    return found


def _mean(values: Floats, groups: Groups) -> Rate:
    middle = float(values.mean())
    parts = clusters.mean_contributions(values, groups)
    limits = jackknife.limits(middle, parts, "plain")
    return (middle, *(limits or (middle, middle)))


def predictive_values(
    y: Bools, predicted: Bools, prevalence: float, groups: Groups = None
) -> tuple[Rate, Rate]:
    """Return (PPV, NPV), each with 95 % limits, at a prevalence other than the test set's.

    Both follow from sensitivity and specificity by Bayes' rule, whose log odds are sums of
    logarithms of proportions; their Wilson limits (of patients, where groups names them) are
    combined by the squares of their distances (Zou and Donner 2008, Stat. Med. 27:1693). Half a
    case is added to each count, so that a perfect rate has limits. Both classes are present.
    """
    tp, fn = _counts(y, predicted, groups), _counts(y, ~predicted, groups)
    fp, tn = _counts(~y, predicted, groups), _counts(~y, ~predicted, groups)
    return (_posterior(prevalence, tp, fp), _posterior(1 - prevalence, tn, fn))


def _counts(cases: Bools, hit: Bools, groups: Groups) -> Rate:
    own = None if groups is None else groups[cases]
    n = clusters.effective_size(hit[cases][None], own)
    share = float(hit[cases].mean())
    low, high = wilson(share * n, n)
    middle = (share * n + 0.5) / (n + 1)
    return middle, min(float(low), middle), max(float(high), middle)


def _posterior(prior: float, right: Rate, wrong: Rate) -> Rate:
    a, b = np.log(np.maximum(right, 1e-12)), np.log(np.maximum(wrong, 1e-12))
    middle = logit(prior) + a[0] - b[0]
    low = middle - np.hypot(a[0] - a[1], b[2] - b[0])
    high = middle + np.hypot(a[2] - a[0], b[0] - b[1])
    return float(expit(middle)), float(expit(low)), float(expit(high))


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold chosen on validation cases to reach a level, and the rates on the test cases.

    `sensitivity` and `specificity` hold for another validation set as well: their limits count the
    choice of the threshold. `sensitivity_fixed` and `specificity_fixed` take it as it is.
    """

    threshold: float
    sensitivity: Rate
    specificity: Rate
    sensitivity_fixed: Rate
    specificity_fixed: Rate


def operating_point(
    kind: Literal["sensitivity", "specificity"],
    level: float,
    val: tuple[Floats, Bools, Groups],
    test: tuple[Floats, Bools, Groups],
    *,
    seed: int,
    n_resamples: int = 1000,
) -> OperatingPoint | str:
    """Return the operating point with the best other rate at a level reached on validation cases.

    val and test: scores [n], y [n] and the patients (or None). A score at or above the threshold is
    called positive. The threshold is a score of the validation set. Its uncertainty is that over
    smoothed bootstrap resamples of the validation set, by which the effective sample size of the
    test rates is reduced before Wilson's limits are taken. Or a reason.
    """
    for name, (_, y, _) in (("validation", val), ("test", test)):
        if y.all() or not y.any():
            return f"the {name} set lacks a class"
    cut = _cut(kind, level, *val[:2], np.ones((1, val[1].size), np.int64))[0]
    rng, code = np.random.default_rng(seed), codes(val[2], val[1].size)
    count = int(code.max()) + 1
    cases = val[1] if kind == "sensitivity" else ~val[1]
    # A threshold at the edge of a few cases is one of their scores in every resample: the scores
    # are smoothed by a normal kernel of half the width of Silverman 1986, eq. 3.28.
    width = 0.53 * float(val[0][cases].std()) * int(cases.sum()) ** -0.2
    cuts = np.empty(n_resamples)
    for i in range(n_resamples):
        weights = np.bincount(rng.integers(0, count, count), minlength=count)[code]
        shaken = val[0] + width * rng.standard_normal(code.size)
        cuts[i] = _cut(kind, level, shaken, val[1], weights[None])[0]
    cuts = cuts[~np.isnan(cuts)]
    rates: list[Rate] = []
    fixed: list[Rate] = []
    for cases, sign in ((test[1], 1), (~test[1], -1)):
        scores, own = test[0][cases], None if test[2] is None else test[2][cases]
        hit = (scores >= cut) if sign > 0 else (scores < cut)
        ordered = np.sort(scores)
        above = 1 - np.searchsorted(ordered, cuts, "left") / scores.size
        moved = float(above.var())
        effective = [clusters.effective_size(hit[None], own, extra=x) for x in (moved, 0.0)]
        share = float(hit.mean())
        for kept, n in zip((rates, fixed), effective, strict=True):
            low, high = wilson(share * n, n)
            kept.append((share, float(low), float(high)))
    return OperatingPoint(float(cut), *rates, *fixed)


def threshold_at(
    kind: Literal["sensitivity", "specificity"], level: float, score: Floats, y: Bools
) -> float | str:
    """Return the threshold of `operating_point` that these cases [n] choose, or a reason."""
    if y.all() or not y.any():
        return "the set lacks a class"
    return float(_cut(kind, level, score, y, np.ones((1, y.size), np.int64))[0])


def _cut(kind: str, level: float, score: Floats, y: Bools, weights: Ints) -> Floats:
    """The threshold under each row of weights [b, n]; NaN where a resample lacks the class."""
    rising = kind == "sensitivity"
    cases = y if rising else ~y
    order = np.argsort(-score[cases] if rising else score[cases], kind="stable")
    ordered = score[cases][order]
    reached = np.cumsum(weights[:, cases][:, order], axis=1)
    total = reached[:, -1]
    # The first case at which enough of the class is on its right side.
    first = (reached < np.ceil(level * total - 1e-9)[:, None]).sum(axis=1)
    found = ordered[np.minimum(first, ordered.size - 1)]
    if not rising:  # those up to it are called negative, so the cut is just above
        found = np.nextafter(found, np.inf)
    return np.where(total > 0, found, np.nan)


def no_skill(test: Ints, train: Ints) -> dict[str, float]:
    """Return what a classifier without skill reaches, from cases by class [k], test and training.

    "accuracy": the training set's commonest class, always; "brier" and "log_loss": the training
    set's shares as probabilities (sum over classes, as for several classes; for two, half of it is
    the Brier score of the positive class). Of two classes, the second being positive, "f1": all
    called positive, and "average_precision": a random order.
    """
    share, known = test / test.sum(), train / train.sum()
    found = {
        "accuracy": float(share[int(train.argmax())]),
        "brier": float((share * ((known[None] - np.eye(len(known))) ** 2).sum(axis=1)).sum()),
        "log_loss": float(-(share @ np.log(np.maximum(known, 1e-300)))),
    }
    if len(share) == 2:
        positive = float(share[1])
        found |= {"f1": 2 * positive / (1 + positive), "average_precision": positive}
    return found
