"""What killed processes leave behind: it goes, and stops nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import FAST, resolve

from beitmed import pipeline
from beitmed.runs import folder
from beitmed.storage import files, sealed
from beitmed.sweeps.outcomes import Records


@pytest.fixture(scope="module")
def dead() -> str:
    """The owner of what a process of this machine wrote that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return f"{files.owner().partition('-')[0]}-{process.pid}"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_that_is_written_again_takes_the_place_of_what_a_killed_process_had_begun(
    tmp_path, dead
):
    alive = f"{dead.partition('-')[0]}-{os.getppid()}"
    old, foreign = f".x.00000000-{os.getpid()}.tmp", ".x.00000000-1.tmp"
    for name in (f".x.{dead}.tmp", f".y.{dead}.tmp", f".x.{alive}.tmp", old, foreign):
        (tmp_path / name).write_text("half")
    os.utime(tmp_path / old, (time.time() - 2 * 86_400,) * 2)
    files.write_atomic(tmp_path / "x", "whole")
    # Those of the living stay, and of another machine, until they are a day old.
    assert names(tmp_path) == {"x", f".y.{dead}.tmp", f".x.{alive}.tmp", foreign}
    files.clear_up(tmp_path)
    assert names(tmp_path) == {"x", f".x.{alive}.tmp", foreign}


def test_a_run_that_was_killed_as_it_claimed_its_folder_can_be_started(tmp_path, dead):
    cfg = pipeline.complete(resolve(*FAST, f"output_dir={tmp_path}/outputs"))
    path = folder.path_of(cfg)
    path.mkdir(parents=True)
    (path / f".config.yaml.{dead}.tmp").write_text("na")
    with folder.open_run(cfg) as run:
        assert names(run.path) == {"config.yaml", "run.log"}


def test_what_a_finished_run_had_no_time_to_remove_goes(tmp_path, finished_run, dead):
    copy = tmp_path / "outputs" / finished_run.name
    shutil.copytree(finished_run, copy)
    whole = names(copy)
    (copy / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (copy / f".roc.png.{dead}.tmp").write_text("half")
    assert pipeline.run(resolve(*FAST, f"output_dir={tmp_path}/outputs")) == copy
    assert names(copy) == whole


def test_a_folder_that_is_replaced_leaves_nothing_of_one_that_was_killed(tmp_path, dead):
    def make() -> None:
        with sealed.replacing(tmp_path / "r", sealed.Kind("a report", key="to")) as made:
            (made / "x").write_text("x")

    make()
    (tmp_path / f".r.{dead}.tmp" / "tables").mkdir(parents=True)
    shutil.copytree(tmp_path / "r", tmp_path / ".r.before")  # killed after the second rename
    make()
    assert names(tmp_path) == {"r"}


def test_a_sweep_drops_the_records_of_those_that_were_killed(tmp_path, dead):
    cfg = resolve(*FAST, f"output_dir={tmp_path}")
    killed = tmp_path / ".sweep" / f"20200101-000000-aaaaaa.of.{dead}"
    killed.mkdir(parents=True)
    running = Records.create(tmp_path)
    other = Records.create(tmp_path)
    assert names(tmp_path / ".sweep") == {running.folder.name, other.folder.name}
    Records(killed).begun(cfg)  # by a job of an engine, which outlived the sweep: nobody asks
    running.begun(cfg)
    assert running.outcome(cfg).state == "stopped"
