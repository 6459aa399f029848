"""The methods of explaining: each gives maps of how much places spoke for a class.

A map is float64 [n, rows, columns] at the method's own resolution; `on_cells` brings it to the
cells on which methods are compared. Where a method is signed, what is above zero spoke for the
class and what is below against it; other maps start at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from beitmed.explain import attention
from beitmed.explain.attention import Rows
from beitmed.explain.network import AT_ONCE, Network

_STEPS = 16  # of the integral: Gauss-Legendre points
_WINDOWS = 10  # a side at most, of occlusion
_WITH_GRADIENTS = 8  # images in a pass


@dataclass(frozen=True)
class Question:
    """What is asked of a network about images.

    target int [n]: the class. baseline [n, c, h, w]: what stands for nothing. layer, from 1, and
    rows: of the attention that is shown; None where there is none.
    """

    target: torch.Tensor
    baseline: torch.Tensor
    layer: int | None = None
    rows: Rows | None = None

    def of(self, chosen: slice) -> Question:
        """The same of some of the images."""
        return Question(self.target[chosen], self.baseline[chosen], self.layer, self.rows)


def baseline(network: Network, images: np.ndarray, kind: str) -> torch.Tensor:
    """What stands for nothing, [n, c, h, w]: "mean" of each image, "blur"-red image, or "black"."""
    pixels = network.pixels(np.zeros_like(images) if kind == "black" else images)
    if kind == "mean":
        return pixels.mean((2, 3), keepdim=True).expand_as(pixels).clone()
    if kind == "blur":
        from torchvision.transforms.functional import gaussian_blur

        sd = max(pixels.shape[2:]) / 10
        reach = [min(int(2 * sd), side // 2 - 1) for side in (pixels.shape[3], pixels.shape[2])]
        return gaussian_blur(pixels, [2 * r + 1 for r in reach], [sd, sd])
    return pixels


def make(
    network: Network, pixels: torch.Tensor, names: Sequence[str], question: Question
) -> dict[str, np.ndarray]:
    """Maps of each method by name, float64 [n, rows, columns], at its own resolution."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for start in range(0, len(pixels), _WITH_GRADIENTS):
        chosen = slice(start, start + _WITH_GRADIENTS)
        for name in names:
            found = METHODS[name].make(network, pixels[chosen], question.of(chosen))
            parts[name].append(found.detach().double().cpu().numpy())
    return {name: np.concatenate(found) for name, found in parts.items()}


def on_cells(maps: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Maps [n, rows, columns] on cells: sums of finer ones, values between those of coarser."""
    _, rows, columns = maps.shape
    found = torch.from_numpy(maps)[:, None]
    if rows >= cells[0] and columns >= cells[1]:
        size = rows * columns / (cells[0] * cells[1])  # of a cell
        return functional.adaptive_avg_pool2d(found, cells)[:, 0].numpy() * size
    return functional.interpolate(found, cells, mode="bilinear")[:, 0].numpy()


def with_cells(
    pixels: torch.Tensor, others: torch.Tensor, chosen: torch.Tensor, cells: tuple[int, int]
) -> torch.Tensor:
    """Pixels [n, c, h, w] with those of the others in chosen cells, bool [n, rows * columns]."""
    grid = chosen.reshape(-1, 1, *cells).to(pixels.device, torch.float32)
    return torch.where(functional.interpolate(grid, pixels.shape[2:]) > 0.5, others, pixels)


def _attention(network: Network, pixels: torch.Tensor, question: Question) -> torch.Tensor:
    """The shares of attention of the tokens that the head reads, the mean over a layer's heads."""
    assert question.layer is not None
    read = attention.read(network.module, pixels, question.layer, question.rows)
    return _patches(network, pixels, read.heads.mean(1))


def _rollout(network: Network, pixels: torch.Tensor, question: Question) -> torch.Tensor:
    assert question.layer is not None
    read = attention.read(network.module, pixels, question.layer, question.rows)
    return _patches(network, pixels, read.rollout)


def _gradient_attention(network: Network, pixels: torch.Tensor, question: Question) -> torch.Tensor:
    attentions: list[torch.Tensor] = []
    with attention.handing_over(network.module, lambda number, found: attentions.append(found)):
        score = network.score(pixels.clone().requires_grad_(), question.target)
    gradients = torch.autograd.grad(score.sum(), attentions)
    with torch.no_grad():
        joint = attention.relevance(attentions, gradients)
        rows = question.rows or attention.read_by_head(network.module)
        read = attention.of_rows(joint, rows, attention.prefix(network.module))
    return _patches(network, pixels, read)


def _patches(network: Network, pixels: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Values of tokens [n, tokens] at the patches, [n, rows, columns]."""
    start = attention.prefix(network.module)
    return tokens[:, start:].unflatten(1, network.cells(pixels))


def _gradcam(network: Network, pixels: torch.Tensor, question: Question) -> torch.Tensor:
    """Channels weighed by their mean gradient, above 0 (R. Selvaraju et al., ICCV 2017)."""
    kept: list[torch.Tensor] = []
    hook = network.seen().register_forward_hook(lambda module, given, out: kept.append(out))
    try:
        score = network.score(pixels.clone().requires_grad_(), question.target)
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(score.sum(), kept)
    channels, slopes = (network.placed(x, pixels) for x in (kept[0], gradient))
    return (channels * slopes.mean((2, 3), keepdim=True)).sum(1).clamp(min=0)


def _integrated_gradients(
    network: Network, pixels: torch.Tensor, question: Question
) -> torch.Tensor:
    """M. Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017; over channels.

    A map's sum is the score less that of the baseline, up to the steps of the integral.
    """
    from captum.attr import IntegratedGradients

    found: Any = IntegratedGradients(network.score).attribute(
        pixels, question.baseline, additional_forward_args=question.target, n_steps=_STEPS,
        internal_batch_size=max(len(pixels), AT_ONCE // 2),
    )  # fmt: skip
    return found.sum(1)


def _occlusion(network: Network, pixels: torch.Tensor, question: Question) -> torch.Tensor:
    """What the log odds lose where a window is replaced (M. Zeiler and R. Fergus, ECCV 2014)."""
    cells = network.cells(pixels)
    windows = tuple(-(-n // -(-n // _WINDOWS)) for n in cells)
    of_rows, of_columns = (
        torch.arange(n) * few // n for n, few in zip(cells, windows, strict=True)
    )
    of_cell = (of_rows[:, None] * windows[1] + of_columns).flatten()
    with torch.no_grad():
        whole = network.score(pixels, question.target)
        lost = []
        for window in range(windows[0] * windows[1]):
            chosen = (of_cell == window).expand(len(pixels), -1)
            covered = with_cells(pixels, question.baseline, chosen, cells)
            lost.append(whole - network.score(covered, question.target))
    return torch.stack(lost, 1)[:, of_cell].unflatten(1, cells)


Make = Callable[[Network, torch.Tensor, Question], torch.Tensor]


@dataclass(frozen=True)
class Method:
    """What a method is called, how its maps are made, whether they are signed, and their unit."""

    label: str
    make: Make
    signed: bool
    unit: str


METHODS: Mapping[str, Method] = {
    "attention": Method("attention", _attention, False, "share of attention"),
    "rollout": Method("attention rollout", _rollout, False, "share of attention"),
    "gradient_attention": Method("gradient × attention", _gradient_attention, False, "relevance"),
    "integrated_gradients": Method(
        "integrated gradients", _integrated_gradients, True, "part of the log odds"
    ),
    "occlusion": Method("occlusion", _occlusion, True, "loss of log odds"),
    "gradcam": Method("Grad-CAM", _gradcam, False, "activation × gradient"),
}
