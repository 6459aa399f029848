"""Work that is done in a thread while what was made before is in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items in the same order, the next of them made while one is in use.

    What making one raises is raised when it is its turn.
    """
    waiting, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, waiting, end)
        while (one := coming.result()) is not end:
            coming = pool.submit(next, waiting, end)
            yield one  # type: ignore[misc]
