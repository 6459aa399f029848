"""A robustness result as a folder: `robustness.json`, values as CSV, figures, a short report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beitmed import trained
from beitmed.data import corruptions
from beitmed.data.corruptions import Corruption
from beitmed.errors import UserError
from beitmed.plots import pictures
from beitmed.plots.page import write
from beitmed.plots.pictures import ClassRow
from beitmed.report.content import robustness as content
from beitmed.report.content import robustness_tables as tables
from beitmed.report.content.variants import TestSet, group
from beitmed.report.document import Document, Figure, Section
from beitmed.report.render import folder as report_folder
from beitmed.robustness import answers, evaluation
from beitmed.robustness.choice import Choice
from beitmed.runs.reader import FinishedRun
from beitmed.storage import files, sealed
from beitmed.tasks.changes import MEASURES

_SHOWN = 10  # corruptions on a page of pictures
_PICTURES = 5.0  # inches


def write_results(
    runs: Sequence[FinishedRun], choice: Choice, to: Path, changes: Sequence[str] = ()
) -> dict[str, Any]:
    """Ask the runs, evaluate, and write all into `to`, which is replaced as a whole.

    changes: as for `reader.read_config`. Returns what robustness.json holds. Raises UserError
    where the runs are not of one test set, a corruption is not there, or a model cannot be asked.
    """
    test_set = _one_test_set(runs)
    chosen = choice.of(test_set.first.config.dataset.flag)
    opened = [trained.open_run(run.path, changes) for run in test_set.runs]
    with sealed.replacing(to, sealed.Kind("a robustness result", key="output_dir")) as folder:
        found = answers.ask(opened, chosen, choice)
        results = _described(test_set, chosen, choice) | evaluation.evaluate(
            test_set, chosen, choice.severities, found
        )
        shown = _pictures(opened[0], chosen, choice, folder)
        report_folder.write(_document(results, shown, folder), folder)
        files.write_atomic(folder / "values.csv", _values(results))
        text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
        files.write_atomic(folder / content.FILE, text + "\n")
    return results


def _one_test_set(runs: Sequence[FinishedRun]) -> TestSet:
    found, notes = group(runs)
    if len(found) > 1:
        each = "; ".join(f"{t.name}: {t.first.path.name}" for t in found)
        raise UserError(
            f"the runs are of {len(found)} test sets ({each}); allowed: runs of one, on the same "
            f"images, in one command. {' '.join(notes)}".strip()
        )
    return found[0]


def _described(
    test_set: TestSet, chosen: Mapping[str, Corruption], choice: Choice
) -> dict[str, Any]:
    first = test_set.first
    patients = first.test.groups
    return {
        "format": content.FORMAT,
        "dataset": first.dataset,
        "size": first.config.size,
        "images": test_set.n,
        "patients": None if patients is None else len(set(patients)),
        "test_digest": first.data["digests"]["test"],
        "at": choice.at,
        "severities": list(choice.severities),
        "corruptions": {
            name: {"source": one.source, "said": one.said} for name, one in chosen.items()
        },
        "caveats": list(dict.fromkeys(c for run in test_set.runs for c in run.metrics["caveats"])),
        "measures": {name: of.meaning for name, of in MEASURES.items()},
    }


def _values(results: Mapping[str, Any]) -> str:
    parts = ("value", "low", "high", "reason")
    header = ["variant", "corruption", "severity", "measure"]
    header += [f"{what}_{part}" for what in ("value", "drop") for part in parts]
    rows = [
        [
            row["variant"], row["corruption"] or "", _or_mean(row["severity"]), row["measure"],
            *((row[what] or {}).get(part) for what in ("value", "drop") for part in parts),
        ]
        for row in results["rows"]
    ]  # fmt: skip
    return files.csv_text(header, rows)


def _or_mean(severity: int | None) -> int | str:
    return "mean" if severity is None else severity


def _pictures(
    one: trained.Trained, chosen: Mapping[str, Corruption], choice: Choice, folder: Path
) -> list[Figure]:
    """The first test image under every corruption, clean at the left."""
    index = np.array([0])
    image = np.asarray(one.data.test.images[:1])
    names = list(chosen)
    made = []
    for start in range(0, len(names), _SHOWN):
        rows = [
            ClassRow(
                name.replace("_", " "),
                np.concatenate([image, *(
                    corruptions.corrupt(image, index, chosen[name], severity, choice.at)
                    for severity in choice.severities
                )]),
                [0, *choice.severities],
            )
            for name in names[start : start + _SHOWN]
        ]  # fmt: skip
        title = f"{one.run.dataset}, test image 0, at severities 1 to 5; 0 is the image as it is"
        marks = [c for c in one.run.metrics["caveats"] if c.startswith("SYNTHETIC")]
        title = "; ".join([title, *marks])
        word = "corruptions" + ("" if start == 0 else f"-{start // _SHOWN + 1}")
        write(pictures.samples(rows, title=title, width=_PICTURES), folder / word)
        made.append(
            Figure(
                word, "The corruptions on one image",
                "A row a corruption, severity rising to the right.", folder / word,
            )
        )  # fmt: skip
    return made


def _document(results: Mapping[str, Any], shown: Sequence[Figure], folder: Path) -> Document:
    further = [tables.pairs(results, "pairs"), tables.benchmark(results, "benchmark")]
    patients = "" if not results["patients"] else f" of {results['patients']:,} patients"
    runs = sum(len(v["runs"]) for v in results["variants"])
    return Document(
        title=f"Robustness on {results['dataset']}, {results['size']} px",
        run=[
            f"{tables.counted(runs, 'run')} of "
            f"{tables.counted(len(results['variants']), 'variant')} on "
            f"{tables.counted(results['images'], 'test image')}{patients}, as they are and "
            f"on {tables.described(results)}."
        ],
        summary=content.sentences(results),
        caveats=results["caveats"],
        sections=[
            Section(
                "drops", "Drops against clean images",
                tables=[
                    tables.overall(results, "overall"),
                    tables.by_corruption(results, "by-corruption"),
                ],
                figures=[
                    content.curves(results, name, folder, f"curves-{name.replace('_', '-')}")
                    for name in MEASURES
                ],
            ),
            *[Section(t.id + "-section", t.title, tables=[t]) for t in further if t is not None],
            Section(
                "made", "What was done to the images",
                tables=[tables.parameters(results, "corruptions-table")], figures=shown,
            ),
        ],
        footer=["For research and teaching. Not a medical device."],
    )  # fmt: skip
