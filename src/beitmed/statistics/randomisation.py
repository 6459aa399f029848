"""Exact randomisation of signs: McNemar's test, and its form for several models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sign_flip(d: NDArray[np.integer]) -> float:
    """Return the exact two-sided p of sum(d) if each integer difference d [n] may change its sign.

    The 2^n assignments of signs are equally likely where neither variant is better on the drawn
    images (Fisher's randomisation test); with every |d| equal it is McNemar's exact test. It
    covers the draw of test images, the models as trained. The distribution comes from its
    characteristic function, a product of cosines, by one inverse FFT (Pagano and Tritchler 1983,
    J. Am. Stat. Assoc. 78:435); p is exact to about 1e-14 absolutely, not relatively.
    """
    observed = abs(int(d.sum()))
    if not observed:
        return 1.0
    divisor = int(np.gcd.reduce(d))
    times = np.bincount(np.abs(d) // divisor)
    times[0] = 0
    # The flipped sizes add up to 0..total; as or more extreme than observed are two equal tails.
    total = int(times @ np.arange(times.size))
    length, tail = total + 1, (total - observed // divisor) // 2
    k = np.arange(length // 2 + 1)
    angle = np.pi * k / length
    # exp(-i angle total) without the large argument, which would cost digits.
    spectrum = np.where(k % 2, -1.0, 1.0) * np.exp(1j * angle)
    for size in np.flatnonzero(times).tolist():
        spectrum *= np.cos(size * angle) ** times[size]
    p = 2 * float(np.fft.irfft(spectrum, length)[: tail + 1].sum())
    # At the least the observed signs and their mirror image; rounding may leave less.
    return min(1.0, max(p, 2.0 ** (1 - int(times.sum()))))
