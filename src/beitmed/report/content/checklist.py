"""The reporting checklists of medical journals: what the runs answer, and what their author must.

TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378) by its item numbers; CLAIM (Tejani et al. 2024,
Radiol. Artif. Intell. 6:e240300) by topic. What an item asks stands here in our words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from beitmed.report.content.evidence import Evidence
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Section, Table, plain
from beitmed.runs.reader import FinishedRun

Fill = Callable[[Sequence[Evidence]], str]


def section(found: Sequence[Evidence], external: str) -> Section:
    """Two tables: items that the runs fill, and those that only the author can.

    external: what is to be said of external testing.
    """
    rows: list[Sequence[Cell]] = [[item, asked, fill(found)] for item, asked, fill in _FILLED]
    rows.append(["CLAIM evaluation", "external testing", external])
    return Section(
        id="checklist",
        title="Reporting checklists: TRIPOD+AI 2024 and CLAIM 2024",
        paragraphs=[
            "What follows comes from the runs' own records. It is no statement that a study "
            "complies: wording and judgement are the author's, and the items of the second table "
            "are theirs alone."
        ],
        tables=[
            Table(
                id="checklist-filled",
                title="Items that the runs' records answer",
                columns=[Column("Item"), Column("Asks for"), Column("Answer")],
                rows=rows,
            ),
            Table(
                id="checklist-author",
                title="Items for the author",
                columns=[Column("Item"), Column("Asks for")],
                rows=[list(row) for row in AUTHOR],
            ),
        ],
    )


def _runs(found: Sequence[Evidence]) -> list[FinishedRun]:
    return [run for e in found for run in e.test_set.runs]


def _each(found: Sequence[Evidence], say: Callable[[TestSet], str]) -> str:
    return " ".join(f"{e.test_set.name}: {say(e.test_set)}." for e in found)


def _distinct(values: Sequence[object]) -> str:
    return ", ".join(dict.fromkeys(str(v) for v in values))


def _sizes(t: TestSet) -> str:
    images = t.first.data["images"]
    counts = ", ".join(f"{n:,} {split}" for split, n in images.items())
    patients = t.first.data.get("patients")
    return counts + (" images; patients are not known" if patients is None else
                     f" images of {patients:,} patients")  # fmt: skip


def _classes(t: TestSet) -> str:
    by = t.first.data["images_by_class"]
    return "; ".join(
        f"{split} " + ", ".join(f"{n:,} {plain(name)}" for n, name in
                                zip(counts, t.class_names, strict=True))
        for split, counts in by.items()
    )  # fmt: skip


def _preparation(found: Sequence[Evidence]) -> str:
    sizes = _distinct([run.config.size for run in _runs(found)])
    return (
        f"Images of {sizes} px per side, resized and normalised as each backbone's own "
        "preprocessing says; no augmentation beyond what config.yaml of a run names."
    )


def _models(found: Sequence[Evidence]) -> str:
    names = [v.name for e in found for v in e.test_set.variants]
    shown = "; ".join(dict.fromkeys(names[:20]))
    more = "" if len(names) <= 20 else f"; and {len(names) - 20:,} more"
    return (
        f"{shown}{more}. Every setting, tried or fixed, is in the runs' config.yaml; nothing was "
        "tuned within a run, and thresholds and temperatures were fitted on the validation split."
    )


def _partitions(t: TestSet) -> str:
    how = t.first.data.get("splits")
    if how is None:
        return "the dataset's own train, validation and test split"
    unit = "image" if t.first.data.get("patients") is None else "patient"
    return f"splits {how}" + ("" if how == "given" else f", drawn by {unit}")


def _clusters(t: TestSet) -> str:
    if t.first.test.groups is None:
        return "patients are not known, so images count as independent"
    return f"intervals and tests are of patients drawn at random ({t.images})"


def _measures(found: Sequence[Evidence]) -> str:
    labels = [e.test_set.task.metrics[m].label for e in found for m in e.test_set.task.headlines]
    return (
        f"Headlines: {_distinct(labels)}; all others, with calibration, in the tables. 95 % "
        "intervals and paired tests on the same test images, Holm's correction, seeds as a second "
        "source of variation; figures: forest plot, ROC, reliability, confusion matrix."
    )


def _imbalance(found: Sequence[Evidence]) -> str:
    ways = _distinct([run.config.balancing.name if run.config.balanced else "none"
                      for run in _runs(found)])  # fmt: skip
    return (
        f"Balancing of the training images: {ways}. Validation and test images are never changed."
    )


def _software(found: Sequence[Evidence]) -> str:
    keys = ("beitmed", "torch", "transformers")
    return (
        "; ".join(
            f"{key} {_distinct([run.environment.get(key, 'unknown') for run in _runs(found)])}"
            for key in keys
        )
        + ". The command of each run is repeated by its config.yaml."
    )


def _performance(found: Sequence[Evidence]) -> str:
    tables = ", ".join(f"variants-{e.test_set.id}" for e in found)
    return f"Tables {tables}, and every run with its intervals; subgroups where runs name columns."


def _seeds(found: Sequence[Evidence]) -> str:
    counts = [len(v.runs) for e in found for v in e.test_set.variants]
    return (
        f"{len(counts)} variants of {min(counts)} to {max(counts)} training seeds; first weights, "
        "where they are random, follow the seed of the run's config.yaml."
    )


_FILLED: tuple[tuple[str, str, Fill], ...] = (
    ("TRIPOD+AI 7; CLAIM data", "preparation of the data", _preparation),
    ("TRIPOD+AI 10", "sizes of the sets (their justification is the author's: `beitmed power`)",
     lambda found: _each(found, _sizes)),
    ("TRIPOD+AI 12a; CLAIM partitions", "how data were divided, and at which level",
     lambda found: _each(found, _partitions)),
    ("TRIPOD+AI 12b-c; CLAIM model, training", "predictors, models, and how they were built",
     _models),
    ("TRIPOD+AI 12d", "clusters, such as patients", lambda found: _each(found, _clusters)),
    ("TRIPOD+AI 12e; CLAIM evaluation", "measures and figures of performance", _measures),
    ("TRIPOD+AI 12f-g", "updating, and how predictions were made",
     lambda _: "Temperature and prior correction are reported beside the unchanged model. "
     "Predictions are the logits in predictions.csv of each run."),
    ("TRIPOD+AI 13", "class imbalance", _imbalance),
    ("TRIPOD+AI 15", "the output and its thresholds",
     lambda _: "Logits of each class; the likelier class is called, and other rules stand in "
     "tables of their own with the split that they were fitted on."),
    ("TRIPOD+AI 16", "how training and evaluation data differ",
     lambda found: _each(found, _classes)),
    ("TRIPOD+AI 18f; CLAIM software", "code and software", _software),
    ("TRIPOD+AI 20a, 20c, 21", "numbers of images and of each class in each analysis",
     lambda found: _each(found, lambda t: f"{_sizes(t)}; {_classes(t)}")),
    ("TRIPOD+AI 22", "the full model",
     lambda _: "Each run's folder holds what was trained; config.yaml, model.json and the seed say "
     "what it stands on and how to make it again."),
    ("TRIPOD+AI 23a-b; CLAIM results", "performance with intervals, in subgroups and clusters",
     _performance),
    ("TRIPOD+AI 24", "results of updating",
     lambda _: "Tables of other decision rules and calibration of every run."),
    ("CLAIM training", "initialisation and repeated training", _seeds),
)  # fmt: skip
AUTHOR = (
    ("TRIPOD+AI 1-4; CLAIM title, abstract, introduction",
     "title, abstract, clinical background, health inequalities, objectives and hypotheses"),
    ("TRIPOD+AI 5-6; CLAIM study design, data",
     "where, when and how images were collected, who was eligible, treatments, de-identification"),
    ("TRIPOD+AI 8; CLAIM reference standard",
     "what the labels mean, who annotated them, with what agreement, and blind to what"),
    ("TRIPOD+AI 9, 11", "why these predictors, and what became of missing data"),
    ("TRIPOD+AI 10", "why the sizes are large enough"),
    ("TRIPOD+AI 14", "how fairness was judged, and for whom"),
    ("TRIPOD+AI 17, 18a-e; CLAIM other information",
     "ethical approval, funding, conflicts of interest, protocol, registration, data sharing"),
    ("TRIPOD+AI 19", "involvement of patients and the public"),
    ("TRIPOD+AI 20b", "demographic and clinical characteristics of the patients"),
    ("TRIPOD+AI 25-27; CLAIM discussion",
     "interpretation, limitations, how and by whom the model would be used, what comes next"),
)  # fmt: skip
