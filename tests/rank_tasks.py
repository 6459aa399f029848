"""What ranks are given to do in tests: of a module, as they are new processes."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from beitmed.errors import UserError
from beitmed.ranks import member, together
from beitmed.storage.store import Store, Target
from beitmed.trunk_cache import rounds
from beitmed.trunk_cache.rows import BLOCK


def talk(word: str) -> tuple[str, list[str], int]:
    member.say({"rank": together.index()})
    logging.getLogger("beitmed.somewhere").info("%s of %d", word, together.count())
    print(f"nothing that another rank prints is awaited: {together.index()}", flush=True)
    mine = f"{word} {together.index()}"
    assert together.told(mine if together.first() else None) == f"{word} 0"
    collected = together.collected(mine)
    assert collected == ([f"{word} 0", f"{word} 1"] if together.first() else [])
    return word, together.gathered(mine), torch.get_num_threads()


def fail(how: str, rank: int) -> None:
    """Have one rank fail while the others wait for it."""
    if together.index() == rank:
        if how == "user":
            raise UserError("a.key: found 1; allowed: 2")
        if how == "bug":
            raise ZeroDivisionError("of this rank")
        if how in ("SIGKILL", "SIGSTOP"):
            os.kill(os.getpid(), getattr(signal, how))
    together.gathered(None)


class Pass:
    """As a `TrunkPass`, of 100 images: the image's number, times the boundary."""

    def __init__(self, boundaries: Sequence[int]) -> None:
        self.boundaries, self.images = boundaries, range(100)

    def __call__(self, start: int, stop: int) -> list[np.ndarray]:
        if len(self.boundaries) > 1 and start <= 40 < stop:
            raise UserError("image 40: too large at another depth")
        return [np.arange(start, stop, dtype=np.float32)[:, None] * b for b in self.boundaries]


def fill(root: Path) -> str:
    """Fill two entries, in vain, since a block of the second rank is refused; then one of them."""
    said = "nothing"
    if together.first():
        for boundaries in ([1, 2], [1]):
            targets = [Target(f"of{b}", (100, 1), np.dtype(np.float32), {}) for b in boundaries]
            try:
                with rounds.asking(Pass(boundaries)) as rows_from:  # type: ignore[arg-type]
                    Store(root).fill_together(targets, rows_from, BLOCK, lambda done: None)
            except UserError as e:
                said = str(e)
        rounds.done()
    else:
        rounds.assist(Pass, 100)  # type: ignore[arg-type]
    return said
