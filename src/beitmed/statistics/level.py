"""The level of every interval, and the types that the statistics share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

LEVEL = 0.95
#: Normal quantile of a two-sided interval at `LEVEL`.
Z = float(norm.isf((1 - LEVEL) / 2))
