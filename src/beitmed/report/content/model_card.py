"""What the card of an exported model says, from its run alone; no number is made here.

The order is that of a reader who has never seen the run: first what its numbers must not be taken
for (`warnings`), then what it is, for what, how well it did and on whom, how it was made, and what
only its author can add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from beitmed.data import medmnist_files
from beitmed.report.content import model_card_evidence, variant_names, variants
from beitmed.report.content.checklist import AUTHOR
from beitmed.report.content.variants import TestSet
from beitmed.report.document import Column, Section, Table, without_places
from beitmed.runs import caveats
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
        return caveats.gravest_first(self.run.metrics["caveats"])

    @property
    def grave(self) -> list[str]:
        """Those of what is no real model or no real image."""
        return [caveat for caveat in self.caveats if caveats.is_grave(caveat)]

    def warnings(self) -> list[str]:
        """What must be known before any number is read."""
        return [
            *(f"{caveat[:1].upper()}{caveat[1:]}." for caveat in self.caveats),
            "For research and teaching. Not a medical device: not for diagnosis or treatment.",
        ]

    def before_use(self) -> list[Section]:
        """What it is, what for, and what not to expect."""
        return [_what(self), _use(self), _limits(self)]

    def preparation(self) -> str:
        """What has to be done to a picture before the image processor gets it."""
        cfg = self.run.config
        how = "the way that the dataset's own were made"
        if cfg.dataset.own:
            fits = {
                "pad": "padded to a square",
                "crop": "cropped to a square",
                "squash": "squashed",
            }
            how = f"{fits[cfg.dataset.fit]}, by Pillow's bicubic filter"
            if cfg.dataset.intensity == "minmax":
                how += ", after each was stretched from its darkest to its brightest value"
        return (
            f"First bring a picture to {cfg.size} x {cfg.size} px of 8 bits, as the training "
            f"images were: {how}. The image processor alone would pass on details finer than any "
            "that the model was trained on."
        )

    def evidence(self, checked: Sequence[str]) -> list[Section]:
        """Data, results, calibration, training, and what was checked of the export itself."""
        return [
            model_card_evidence.data(self.run),
            model_card_evidence.results(self.run, self.test_set),
            model_card_evidence.fitted(self.run),
            model_card_evidence.training(self.run),
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
            f"Run {run.metrics['run']}, seed {run.seed}, "
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
    use = "Research on methods, teaching, and comparison with other models on the same images."
    if card.grave:
        use = (
            f"To try software out, and to teach it. {'; '.join(card.grave)}: its numbers say "
            "nothing about a pre-trained model on real images."
        )
    return Section(
        "intended-use",
        "Intended use",
        [
            use,
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
    poor = [run.task.title(name, run.data["class_names"], cfg.dataset.positive_label)
            for name in run.metrics.get("without_skill", ())]  # fmt: skip
    if poor:
        said.append(f"Not shown to beat a constant prediction on: {', '.join(poor)}.")
    said.append(
        f"Trained on images of {cfg.size} x {cfg.size} px of 8 bits: what is finer than that it "
        "has never seen."
    )
    said.append("It answers for every picture, also for one of something else: it cannot abstain.")
    return Section("limits", "Limits", said)


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
