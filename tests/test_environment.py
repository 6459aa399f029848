"""What a run says of the machine, of its code, and of what it took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, beitmed

from beitmed.runs import environment, resources
from beitmed.runs.resources import Phases, Resources

MB = 2**20


def recorded() -> tuple[Resources, Phases]:
    phases: Phases = {}
    return Resources(phases, lambda changed: None), phases


def test_each_phase_has_its_own_peak_of_memory():
    if resources.peak_memory() is None:
        pytest.skip("this system does not tell a process its peak of memory")
    counted, phases = recorded()
    with counted.phase("large"):
        assert np.ones(300 * MB, np.uint8).all()
    with counted.phase("small"):
        assert np.ones(MB, np.uint8).all()
    peaks = {name: one["peak_memory_bytes"] for name, one in phases.items()}
    if sys.platform == "linux":
        assert peaks["large"] > peaks["small"] + 200 * MB


def test_the_peak_of_memory_is_not_that_of_the_process_that_started_this_one():
    if resources.peak_memory() is None:
        pytest.skip("this system does not tell a process its peak of memory")
    block = np.ones(1500 * MB, np.uint8)
    code = "from beitmed.runs import resources; print(resources.peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000 * MB
    assert block[::4096].all()


def test_a_phase_within_a_phase_counts_for_itself_alone():
    counted, phases = recorded()
    with counted.phase("outer"):
        time.sleep(0.02)
        with counted.phase("inner"):
            time.sleep(0.2)
    assert 0.02 <= phases["outer"]["seconds"] < 0.15 <= 0.2 <= phases["inner"]["seconds"]


def test_a_resumed_run_adds_to_what_it_had_taken():
    saved: list[Phases] = []
    counted = Resources({"training": {"seconds": 100.0}}, saved.append)
    with counted.phase("training"):
        time.sleep(0.02)
        counted.update()
    assert 100.0 < saved[-1]["training"]["seconds"] < 101.0


def test_the_second_run_of_a_sweep_does_not_count_the_first(tmp_path: Path):
    first = [*FAST, "seed=1,2", "train.epochs=1"]
    assert beitmed("-m", *first, cwd=tmp_path).returncode == 0
    runs = sorted(tmp_path.glob("outputs/*/environment.json"))
    facts = [json.loads(path.read_text()) for path in runs]
    assert len(facts) == 2
    for one in facts:
        assert set(one["phases"]) == {"data", "features", "training", "evaluation"}
        total = sum(phase["seconds"] for phase in one["phases"].values())
        assert one["seconds"] == pytest.approx(total, abs=0.01)
        assert one["device"] == "cpu" and one["gpu"] is None


def test_the_commit_of_the_code_and_whether_it_was_changed(tmp_path: Path):
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True,
                       capture_output=True)  # fmt: skip

    assert environment.commit(tmp_path)["reason"] == "the code is not in a git checkout"
    git("init")
    code = tmp_path / "environment.py"
    code.write_text("1")
    git("add", "environment.py")
    git("commit", "-m", "first")
    found = environment.commit(tmp_path)
    assert len(found["commit"]) == 40 and found["dirty"] is False and found["reason"] is None
    code.write_text("2")
    assert environment.commit(tmp_path) == {**found, "dirty": True}
