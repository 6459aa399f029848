"""Work that is done in a thread while what was made before is in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items in the same order, the next of them made while one is in use.

    What making one raises is raised when it is its turn.
    """
    waiting, end = iter(items), object()
    # The pool ends when it is collected, and is not waited for: an iterator that is left before its
    # end may be closed by the garbage collector, in any thread, with any lock held.
    pool = ThreadPoolExecutor(1)
    coming = pool.submit(next, waiting, end)
    while (one := coming.result()) is not end:
        coming = pool.submit(next, waiting, end)
        yield one  # type: ignore[misc]


class AheadLoader:
    """A loader of which a thread makes the next batch while one is trained on."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        # The thread draws the order of an epoch for its first batch, for which all else waits.
        return ahead(self.loader)
