"""Generated pictures that look like B-mode breast ultrasound: the offline stand-in for BreastMNIST.

No patient is behind these pictures, and a score obtained on them says nothing about medical use.
They exist so that every step, from loading to evaluation, runs without a download, on data with
BreastMNIST's split sizes and class counts and a label that can be learnt, but not perfectly. The
numbers below were set by eye, next to BreastMNIST, and by what simple models reach.

How a picture is made, in decibel until the last step:

* tissue: skin, fat with bright septa, gland, fat, striated muscle and chest wall, wavy borders;
* lesion: a darker ellipse with a perturbed outline. The descriptors that radiologists go by
  (Stavros et al. 1995, Radiology; the ACR BI-RADS lexicon for ultrasound) all follow one latent
  "suspicion" plus noise of their own: outline, orientation, size, shadow or enhancement behind. The
  labels draw that latent from normal distributions that overlap, so no model reaches an AUC of 1;
* speckle: the magnitude of random scatterers seen through an anisotropic point spread function, so
  Rayleigh statistics (Burckhardt 1978; Wagner et al. 1983; both IEEE Transactions on Sonics and
  Ultrasonics), smoothed a little after detection and log-compressed.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]  # float32; NumPy's stubs widen a matrix product's type
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

SIZES = (28, 64, 128, 224)
LABELS = {0: "synthetic irregular lesion", 1: "synthetic smooth or no lesion"}
#: Pictures of label 0 and of label 1 in each split, as in BreastMNIST.
SPLITS = {"train": (147, 399), "val": (21, 57), "test": (42, 114)}

_N = 224  # px; every picture is rendered at this size
_NO_LESION = 0.25  # share of label 1 that has no lesion
_SEPARATION = 1.3  # mean of the latent: + this for label 0, - this for label 1; its sd is 1
_PSF = (0.8, 1.7)  # px, sd of the point spread function along depth and across
# Across, the point spread function hides single px: echogenicity is made at every other one.
_X = np.arange(0.5, _N, 2, dtype=np.float32)
_Y = np.arange(_N, dtype=np.float32)[:, None]


class Pictures(NamedTuple):
    """Pictures of a split, their labels, and where their lesions are.

    images: uint8 [n, size, size], 0 black to 255 white, row 0 at the skin. labels: int64 [n], keys
    of `LABELS`. lesions: bool [n, size, size], the inside of the outline that was drawn, without
    margin and shadow; nothing where there is no lesion.
    """

    images: Bytes
    labels: NDArray[np.int64]
    lesions: Bools


def generate(size: int, seed: int) -> dict[str, Pictures]:
    """Return the splits 'train', 'val' and 'test', the same for the same seed.

    As many of each label as `SPLITS` says. Picture i of a split depends on (seed, split, i) only;
    a smaller size is the area average of the same picture at 224. Bytes repeat with the same
    library versions, processor and number of BLAS threads; otherwise float rounding moves single
    grey values by one.

    Raises ValueError for a size that is not in `SIZES` and for a negative seed.
    """
    if size not in SIZES:
        raise ValueError(f"size: found {size!r}; allowed: {', '.join(map(str, SIZES))}")
    if seed < 0:
        raise ValueError(f"seed: found {seed!r}; allowed: 0 or more")
    splits = {}
    for key, (split, counts) in enumerate(SPLITS.items()):
        labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        _rng(seed, key).shuffle(labels)
        images = np.empty((len(labels), size, size), np.uint8)
        lesions = np.empty(images.shape, bool)
        for i, label in enumerate(labels):
            image, lesion = _render(_rng(seed, key, i), int(label))
            images[i] = _shrink(image, size)
            lesions[i] = _shrink(255 * lesion.astype(np.uint8), size) > 127  # half a pixel or more
        splits[split] = Pictures(images, labels, lesions)
    return splits


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _render(rng: np.random.Generator, label: int) -> tuple[Bytes, Bools]:
    """Return one picture, uint8 [224, 224], and where its lesion is, bool [224, 224]."""
    level = _tissue(rng)
    lesion = np.zeros(level.shape, bool)
    if label == 0 or rng.random() >= _NO_LESION:
        latent = rng.normal(_SEPARATION if label == 0 else -_SEPARATION)
        box, inside = _add_lesion(rng, level, latent)
        lesion[box] = inside
    # Poor contact and ligaments shadow any picture, so a dark column alone decides nothing.
    level += _ramp(20, 90) * (1.5 * _curve(rng, 9) - 1.5)
    # An operator turns the gain until the picture looks right as a whole. Without this, shadows
    # would let the mean brightness tell the label.
    level += rng.normal(-0.2, 1.5) - 0.75 * float(level.mean())
    image = _scan(rng, level, dynamic_range=50 * math.exp(rng.normal(0, 0.08)))
    return image, lesion.repeat(2, axis=1)


def _scan(rng: np.random.Generator, level: Floats, dynamic_range: float) -> Bytes:
    """Turn echogenicity in dB [224, 112] into a picture [224, 224]; dynamic_range in dB too."""
    # Two components, in phase and in quadrature.
    field: Floats = rng.standard_normal((2, *level.shape), np.float32)
    field *= np.exp(level * (math.log(10) / 20))
    field = _bumps(_N, _N, _PSF[0]) @ field @ _bumps(_N, len(_X), _PSF[1] * len(_X) / _N).T
    power = 0.5 * (field[0] ** 2 + field[1] ** 2)
    # Smoothing after detection, as scanners do, takes the blackest pits out of the speckle.
    power[:, 1:-1] = 0.4 * power[:, 1:-1] + 0.3 * (power[:, 2:] + power[:, :-2])
    shown = np.log(power + 2e-3) * (10 / math.log(10) / dynamic_range) + 0.4
    return np.clip(255 * shown, 0, 255).astype(np.uint8)


def _tissue(rng: np.random.Generator) -> Floats:
    """Return the echogenicity in dB [224, 112] of a breast without lesion, skin at row 0."""
    mottle, grain = _field(rng, 8, 5), _field(rng, 28, 9)
    septa = np.exp(-40 * _field(rng, 14, 5) ** 2)
    fat, gland, deep, muscle = rng.normal((-8, 1, -7, -5), 1.5).tolist()
    skin, glandular, back = rng.uniform((7, 28, 125), (12, 62, 165)).tolist()
    pectoral = back + rng.uniform(6, 18)
    ribs = pectoral + rng.uniform(22, 40)
    layers = (  # from the skin down: upper border and its waviness and blur in px, dB inside
        (skin, 1.0, 4, fat + 2 * mottle + 2 * grain + 10 * septa),
        (glandular, 6.0, 10, gland + 3 * mottle + 3.5 * grain),
        (back, 5.0, 6, deep + 7 * septa),
        (pectoral, 4.0, 3, muscle + 4 * _field(rng, 48, 3)),
        (ribs, 5.0, 3, -10 + 3 * mottle),
    )
    level = np.full((_N, len(_X)), 7, np.float32)
    for top, waviness, blur, inside in layers:
        border = top + waviness * _curve(rng, 4)
        rows = slice(max(0, int(border.min()) - blur), _N)
        level[rows] += _step((_Y[rows] - border) / blur) * (inside[rows] - level[rows])
    level[rows] += 9 * np.exp(-(((_Y[rows] - border) / 2) ** 2))  # the pleura shines
    level -= rng.uniform(3, 13) / _N * _Y  # attenuation that time gain compensation has left
    return level


def _add_lesion(
    rng: np.random.Generator, level: Floats, suspicion: float
) -> tuple[tuple[slice, slice], Bools]:
    """Draw a lesion and what it does to the tissue behind it into dB values [224, 112].

    Returns a part of them, and which values of that part lie inside the lesion's outline.
    """
    noise = rng.standard_normal(6).tolist()
    irregular = 1 / (1 + math.exp(-1.3 * suspicion - 0.6 * noise[0]))
    radius = 30 * math.exp(0.2 * noise[1] + 0.18 * suspicion)  # px
    stretch = math.exp(0.15 - 0.08 * suspicion + 0.08 * noise[2])  # wider than tall, or not
    wide, tall = radius * stretch, radius / stretch
    x, y = rng.normal(112, 26), rng.normal(92, 14)

    # All of it lies within 1.7 semi-axes; angles over the whole picture would cost too much.
    reach = 1.7 * max(wide, tall)
    box = (
        slice(max(0, int(y - reach)), max(0, int(y + reach) + 2)),
        slice(max(0, int((x - reach) / 2)), max(0, int((x + reach) / 2) + 2)),
    )
    tilt = 0.25 * noise[3]
    du, dv = _X[box[1]] - x, _Y[box[0]] - y
    p = math.cos(tilt) / wide * du + math.sin(tilt) / wide * dv
    q = math.cos(tilt) / tall * dv - math.sin(tilt) / tall * du
    square = p**2 + q**2
    turn = (np.arctan2(q, p) * (256 / math.pi)).astype(np.int32)
    edge = _outline(rng, irregular)[turn] - np.sqrt(square)  # above 0 inside, in semi-axes
    dark = -13 - 0.8 * suspicion + 4.5 * noise[4] + (1 + 3 * irregular) * _field(rng, 20, 12)[box]
    margin = 0.08 + 0.4 * irregular * rng.random()
    level[box] += _step(edge / margin) * (dark - 0.75 * level[box])
    # A smooth capsule shines where the beam meets it at a right angle: at the top and bottom.
    level[box] += 6 * (1 - irregular) * np.exp(-((14 * edge) ** 2)) * (q**2 / (square + 1e-6)) ** 2

    behind = 5 * noise[5] - 8 * suspicion - 2
    behind *= 0.4 if behind > 0 else 1  # a shadow can be black, an enhancement is moderate
    across = np.abs(_X - x) / wide
    column = behind / (1 + np.exp((across - 0.85) / 0.16)) * (1 + 0.3 * _curve(rng, 14))
    sides = 3 * (1 - irregular) * np.exp(-(((across - 1) / 0.07) ** 2))  # shadows by refraction
    level += _ramp(y + 0.3 * tall, tall) * (column - sides)
    return box, edge > 0


def _outline(rng: np.random.Generator, irregular: float) -> Floats:
    """Return radii at 512 angles from 0 to 2 pi, 1 being the ellipse: lobes, roughness, spikes."""
    angle = np.linspace(0, 2 * np.pi, 512, endpoint=False)
    order = np.arange(2, 15)
    sd = np.where(order < 5, 0.03 + 0.05 * irregular, 0.045 * irregular)
    phase = rng.uniform(0, 2 * np.pi, len(order))
    radius = 1 + np.cos(angle[:, None] * order + phase) @ rng.normal(0, sd)
    for _ in range(rng.poisson(7 * irregular**2)):
        away = np.abs((angle - rng.uniform(0, 2 * np.pi)) % (2 * np.pi) - np.pi)
        radius += rng.uniform(0.1, 0.6) * np.exp(-away / 0.15)
    return np.clip(radius, 0.5, 1.6).astype(np.float32)


def _step(distance: Floats) -> Floats:
    return np.clip(distance + 0.5, 0, 1)


def _ramp(start: float, length: float) -> Floats:
    """Return a column [224, 1] that rises from 0 at depth `start` to 1 at `start + length`."""
    return _step((_Y - start) / length - 0.5)


def _field(rng: np.random.Generator, down: int, across: int) -> Floats:
    """Return smooth noise [224, 112] of variance 1 from `down` x `across` random numbers."""
    cells = rng.standard_normal((down, across), np.float32)
    return _bumps(_N, down) @ cells @ _bumps(len(_X), across).T


def _curve(rng: np.random.Generator, across: int) -> Floats:
    """Return smooth noise [112] of variance 1 from `across` random numbers."""
    return _bumps(len(_X), across) @ rng.standard_normal(across, np.float32)


@cache
def _bumps(n: int, cells: int, sd: float = 0.6) -> Floats:
    """Return Gaussian bumps [n, cells], spread evenly over n px, their sd in cells."""
    at = (np.arange(n) + 0.5) / n * cells - 0.5
    # Rows of norm 1 pass white noise on with the variance it had, at the borders too.
    bumps = np.exp(-0.5 * ((at[:, None] - np.arange(cells)) / sd) ** 2)
    return (bumps / np.linalg.norm(bumps, axis=1, keepdims=True)).astype(np.float32)


def _shrink(image: Bytes, size: int) -> Bytes:
    """Return the area average [size, size] of a picture [224, 224], halves rounded up."""
    if size == _N:
        return image
    weights = _overlaps(size)
    total = weights @ image.astype(np.float32) @ weights.T
    return (total / weights[0].sum() ** 2 + 0.5).astype(np.uint8)


@cache
def _overlaps(size: int) -> Floats:
    """Return how much of each of 224 px each of `size` px covers, [size, 224], in whole units.

    Whole numbers keep the sums exact in float32, in whatever order a matrix product adds.
    """
    new, old = np.arange(size)[:, None] * _N, np.arange(_N) * size
    overlap = np.minimum(new + _N, old + size) - np.maximum(new, old)
    return (np.maximum(overlap, 0) // math.gcd(size, _N)).astype(np.float32)
