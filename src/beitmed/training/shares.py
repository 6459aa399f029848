"""Which images of a batch a rank passes, and random numbers that are those of one process.

One process passes a batch in parts, one after the other, and its drop path draws a number for each
image of a part. So each part is divided among the ranks: every rank draws the whole part's numbers,
in the order of one process, and uses those of its own images. The sum over ranks is the batch's
gradient up to rounding, and no image is passed twice where a batch does not divide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.data import BatchSampler, Dataset, Sampler, Subset

from beitmed.ranks import together


class Share(NamedTuple):
    """The images start to stop of a part of `whole` images, and what their mean loss counts.

    weight: such that the mean over ranks of the weighted losses is the batch's mean loss. A rank
    for which a part has no image passes the first one with weight 0: none can sit a part out.
    """

    whole: int
    start: int
    stop: int
    weight: float

    @property
    def counted(self) -> int:
        """How many of its images count."""
        return self.stop - self.start if self.weight else 0


def of_batch(n: int, size: int, rank: int, ranks: int) -> list[Share]:
    """A rank's shares of a batch of n images that one process passes `size` at a time."""
    found = []
    for start in range(0, n, size):
        whole = min(size, n - start)
        a, b = whole * rank // ranks, whole * (rank + 1) // ranks
        found.append(Share(whole, a, b, ranks * (b - a) / n) if a < b else Share(whole, 0, 1, 0.0))
    return found


def own(n: int, size: int) -> np.ndarray:
    """Which images of a batch of n this rank passes; `size` as in `of_batch`."""
    shares = of_batch(n, size, together.index(), together.count())
    starts = np.cumsum([0, *(share.whole for share in shares)])
    return np.concatenate(
        [np.arange(a + b.start, a + b.stop) for a, b in zip(starts, shares, strict=False)]
    )


class RankBatches(BatchSampler):
    """A rank's part of each batch of an order of images."""

    def __init__(self, order: Sampler[int], batch_size: int, size: int) -> None:
        super().__init__(order, batch_size, drop_last=False)
        self.size = size

    def __iter__(self) -> Iterator[list[int]]:
        for batch in super().__iter__():
            yield [batch[i] for i in own(len(batch), self.size)]


class SharedDraws(TorchFunctionMode):
    """While it is entered, what is drawn for each of a share's images is drawn for its whole part.

    What drop path and dropout draw, that is, of which the first dimension counts the images.
    """

    def __init__(self, share: Share) -> None:
        super().__init__()
        self.share = share

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.rand:
            shape = args[0] if isinstance(args[0], Sequence) else args
            if self._counts_images(shape):
                return torch.rand(self._whole(shape), **kwargs)[self._rows]
        elif func is torch.rand_like and self._counts_images(args[0].shape):
            x = args[0]
            return torch.rand(self._whole(x.shape), dtype=x.dtype, device=x.device)[self._rows]
        elif func is torch.nn.functional.dropout:
            return self._dropout(*args, **kwargs)
        return func(*args, **kwargs)

    def _counts_images(self, shape: Sequence[Any]) -> bool:
        return shape[0] == self.share.stop - self.share.start

    def _dropout(
        self, x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if p == 0 or not training:
            return x
        assert self._counts_images(x.shape), x.shape
        noise = x.new_empty(self._whole(x.shape)).bernoulli_(1 - p).div_(1 - p)
        return x * noise[self._rows]

    @property
    def _rows(self) -> slice:
        return slice(self.share.start, self.share.stop)

    def _whole(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (self.share.whole, *shape[1:])


def rows(n: int, size: int) -> np.ndarray:
    """Of n images in batches of `size` those of the batches that this rank evaluates, in order."""
    return np.flatnonzero(np.arange(n) // size % together.count() == together.index())


def part(dataset: Dataset, size: int) -> Subset:
    """The images of `rows`: in batches of `size` they are whole batches of all images."""
    return Subset(dataset, rows(len(dataset), size).tolist())  # type: ignore[arg-type]


def joined(found: np.ndarray | None, n: int, size: int) -> np.ndarray:
    """On every rank what all have found of n images, in their order; found: of `rows`, [k, ...]."""
    each = [one for one in together.gathered(found) if one is not None]
    all_of_it = np.empty((n, *each[0].shape[1:]), each[0].dtype)
    whose = np.arange(n) // size % together.count()
    for rank, one in enumerate(each):
        all_of_it[whose == rank] = one
    return all_of_it
