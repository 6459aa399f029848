"""What is made ahead in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from beitmed.data.ahead import ahead


def test_the_same_items_in_the_same_order_and_what_making_one_raised():
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("no fourth")

    found = ahead(items())
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="no fourth"):
        next(found)


def test_one_that_is_left_before_its_end_is_closed_without_waiting():
    # The garbage collector may close it in a thread that just starts, which holds the very lock
    # that joining another thread takes: a run hung there for ever.
    wanted, made = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert wanted.wait(60)
        made.set()
        yield 1

    before = {*threading.enumerate()}
    found = ahead(items())
    assert next(found) == 0
    [thread] = {*threading.enumerate()} - before
    found.close()
    assert not made.is_set()
    wanted.set()
    thread.join(60)
    assert made.is_set() and not thread.is_alive()  # and its thread ends
