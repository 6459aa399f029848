"""Made-up cases of two classes, and their evaluation."""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.special import logit

from beitmed.tasks.binary import evaluate


def draw(rng, n_pos, n_neg, *, separation=2.0, temperature=1.0, prior=None, ties=False):
    """Labels and margins of the binormal model: calibrated for `prior` at temperature 1."""
    y = np.repeat([1, 0], [n_pos, n_neg])
    prior = n_pos / (n_pos + n_neg) if prior is None else prior
    x = rng.normal((y - 0.5) * separation)
    m = (separation * x + logit(prior)) / temperature
    return y, np.round(m) if ties else m


def two_columns(m, positive=1):
    """Logits [n, 2] with the margin m of the positive class."""
    logits = np.zeros((len(m), 2))
    logits[:, positive] = m
    return logits


def run(val=None, test=None, *, positive=1, seed=0, n_resamples=200, **options):
    """`evaluate` on (y, margin) pairs, y being 1 for the positive class."""
    rng = np.random.default_rng(42)
    val = draw(rng, 40, 60) if val is None else val
    test = draw(rng, 42, 114) if test is None else test

    def of_class(y):
        return np.asarray(y, int) if positive == 1 else 1 - np.asarray(y, int)

    return evaluate(
        val_logits=two_columns(np.asarray(val[1], float), positive),
        val_labels=of_class(val[0]),
        test_logits=two_columns(np.asarray(test[1], float), positive),
        test_labels=of_class(test[0]),
        positive=positive,
        seed=seed,
        n_resamples=n_resamples,
        **options,
    )


def binomial_bounds(trials, lowest, highest, alarm=1e-5):
    """Counts that a coverage between `lowest` and `highest` leaves with at most this chance."""
    return stats.binom.ppf(alarm / 2, trials, lowest), stats.binom.isf(alarm / 2, trials, highest)
