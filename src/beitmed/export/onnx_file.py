"""to=onnx: one file that onnxruntime runs, the image processor's settings beside it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoImageProcessor
from transformers import logging as of_transformers

from beitmed.data.pixels import to_rgb
from beitmed.export import hugging_face
from beitmed.export.portable import Portable
from beitmed.storage import files

MODEL = "model.onnx"
INPUT, OUTPUTS = "pixel_values", ["logits", "probabilities"]
_LARGEST = 1_500_000_000  # bytes in one file, whose format ends at 2 GiB; more go beside it


class _Answers(nn.Module):
    """Pixel values -> logits and probabilities."""

    def __init__(self, network: Any, several_labels: bool) -> None:
        super().__init__()
        self.network = network
        self.several_labels = several_labels

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.network(pixel_values)
        logits = getattr(found, "logits", found)
        return logits, logits.sigmoid() if self.several_labels else logits.softmax(-1)


def write(
    portable: Portable, folder: Path, several_labels: bool, metadata: Mapping[str, str]
) -> None:
    """Write model.onnx and preprocessor_config.json.

    Input: `pixel_values` float32 [batch, 3, h, w], any batch. Outputs: `logits` and
    `probabilities`, float32 [batch, classes]. metadata: by key, into the file's metadata_props.
    """
    of_transformers.set_verbosity_error()
    network = portable.network
    if hasattr(network, "set_attn_implementation"):
        network.set_attn_implementation("eager")  # the exporter fails on BEiT's other form
    pixels = _pixels(portable.processor, np.zeros((2, 28, 28), np.uint8), "pt")
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, on its own next version
        program: Any = torch.onnx.export(
            _Answers(network, several_labels).eval(), (pixels,), dynamo=True, verbose=False,
            input_names=[INPUT], output_names=OUTPUTS,
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
        )  # fmt: skip
    program.model.metadata_props.update(metadata)
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    program.save(folder / MODEL, external_data=size > _LARGEST)
    hugging_face.write_processor(portable.processor, folder)
    for file in folder.iterdir():
        files.share(file)


def ask(folder: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and probabilities, float64 [n, classes], as onnxruntime gives them from the folder.

    images: as a dataset stores them. The first is asked for alone, all others in one batch.
    """
    import onnxruntime

    processor = AutoImageProcessor.from_pretrained(folder)
    session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])
    batches = [part for part in (images[:1], images[1:]) if len(part)]
    found = [session.run(OUTPUTS, {INPUT: _pixels(processor, part, "np")}) for part in batches]
    logits, probabilities = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return logits.astype(np.float64), probabilities.astype(np.float64)


def metadata(class_names: Sequence[str], caveats: Sequence[str], **others: Any) -> dict[str, str]:
    """What the file itself says: the names of its classes first, each value as JSON."""
    values = {"class_names": list(class_names), "caveats": list(caveats), **others}
    return {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def _pixels(processor: Any, images: np.ndarray, kind: str) -> Any:
    pictures = [to_rgb(image) for image in images]
    return processor(pictures, return_tensors=kind)["pixel_values"]
