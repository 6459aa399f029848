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


SAID = {
    "rad_dino": ("MIT", "microsoft/rad-dino", "NIH ChestX-ray14", "not confirmed here by the list"),
    "biomedclip_base": ("MIT", "ikim-uk-essen/BiomedCLIP_ViT_patch16_224", "PMC-15M",
                        "not confirmed"),
    "dinov2_xray_base": ("Apache-2.0", "StanfordAIMI/dinov2-base-xray-224",
                         "which ones is not confirmed", "not confirmed"),
    "usfm_base": ("not stated", "Larxel/USFM", "3 private and 4 public sets",
                  "not confirmed: BUSI"),
}  # fmt: skip


def test_of_each_medical_checkpoint_a_report_says_what_is_known_and_what_is_not(tmp_path):
    for name in SAID:
        make(tmp_path / name, f"backbone={name}")
    runs, problems = reader.find([tmp_path])
    assert not problems
    rows = {row[0]: row[1:] for row in checkpoints.section(runs).tables[0].rows}
    assert set(rows) == set(SAID)
    for name, parts in SAID.items():
        for said, part in zip(rows[name], parts, strict=True):
            assert part in said, (name, said)


def test_without_anything_known_there_is_no_such_part(tmp_path):
    make(tmp_path / "large")
    assert checkpoints.section([reader.read(tmp_path / "large")]) is None
