"""A report's files: what stands in them, and that a folder is replaced whole or not at all."""

from __future__ import annotations

import base64
import csv
import errno
import io
import json
import math
import re
import resource
import shutil
import signal
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
import report_example
from markdown_it import MarkdownIt
from report_example import HOSTILE

from beitmed.errors import UserError
from beitmed.report.document import (
    Cell,
    Column,
    Document,
    Interval,
    Section,
    Table,
    number,
    plain,
    text,
    without_places,
)
from beitmed.report.render import folder as report_folder
from beitmed.report.render import latex, markdown, spreadsheet


def table(rows: list[list[Cell]], labels: list[str], **kwargs) -> Table:
    return Table("t-1", "Title", [Column(label) for label in labels], rows, **kwargs)


def small(title: str = "Report") -> Document:
    rows: list[list[Cell]] = [["run", Interval(0.5, 0.25, 0.75)]]
    return Document(title, ["S."], [], [Section("s", "Part", (), [table(rows, ["run", "AUC"])])])


def make(to: Path, document: Document) -> None:
    with report_folder.replacing(to) as folder:
        report_folder.write(document, folder)


# --- Cells


@pytest.mark.parametrize(
    ("cell", "shown", "key"),
    [
        (Interval(0.91, 0.867, 0.953), "0.910 [0.867, 0.953]", 0.91),
        (Interval(-0.0001, -0.2, 0.2), "0.000 [-0.200, 0.200]", -0.0001),
        (Interval(None, reason="no positive case"), "n/a (no positive case)", None),
        (Interval(0.5), "0.500", 0.5),
        (1234, "1,234", 1234),
        (True, "yes", 1),
        (math.nan, "n/a", None),
        (None, "", None),
        ("0.034", "0.034", 0.034),
        ("1,234.5", "1,234.5", 1234.5),
        ("28 px", "28 px", None),
        ("=1", "=1", None),
    ],
)
def test_a_cell_is_shown_and_sorted(cell, shown, key):
    assert text(cell) == shown
    assert number(cell) == key


def test_a_bounded_p_value_sorts_beside_its_bound():
    assert 0.00099 < number("< 0.001") < 0.001 < number("> 0.001")


def test_what_cannot_be_shown_is_replaced_visibly():
    assert plain("a\u202eb\x00\udc80\n c") == "a\ufffdb\ufffd\ufffd  c"
    assert plain("ø 漢 – e\u0301") == "ø 漢 – e\u0301"


@pytest.mark.parametrize("name", ["../x", "A", "a b", ""])
def test_an_id_that_is_no_plain_word_is_a_mistake(name):
    with pytest.raises(AssertionError):
        Document("t", [], [], [Section(name, "x")])


# --- CSV


def test_csv_has_full_precision_and_a_column_for_each_limit():
    third = 1 / 3
    content = table(
        [
            ["a", Interval(third, 0.1, 0.7), 7, True],
            ["b", Interval(None, reason="why"), None, False],
        ],
        ["run", "AUC", "n", "balanced"],
    )
    frame = pd.read_csv(io.StringIO(spreadsheet.table(content)), float_precision="round_trip")
    assert list(frame) == ["run", "AUC", "AUC low", "AUC high", "AUC reason", "n", "balanced"]
    assert frame.loc[0, ["AUC", "AUC low", "AUC high"]].tolist() == [third, 0.1, 0.7]
    assert frame.loc[1, "AUC":"n"].isna().tolist() == [True, True, True, False, True]
    assert frame.loc[1, "AUC reason"] == "why"
    assert frame["balanced"].tolist() == ["yes", "no"]


def test_csv_runs_no_formula_and_keeps_numbers():
    cells = ["=cmd()", "+1+1", "-1-1", "@x", " =x", "\t=x", "-0.5", "< 0.001", "-", 'a"b,c']
    rows = list(
        csv.reader(io.StringIO(spreadsheet.table(table([[c] for c in cells], ["=head()"]))))
    )
    assert [row[0] for row in rows] == [
        "'=head()", "'=cmd()", "'+1+1", "'-1-1", "'@x", "' =x", "' =x", "-0.5", "< 0.001", "-",
        'a"b,c',
    ]  # fmt: skip


def test_a_table_without_rows_has_a_heading_in_every_format():
    content = table([], ["run", "AUC"])
    assert spreadsheet.table(content) == "run,AUC\n"
    assert r"run & AUC \\" in latex.table(content)


# --- LaTeX


def hostile_table(rows: int = 1) -> Table:
    cells: list[list[Cell]] = [[name, -0.5, "[x]"] for name in HOSTILE] * rows
    return table(cells, ["[run] & \\", "$x$", "%"], notes=HOSTILE)


@pytest.mark.parametrize("rows", [1, 8])
def test_latex_cells_hold_no_command_of_a_name(rows):
    source = latex.table(hostile_table(rows))
    assert source.isascii()
    assert "\\input" not in source and "\\textbackslash{}input" in source
    lines = [line for line in source.splitlines() if line.endswith(r" \\")]
    assert len(lines) == 1 + len(HOSTILE) * rows
    # Two separators a row: every other & is escaped.
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {2}
    assert {line.count("{") - line.count("}") for line in source.splitlines()} == {0}
    assert "$-$0.500" in source
    assert len(re.findall(r"(?<!\\)\$", source)) % 2 == 0
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", source) for word in ("begin", "end"))
    assert begun == ended[::-1] == (["table", "tabular"] if rows == 1 else ["longtable"])
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{Title}\label{tab:t-1}"):
        assert source.count(rule) == 1


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX engine is installed")
def test_latex_compiles(tmp_path):
    for i, rows in enumerate((1, 8)):
        (tmp_path / f"{i}.tex").write_text(latex.table(hostile_table(rows)))
    (tmp_path / "main.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,textcomp,longtable}"
        "\\begin{document}\\input{0.tex}\\input{1.tex}\\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "main"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "main.pdf").stat().st_size > 1000


# --- Markdown


def rendered(source: str) -> str:
    return (
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(source)
    )


@pytest.mark.parametrize(
    "name", [*HOSTILE, "- a", "1. a", "# a", "---", "> a", "<!-- a", "a_b_ _c_"]
)
def test_markdown_shows_a_name_as_it_is(name):
    html = rendered(markdown.escape(name))
    assert re.fullmatch(r"<p>[^<>]*</p>\n", html), html
    assert unescape(html[3:-5]) == plain(name).strip()


def test_markdown_tables_keep_their_columns():
    rows: list[list[Cell]] = [[name, Interval(0.5, 0.25, 0.75)] for name in HOSTILE]
    document = replace(small(), sections=[Section("s", "x", (), [table(rows, ["a|b", "AUC"])])])
    html = rendered(markdown.render(document, Path(), {}))
    assert html.count("<tr>") == 1 + len(HOSTILE)
    assert html.count("<td") == 2 * len(HOSTILE)
    assert html.count(">0.500 [0.250, 0.750]</td>") == len(HOSTILE)
    assert "<script" not in html and "<img" not in html


def test_markdown_refers_to_figures_that_are_there(tmp_path):
    make(tmp_path / "r", Document("t", [], [], []))
    with report_folder.replacing(tmp_path / "r") as folder:
        report_folder.write(report_example.document(folder), folder)
    source = (tmp_path / "r" / "report.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(<?([^()<>]+)>?\)", source)
    assert len(targets) == 2 * 2 + 2 + 6
    assert [t for t in targets if not (tmp_path / "r" / t).is_file()] == []
    assert "Eight intervals, which overlap" in source
    assert "> - The scores are generated" in source


def test_long_tables_name_the_csv_that_holds_all(tmp_path):
    rows: list[list[Cell]] = [[f"run{i}", i / 7] for i in range(20_000)]
    content = replace(table(rows, ["run", "x"]), id="all-runs")
    make(tmp_path / "r", Document("t", [], [], [Section("s", "x", (), [content])]))
    sentence = "The first 200 of 20,000 rows; all are in tables/all-runs.csv.gz."
    for name in ("report.md", "report.html"):
        shown = (tmp_path / "r" / name).read_text(encoding="utf-8")
        assert sentence in shown.replace("\\", "")
        assert "run199" in shown and "run200" not in shown
    found = pd.read_csv(tmp_path / "r" / "tables" / "all-runs.csv.gz")
    assert found["x"].to_numpy() == pytest.approx([i / 7 for i in range(20_000)], rel=1e-4)
    assert not (tmp_path / "r" / "tables" / "all-runs.tex").exists()
    content = replace(content, rows=rows[:4000])
    make(tmp_path / "s", Document("t", [], [], [Section("s", "x", (), [content])]))
    assert len(pd.read_csv(tmp_path / "s" / "tables" / "all-runs.csv")) == 4000
    assert (tmp_path / "s" / "tables" / "all-runs.tex").read_text().count(r" \\") == 4001


def test_the_page_that_was_mailed_alone_holds_its_tables(tmp_path):
    rows: list[list[Cell]] = [["run", 1 / 7]]
    content = replace(table(rows, ["run", "x"]), id="all-runs")
    make(tmp_path / "r", Document("t", [], [], [Section("s", "x", (), [content])]))
    html = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    for name in ("all-runs.csv", "all-runs.tex"):
        inside = re.search(rf'<a download="{name}" href="data:[a-z/-]+;base64,([^"]+)"', html)
        assert inside is not None
        assert base64.b64decode(inside[1]) == (tmp_path / "r" / "tables" / name).read_bytes()


def test_no_folder_of_this_machine_stands_in_a_text():
    assert (
        without_places("/home/me/runs/a b: no run (see /data/x.npz)") == "a b: no run (see x.npz)"
    )
    for kept in ("a/b", "https://x.org/a/b", "</script>", "24/7", "1 / 2"):
        assert without_places(kept) == kept


# --- The folder


def test_a_report_is_replaced_as_a_whole(tmp_path):
    to = tmp_path / "new" / "report"
    make(to, small("First"))
    assert "First" in (to / "report.html").read_text()
    make(to, small("Second"))
    assert "First" not in (to / "report.html").read_text()
    assert sorted(p.relative_to(to).as_posix() for p in to.rglob("*") if p.is_file()) == [
        "contents.json", "report.html", "report.md", "tables/t-1.csv", "tables/t-1.tex",
    ]  # fmt: skip
    assert [p.name for p in to.parent.iterdir()] == ["report"]


def test_a_failed_report_leaves_the_old_one(tmp_path):
    to = tmp_path / "report"
    make(to, small("First"))
    before = {p: p.read_bytes() for p in to.rglob("*") if p.is_file()}
    with pytest.raises(ZeroDivisionError), report_folder.replacing(to) as folder:
        report_folder.write(small("Second"), folder)
        1 / 0  # noqa: B018
    assert {p: p.read_bytes() for p in to.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("kind", ["foreign", "file", "added", "changed", "link", "other format"])
def test_what_is_not_a_report_of_ours_is_left_alone(tmp_path, kind):
    to = tmp_path / "report"
    if kind == "file":
        to.write_text("mine")
    elif kind == "foreign":
        to.mkdir()
        (to / "notes.txt").write_text("mine")
    else:
        make(to, small())
    if kind == "added":
        (to / "notes.txt").write_text("mine")
    elif kind == "changed":
        (to / "report.md").write_text("mine")
    elif kind == "link":
        (to / "tables" / "x").symlink_to(tmp_path)
    elif kind == "other format":
        (to / "contents.json").write_text(json.dumps({"format": 99, "sha256": {"a": "b"}}))
    files = sorted(to.rglob("*"))
    with pytest.raises(UserError, match=r"to=\.\.\."), report_folder.replacing(to):
        raise AssertionError("the folder was given")
    assert sorted(to.rglob("*")) == files
    if kind in ("file", "foreign", "added", "changed"):
        mine = {"file": "", "changed": "report.md"}.get(kind, "notes.txt")
        assert (to / mine).read_text() == "mine"


def test_a_folder_changed_meanwhile_is_left_alone(tmp_path):
    to = tmp_path / "report"
    make(to, small())
    with pytest.raises(UserError, match=r"notes\.txt"), report_folder.replacing(to) as folder:
        report_folder.write(small(), folder)
        (to / "notes.txt").write_text("mine")
    assert (to / "notes.txt").read_text() == "mine"


def test_an_empty_folder_and_what_a_file_manager_leaves_are_replaced(tmp_path):
    to = tmp_path / "report"
    to.mkdir()
    make(to, small())
    (to / ".DS_Store").write_bytes(b"\0")
    make(to, small())
    assert not (to / ".DS_Store").exists()


def test_a_link_to_a_report_stays_a_link(tmp_path):
    make(tmp_path / "report", small("First"))
    (tmp_path / "latest").symlink_to(tmp_path / "report")
    make(tmp_path / "latest", small("Second"))
    assert (tmp_path / "latest").is_symlink()
    assert "Second" in (tmp_path / "report" / "report.md").read_text()


def test_a_report_is_put_back_that_a_killed_process_had_moved(tmp_path):
    to = tmp_path / "report"
    make(to, small("First"))
    to.rename(tmp_path / ".report.before")
    with pytest.raises(ZeroDivisionError), report_folder.replacing(to):
        1 / 0  # noqa: B018
    assert "First" in (to / "report.md").read_text()


def test_a_path_below_a_file_is_a_message(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"file/report.*to=\.\.\."),
        report_folder.replacing(tmp_path / "file" / "report"),
    ):
        pass


def test_a_full_disk_is_a_message_and_leaves_the_old_report(tmp_path):
    to = tmp_path / "report"
    make(to, small("First"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(UserError, match="no space left") as caught:
            make(to, small("Second"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert "First" in (to / "report.html").read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["report"]
