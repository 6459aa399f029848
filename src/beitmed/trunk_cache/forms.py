"""How trunk features lie on disk, and the numbers that are read of them.

As they are (fp32), rounded (fp16), or as one byte a number with a float32 scale a token (int8,
fp8): the largest number of a token then has the largest code, 127, or 448 in the format E4M3 of
Micikevicius et al. 2022 (arXiv:2209.05433).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from beitmed.backbones.families import FAMILIES
from beitmed.config import Config
from beitmed.errors import UserError
from beitmed.storage.rows import Rows

_PLAIN: dict[str, np.dtype[Any]] = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}
_TYPES = {"fp16": torch.float16, "fp32": torch.float32}
_SCALE_BYTES = 4


class _Codes(NamedTuple):
    type: torch.dtype
    largest: float


_CODES = {"int8": _Codes(torch.int8, 127), "fp8": _Codes(torch.float8_e4m3fn, 448)}


@dataclass(frozen=True)
class Form:
    """Features of n images: shape [n, tokens, hidden], or [n, pooled], and how they are stored."""

    shape: tuple[int, ...]
    kind: str  # as cache.dtype

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of what is read."""
        return _PLAIN.get(self.kind, _PLAIN["fp32"])

    @property
    def label(self) -> str:
        """How numbers are stored, as a run's model.json says it."""
        return self.kind if self.kind in _CODES else self.dtype.name

    @property
    def stored_shape(self) -> tuple[int, ...]:
        extra = _SCALE_BYTES if self.kind in _CODES else 0
        return (*self.shape[:-1], self.shape[-1] + extra)

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        return _PLAIN.get(self.kind, np.dtype(np.uint8))

    def pack(self, rows: torch.Tensor) -> np.ndarray:
        """float32 [k, ...], on any device -> what is stored of it.

        Raises UserError for a number too large.
        """
        if self.kind in _CODES:
            return _pack(rows, _CODES[self.kind])
        largest = rows.abs().amax()
        if not largest <= np.finfo(self.dtype).max:
            raise UserError(
                f"cache.dtype: found {self.kind}, but the trunk gives numbers up to "
                f"{largest:.3g}; use cache.dtype=fp32, or features=live."
            )
        return _fetched(rows.to(_TYPES[self.kind]))

    def unpack(self, stored: np.ndarray) -> np.ndarray:
        """What is stored of some rows -> what is read of them, [k, ...] of `dtype`."""
        return _unpack(stored, _CODES[self.kind]) if self.kind in _CODES else stored

    def read(self, stored: Rows) -> Rows:
        """The rows of an entry, as they are read."""
        return Unpacked(self, stored) if self.kind in _CODES else stored


class Unpacked(Rows):
    """Rows that are unpacked when they are read."""

    def __init__(self, form: Form, stored: Rows) -> None:
        self.shape, self.dtype = form.shape, form.dtype
        self._form, self._stored = form, stored
        self.at_once = stored.at_once

    def read(self, row: int, out: np.ndarray) -> None:
        parts = out.reshape(-1, *self.shape[1:])
        parts[...] = self._form.unpack(self._stored[row : row + len(parts)])


def of(cfg: Config, n: int, boundary: int) -> Form:
    """The form of the features of n images: what the layer `boundary` reads."""
    geometry, name = cfg.backbone.known_geometry, cfg.backbone.family
    assert name is not None
    family = FAMILIES[name]
    if boundary == geometry.num_hidden_layers:
        # Pooled features are small, and what is trained on them is small: kept exactly.
        return Form((n, len(family.pooled) * geometry.hidden_size), "fp32")
    tokens = family.prefix(geometry) + geometry.patches
    return Form((n, tokens, geometry.hidden_size), cfg.cache.dtype)


def _pack(values: torch.Tensor, codes: _Codes) -> np.ndarray:
    if not values.isfinite().all():
        raise UserError(
            "cache.dtype: the trunk gives numbers that are not finite; use features=live."
        )
    # A token of zeros has any scale; a scale of 0 would divide by itself.
    scale = values.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    scale = scale / codes.largest
    scaled = (values / scale).clamp_(-codes.largest, codes.largest)
    if not codes.type.is_floating_point:
        scaled = scaled.round_()
    packed = [scaled.to(codes.type).view(torch.uint8), scale.view(torch.uint8)]
    return _fetched(torch.cat(packed, -1))


def _fetched(rows: torch.Tensor) -> np.ndarray:
    """The same on the CPU; of a GPU's by way of pinned memory, which is several times as fast."""
    found = rows.to("cpu", non_blocking=True)
    if rows.is_cuda:
        torch.cuda.current_stream().synchronize()
    return found.numpy()


def _unpack(stored: np.ndarray, codes: _Codes) -> np.ndarray:
    raw = torch.from_numpy(stored)
    scale = raw[..., -_SCALE_BYTES:].contiguous().view(torch.float32)
    values = raw[..., :-_SCALE_BYTES].contiguous().view(codes.type).to(torch.float32)
    return values.mul_(scale).numpy()
