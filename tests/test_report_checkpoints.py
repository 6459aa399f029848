"""What a report says of where its networks come from."""

from __future__ import annotations

from conftest import beitmed
from run_folders import make

from beitmed.report.content import checkpoints
from beitmed.runs import reader


def test_a_report_prints_licence_source_and_overlap_of_its_checkpoints(tmp_path):
    make(tmp_path / "outputs" / "rad", "backbone=rad_dino")
    make(tmp_path / "outputs" / "large")
    runs, problems = reader.find([tmp_path / "outputs"])
    assert not problems
    [table] = checkpoints.section(runs).tables
    [[name, licence, source, learnt, overlap]] = table.rows
    assert (name, licence[:3]) == ("rad_dino", "MIT") and "MIMIC-CXR" in learnt
    assert source == "https://huggingface.co/microsoft/rad-dino" and "ChestMNIST" in overlap
    given = ("outputs", "images=false", "attention=false")
    assert beitmed(*given, cwd=tmp_path, module="report").returncode == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Where the networks come from" in page and "ChestMNIST is made from" in page


def test_without_anything_known_there_is_no_such_part(tmp_path):
    make(tmp_path / "large")
    assert checkpoints.section([reader.read(tmp_path / "large")]) is None
