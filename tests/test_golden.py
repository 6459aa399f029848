"""What runs gave before, they still give: predictions and losses against files made by
`python tests/golden/cases.py`.

Values may move by rounding only (another processor, another number of threads).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import medmnist_arrays, resolve
from golden.cases import CASES, HERE, arguments, rows

from beitmed import pipeline

_ABSOLUTE = 2e-4  # of a logit or a loss; another seed moves them by tenths


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.real_data if c.real else ()) for n, c in CASES.items()],
)
def test_a_run_gives_what_it_gave_before(name: str, tmp_path: Path):
    case = CASES[name]
    if case.flag is not None:
        np.savez(tmp_path / f"{case.flag}.npz", **medmnist_arrays(case.flag, 28, n=60))
    run = pipeline.run(resolve(*arguments(case, tmp_path)))
    for file in ("predictions", *(["history"] if case.history else [])):
        header, *expected = rows(HERE / f"{name}.{file}.csv")
        found_header, *found = rows(run / f"{file}.csv")
        assert found_header == header
        if file == "predictions":
            assert [row[:2] for row in found] == [row[:2] for row in expected]
        numbers = [
            np.array([[float(x or "nan") for x in row[file == "predictions" :]] for row in table])
            for table in (found, expected)
        ]
        np.testing.assert_allclose(*numbers, rtol=0, atol=_ABSOLUTE)
