"""The tables of a robustness result, from what `robustness.json` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beitmed.report.document import Cell, Column, Interval, Table, in_sentence, p_value
from beitmed.tasks.changes import MEASURES

Results = Mapping[str, Any]
_SETS = {"medmnist_c": "MedMNIST-C", "deployment": "deployment", "own": "own"}


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


def row_of(
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


def cell_of(cell: Mapping[str, Any]) -> Interval:
    return Interval(cell["value"], cell["low"], cell["high"], cell["reason"])


def overall(results: Results, word: str) -> Table:
    """The mean over all corruptions and severities, a row a variant."""
    rows: list[list[Cell]] = []
    for variant in results["variants"]:
        row: list[Cell] = [variant["name"], len(variant["seeds"])]
        for measure in MEASURES:
            clean = row_of(results, variant["name"], measure, None, 0)["value"]
            row += [
                cell_of(clean),
                cell_of(row_of(results, variant["name"], measure, None, None)["drop"]),
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
            *(cell_of(row_of(results, variant["name"], m, name, None)["drop"]) for m in MEASURES),
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
        [b["corruption"], b["variant"], cell_of(b["be"]), cell_of(b["rbe"]),
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
