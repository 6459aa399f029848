"""What a robustness result shows: of a result by itself, and in the report of its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from beitmed.plots.curves import Line, Panel
from beitmed.plots.page import write_both
from beitmed.plots.severity_curves import MOST_LINES, severity_curves
from beitmed.report.content.robustness_tables import (
    Results,
    cell_of,
    described,
    overall,
    row_of,
)
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Figure, Interval, Section, in_sentence, p_value, text
from beitmed.tasks.changes import MEASURES

FILE, FORMAT = "robustness.json", 1
LEVEL = 0.05
_BAND = "Band: 95 % interval of the change from clean, paired on images (and seeds)"


def beside(test_set: TestSet) -> list[tuple[Path, Results]]:
    """Results in folders that lie beside the runs of a test set, and are of its images."""
    parents = dict.fromkeys(run.path.absolute().parent for run in test_set.runs)
    digest = test_set.first.data["digests"]["test"]
    names = {run.path.name for run in test_set.runs}
    found = []
    for file in (file for parent in parents for file in sorted(parent.glob(f"*/{FILE}"))):
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
            told = {name for variant in results["variants"] for name in variant["runs"]}
            same = results["format"] == FORMAT and results["test_digest"] == digest
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not one of ours, or of another version
        if same and told <= names:
            found.append((file.parent, results))
    return found


def sections(test_set: TestSet, folder: Path) -> list[Section]:
    """A short section for each such result; its figure is drawn into `folder`."""
    made = []
    for i, (where, results) in enumerate(beside(test_set), 1):
        word = f"robustness-{test_set.id}" + ("" if i == 1 else f"-{i}")
        made.append(
            Section(
                id=word,
                title=f"{test_set.name}: on {described(results)}",
                paragraphs=[
                    *sentences(results),
                    f"By corruption, with pairs of variants: {where.name}/report.html, beside the "
                    "runs.",
                ],
                tables=[overall(results, f"{word}-drops")],
                figures=[curves(results, "auc", folder, f"{word}-curves")],
            )
        )
    return made


def sentences(results: Results) -> list[str]:
    """What the drops and the pairs show, never an order within noise."""
    said = []
    for variant in results["variants"]:
        drop = row_of(results, variant["name"], "auc", None, None)["drop"]
        if drop["value"] is None:
            said.append(f'"{variant["name"]}": no AUC ({drop["reason"]}).')
            continue
        beyond = drop["low"] is not None and (drop["low"] > 0 or drop["high"] < 0)
        which = "loses" if drop["value"] >= 0 else "gains"
        size = cell_of(drop) if drop["value"] >= 0 else _turned(drop)
        said.append(
            f'"{variant["name"]}" {which} {text(size)} AUC on average over the corruptions'
            f"{'' if beyond else ', which is within noise'}."
        )
    return [*said, *_of_pairs(results)]


def _of_pairs(results: Results) -> list[str]:
    if len(results["variants"]) < 2:
        return []
    said = []
    for kind, what in (("drop", "drop in AUC"), ("value", "AUC on the corrupted images")):
        own = [p for p in results["pairs"] if p["of"] == kind and p["measure"] == "auc"]
        tested = [p for p in own if p["p_holm"] is not None]
        apart = [p for p in tested if p["p_holm"] < LEVEL]
        after = " after Holm" if len(tested) > 1 else ""
        if not tested:
            said.append(f"By {what} no pair of variants can be tested.")
        elif not apart:
            least = p_value(min(p["p_holm"] for p in tested))
            said.append(
                f"By {what} no pair of variants differs beyond noise (smallest p {least}{after}): "
                "their order is no finding."
            )
        else:
            named = "; ".join(_apart(p, kind) for p in apart[:3])
            more = "" if len(apart) <= 3 else f"; and {len(apart) - 3} more, in the table"
            said.append(
                f"By {what} {_of(len(apart), len(tested))} beyond noise (p < "
                f"{LEVEL:g}{after}): {named}{more}."
            )
    return said


def _of(apart: int, tested: int) -> str:
    if tested == 1:
        return "the two variants differ"
    return f"{apart} of {tested} pairs differ{'s' if apart == 1 else ''}"


def _apart(pair: Mapping[str, Any], kind: str) -> str:
    first, second = pair["first"], pair["second"]
    if pair["difference"] < 0:
        first, second = second, first
    size = f"{abs(pair['difference']):.3f}"
    if kind == "drop":
        return f'"{first}" loses {size} more than "{second}"'
    return f'"{first}" is above "{second}" by {size}'


def _turned(cell: Mapping[str, Any]) -> Interval:
    low, high = (None if cell[x] is None else -cell[x] for x in ("high", "low"))
    return Interval(-cell["value"], low, high, cell["reason"])


def curves(results: Results, measure: str, folder: Path, word: str) -> Figure:
    """The figure of a measure against severity, drawn into the folder."""
    of, shown = MEASURES[measure], [v["name"] for v in results["variants"]][:MOST_LINES]
    panels = [
        Panel(
            name.replace("_", " "), [_curve(results, variant, measure, name) for variant in shown]
        )
        for name in results["corruptions"]
    ]
    marks = [c for c in results["caveats"] if c.split()[0].isupper()]  # RANDOM, SYNTHETIC
    title = "; ".join([f"{results['dataset']}, {results['size']} px: {of.label}", *marks])
    write_both(
        partial(severity_curves, panels, title=title, label=of.label, note=_BAND), folder / word
    )
    left = len(results["variants"]) - len(shown)
    return Figure(
        id=word,
        title=f"{results['dataset']}: {in_sentence(of.label)} against severity",
        alternative=f"{of.label} by severity of each corruption, a line a variant.",
        stem=folder / word,
        notes=[f"{_BAND}.", *([f"{left} further variants are in the tables."] if left else [])],
    )


def _curve(results: Results, variant: str, measure: str, corruption: str) -> Line:
    clean = row_of(results, variant, measure, None, 0)["value"]["value"]
    values, low, high = [clean], [clean], [clean]
    sign = 1 if MEASURES[measure].better == "higher" else -1
    for severity in results["severities"]:
        row = row_of(results, variant, measure, corruption, severity)
        drop = row["drop"]
        values.append(row["value"]["value"])
        known = clean is not None and drop["low"] is not None
        ends = sorted(clean - sign * drop[x] for x in ("low", "high")) if known else [None, None]
        low.append(ends[0])
        high.append(ends[1])
    return Line(variant, [0, *results["severities"]], values, low, high)
