"""The AUC and the accuracy of one variant of an experiment over its training seeds.

All seeds are judged on the same test images. Two things then move their mean: which images the
test set happens to hold, and which models the seeds happened to train. With one seed only the
first can be known, and `covers` says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t

from beitmed.statistics import intervals
from beitmed.statistics.intervals import LEVEL, Bools, Floats

TEST_ONLY = "test sampling (the models as trained)"
TEST_AND_SEEDS = "test sampling and training seeds"


@dataclass(frozen=True)
class Summary:
    """A measure by seed, its mean over seeds, and what is known of the mean; fractions, not %.

    `sd` is between seeds. `test_se` is the standard error of the mean for drawn test images and
    the models as trained, None where nothing varies (AUC 0 or 1); `seed_se` is sd / sqrt(seeds).
    The two overlap, as the test images move each model on its own too: the interval counts that
    once (see `Spread`). `interval` names its method, `covers` the sources of variation in it.
    What is undefined is None; `reason` says why there is no mean, or no interval.
    """

    values: tuple[float, ...]
    mean: float | None
    sd: float | None
    test_se: float | None
    seed_se: float | None
    low: float | None
    high: float | None
    interval: str | None
    covers: str | None
    reason: str | None

    def __post_init__(self) -> None:
        known = [x for x in (self.mean, self.sd, self.low, self.high) if x is not None]
        assert all(map(math.isfinite, known)), self
        assert (self.low is None) == (self.high is None) == (self.interval is None), self
        assert (self.interval is None) == (self.reason is not None), self
        assert self.mean is not None or self.interval is None, self


@dataclass(frozen=True)
class Spread:
    """The variance of a mean over S seeds, taken apart.

    `test` is that of drawn test images, the models as trained. `seed` is what training adds:
    (SD^2 - I)/S, at least 0 and 0 for a single seed. I is the part of SD^2 that comes from the test
    images acting on each model on its own; it is in `test` already. `test + seed` is the variance
    of Obuchowski and Rockette (1995, Commun. Stat. Simul. Comput. 24:285), seeds as readers.
    `doubt` is what a Satterthwaite approximation divides by, (SD^2/S)^2 / (S - 1).
    """

    values: Floats
    test: float
    seed: float
    doubt: float

    @classmethod
    def of(cls, values: Floats, each: Floats, mean: float) -> Spread:
        """Return it from the values [S], their test variances [S], and that of their mean."""
        count = values.size
        if count == 1:
            return cls(values, mean, 0.0, 0.0)
        observed = float(values.var(ddof=1))
        # Mean variance less mean covariance of two seeds on the same images.
        alone = count * (float(each.mean()) - mean) / (count - 1)
        doubt = (observed / count) ** 2 / (count - 1)
        return cls(values, mean, max(observed - alone, 0.0) / count, doubt)


def quantile(variance: Floats | float, doubt: Floats | float) -> Floats:
    """Return the two-sided t quantile at `LEVEL` for a variance that holds estimated seed parts."""
    return np.asarray(t.isf((1 - LEVEL) / 2, degrees(variance, doubt)))


def degrees(variance: Floats | float, doubt: Floats | float) -> Floats:
    """Return the degrees of freedom of a variance, infinite (normal) without any `Spread.doubt`.

    A few seeds give their variance poorly, so a normal quantile would cover too little where seeds
    matter; the variance over test images counts as known, as in a single DeLong interval. This is
    Satterthwaite's approximation in the form of Hillis 2007, Stat. Med. 26:596. Simulated at 42
    against 114 images and AUC 0.9, the mean over 2 to 10 seeds is covered in 94 to 95 % where
    training moves it about as much as the test images do, in 89 to 92 % where training moves two
    seeds much more, and an AUC difference of variants that training does not move at all in 98 %.
    """
    squared, doubt = np.broadcast_arrays(np.square(variance), doubt)
    known = (doubt == 0) | (squared == 0)
    return np.divide(squared, doubt, out=np.full(doubt.shape, np.inf), where=~known)


def one_class(y: Bools) -> str | None:
    """Return the reason for which y [n] has no AUC, None if it has one."""
    lacking = [k for k, found in (("positive", y.any()), ("negative", not y.all())) if not found]
    return f"the test set has no {' and no '.join(lacking)} case" if lacking else None


def auc_spread(y: Bools, scores: Floats) -> tuple[Spread, Floats, Floats]:
    """Return the spread of the AUC and the placements of each seed [S, n_pos], [S, n_neg].

    y [n] is true for the positive class, of which scores [S, n] are log odds; both classes are
    present. Variances are NaN where a class has a single case.
    """
    assert scores.ndim == 2 and scores.shape[1:] == y.shape and len(scores), scores.shape
    assert y.dtype == bool and np.isfinite(scores).all()
    v_pos, v_neg = intervals.placements(y, scores)
    each = intervals.delong_variance(v_pos, v_neg)
    of_mean = float(intervals.delong_variance(v_pos.mean(axis=0), v_neg.mean(axis=0)))
    return Spread.of(v_pos.mean(axis=1), each, of_mean), v_pos, v_neg


def auc_summary(y: Bools, scores: Floats) -> Summary:
    """Return the summary of the AUC; y and scores as in `auc_spread`, a class may be absent.

    The interval is the logit one of `intervals.auc_interval`, with the variance over test images
    and seeds and a t quantile (see `degrees`); for one seed it is that interval itself. Where
    DeLong gives no variance, Newcombe's score interval stands in, for test sampling only.
    """
    reason = one_class(y)
    if reason:
        return Summary((), None, None, None, None, None, None, None, None, reason)
    spread, _, _ = auc_spread(y, scores)
    variance = spread.test + spread.seed
    factor = float(quantile(variance, spread.doubt))
    mean, sizes = float(spread.values.mean()), (int(y.sum()), int((~y).sum()))
    low, high, method = intervals.auc_limits(mean, variance, *sizes, factor)
    several = len(scores) > 1 and method == "logit DeLong"
    return _summary(spread, mean, low, high, method, several)


def mean_auc_summary(member: Bools, scores: Floats) -> Summary:
    """Return the summary of the mean AUC over classes or labels, each against the others.

    member [n, k] is true where an image is of the column's class, which a high score of scores
    [S, n, k] speaks for. The interval is that of `intervals.mean_auc_interval` with the variance
    over test images and seeds and a t quantile, as in `auc_summary`; without variance there is
    none.
    """
    lacking = int(np.logical_or(member.all(axis=0), ~member.any(axis=0)).sum())
    if lacking:
        reason = f"{lacking} of {member.shape[1]} classes lack a positive or a negative test image"
        return Summary((), None, None, None, None, None, None, None, None, reason)
    means, parts = zip(*(intervals.mean_auc_contributions(member, s) for s in scores), strict=True)
    each, of_mean = np.square(parts).sum(axis=1), np.square(np.mean(parts, axis=0)).sum()
    spread = Spread.of(np.array(means), each, float(of_mean))
    mean, variance = float(np.mean(means)), spread.test + spread.seed
    if not variance > 1e-20 or not 0 < mean < 1:
        reason = "no variance between test images, or a class of a single one"
        return _without_interval(spread, mean, reason)
    half = float(quantile(variance, spread.doubt)) * math.sqrt(variance) / (mean * (1 - mean))
    low, high = (float(expit(logit(mean) + sign * half)) for sign in (-1, 1))
    return _summary(spread, mean, low, high, "logit DeLong of the mean", len(scores) > 1)


def accuracy_spread(correct: Bools) -> Spread:
    """Return the spread of the accuracy of correct [S, n], true where a seed's model is right."""
    assert correct.dtype == bool and correct.ndim == 2 and correct.size, correct.shape
    values, n = correct.mean(axis=1), correct.shape[1]
    return Spread.of(values, values * (1 - values) / n, float(correct.mean(axis=0).var()) / n)


def accuracy_summary(correct: Bools) -> Summary:
    """Return the summary of the accuracy; correct as in `accuracy_spread`.

    The interval is Wilson's, for several seeds at the effective sample size: that at which one
    seed's accuracy would vary as the mean does (Korn and Graubard 1998, Surv. Methodol. 24:193,
    with their factor for a t quantile). The ratio of variances is taken with two right and two
    wrong images added (Agresti and Coull 1998, Am. Stat. 52:119): so it is defined at accuracy 1,
    where the interval is Wilson's own, and does not leap at the first error of a single seed.
    """
    spread, n = accuracy_spread(correct), correct.shape[1]
    mean = float(np.count_nonzero(correct) / correct.size)
    effective = float(n)
    if len(correct) > 1:
        shares = np.concatenate([correct.mean(axis=0), [0, 0, 1, 1]])
        variance = float(shares.var()) / shares.size + spread.seed
        independent = float(shares.mean() * (1 - shares.mean())) / shares.size
        factor = float(quantile(variance, spread.doubt))
        effective = n * independent / variance * (intervals.Z / factor) ** 2
    low, high = map(float, intervals.wilson(mean * effective, effective))
    method = "Wilson" if len(correct) == 1 else "Wilson at the effective sample size"
    return _summary(spread, mean, low, high, method, len(correct) > 1)


def _without_interval(spread: Spread, mean: float, reason: str) -> Summary:
    whole = _summary(spread, mean, 0.0, 0.0, "", False)
    return replace(whole, low=None, high=None, interval=None, covers=None, reason=reason)


def _summary(
    spread: Spread, mean: float, low: float, high: float, method: str, several: bool
) -> Summary:
    count = spread.values.size
    sd = float(spread.values.std(ddof=1)) if count > 1 else None
    return Summary(
        values=tuple(spread.values.tolist()),
        mean=mean,
        sd=sd,
        test_se=math.sqrt(spread.test) if spread.test > 1e-20 else None,
        seed_se=None if sd is None else sd / math.sqrt(count),
        low=low,
        high=high,
        interval=method,
        covers=TEST_AND_SEEDS if several else TEST_ONLY,
        reason=None,
    )
