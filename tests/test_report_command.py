"""`python -m beitmed.report`: from folders to a report, and what it says where it cannot."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import run_folders
from conftest import beitmed

from beitmed.commands import report as command

TINY = "backbone=beit_tiny"


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in this process; give its exit code and what it printed, out and err."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        # Else the console is the one of the test before.
        monkeypatch.setattr(logging.getLogger("beitmed"), "handlers", [])
        monkeypatch.setattr(sys, "argv", ["beitmed.report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            command.main()
        said = capsys.readouterr()
        return int(str(ended.value.code)), said.out, said.err

    return run


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    root = tmp_path / "outputs"
    for seed in (1, 2):
        run_folders.make(root / f"run{seed}", TINY, f"seed={seed}")
    return root


def test_a_trained_run_is_reported_from_its_folder(finished_run: Path, tmp_path: Path):
    made = beitmed(str(finished_run), cwd=tmp_path, module="report")
    assert made.returncode == 0, made.stderr
    page = (tmp_path / "report" / "report.html").read_text()
    assert (
        "SYNTHETIC images (all runs)" in page
        and "phantom, SYNTHETIC images: 1 variant, 1 run" in page
    )
    metrics = json.loads((finished_run / "metrics.json").read_text())
    with (tmp_path / "report" / "tables" / "runs-phantom.csv").open() as f:
        table = list(csv.DictReader(f))
    assert {row["Variant"] for row in table} == {
        "beit_tiny top 5 (28), RANDOM weights, SYNTHETIC images"
    }
    assert [float(row["AUC"]) for row in table] == [metrics["test"]["auc"]["value"]]
    assert (tmp_path / "report" / "samples-phantom.png").stat().st_size > 10_000


def test_what_cannot_be_read_is_named_and_the_rest_reported(outputs: Path, report):
    run_folders.make(outputs / "broken", TINY, "seed=3")
    (outputs / "broken" / "predictions.csv").write_text("split,index,label,logit_0,logit_1\n")
    (outputs / "begun").mkdir()
    (outputs / "begun" / "config.yaml").write_text("seed: 1\n")
    code, out, _ = report("outputs", "to=made", "images=false")
    assert code == 1
    assert "Not reported: outputs/begun: no finished run" in out
    assert "outputs/broken/predictions.csv: cannot be read (rows of test are missing" in out
    text = (outputs.parent / "made" / "report.md").read_text()
    assert "1 variant, 2 runs, 40 test images" in text
    assert "outputs/begun" in text and "outputs/broken" in text
    # A second time over the first one: a report replaces a report.
    shutil.rmtree(outputs / "begun")
    shutil.rmtree(outputs / "broken")
    code, out, _ = report(outputs, "to=made", "images=false")
    assert code == 0 and "Not reported" not in out
    assert "broken" not in (outputs.parent / "made" / "report.md").read_text()


def test_mixed_datasets_and_kept_apart_runs_are_said(outputs: Path, report):
    run_folders.make(outputs / "other", TINY, "dataset=pneumonia")
    run_folders.make(outputs / "few", TINY, "data.limit=9")
    code, out, _ = report("outputs", "images=false")
    assert code == 0
    assert "breast (a) and breast (b) are not compared: data.limit 9 and null." in out
    text = (outputs.parent / "report" / "report.md").read_text()
    assert "are not compared" in text and "pneumonia: 1 variant, 1 run" in text


def test_images_that_are_not_there_are_a_sentence_not_an_error(outputs: Path, report):
    code, _, _ = report("outputs", f"data.root={outputs.parent / 'nowhere'}")
    assert code == 0
    text = (outputs.parent / "report" / "report.md").read_text()
    assert re.search(r"need the data file: breastmnist", text)


def test_nothing_to_report(tmp_path: Path, report):
    (tmp_path / "outputs").mkdir()
    code, _, err = report("outputs")
    assert code == 2 and "no finished run to report" in err and "beitmed train" in err
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no folder given"),
        (["missing"], "missing: no such folder"),
        (["outputs", "too=there"], "too: no such key. Allowed: folders, to=..., data.root=..."),
        (["outputs", "images=no"], "images: found 'no'; allowed: true, false"),
        (["outputs", "to="], "to: found nothing"),
        (["outputs", "to=a", "to=b"], "to: given twice"),
        (["outputs", "--to", "x"], "--to: no such option"),
        (["outputs", "margin=2"], "margin: found '2'; allowed: a number between 0 and 1"),
        (["outputs", "margin=small"], "margin: found 'small'"),
        (["outputs", "images=false", "reference=nobody"], "reference: found 'nobody', which is"),
    ],
)
def test_a_wrong_command_line_is_explained(outputs: Path, report, arguments: list[str], said: str):
    code, _, err = report(*arguments)
    assert code == 2 and said in err and "Traceback" not in err


def test_a_page_names_no_folder_of_this_machine(outputs: Path, report):
    (outputs / "unfinished").mkdir()
    (outputs / "unfinished" / "config.yaml").write_text("")
    report(str(outputs.absolute()), "images=false", "to=made")
    for name in ("report.html", "report.md"):
        text = (outputs.parent / "made" / name).read_text()
        assert str(outputs.parent) not in text and "unfinished: no finished run" in text


def test_a_folder_of_something_else_is_left_alone(outputs: Path, report):
    kept = outputs.parent / "thesis"
    kept.mkdir()
    (kept / "chapter.txt").write_text("mine")
    code, _, err = report("outputs", "to=thesis", "images=false")
    assert code == 2 and "thesis" in err
    assert [p.name for p in kept.iterdir()] == ["chapter.txt"]
    code, _, err = report("outputs", "to=outputs", "images=false")
    assert code == 2 and len(list(outputs.iterdir())) == 2


def test_a_place_that_cannot_be_written_is_named(outputs: Path, report):
    (outputs.parent / "file").write_text("x")
    code, _, err = report("outputs", "to=file/report", "images=false")
    assert code == 2 and "file/report" in err and "Traceback" not in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read_is_a_problem(outputs: Path, report):
    (outputs / "secret").mkdir(mode=0o000)
    code, out, _ = report("outputs", "images=false")
    assert code == 1 and "secret: cannot be read" in out


def test_a_folder_whose_name_holds_an_equals_sign_is_a_folder(outputs: Path, report):
    outputs.rename(outputs.parent / "lr=3e-4")
    assert report("lr=3e-4", "images=false")[0] == 0
    code, _, err = report("lr=3e-4-not-there")
    assert code == 2 and "no such key" in err


def test_help_names_keys_and_exit_codes(report):
    code, out, _ = report("--help")
    assert code == 0
    assert all(word in out for word in ("to=", "data.root=", "images=", "Exit"))
