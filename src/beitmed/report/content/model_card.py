"""What the card of an exported model says, from its run alone; no number is made here.

The order is that of a reader who has never seen the run: first what its numbers must not be taken
for (`warnings`), then what it is, for what, how well it did and on whom, how it was made, and what
only its author can add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beitmed import config
from beitmed.data import medmnist_files
from beitmed.report.content import run_tables, variant_names, variants
from beitmed.report.content.checklist import AUTHOR
from beitmed.report.content.comparison_tables import no_accuracy, positive_class
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Cell, Column, Section, Table, in_sentence, without_places
from beitmed.runs.reader import FinishedRun

MEDMNIST = (
    "J. Yang et al., MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical "
    "image classification, Scientific Data 10, 41 (2023)"
)
PAPER = (
    "L. Baietti and F. Carlesso, Self-supervised Transfer Learning for Medical Image Classification"
)
_NETWORKS = {
    "beit": "H. Bao et al., BEiT: BERT Pre-Training of Image Transformers, ICLR 2022",
    "data2vec-vision": "A. Baevski et al., data2vec: A General Framework for Self-supervised "
    "Learning in Speech, Vision and Language, ICML 2022",
    "vit": "A. Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021",
    "deit": "H. Touvron et al., Training data-efficient image transformers & distillation through "
    "attention, ICML 2021",
    "vit_mae": "K. He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022",
    "vit_msn": "M. Assran et al., Masked Siamese Networks for Label-Efficient Learning, ECCV 2022",
    "ijepa": "M. Assran et al., Self-Supervised Learning from Images with a Joint-Embedding "
    "Predictive Architecture, CVPR 2023",
    "dinov2": "M. Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, "
    "TMLR 2024",
    "dinov2_with_registers": "T. Darcet et al., Vision Transformers Need Registers, ICLR 2024",
    "dinov3_vit": "O. Siméoni et al., DINOv3, 2025",
}
_RESNET = "K. He et al., Deep Residual Learning for Image Recognition, CVPR 2016"


@dataclass(frozen=True)
class Card:
    """A run with what a card asks of it."""

    run: FinishedRun

    @property
    def test_set(self) -> TestSet:
        [found], _ = variants.group([self.run])
        return found

    @property
    def title(self) -> str:
        return f"{self.data_name}: {variant_names.short_name(self.run)}, seed {self.run.seed}"

    @property
    def data_name(self) -> str:
        """The dataset by the name that others know, and what it is if it is none."""
        cfg = self.run.config
        if cfg.dataset.flag is None or cfg.dataset.classes is not None:
            return cfg.dataset.name
        return str(medmnist_files.info(cfg.dataset.flag)["python_class"])

    @property
    def caveats(self) -> list[str]:
        """RANDOM and SYNTHETIC first."""
        return sorted(self.run.metrics["caveats"], key=lambda c: not c.split()[0].isupper())

    def warnings(self) -> list[str]:
        """What must be known before any number is read."""
        return [
            *(f"{caveat[:1].upper()}{caveat[1:]}." for caveat in self.caveats),
            "For research and teaching. Not a medical device: not for diagnosis or treatment.",
        ]

    def before_use(self) -> list[Section]:
        """What it is, what for, and what not to expect."""
        return [_what(self), _use(self), _limits(self)]

    def evidence(self, checked: Sequence[str]) -> list[Section]:
        """Data, results, calibration, training, and what was checked of the export itself."""
        return [
            _data(self),
            _results(self),
            *_fitted(self),
            _training(self),
            Section("check", "What was checked when it was exported", checked),
        ]

    def after_use(self) -> list[Section]:
        """Whom to cite, and what the author has to add."""
        return [_cite(self), _author()]


def _what(card: Card) -> Section:
    run, cfg = card.run, card.run.config
    names = run.data["class_names"]
    what = f"An image classifier of {len(names)} {run.task.unit}{'es' * (run.task.unit == 'class')}"
    if run.task.several_labels:
        what = f"A classifier of {len(names)} labels, of which an image may have any number"
    trained, total = run.metrics["trained_parameters"], run.metrics["parameters"]
    if cfg.trains_backbone:
        depth = "every layer" if cfg.unfreeze == "all" else f"the top {cfg.unfreeze} layers"
        weights = (
            "RANDOM weights" if cfg.backbone.random_weights else _weights(cfg.backbone.weights)
        )
        how = (
            f"{cfg.backbone.name} ({cfg.backbone.family}) from {weights}; {depth}, the last norm "
            f"and the classifier were trained"
            + (" by low-rank updates (LoRA), which are merged" if cfg.adapter == "lora" else "")
        )
    else:
        how = f"{variant_names.model(cfg)} from random weights, all of it trained"
    return Section(
        "what",
        "What it is",
        [
            f"{what}, trained on {card.data_name} at {cfg.size} px with beitmed "
            f"{run.environment['beitmed']}.",
            f"{how}: {trained:,} of {total:,} parameters.",
            f"Run {run.path.name}, seed {run.seed}, "
            f"{cfg.train.epochs if cfg.trains_backbone else len(run.history)} epochs.",
        ],
        [
            Table(
                "classes",
                "What the outputs are",
                [Column("Output", 0), Column(run.task.unit.capitalize()), Column("Role")],
                [[i, name, _role(run, i)] for i, name in enumerate(names)],
            )
        ],
    )


def _weights(weights: str) -> str:
    return f"the weights {without_places(weights)}"


def _role(run: FinishedRun, i: int) -> str:
    if not run.binary:
        return ""
    return "the positive class of the metrics below" if i == run.positive else "the other class"


def _use(card: Card) -> Section:
    return Section(
        "intended-use",
        "Intended use",
        [
            "Research on methods, teaching, and comparison with other models on the same images.",
            "Out of scope: any decision about a patient; images of another kind, source, device or "
            "preparation than the training images; other classes.",
        ],
    )


def _limits(card: Card) -> Section:
    run, test_set = card.run, card.test_set
    cfg = run.config
    said = [
        f"Tested on {test_set.images} of the source of the training images (internal testing), and "
        "on no other hospital or device.",
        "One training with one seed: another seed gives another model, and its results vary beyond "
        "the intervals below, which cover the choice of test images only.",
    ]
    if run.test.groups is None:
        said.append("Patients are not known: if one has several images, intervals are too narrow.")
    poor = [in_sentence(run.task.title(name, run.data["class_names"], _positive(run)))
            for name in run.metrics.get("without_skill", ())]  # fmt: skip
    if poor:
        said.append(f"Not shown to beat a constant prediction on: {', '.join(poor)}.")
    said.append(
        f"Images reach it as {cfg.size} x {cfg.size} px of 8 bits, "
        + _shape(cfg)
        + "; what is finer than that it has never seen."
    )
    said.append("It answers for every picture, also for one of something else: it cannot abstain.")
    return Section("limits", "Limits", said)


def _shape(cfg: config.Config) -> str:
    if not cfg.dataset.own:
        return "as the dataset has them"
    how = {"pad": "padded to a square", "crop": "cropped to a square", "squash": "squashed"}
    scale = " and stretched from the darkest to the brightest value" if (
        cfg.dataset.intensity == "minmax") else ""  # fmt: skip
    return f"{how[cfg.dataset.fit]}{scale}, before they are resized; do the same to new ones"


def _positive(run: FinishedRun) -> int | None:
    return run.config.dataset.positive_label


def _data(card: Card) -> Section:
    run, cfg, data = card.run, card.run.config, card.run.data
    said = []
    if cfg.dataset.flag is not None and cfg.dataset.classes is None:
        known = medmnist_files.info(cfg.dataset.flag)
        said.append(known["description"])
        said.append(f"Licence of these images, by the medmnist package: {known['license']}.")
    if cfg.dataset.synthetic:
        said.append("SYNTHETIC pictures that a program drew, of no patient.")
    how = data.get("splits")
    said.append("The splits are the dataset's own." if how is None else f"The splits were {how}.")
    patients = data.get("patients")
    said.append(
        "Which images are of one patient is not known."
        if patients is None
        else f"The images are of {patients:,} patients."
    )
    if "md5" in data:
        official = "the official file" if data["official"] else "NOT the official file"
        said.append(f"Read from {data['source']}, MD5 {data['md5']}: {official}.")
    if cfg.balanced:
        said.append(f"The training images were balanced by {cfg.balancing.name}.")
    by_class, images = data["images_by_class"], data["images"]
    splits = list(by_class)
    rows: list[Sequence[Cell]] = [
        [name, *(by_class[s][i] for s in splits), data["trained_on_by_class"][i]]
        for i, name in enumerate(data["class_names"])
    ]
    rows.append(["all images", *(images[s] for s in splits), run.metrics["n"]["train"]])
    table = Table(
        "data", "Images by class",
        [Column(run.task.unit.capitalize()), *(Column(s, 0) for s in splits),
         Column("trained on", 0)],
        rows,
    )  # fmt: skip
    return Section("data", "Data", said, [table])


def _results(card: Card) -> Section:
    run, test_set = card.run, card.test_set
    task = run.task
    names = [n for n, m in task.metrics.items() if m.rule == "argmax" and n in run.metrics["test"]]
    notes = [*positive_class(test_set), *no_accuracy(test_set),
             "The likelier class is called."
             if not task.several_labels else "A label is called above a probability of 0.5.",
             "Without skill: what the best constant prediction reaches on the same images."]  # fmt: skip
    tables = [
        _metrics("results", "Metrics on the test split, with 95 % intervals", run, names, notes)
    ]
    if task.parts:
        tables.append(run_tables.by_part(test_set))
    return Section("results", "Test results", [f"On {test_set.images}."], tables)


def _metrics(
    name: str, title: str, run: FinishedRun, metrics: Sequence[str], notes: Sequence[str]
) -> Table:
    found: Mapping[str, Any] = run.metrics["test"]
    return Table(
        name,
        title,
        [Column("Metric"), Column("Value"), Column("n", 0), Column("Interval"),
         Column("Without skill"), Column("What it is")],
        [
            [
                run.task.title(m, run.data["class_names"], _positive(run)),
                run_tables.estimate(found[m]),
                found[m]["n"],
                found[m]["interval"] or found[m]["reason"],
                found[m].get("no_skill"),
                run.task.metrics[m].meaning,
            ]
            for m in metrics
        ],
        notes,
    )  # fmt: skip


def _fitted(card: Card) -> list[Section]:
    run = card.run
    stated = {
        n: found
        for n, m in run.task.metrics.items()
        if m.rule != "argmax" and (found := run.metrics["test"].get(n)) is not None
        and found["value"] is not None
    }  # fmt: skip
    said = [
        "The probabilities of this model are those of its run, "
        + ("a sigmoid" if run.task.several_labels else "the softmax")
        + " of the logits, and are not calibrated."
    ]
    if "temperature" in stated:
        t = stated["temperature"]["value"]
        said.append(
            f"A temperature of {t:.4f} was fitted on the validation split. To use it, divide the "
            "logits by it before the softmax; it changes no ranking and no call of the likelier "
            "class."
        )
    if run.binary:
        said.append(
            "Thresholds are in log odds of the positive class: its logit minus the other's. A "
            "probability p is at log odds ln(p / (1 - p))."
        )
    if not stated:
        return [Section("calibration", "Calibration and thresholds", said)]
    notes = ["Thresholds and temperature are fitted on the validation split and count as fixed."]
    table = _metrics("fitted", "Fitted on the validation split, measured on the test split", run,
                     list(stated), notes)  # fmt: skip
    return [Section("calibration", "Calibration and thresholds", said, [table])]


def _training(card: Card) -> Section:
    cfg = card.run.config
    left_out = ("dataset.", "backbone.")
    settings = {
        key: value for key, value in config.identity(cfg).items() if not key.startswith(left_out)
    }
    versions = ", ".join(
        f"{name} {card.run.environment[name]}"
        for name in ("beitmed", "torch", "transformers")
        if name in card.run.environment
    )
    rows = [[key, "" if v is None else without_places(str(v))] for key, v in settings.items()]
    return Section(
        "training",
        "Training",
        [
            "Every setting that decides its predictions is below; data and backbone are above. "
            f"Made with {versions}."
        ],
        [Table("settings", "Settings", [Column("Key"), Column("Value")], rows)],
    )


def _cite(card: Card) -> Section:
    cfg = card.run.config
    said = []
    if cfg.dataset.flag is not None and cfg.dataset.classes is None:
        said.append(f"Data: {MEDMNIST}; and the source that it names for {card.data_name}.")
    network = _NETWORKS.get(cfg.backbone.family or "") if cfg.trains_backbone else _RESNET
    if network is not None:
        said.append(f"Network: {network}.")
    said.append(f"Training recipe and software: {PAPER}; beitmed implements and extends it.")
    return Section("cite", "To cite", said)


def _author() -> Section:
    return Section(
        "author",
        "What its author has to add",
        [
            "A licence, in the first lines of this file: the terms of the pre-trained weights and "
            "of the images bind it.",
            "No program can fill the items below of TRIPOD+AI 2024 and CLAIM 2024.",
        ],
        [
            Table(
                "checklist-author",
                "Items for the author",
                [Column("Item"), Column("Asks for")],
                [list(row) for row in AUTHOR],
            )
        ],
    )
