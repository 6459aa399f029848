"""Published figures beside measured ones: which, from where, and in what they are not ours."""

from __future__ import annotations

import csv
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import run_folders

from beitmed.report.content import contents, published, variants
from beitmed.report.content.evidence import Evidence
from beitmed.report.content.variants import letters
from beitmed.report.document import Interval, Table
from beitmed.runs import reader
from beitmed.runs.reader import FinishedRun

# The paper's own run, as far as a configuration can say it.
PAPER = ("trunk_mode=train", "seed=42")
Make = Callable[..., FinishedRun]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    made = iter(range(1000))

    def run(*overrides: str, **kwargs) -> FinishedRun:
        return reader.read(run_folders.make(tmp_path / str(next(made)), *overrides, **kwargs))

    return run


def table_of(*runs: FinishedRun) -> Table:
    [test_set], _ = variants.group(runs)
    section = contents._paper(Evidence(test_set))
    assert section is not None
    return section.tables[0]


def test_the_paper_s_recipe_is_no_departure(make: Make):
    for dataset in ("breast", "pneumonia"):
        for balanced in ("true", "false"):
            run = make(*PAPER, f"dataset={dataset}", f"balanced={balanced}")
            assert published.departures(run) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trunk_mode=eval",
         "trunk_mode=eval (paper: train; train keeps drop path in the frozen layers)"),
        ("train.max_steps=7", "train.max_steps=7 (paper: null)"),
        ("train.learning_rate=1e-3", "train.learning_rate=0.001 (paper: 0.0003)"),
        ("train.batch_size=8", "train.batch_size=8 (paper: 32)"),
        ("adapter=lora", "adapter=lora (paper: none)"),
        ("unfreeze=all", "unfreeze=all (paper: 5)"),
        ("data.limit=9", "data.limit=9 (paper: null)"),
        ("train.max_grad_norm=0", "train.max_grad_norm=0 (paper: 1)"),
        ("train.adam_epsilon=1e-6", "train.adam_epsilon=1e-06 (paper: 1e-08)"),
    ],
)  # fmt: skip
def test_each_departure_is_named_as_it_is_given(make: Make, override: str, said: str):
    assert published.departures(make(*PAPER, override)) == [said]


def test_a_balance_of_one_s_own_and_another_file_are_departures(make: Make):
    run = make(*PAPER, "balanced=true", "majority_ratio=1", official=False)
    assert published.departures(run) == [
        "majority_ratio=1 (paper: 1.5)", "the data file is not the official one",
    ]  # fmt: skip


def test_the_paper_s_figures_are_those_of_its_notebook(make: Make):
    rows = resources.files("beitmed").joinpath("published", "paper_runs.csv").read_text()
    found = {
        (row["dataset"], row["size"], row["balanced"]): (
            float(row["test_auc"]), float(row["test_acc"])
        )
        for row in csv.DictReader(rows.splitlines())
    }  # fmt: skip
    assert len(found) == 8
    for (dataset, size, balanced), figures in found.items():
        run = make(f"dataset={dataset}", f"size={size}", f"balanced={balanced}")
        assert published.paper_run(run) == dict(zip(("auc", "accuracy"), figures, strict=True))
    assert published.paper_run(make("size=64")) is None
    assert published.paper_run(make("dataset=blood", "backbone=beit_tiny")) is None


def test_what_is_no_beit_is_not_held_against_the_paper(make: Make):
    run = make("backbone=dino_base")
    assert published.paper_run(run) is None
    row = table_of(run).rows[0]
    assert row[3] is None and row[4] is None


def test_measured_rows_stand_beside_the_paper_s(make: Make):
    table = table_of(*(make(*PAPER[:1], f"seed={seed}") for seed in (1, 2)))
    labels = [column.label for column in table.columns]
    assert len(set(labels)) == len(labels)  # a CSV with two columns of one name is no use
    name, origin, auc, paper, difference, *_ = table.rows[0]
    assert (name, origin, paper) == ("beit_large top 5 (28)", "measured, 2 seeds", 0.9098)
    assert isinstance(auc, Interval) and auc.value is not None
    assert isinstance(difference, Interval)
    assert difference.value == pytest.approx(auc.value - 0.9098, abs=1e-12)
    assert difference.low < difference.value < difference.high
    assert not any("held" in label for label in labels)


def test_rows_of_the_paper_that_were_not_run_are_there_too(make: Make):
    table = table_of(make(*PAPER))
    papers = [row for row in table.rows if row[1] == "the paper"]
    assert [str(row[0]).rpartition(" (")[0] for row in papers] == [
        "BEiT-large (28) balanced", "BEiT-large (224)", "BEiT-large (224) balanced",
    ]  # fmt: skip
    assert [row[3] for row in papers] == [0.9094, 0.9041, 0.9079]
    baselines = [str(row[0]) for row in table.rows if row[1] == "published"]
    assert len(baselines) == 7 and baselines[0].startswith("ResNet-18 (28) (")


def test_every_mark_has_its_footnote_and_says_where_from(make: Make):
    table = table_of(make("trunk_mode=eval"), make(*PAPER, "size=224"))
    marks = {str(row[0]).rpartition(" ")[2] for row in table.rows}
    notes = {note.partition(" ")[0]: note for note in table.notes}
    marked = {mark for mark in marks if mark != "(224)"}  # the paper's own protocol has no mark
    assert marked <= set(notes)
    assert notes["(a)"].startswith("(a) Not the paper's protocol: trunk_mode=eval (paper: train;")
    assert sum("MedMNIST v2 official benchmark" in note for note in notes.values()) == 3


def test_footnotes_beyond_z_have_two_letters():
    notes: list[str] = []
    marks = [published._note(notes, f"said {i}") for i in range(60)]
    assert len(set(marks)) == 60 and marks[25:28] == ["(z)", "(aa)", "(ab)"]
    assert published._note(notes, "said 27") == "(ab)" and len(notes) == 60
    assert letters(59) == marks[59][1:-1]


def test_many_classes_have_a_table_of_published_figures_too(make: Make):
    runs = [make("dataset=blood", "backbone=beit_tiny", f"seed={s}") for s in (1, 2)]
    one, both = table_of(runs[0]).rows[0], table_of(*runs).rows[0]
    estimates = [run.metrics["test"]["auc"] for run in runs]
    assert one[2] == Interval(
        estimates[0]["value"], estimates[0]["ci_low"], estimates[0]["ci_high"]
    )
    mean = sum(e["value"] for e in estimates) / 2
    assert isinstance(both[2], Interval) and both[2].value == pytest.approx(mean)
    assert both[2].low < mean < both[2].high


def test_nothing_published_gives_no_table(make: Make):
    run = make("dataset=phantom", "backbone=beit_tiny")
    [test_set], _ = variants.group([run])
    assert contents._paper(Evidence(test_set)) is None


def test_anchors_are_of_other_protocols_and_carry_their_spread(make: Make):
    [test_set], _ = variants.group([make(*PAPER)])
    table = published.anchors_table(test_set)
    assert table is not None
    assert not any(
        "official benchmark" in str(row[6]) or "notebook" in str(row[6]) for row in table.rows
    )
    assert table.rows[0][:5] == [
        "DINO ViT-B/16 linear probe",
        224,
        "0.934 ± 0.008",
        "0.887 ± 0.011",
        3,
    ]
