"""A pass through the trunk that ranks share: a block each in turn, written by the first in order.

So an entry is the same to the byte as one process's, and an interrupted one goes on with any number
of processes. While the first rank writes the others compute what comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from beitmed.errors import UserError
from beitmed.ranks import together
from beitmed.trunk_cache.rows import BLOCK, TrunkPass

Block = list[np.ndarray]
Rows = Callable[[int, int], Sequence[np.ndarray]]


def step() -> int:
    """How many images lie between two blocks of one rank."""
    return BLOCK * together.count()


@contextmanager
def asking(own: TrunkPass) -> Iterator[Rows]:
    """On the first rank: the rows of all, for `Store.fill_together`; call `assist` on the others.

    Raises the UserError of a block when it is asked for.
    """
    if together.count() == 1:
        yield own
        return
    asked = _Asked(own)
    try:
        yield asked
    except (OSError, UserError):
        asked.stop()
        raise


def done() -> None:
    """On the first rank: let the others go on from `assist`."""
    if together.count() > 1:
        together.told(None)


def assist(make: Callable[[Sequence[int]], TrunkPass], n: int) -> None:
    """On the other ranks: compute blocks of n images until the first has all.

    make: a pass that gives what the layers of these indices read.
    """
    while (order := together.told()) is not None:
        begin, boundaries = order
        own = make(boundaries)
        mine: Block | UserError | None = None
        for start in range(begin, n, step()):
            if not isinstance(mine, UserError):
                mine = _block(own, start)
            if not together.told():
                break
            together.collected(mine)


class _Asked:
    """The rows of all ranks, round by round."""

    def __init__(self, own: TrunkPass) -> None:
        self.own, self.next = own, -1
        self.ready: list[Block | UserError] = []

    def __call__(self, start: int, stop: int) -> Block:
        if not self.ready:
            if self.next < 0:
                together.told((start, self.own.boundaries))
            mine = _block(self.own, start)
            together.told(True)
            self.ready = [one for one in together.collected(mine) if one is not None]
            self.next = start + step()
        found = self.ready.pop(0)
        if isinstance(found, UserError):
            raise found
        return found

    def stop(self) -> None:
        """Tell the others, where they compute for a round that nobody asks for any more."""
        if 0 <= self.next < len(self.own.images):
            together.told(False)


def _block(own: TrunkPass, first: int) -> Block | UserError | None:
    """This rank's block of the round that begins with an image; None behind the last one."""
    start = first + BLOCK * together.index()
    if start >= len(own.images):
        return None
    try:
        return own(start, min(start + BLOCK, len(own.images)))
    except UserError as e:
        return e
