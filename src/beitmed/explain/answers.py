"""What a network answers about images: logits, the maps of each method, and their tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from beitmed.explain import attention, evidence, maps, network
from beitmed.explain.attention import Rows
from beitmed.explain.evidence import Evidence
from beitmed.explain.maps import Question
from beitmed.explain.network import Network, Transformer
from beitmed.explain.request import Request

_AT_ONCE = 8  # images in a pass


@dataclass(frozen=True)
class Attention:
    """Whose attention is shown, and what of it is on no map.

    rows: "patches", "cls" or "both"; read_by_head: what the classifier reads above the last layer,
    the same words. prefix: how many tokens stand before the patches. heads [n, heads, tokens] of
    the layer and rollout [n, tokens] through all layers: shares.
    """

    layer: int
    rows: Rows
    read_by_head: Rows
    prefix: int
    heads: np.ndarray
    rollout: np.ndarray


@dataclass(frozen=True)
class Answers:
    """logits float64 [n, classes]; targets int [n]: the class that the maps are of.

    maps: by method at its own resolution, float64 [n, rows, columns]; on_cells: on the cells that
    methods are compared on. covered: the shares of an image's height and width that the maps are
    of, from its centre. attention: None where no method attends; evidence: None without tests.
    """

    logits: np.ndarray
    targets: np.ndarray
    maps: Mapping[str, np.ndarray]
    on_cells: Mapping[str, np.ndarray]
    covered: tuple[float, float]
    attention: Attention | None
    evidence: Evidence | None


def ask(request: Request) -> Answers:
    """Ask a run's network about the images of a request, and test the methods if that is asked."""
    choice, found, images = request.choice, request.found, request.selected.images
    asked = network.of_model(found.model, found.task.several_labels)
    pixels = asked.pixels(images)
    attended = None
    if request.layer is not None:
        attended = _attended(asked, pixels, request.layer, choice.rows)
    logits = asked.answer(pixels)
    targets = evidence.targets(choice, found, logits)
    rows = None if attended is None else attended.rows
    baseline = maps.baseline(asked, images, choice.baseline)
    made = maps.make(asked, pixels, request.names, Question(targets, baseline, request.layer, rows))
    cells = asked.cells(pixels)
    return Answers(
        logits.double().cpu().numpy(),
        targets.cpu().numpy(),
        made,
        {name: maps.on_cells(values, cells) for name, values in made.items()},
        asked.covered(images.shape[1:3]),
        attended,
        evidence.gather(asked, request, rows) if choice.tests else None,
    )


def _attended(asked: Network, pixels: torch.Tensor, layer: int, rows: str) -> Attention:
    assert isinstance(asked, Transformer)
    module = asked.module
    shown = attention.rows_shown(module, rows)
    read = [attention.read(module, part, layer, shown) for part in pixels.split(_AT_ONCE)]
    heads, rollout = (
        np.concatenate([getattr(part, name).numpy() for part in read]).astype(np.float64)
        for name in ("heads", "rollout")
    )
    by_head, prefix = attention.read_by_head(module), attention.prefix(module)
    return Attention(layer, shown, by_head, prefix, heads, rollout)
