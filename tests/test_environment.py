"""What a run says of the machine."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from beitmed.runs import environment

MB = 2**20


def test_the_peak_of_memory_is_seen():
    before = environment.peak_memory()
    if before is None:
        pytest.skip("this system does not tell a process its peak of memory")
    block = np.ones(before + 100 * MB, np.uint8)
    assert environment.peak_memory() > before + 90 * MB
    assert block.all()


def test_the_peak_of_memory_is_not_that_of_the_process_that_started_this_one():
    if environment.peak_memory() is None:
        pytest.skip("this system does not tell a process its peak of memory")
    block = np.ones(3000 * MB, np.uint8)
    code = "from beitmed.runs import environment; print(environment.peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2000 * MB
    assert block[::4096].all()
