"""A report of the form that the paper's eight variants give, from generated scores.

Its metrics are those that `beitmed.metrics` gives for these scores; nothing here is a result.
"""

from __future__ import annotations

import io
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from beitmed.plots.forest import Row, forest
from beitmed.plots.learning_curves import Histories, learning_curves
from beitmed.plots.page import write
from beitmed.report.document import (
    Column,
    Curve,
    Document,
    ErrorImage,
    Figure,
    Interval,
    Section,
    Table,
)
from beitmed.statistics import areas
from beitmed.statistics.proportions import wilson

_EPOCH = ("train_loss", "val_loss", "val_auc", "val_accuracy")
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload=alert(1)> ' & &amp;",
    "{{ 7*7 }}{% raw %}",
    "$\\input{x}$ 100 % #1 a_b^c~d",
    "a|b\nc`d`*e*",
    "=cmd()",
    "\u202eexe.txt\u202c \udc80",
    "]]> --> <!-- 漢字",
)
_SPLITS = {"BreastMNIST": (156, 0.73), "PneumoniaMNIST": (624, 0.625)}
_CLASSES = {
    "BreastMNIST": ("normal, benign", "malignant"),
    "PneumoniaMNIST": ("pneumonia", "normal"),
}


def curve(name: str, dataset: str, seed: int, shown: bool = False) -> Curve:
    """A run's test cases, with some scores tied, some exactly 0 and some far out."""
    rng = np.random.default_rng(seed)
    n, share = _SPLITS[dataset]
    actual = np.random.default_rng(0).random(n) < share  # one test split for all runs
    score = np.where(actual, 1.6, -1.4) + rng.normal(0, 1.9, n)
    score[:: n // 7] = np.round(score[:: n // 7])
    score[3], score[4], score[5] = 0.0, 42.0, -60.0
    positive, negative = _CLASSES[dataset]
    return Curve(name, dataset, positive, negative, score.tolist(), actual.tolist(), shown)


def curves() -> list[Curve]:
    """The eight variants, the first of each dataset shown."""
    return [
        curve(
            f"{dataset.removesuffix('MNIST').lower()}_{size}_{balance}_beit_large_top5_seed42",
            dataset,
            seed,
            shown=(size, balance) == (28, "full"),
        )
        for seed, (dataset, size, balance) in enumerate(
            product(_SPLITS, (28, 224), ("full", "balanced"))
        )
    ]


def _proportion(hits: int, n: int) -> Interval:
    low, high = map(float, wilson(hits, n))
    return Interval(hits / n, low, high)


def _row(c: Curve) -> list[str | int | float | bool | Interval | None]:
    actual, score = np.array(c.actual), np.array(c.score, float)
    auc, *_ = areas.delong(actual, score)
    low, high, _ = areas.auc_interval(actual, score)
    called = score > 0
    return [
        c.name,
        c.dataset,
        "balanced" in c.name,
        len(c.score),
        Interval(float(auc), low, high),
        _proportion(int((called == actual).sum()), actual.size),
        _proportion(int((called & actual).sum()), int(actual.sum())),
        _proportion(int((~called & ~actual).sum()), int((~actual).sum())),
    ]


COLUMNS = (
    Column("run"),
    Column("dataset"),
    Column("balanced", meaning="the majority class of the train split was undersampled"),
    Column("n", meaning="test images"),
    Column("AUC", meaning="area under the ROC curve; DeLong's interval"),
    Column("accuracy", meaning="share of cases that argmax gets right; Wilson's interval"),
    Column("sensitivity", meaning="of the positive class; Wilson's interval"),
    Column("specificity", meaning="of the negative class; Wilson's interval"),
)


def _comparisons(runs: list[Curve]) -> Table:
    rows = [
        [
            f"{a.name} against {b.name}",
            Interval(0.01 * i - 0.02, 0.01 * i - 0.07, 0.01 * i + 0.03),
            p,
        ]
        for i, (a, b, p) in enumerate(
            zip(runs[::2], runs[1::2], ["0.412", "< 0.001", "0.038", "n/a"], strict=True)
        )
    ]
    rows.append(["the baseline", Interval(None, reason="the test set has no positive case"), ""])
    return Table(
        "comparisons",
        "Differences of AUC, balanced minus full",
        [Column("pair"), Column("difference"), Column("p (Holm)")],
        rows,
        ["Paired DeLong test on the same test cases, adjusted by Holm's method."],
    )


def _figures(folder: Path, runs: list[Curve]) -> list[Figure]:
    (folder / "figures").mkdir()
    values = [_row(c)[4] for c in runs]
    rows = [Row(c.name, v.value, v.low, v.high, "") for c, v in zip(runs, values, strict=True)]
    write(forest(rows, title="AUC", xlabel="AUC"), folder / "figures" / "auc")
    learned = Histories("", [[{"epoch": e, **dict.fromkeys(_EPOCH, 1 / e)} for e in (1, 2)]])
    write(learning_curves([learned], title="Scores"), folder / "figures" / "scores v1.0")
    return [
        Figure("fig-auc", "AUC of every run", "Eight intervals, which overlap within a dataset.",
               Path("figures/auc"), ["Squares: values; lines: 95 % areas."]),
        Figure("fig-scores", f"Epochs of {runs[0].name}", "Loss and metrics of two epochs.",
               folder / "figures" / "scores v1.0"),
    ]  # fmt: skip


def _errors(runs: list[Curve]) -> list[ErrorImage]:
    images = []
    rng = np.random.default_rng(7)
    for c in runs[:2]:
        for index in (17, 60, 141):
            picture = io.BytesIO()
            noise = rng.integers(0, 255, (28, 28), np.uint8)
            Image.fromarray(noise).save(picture, "PNG")
            images.append(
                ErrorImage(c.name, index, c.negative, c.positive, 0.91, picture.getvalue())
            )
    return images


def document(folder: Path, extra: tuple[Curve, ...] = ()) -> Document:
    """The example; its figures are drawn into `folder`."""
    runs = curves()
    results = Table(
        "results",
        "Test metrics of every run, with 95 % intervals",
        COLUMNS,
        [_row(c) for c in runs],
        ["Positive class: normal, benign (BreastMNIST); pneumonia (PneumoniaMNIST)."],
    )
    return Document(
        "Transfer learning of BEiT on BreastMNIST and PneumoniaMNIST",
        [
            "Eight runs, each with one seed. Within each dataset all four intervals overlap.",
            "No difference between balanced and full training holds after adjustment.",
        ],
        [
            "The scores are generated: these numbers say nothing about medicine.",
            "One seed each: intervals show the chance of the test cases, not of training.",
        ],
        [
            Section(
                "metrics",
                "Metrics",
                ["Argmax over the logits decides; nothing was fitted on the test split."],
                [results, _comparisons(runs)],
                _figures(folder, runs),
            ),
            Section(
                "errors", "What the runs got wrong", ["The surest errors."], errors=_errors(runs)
            ),
        ],
        [*runs, *extra],
        ["outputs/broken_run: metrics.json is not JSON (line 3). Run the same command again."],
        ["Written by beitmed 0.1.0. For research and teaching. Not a medical device."],
    )
