"""Whether the class mix of a test set differs from that of training, and what to do then.

Margins are float64 log odds. Probabilities must be calibrated for the mix to be read from them, so
a temperature and a shift per class are fitted on the validation set first (bias-corrected
temperature scaling: Alexandari et al. 2020, ICML). The fit is itself uncertain, and a test set is
small: a mix is called shifted, and a decision corrected, only beyond both kinds of noise. No test
label is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from scipy.stats import chi2, norm

from beitmed.statistics.clusters import Groups, mean_contributions
from beitmed.statistics.level import LEVEL, Floats

#: What a scaling is fitted in.
Free = Literal["both", "temperature", "shift"]
_ALARM = 0.05
_RIDGE = 1e-3  # of the shifts and of log temperature: keeps separable validation sets finite


@dataclass(frozen=True)
class Scaling:
    """Calibrated log odds: logits / temperature + shift [classes]; the first shift is 0."""

    temperature: float
    shift: Floats

    def __call__(self, logits: Floats) -> Floats:
        """Return calibrated logits [n, classes]."""
        return logits / self.temperature + self.shift


@dataclass(frozen=True)
class Shift:
    """The class mix of a test set, estimated without its labels.

    prior [classes] with 95 % limits low and high [classes]; p is of the hypothesis that the mix is
    that of the validation set. `shifted`: p < 0.05. `corrected` [n, classes] are the calibrated
    logits under the estimated prior where it is shifted, and the logits as they were otherwise.
    """

    prior: Floats
    low: Floats
    high: Floats
    p: float
    shifted: bool
    corrected: Floats


def fit_scaling(
    logits: Floats, labels: NDArray[np.int64], *, free: Free = "both", of: str = "validation"
) -> Scaling | str:
    """Return the scaling of greatest likelihood on logits [n, classes], or a reason for none.

    free: what is fitted, the other staying as it is. of: whose logits they are, for the reason.
    """
    k = logits.shape[1]
    absent = np.setdiff1d(np.arange(k), labels)
    if absent.size:
        return f"the {of} set has no case of class {', '.join(map(str, absent))}"
    unit = float(np.abs(logits - logits.mean(axis=1, keepdims=True)).max()) or 1.0
    scaled, actual = logits / unit, np.eye(k)[labels]
    held = {"both": slice(0), "shift": slice(1), "temperature": slice(1, None)}[free]

    def loss(x: Floats) -> tuple[float, Floats]:
        steep = np.exp(x[0])
        z = steep * scaled + np.append(0.0, x[1:])
        log_p = log_softmax(z, axis=1)
        error = np.exp(log_p) - actual
        value = -float(log_p[np.arange(len(labels)), labels].sum())
        slope = np.append((error * scaled).sum() * steep, error.sum(axis=0)[1:]) + 2 * _RIDGE * x
        slope[held] = 0.0
        return value + _RIDGE * float(x @ x), slope

    found = minimize(loss, np.append(np.log(unit), np.zeros(k - 1)), jac=True, method="L-BFGS-B")
    return Scaling(unit / float(np.exp(found.x[0])), np.append(0.0, found.x[1:]))


def estimate_mix(log_ratio: Floats, start: Floats) -> Floats:
    """Return the prior of greatest likelihood behind unlabelled cases.

    log_ratio [n, classes]: calibrated log probabilities less the log prior they were calibrated
    under. The EM algorithm of Saerens et al. 2002, Neural Comput. 14:21, eq. 2.9, on a likelihood
    that is concave.
    """
    prior = start.copy()
    for _ in range(2000):
        posterior = np.exp(log_softmax(log_ratio + np.log(np.maximum(prior, 1e-300)), axis=1))
        new = posterior.mean(axis=0)
        if np.abs(new - prior).max() < 1e-9:
            break
        prior = new
    return np.asarray(new)


def detect(
    val_logits: Floats,
    val_labels: NDArray[np.int64],
    test_logits: Floats,
    val_groups: Groups = None,
    test_groups: Groups = None,
) -> Shift | str:
    """Return the shift of the test set's class mix against the validation set's, or a reason.

    Logits [n, classes], labels int [n], groups: the patients [n] of each set. The validation set
    stands for training: its labels are known and its logits are of cases that the network was not
    fitted on. The test compares the mean calibrated probabilities of the two sets (the score test
    of the prior), with the variance of both over patients; the interval is the likelihood's,
    widened by what the validation set adds, and by patients of several cases. A correction moves
    each class's log probability by the logarithm of the new share over the old.
    """
    scaling = fit_scaling(val_logits, val_labels)
    if isinstance(scaling, str):
        return scaling
    k = val_logits.shape[1]
    old = np.bincount(val_labels, minlength=k) / len(val_labels)
    val, test = (log_softmax(scaling(x), axis=1) for x in (val_logits, test_logits))
    mean = np.exp(test).mean(axis=0) - np.exp(val).mean(axis=0)
    noise, alone = np.zeros((2, k, k))
    for log_p, groups in ((val, val_groups), (test, test_groups)):
        parts = mean_contributions(np.exp(log_p).T, groups)
        if parts.shape[1] < 2:
            return "the cases of a single patient say nothing of a shift"
        noise += parts @ parts.T
        alone += np.cov(np.exp(log_p).T) / len(log_p)
    free = slice(1, None)
    statistic = float(mean[free] @ np.linalg.pinv(noise[free, free]) @ mean[free])
    p = float(chi2.sf(statistic, k - 1))
    ratio = test - np.log(old)
    prior = estimate_mix(ratio, old)
    widened = np.maximum(np.diag(noise) / np.maximum(np.diag(alone), 1e-300), 1.0)
    low, high = _limits(prior, ratio, len(val_labels), widened)
    shifted = p < _ALARM
    # Corrected is what is beyond noise: the mix in the interval that is nearest to the old one.
    near = np.clip(old, low, high)
    moved = scaling(test_logits) + np.log(near / near.sum()) - np.log(old)
    return Shift(prior, low, high, p, shifted, moved if shifted else test_logits)


def _limits(prior: Floats, ratio: Floats, n_val: int, widened: Floats) -> tuple[Floats, Floats]:
    """Limits of each share from the curvature of the likelihood along it, others in proportion."""
    n, low, high = len(ratio), np.zeros(prior.size), np.ones(prior.size)
    for c in range(prior.size):
        rest = np.delete(prior, c)
        others = logsumexp(
            np.delete(ratio, c, axis=1) + np.log(np.maximum(rest, 1e-300) / max(rest.sum(), 1e-12)),
            axis=1,
        )
        own = max(min(float(prior[c]), 1 - 0.5 / n), 0.5 / n)
        both = np.logaddexp(np.log(own) + ratio[:, c], np.log(1 - own) + others)
        slope = np.exp(ratio[:, c] - both) - np.exp(others - both)
        information = float(np.square(slope).sum())
        variance = widened[c] * (1 + n / n_val) / information if information > 0 else 0.25
        half = float(norm.isf((1 - LEVEL) / 2)) * np.sqrt(variance)
        low[c], high[c] = max(own - half, 0.0), min(own + half, 1.0)
    return low, high
