"""What `robustness.json` says, as tables and figures: of a result by itself, and in a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from beitmed.plots.page import write_both
from beitmed.plots.severity_curves import MOST_LINES, Panel, SeverityCurve, severity_curves
from beitmed.report.content.variants import TestSet
from beitmed.report.document import (
    Cell,
    Column,
    Figure,
    Interval,
    Section,
    Table,
    in_sentence,
    p_value,
    text,
)
from beitmed.tasks.changes import MEASURES

FILE, FORMAT = "robustness.json", 1
LEVEL = 0.05
Results = Mapping[str, Any]
_BAND = "Band: 95 % interval of the change from clean, paired on images (and seeds)"
_SETS = {"medmnist_c": "MedMNIST-C", "deployment": "deployment", "own": "own"}


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


def described(results: Results) -> str:
    """Which images, in a heading."""
    count = counted(len(results["corruptions"]), "corruption")
    kinds = dict.fromkeys(_SETS[one["source"]] for one in results["corruptions"].values())
    every = "" if len(results["severities"]) == 5 else (
        f", severit{'y' if len(results['severities']) == 1 else 'ies'} "
        + ", ".join(map(str, results["severities"]))
    )  # fmt: skip
    return f"images made worse: {count} ({' and '.join(kinds)}){every}"


def counted(count: int, what: str) -> str:
    """A number of things in words: `1 run`, `2 runs`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def sentences(results: Results) -> list[str]:
    """What the drops and the pairs show, never an order within noise."""
    said = []
    for variant in results["variants"]:
        drop = _find(results, variant["name"], "auc", None, None)["drop"]
        if drop["value"] is None:
            said.append(f'"{variant["name"]}": no AUC ({drop["reason"]}).')
            continue
        beyond = drop["low"] is not None and (drop["low"] > 0 or drop["high"] < 0)
        which = "loses" if drop["value"] >= 0 else "gains"
        size = _interval(drop) if drop["value"] >= 0 else _turned(drop)
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
            named = "; ".join(_apart(p) for p in apart[:3])
            more = "" if len(apart) <= 3 else f"; and {len(apart) - 3} more, in the table"
            said.append(
                f"By {what} {len(apart)} of {len(tested)} pairs differ beyond noise (p < "
                f"{LEVEL:g}{after}): {named}{more}."
            )
    return said


def _apart(pair: Mapping[str, Any]) -> str:
    first, second = pair["first"], pair["second"]
    if pair["difference"] < 0:
        first, second = second, first
    return f'"{first}" is above "{second}" by {abs(pair["difference"]):.3f}'


def overall(results: Results, word: str) -> Table:
    """The mean over all corruptions and severities, a row a variant."""
    rows: list[list[Cell]] = []
    for variant in results["variants"]:
        row: list[Cell] = [variant["name"], len(variant["seeds"])]
        for measure in MEASURES:
            clean = _find(results, variant["name"], measure, None, 0)["value"]
            row += [
                _interval(clean),
                _interval(_find(results, variant["name"], measure, None, None)["drop"]),
            ]
        rows.append(row)
    columns = [Column("Variant"), Column("Seeds", 0)]
    for of in MEASURES.values():
        columns += [
            Column(f"{of.label}, clean", 3, of.meaning),
            Column(f"{_change(of.better)} of {in_sentence(of.label)}", 3,
                   "mean over corruptions and severities, paired on images"),
        ]  # fmt: skip
    return Table(
        word,
        f"{results['dataset']}: drops on {described(results)}",
        columns,
        rows,
        _notes(results),
    )


def _notes(results: Results) -> list[str]:
    several = any(len(v["seeds"]) > 1 for v in results["variants"])
    one = any(len(v["seeds"]) == 1 for v in results["variants"])
    covers = "test images" + (" of patients" if results["patients"] else "")
    said = [
        "A drop is how much worse the same model is on the same images: clean less corrupted, of "
        "the calibration error corrupted less clean. 95 % intervals, paired, cover the choice of "
        f"{covers}" + (" and, of several seeds, of these." if several else ".")
    ]
    if one:
        said.append("Of a variant with one seed they speak of that trained model alone.")
    return said


def by_corruption(results: Results, word: str) -> Table:
    """The mean over severities, a row a corruption and variant."""
    rows: list[list[Cell]] = [
        [
            name, variant["name"],
            *(_interval(_find(results, variant["name"], m, name, None)["drop"]) for m in MEASURES),
        ]
        for name in results["corruptions"]
        for variant in results["variants"]
    ]  # fmt: skip
    columns = [Column("Corruption"), Column("Variant")]
    columns += [
        Column(f"{_change(of.better)} of {in_sentence(of.label)}", 3, "mean over severities")
        for of in MEASURES.values()
    ]
    title = f"{results['dataset']}: drops by corruption"
    count = len(rows) * len(MEASURES)
    return Table(word, title, columns, rows, [
        *_notes(results),
        f"These are {count} intervals, none corrected for their number: about {0.05 * count:.0f} "
        "would miss 0 by chance if nothing changed.",
    ])  # fmt: skip


def pairs(results: Results, word: str) -> Table | None:
    """Every pair of variants, by drop and by what is left."""
    if not results["pairs"]:
        return None
    what = {"drop": "drop", "value": "value on the corrupted images"}
    rows: list[list[Cell]] = [
        [
            f"{MEASURES[p['measure']].label}, {what[p['of']]}", p["first"], p["second"],
            Interval(p["difference"], p["low"], p["high"], p["reason"]),
            "" if p["p"] is None else p_value(p["p"]),
            "" if p["p_holm"] is None else p_value(p["p_holm"]),
        ]
        for p in results["pairs"]
    ]  # fmt: skip
    columns = [
        Column("Of"), Column("First"), Column("Second"),
        Column("First less second", 3, "with its 95 % interval"),
        Column("p"), Column("p, Holm", meaning="for the pairs of its kind and measure"),
    ]  # fmt: skip
    title = f"{results['dataset']}: pairs of variants, mean over corruptions and severities"
    return Table(word, title, columns, rows, [
        "Paired on the same corrupted images. A pair of single seeds speaks of these two trained "
        "models alone.",
    ])  # fmt: skip


def benchmark(results: Results, word: str) -> Table | None:
    """Balanced errors relative to the benchmark's AlexNet."""
    if not results["benchmark"]:
        return None
    rows: list[list[Cell]] = [
        [b["corruption"], b["variant"], _interval(b["be"]), _interval(b["rbe"]),
         b["alexnet_error"], b["alexnet_gap"]]
        for b in results["benchmark"]
    ]  # fmt: skip
    columns = [
        Column("Corruption"), Column("Variant"),
        Column("BE", 2, "mean balanced error over AlexNet's"),
        Column("rBE", 2, "its rise from clean over AlexNet's; n/a where AlexNet's is noise"),
        Column("AlexNet's error", 3, "1 - balanced accuracy, mean over severities"),
        Column("AlexNet's rise", 3, "from its clean images"),
    ]  # fmt: skip
    notes = [
        "As MedMNIST-C defines them, at the decision of the likelier class. Below 1 is better than "
        "AlexNet. rBE punishes a good clean result; the drops above do not. AlexNet's errors are "
        "those the benchmark published, of one network, and count as known.",
    ]
    if results["size"] != 224:
        notes.append(
            f"AlexNet's are of images of 224 px, these of {results['size']} px: no comparison "
            "with that network, only a scale."
        )
    title = f"{results['dataset']}: balanced errors relative to the benchmark's AlexNet"
    return Table(word, title, columns, rows, notes)


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


def _curve(results: Results, variant: str, measure: str, corruption: str) -> SeverityCurve:
    clean = _find(results, variant, measure, None, 0)["value"]["value"]
    values, low, high = [clean], [clean], [clean]
    sign = 1 if MEASURES[measure].better == "higher" else -1
    for severity in results["severities"]:
        row = _find(results, variant, measure, corruption, severity)
        drop = row["drop"]
        values.append(row["value"]["value"])
        known = clean is not None and drop["low"] is not None
        ends = sorted(clean - sign * drop[x] for x in ("low", "high")) if known else [None, None]
        low.append(ends[0])
        high.append(ends[1])
    return SeverityCurve(variant, [0, *results["severities"]], values, low, high)


def _find(
    results: Results, variant: str, measure: str, corruption: str | None, severity: int | None
) -> Mapping[str, Any]:
    wanted = (variant, measure, corruption, severity)
    return next(
        row
        for row in results["rows"]
        if (row["variant"], row["measure"], row["corruption"], row["severity"]) == wanted
    )


def _change(better: str) -> str:
    return "Drop" if better == "higher" else "Rise"


def _interval(cell: Mapping[str, Any]) -> Interval:
    return Interval(cell["value"], cell["low"], cell["high"], cell["reason"])


def _turned(cell: Mapping[str, Any]) -> Interval:
    low, high = (None if cell[x] is None else -cell[x] for x in ("high", "low"))
    return Interval(-cell["value"], low, high, cell["reason"])


def parameters(results: Results, word: str) -> Table:
    """What each corruption was made with."""
    rows: Sequence[Sequence[Cell]] = [
        [name, _SETS[one["source"]], one["said"]] for name, one in results["corruptions"].items()
    ]
    columns = [Column("Corruption"), Column("Of"), Column("Kind and severities 1 to 5")]
    where = (
        "Lengths are px of an image of 224; a smaller image is enlarged to that, corrupted and "
        "reduced again."
        if results["at"] == "224"
        else "They act on the stored pixels; lengths, in px of an image of 224, are scaled to them."
    )
    return Table(word, f"{results['dataset']}: the corruptions", columns, rows, [where])
