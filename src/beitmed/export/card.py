"""README.md of an exported model: the Hub's metadata, and the card that a reader sees."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import EvalResult, ModelCardData

from beitmed.config import Config
from beitmed.export import forms
from beitmed.report.content.model_card import Card
from beitmed.report.document import Section
from beitmed.report.render import markdown
from beitmed.runs.reader import FinishedRun

# The Hub's names for metrics that it knows; others keep ours.
_HUB = {
    "auc": "roc_auc",
    "accuracy": "accuracy",
    "brier": "brier_score",
    "mcc": "matthews_correlation",
}
_LICENSE = (
    "# license: left to the author. Choose one of https://huggingface.co/docs/hub/repositories-"
    "licenses\n# that the terms of the pre-trained weights and of the images allow."
)
_HUGGING_FACE = """
from transformers import pipeline

classifier = pipeline("image-classification", ".")  # this folder, or its name on the Hub
print(classifier("image.png", top_k={classes}))
"""
_ONNX = """
import json

import onnxruntime
from PIL import Image
from transformers import AutoImageProcessor  # reads preprocessor_config.json

processor = AutoImageProcessor.from_pretrained(".")
session = onnxruntime.InferenceSession("model.onnx")
names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
picture = Image.open("image.png").convert("RGB")
pixels = processor(picture, return_tensors="np")["pixel_values"]  # float32 [images, 3, h, w]
logits, probabilities = session.run(["logits", "probabilities"], {{"pixel_values": pixels}})
print(dict(zip(names, probabilities[0].tolist())))
"""


def text(run: FinishedRun, to: str, pixels: str, checked: Sequence[str]) -> str:
    """The whole file. pixels: how a picture becomes pixel values. checked: the export's own check,
    a sentence each.
    """
    card = Card(run)
    warning = "\n".join(
        [
            "> **What must be known first**",
            ">",
            *(f"> - {markdown.escape(one)}" for one in card.warnings()),
        ]
    )
    code = _HUGGING_FACE if to == forms.HUGGING_FACE else _ONNX
    used = [
        Section(
            "pixels", "How to use it",
            [card.preparation(),
             f"Then it becomes RGB, grey repeated three times, {pixels}: preprocessor_config.json "
             "says so.", _made_for(run, to)],
        )
    ]  # fmt: skip
    blocks = [
        f"---\n{_LICENSE}\n{_metadata(card, to)}\n---",
        f"# {markdown.escape(card.title)}",
        warning,
        markdown.sections(card.before_use()),
        markdown.sections(used),
        f"```python\n{code.format(classes=len(run.data['class_names'])).strip()}\n```",
        markdown.sections([*card.evidence(checked), *card.after_use()]),
    ]
    return "\n\n".join(blocks) + "\n"


def _made_for(run: FinishedRun, to: str) -> str:
    needed = f"transformers {transformers.__version__}"
    if to == forms.ONNX:
        import onnxruntime

        needed = f"onnxruntime {onnxruntime.__version__}, and {needed} for the image processor"
    return (
        f"Checked with {needed}. Transformers before version 5 does not read this image processor. "
        "beitmed is not needed."
    )


def _metadata(card: Card, to: str) -> str:
    """The YAML between the first lines, as the Hub's own library writes it."""
    run, cfg = card.run, card.run.config
    marks = ["-".join(re.findall(r"\w+", caveat)[:2]).lower() for caveat in card.grave]
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=_word(cfg.dataset.flag or cfg.dataset.name),
            dataset_name=", ".join([f"{card.data_name}, {cfg.size} px", *card.grave]),
            dataset_split="test",
            metric_type=_HUB.get(name, name),
            metric_value=found["value"],
            metric_name=_metric_name(run, name, found),
            metric_args={k: found[k] for k in ("ci_low", "ci_high", "interval", "n", "groups")
                         if found[k] is not None},
        )
        for name, found in _measured(run).items()
    ]  # fmt: skip
    data = ModelCardData(
        library_name="transformers" if to == forms.HUGGING_FACE else "onnx",
        pipeline_tag="image-classification",
        base_model=_hub_name(cfg) if cfg.reads_backbone else None,
        datasets=None if cfg.dataset.synthetic else [_word(cfg.dataset.flag or cfg.dataset.name)],
        metrics=[_HUB.get(name, name) for name in run.task.headlines],
        tags=["medical-imaging", "beitmed", *marks],
        model_name=card.title,
        eval_results=results,
    )
    return data.to_yaml()


def _hub_name(cfg: Config) -> str | None:
    """The backbone's name on the Hub; None for random numbers and for a folder."""
    weights = cfg.backbone.weights
    here = Path(weights).expanduser().is_dir()
    return weights if re.fullmatch(r"\w[\w.-]*/[\w.-]+", weights) and not here else None


def _measured(run: FinishedRun) -> dict[str, Any]:
    """Metrics of the model as it is exported that have a value."""
    found = run.metrics["test"]
    return {
        name: found[name]
        for name, metric in run.task.metrics.items()
        if metric.rule == "argmax" and name in found and found[name]["value"] is not None
    }


def _metric_name(run: FinishedRun, name: str, found: dict[str, Any]) -> str:
    title = run.task.title(name, run.data["class_names"], run.config.dataset.positive_label)
    if found["ci_low"] is None:
        return title
    return f"{title} [{found['ci_low']:.3f}, {found['ci_high']:.3f}] (95 %, {found['interval']})"


def _word(name: str) -> str:
    """A name as the Hub takes one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "data"
