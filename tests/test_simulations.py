"""The simulated tables that `scripts/simulate.py` prints, each in a small form."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[1] / "scripts" / "simulate.py"
spec = importlib.util.spec_from_file_location("simulate", FILE)
simulate = importlib.util.module_from_spec(spec)
sys.modules["simulate"] = simulate
spec.loader.exec_module(simulate)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(simulate.TABLES))
def test_shares_lie_in_their_bands(name):
    """Give or take four Monte Carlo errors of 200 simulated test sets."""
    rows = list(simulate.TABLES[name](np.random.default_rng(11), 200))
    assert rows
    assert [row for row in rows if not row.inside(4)] == []


def test_the_command_prints_a_table(capsys, tmp_path):
    table = tmp_path / "tables.csv"
    options = ["--only", "single_pairs", "--trials", "3", "--csv", str(table)]
    assert simulate.main(options) in (0, 1)
    said = capsys.readouterr().out
    assert "type 1 error: AUC" in said and "156 images" in said
    assert table.read_text().startswith("table,setting,measure,share,low,high,trials,note\n")
