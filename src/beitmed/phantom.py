"""Generated pictures that look like B-mode breast ultrasound: the offline stand-in for BreastMNIST.

No patient, scanner or public data set is behind these pictures, and no score obtained on them says
anything about medical use. They exist so that every step (loading, training, evaluation) runs
without a download, on data with BreastMNIST's split sizes and class balance and a label that can be
learned but not perfectly.

How a picture is made, at 224 x 224 and in decibel until the last step:

* tissue: skin, fat with bright septa, gland, fat, striated muscle, chest wall, with wavy borders;
* lesion: a darker ellipse with a perturbed radius. The descriptors that radiologists use
  (Stavros et al. 1995, Radiology; the ACR BI-RADS ultrasound lexicon) all follow one latent
  "suspicion" plus noise of their own: margin, orientation, shadow or enhancement behind it. The two
  labels draw that latent from overlapping normal distributions, so no model can reach an AUC of 1;
* speckle: the magnitude of complex Gaussian scatterers seen through an anisotropic point spread
  function, i.e. Rayleigh statistics (Burckhardt 1978; Wagner et al. 1983, both in IEEE Transactions
  on Sonics and Ultrasonics), then log compression to a fixed dynamic range.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

SIZES = (28, 64, 128, 224)
LABELS = {0: "synthetic irregular lesion", 1: "synthetic smooth or no lesion"}
#: Pictures of label 0 and of label 1 in each split, as in BreastMNIST.
SPLITS = {"train": (147, 399), "val": (21, 57), "test": (42, 114)}

_N = 224  # px; every picture is rendered at this size
_NO_LESION = 0.25  # share of label 1 without any lesion
_SEPARATION = 1.3  # the latent's mean is + this for label 0, - this for label 1; its sd is 1
_RANGE_DB = 50.0  # dynamic range of the log compression
_MIDDLE = 0.40  # grey level, of 1, at which 0 dB is shown
_PSF = (0.8, 1.7)  # px, sd of the point spread function along depth and across


def generate(size: int, seed: int) -> dict[str, tuple[Bytes, NDArray[np.int64]]]:
    """Return the splits 'train', 'val' and 'test' as (images, labels), the same for the same seed.

    images: uint8 [n, size, size], 0 black to 255 white, row 0 at the skin. labels: int64 [n], keys
    of `LABELS`, `SPLITS` of each. Picture i of a split depends on (seed, split, i) only; a smaller
    size is the area average of the same picture at 224. Bytes repeat on one machine and set of
    library versions; elsewhere float rounding may move a pixel by one.

    Raises ValueError for a size outside `SIZES` or a negative seed.
    """
    if size not in SIZES:
        raise ValueError(f"size is {size!r}; the phantom has the sizes {', '.join(map(str, SIZES))}")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more")
    out = {}
    for key, (split, counts) in enumerate(SPLITS.items()):
        labels = np.repeat(np.arange(2, dtype=np.int64), counts)
        _rng(seed, key).shuffle(labels)
        images = np.empty((len(labels), size, size), np.uint8)
        for i, label in enumerate(labels):
            images[i] = _shrink(_render(_rng(seed, key, i), int(label)), size)
        out[split] = (images, labels)
    return out


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _render(rng: np.random.Generator, label: int) -> Bytes:
    """Return one picture, uint8 [224, 224]."""
    level = _tissue(rng)
    if label == 0 or rng.random() >= _NO_LESION:
        _add_lesion(rng, level, rng.normal(_SEPARATION if label == 0 else -_SEPARATION))
    # Poor contact and ligaments shadow any picture, so a dark column alone decides nothing.
    level += _ramp(20, 90) * (1.5 * _curve(rng, 9) - 1.5)
    # The operator turns the gain until the picture as a whole looks right. Without this, shadows
    # would let the mean brightness tell the label.
    level += rng.normal(-0.2, 1.5) - 0.75 * level.mean()
    return _scan(rng, level)


def _scan(rng: np.random.Generator, level: Floats) -> Bytes:
    """Turn echogenicity in dB [224, 224] into a speckled, log-compressed picture."""
    # Uniform scatterers cost a quarter of Gaussian ones. Some 20 of them fall under the point spread
    # function, and their sum is Gaussian.
    field = rng.random((2, _N, _N), np.float32)
    field -= 0.5
    field *= np.exp(level * (math.log(10) / 20))
    field = _basis(_N, _PSF[0]) @ field @ _basis(_N, _PSF[1]).T
    power = 6 * (field[0] ** 2 + field[1] ** 2)  # a uniform number has a variance of 1 / 12
    # Scanners smooth the detected signal, which takes the deepest of the speckle's black pits away.
    power[1:-1] = 0.4 * power[1:-1] + 0.3 * (power[2:] + power[:-2])
    shown = np.log(power + 2e-3) * (10 / math.log(10) / _RANGE_DB) + _MIDDLE
    return np.clip(255 * shown, 0, 255).astype(np.uint8)


def _tissue(rng: np.random.Generator) -> Floats:
    """Return the echogenicity in dB [224, 224] of a breast without lesion, skin at row 0."""
    depth = np.arange(_N, dtype=np.float32)[:, None]
    mottle, grain = _field(rng, 8, 5), _field(rng, 28, 9)
    septa = np.exp(-40 * _field(rng, 14, 5) ** 2)
    fat, gland, deep, muscle = rng.normal((-8, 1, -7, -5), 1.5).tolist()
    skin, glandular = rng.uniform(7, 12), rng.uniform(28, 62)
    back = rng.uniform(125, 165)
    pectoral = back + rng.uniform(6, 18)
    ribs = pectoral + rng.uniform(22, 40)
    layers = (
        (skin, 1.0, 4, fat + 2 * mottle + 2 * grain + 10 * septa),
        (glandular, 6.0, 10, gland + 3 * mottle + 3.5 * grain),
        (back, 5.0, 6, deep + 7 * septa),
        (pectoral, 4.0, 3, muscle + 4 * _field(rng, 48, 3)),
        (ribs, 5.0, 3, -10 + 3 * mottle),
    )
    level = np.full((_N, _N), 7.0, np.float32)
    for top, wave, blur, inside in layers:
        border = top + wave * _curve(rng, 4)
        rows = slice(max(0, int(border.min()) - blur), _N)
        step = np.clip((depth[rows] - border) * (1 / blur) + 0.5, 0, 1)
        level[rows] += step * (inside[rows] - level[rows])
    # The pleura is bright in front of the dark.
    level[rows] += 9 * np.exp(-(((depth[rows] - border) * 0.5) ** 2))
    level -= rng.uniform(3, 13) / _N * depth  # attenuation left by the time gain compensation
    return level


def _add_lesion(rng: np.random.Generator, level: Floats, suspicion: float) -> None:
    """Draw a lesion and what it does to the tissue behind it into the dB map [224, 224]."""
    noise = rng.standard_normal(6).tolist()
    irregular = 1 / (1 + math.exp(-1.3 * suspicion - 0.6 * noise[0]))
    area = 30 * math.exp(0.2 * noise[1] + 0.18 * suspicion)  # px, mean semi-axis
    stretch = math.exp(0.5 * (0.3 - 0.16 * suspicion + 0.16 * noise[2]))
    wide, tall = area * stretch, area / stretch
    x, y = rng.normal(112, 26), rng.normal(92, 14)
    contrast = -13 + 4.5 * noise[3] - 0.8 * suspicion
    behind = 5.0 * noise[4] - 8.0 * suspicion - 2
    behind *= 0.5 if behind > 0 else 1.0  # a shadow can be black, an enhancement is moderate

    # All of it lies within 1.9 semi-axes; angles over the whole picture would cost too much.
    reach = int(1.9 * max(wide, tall)) + 1
    rows = slice(max(0, int(y) - reach), min(_N, int(y) + reach))
    cols = slice(max(0, int(x) - reach), min(_N, int(x) + reach))
    v, u = np.ogrid[rows, cols]
    tilt = 0.25 * noise[5]
    du, dv = (u - x).astype(np.float32), (v - y).astype(np.float32)
    p = math.cos(tilt) / wide * du + math.sin(tilt) / wide * dv
    q = math.cos(tilt) / tall * dv - math.sin(tilt) / tall * du
    angle, square = np.arctan2(q, p), p**2 + q**2
    outline = _outline(rng, irregular)
    edge = outline[(angle * (256 / np.pi)).astype(np.int32)] - np.sqrt(square)
    blur = 0.08 + 0.4 * irregular * rng.random()
    inside = np.clip(edge / blur + 0.5, 0, 1)
    target = contrast + (1 + 3 * irregular) * _field(rng, 20, 12)[rows, cols]
    level[rows, cols] += inside * (target - 0.75 * level[rows, cols])
    # A smooth capsule reflects most where the beam meets it at a right angle: top and bottom.
    capsule = 6 * (1 - irregular) * np.exp(-((edge * 14) ** 2))
    level[rows, cols] += capsule * (q**2 / (square + 1e-6)) ** 2

    across = np.abs(np.arange(_N, dtype=np.float32) - x) / wide
    column = behind / (1 + np.exp((across - 0.85) / 0.16)) * (1 + 0.3 * _curve(rng, 14))
    rim = -3 * (1 - irregular) * np.exp(-(((across - 1) / 0.07) ** 2))  # refraction at the sides
    level += _ramp(y + 0.3 * tall, tall) * (column + rim)


def _outline(rng: np.random.Generator, irregular: float) -> Floats:
    """Return the radius relative to the ellipse's, at 512 angles: lobes, roughness and spikes."""
    angle = np.linspace(0, 2 * np.pi, 512, endpoint=False)
    order = np.arange(2, 15)
    size = np.where(order < 5, 0.03 + 0.05 * irregular, 0.045 * irregular)
    phase = rng.uniform(0, 2 * np.pi, len(order))
    radius = 1 + (rng.normal(0, size) * np.cos(angle[:, None] * order + phase)).sum(axis=1)
    for _ in range(rng.poisson(7 * irregular**2)):
        away = (angle - rng.uniform(0, 2 * np.pi) + np.pi) % (2 * np.pi) - np.pi
        radius += rng.uniform(0.1, 0.6) * np.exp(-np.abs(away) / 0.15)
    return np.clip(radius, 0.5, 1.7).astype(np.float32)


def _ramp(start: float, length: float) -> Floats:
    """Return a column [224, 1] that rises from 0 at depth `start` to 1 at `start + length`."""
    return np.clip((np.arange(_N, dtype=np.float32)[:, None] - start) / length, 0, 1)


def _field(rng: np.random.Generator, rows: int, cols: int) -> Floats:
    """Return smooth noise [224, 224] of unit variance with `rows` x `cols` independent cells."""
    return _basis(rows) @ rng.standard_normal((rows, cols), np.float32) @ _basis(cols).T


def _curve(rng: np.random.Generator, cells: int) -> Floats:
    """Return smooth noise [224] of unit variance."""
    return _basis(cells) @ rng.standard_normal(cells, np.float32)


@cache
def _basis(cells: int, sd: float = 0.6) -> Floats:
    """Return Gaussian bumps [224, cells] of width `sd` cells.

    Rows have norm 1, so the product with white noise has the noise's variance, at the borders too.
    """
    at = (np.arange(_N) + 0.5) / _N * cells - 0.5
    bumps = np.exp(-0.5 * ((at[:, None] - np.arange(cells)) / sd) ** 2)
    return (bumps / np.linalg.norm(bumps, axis=1, keepdims=True)).astype(np.float32)


def _shrink(image: Bytes, size: int) -> Bytes:
    """Return the area average [size, size] of a 224 px picture, halves rounded up."""
    if size == _N:
        return image
    weights = _overlaps(size)
    total = weights @ image.astype(np.float32) @ weights.T
    return (total / weights[0].sum() ** 2 + np.float32(0.5)).astype(np.uint8)


@cache
def _overlaps(size: int) -> Floats:
    """Return how much of each of the 224 px each of `size` px covers [size, 224], in whole units.

    Whole numbers keep every sum exact in float32, whatever order the matrix product adds in.
    """
    cut = np.arange(size + 1)[:, None] * _N
    pixel = np.arange(_N) * size
    overlap = np.minimum(cut[1:], pixel + size) - np.maximum(cut[:-1], pixel)
    return (np.maximum(overlap, 0) // np.gcd(size, _N)).astype(np.float32)
