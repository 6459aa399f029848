"""Near duplicates: images that show the same, but for brightness, compression or a pixel's crop.

Two images are near duplicates if the correlation of their pixels is at least `MIN_CORRELATION` at
one of a few alignments. Why not a perceptual hash: medical images of one kind look alike. To find
99 % of PneumoniaMNIST's images again after a shift by one pixel, the 64-bit pHash of ImageHash
needs a radius of 16 bits, within which 942,629 of its 17 million pairs of different images lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beitmed.storage.rows import Rows

SIDE = 28  # px; larger images are compared as averages of this size
#: Set by eye on BreastMNIST and PneumoniaMNIST at 28 px, between 207 pairs of the one that show the
#: same picture (some with other markings) and the X-rays of different people of the other, which
#: reach 0.977; one pair of X-rays, at 0.980, could be either. Of 300 images of each, it finds all
#: again after a change of brightness, a pixel's shift or crop, and 99 % after JPEG at quality 75.
MIN_CORRELATION = 0.98
#: With more images, only the alignment "as they are" is searched.
MAX_ALIGNED = 30_000
#: Pairs at which the search stops: splits that are this alike need no list of pairs.
MAX_PAIRS = 100_000
_ROWS = 1024  # images compared with all others at once
_CHUNK = 2048  # pairs confirmed at once
_FITTED_ON = 10_000  # images
_KEPT_ENERGY = 0.95  # more axes let fewer false candidates through, and cost more

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
#: How rows and columns of an image become those of a window of it: [SIDE - 2, SIDE] each.
Alignment = tuple[Floats, Floats]


@dataclass(frozen=True)
class Result:
    """Pairs a < b [p] of images with their correlation [p], and how they were searched."""

    a: Indices
    b: Indices
    correlation: Floats
    method: dict[str, Any]
    limit: str | None


def reduced(images: np.ndarray | Rows) -> np.ndarray:
    """Return images of side `SIDE` as they are and larger ones averaged to it, uint8."""
    if images.shape[1] == SIDE:
        return np.asarray(images)
    box = Image.Resampling.BOX
    small = [np.asarray(Image.fromarray(i).resize((SIDE, SIDE), box)) for i in images]
    return np.stack(small) if small else np.asarray(images)[:, :SIDE, :SIDE]


def _shifted(by: int) -> Floats:
    return np.eye(SIDE)[1 + by : SIDE - 1 + by]


def _cropped(start: int, length: int) -> Floats:
    """A crop's pixels from `start` on, enlarged to `SIDE` by linear interpolation."""
    at = np.clip((np.arange(SIDE) + 0.5) * length / SIDE - 0.5, 0, length - 1)
    rows = np.array([np.interp(at, np.arange(length), unit) for unit in np.eye(length)]).T
    whole = np.zeros((SIDE, SIDE))
    whole[:, start : start + length] = rows
    return whole[1:-1]


_AS_IT_IS: Alignment = (_shifted(0), _shifted(0))
#: Of the first image; the second is left as it is. A shift the other way is the same pair with its
#: images exchanged, a crop is not.
_SHIFTS = [(_shifted(y), _shifted(x)) for y, x in ((0, 1), (1, -1), (1, 0), (1, 1))]
_CROPS = [
    *((_cropped(y, SIDE - 1), _cropped(x, SIDE - 1)) for y in (0, 1) for x in (0, 1)),
    (_cropped(1, SIDE - 2), _cropped(1, SIDE - 2)),
]


def search(images: np.ndarray) -> Result:
    """Find all pairs of different images whose correlation is at least `MIN_CORRELATION`.

    images uint8 [n, SIDE, SIDE] or [n, SIDE, SIDE, 3]. The correlation is that of the inner pixels
    (without a rim of one pixel, all channels together), the largest of ten alignments: as they are;
    one image shifted by one pixel in any of eight directions; one image cropped by one pixel at two
    or at all four sides and enlarged again. Images whose inner pixels are all equal have none.

    Every such pair is found: vectors are compared by their largest principal components and the
    length of the rest, which together bound the correlation from above, then pixel by pixel.
    """
    aligned = len(images) <= MAX_ALIGNED
    alignments = [_AS_IT_IS, *_SHIFTS, *_CROPS] if aligned else [_AS_IT_IS]
    basis = _principal(images)
    targets = _outlined(images, _AS_IT_IS, basis)
    found: dict[tuple[int, int], float] = {}
    limit = None
    if not aligned:
        limit = f"more than {MAX_ALIGNED:,} images: not searched for shifted and cropped ones"
    for a, b, alignment in _candidates(images, alignments, basis, targets):
        r = correlation(images[a], images[b], alignment)
        for i, j, value in zip(a.tolist(), b.tolist(), r.tolist(), strict=True):
            if value >= MIN_CORRELATION:
                pair = (min(i, j), max(i, j))
                found[pair] = max(value, found.get(pair, -1.0))
        if len(found) > MAX_PAIRS:
            limit = f"stopped at {len(found):,} pairs"
            break
    pairs = np.array(sorted(found), np.int64).reshape(-1, 2)
    values = np.array([found[i, j] for i, j in pairs.tolist()])
    method = {
        "measure": "Pearson correlation of the inner pixels at the best alignment",
        "min_correlation": MIN_CORRELATION,
        "compared_at_px": SIDE,
        "alignments": len(alignments),
        "images_compared": len(images),
    }
    return Result(pairs[:, 0], pairs[:, 1], values, method, limit)


def correlation(first: np.ndarray, second: np.ndarray, alignment: Alignment) -> Floats:
    """Return the correlation [p] of each two images [p, ...], the first aligned; 0 where flat."""
    u, v = _unit(first, alignment), _unit(second, _AS_IT_IS)
    return np.asarray(np.einsum("pk,pk->p", u, v), np.float64)


def _unit(images: np.ndarray, alignment: Alignment) -> Floats:
    """Return aligned windows as vectors [n, k] of mean 0 and length 1, or 0 where they are flat."""
    rows, columns = alignment
    planes = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
    windows = rows @ planes.astype(np.float64) @ columns.T
    flat = windows.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    # What rounding leaves of a constant image is no structure.
    return np.divide(flat, length, out=np.zeros_like(flat), where=length > 1e-6)


def _principal(images: np.ndarray) -> Floats:
    """Return the leading principal axes [k, d] that hold `_KEPT_ENERGY` of the vectors' energy."""
    chosen = images[:: max(1, -(-len(images) // _FITTED_ON))]
    k = _unit(images[:1], _AS_IT_IS).shape[1]
    scatter = np.zeros((k, k))
    for start in range(0, len(chosen), _CHUNK):
        unit = _unit(chosen[start : start + _CHUNK], _AS_IT_IS)
        scatter += unit.T @ unit
    energy, axes = np.linalg.eigh(scatter)
    left_out = np.cumsum(energy) / max(energy.sum(), 1e-12)
    return np.asarray(axes[:, np.searchsorted(left_out, 1 - _KEPT_ENERGY) :], np.float64)


def _outlined(images: np.ndarray, alignment: Alignment, basis: Floats) -> NDArray[np.float32]:
    """Return [n, d + 1]: the components along `basis` and the length of what is orthogonal to it.

    By Cauchy and Schwarz, the inner product of two such rows is at least that of the vectors.
    """
    out = np.empty((len(images), basis.shape[1] + 1), np.float32)
    for start in range(0, len(images), _CHUNK):
        unit = _unit(images[start : start + _CHUNK], alignment)
        along = unit @ basis
        rest = np.maximum((unit**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        out[start : start + _CHUNK] = np.column_stack([along, np.sqrt(rest)])
    return out


def _candidates(
    images: np.ndarray,
    alignments: list[Alignment],
    basis: Floats,
    targets: NDArray[np.float32],
) -> Iterator[tuple[Indices, Indices, Alignment]]:
    """Yield chunks (a, b, alignment) that hold every pair of the result at least once."""
    least = MIN_CORRELATION - 1e-4  # single precision is off by less
    for alignment in alignments:
        symmetric = alignment is _AS_IT_IS
        for start in range(0, len(images), _ROWS):
            queries = _outlined(images[start : start + _ROWS], alignment, basis)
            # Of a symmetric comparison, the part above the diagonal is enough.
            offset = start if symmetric else 0
            # Flat, as NumPy is several times faster at that than in two dimensions.
            hits = np.flatnonzero(queries @ targets[offset:].T >= least)
            a, b = np.divmod(hits, len(targets) - offset)
            a, b = a + start, b + offset
            kept = a < b if symmetric else a != b
            a, b = a[kept], b[kept]
            for k in range(0, len(a), _CHUNK):
                yield a[k : k + _CHUNK], b[k : k + _CHUNK], alignment
