"""The figures of a pre-training: what it makes of a few held-out images, and how it went."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from beitmed.config import PretrainRun
from beitmed.config.pretrain import TokensObjective
from beitmed.model import Row
from beitmed.plots import page
from beitmed.plots.pretraining_curves import pretraining_curves
from beitmed.plots.reconstructions import reconstructions
from beitmed.pretraining import batches
from beitmed.pretraining.network import MaskedNetwork, standardised
from beitmed.pretraining.sources import Pool, Source

_SHOWN = 8
_GREY, _RIGHT, _WRONG = (128, 128, 128), (0, 114, 178), (213, 94, 0)


def draw_curves(history: Sequence[Row], title: str, folder: Path) -> None:
    """Write `pretraining_curves`, at both widths, as PNG and SVG."""
    page.write_both(
        partial(pretraining_curves, history, title=title), folder / "pretraining_curves"
    )


@torch.no_grad()
def draw_reconstructions(
    cfg: PretrainRun, network: MaskedNetwork, sources: Sequence[Source], title: str, folder: Path
) -> None:
    """Write `reconstructions`: the images, masked, and what is predicted of the masked patches.

    Of visual words there is no picture: a patch is blue where its word was predicted, else orange.
    """
    network.eval()
    each = max(1, _SHOWN // len(sources))
    few = Pool([source.held[:each] for source in sources])
    [batch] = batches.held_out(cfg, few, network.side, len(few))
    device = network.head.weight.device
    images, masks = batch["images"].to(device), batch["masks"].to(device)
    pixels = network.pixels(images)
    predicted = network.predict(images, masks).float()
    patches, found = network.patches_of(pixels), network.patches_of(pixels).clone()
    masked = _filled(network, patches, masks, _GREY)
    notes = []
    if isinstance(cfg.objective, TokensObjective):
        right = predicted.argmax(1) == network.codes(images)[masks]
        found = _filled(network, patches, masks, _WRONG)
        at = masks.clone()
        at[masks] = right
        found = _filled(network, found, at, _RIGHT)
        last = "its visual word: right (blue) or wrong (orange)"
    elif cfg.objective.target == "mae":
        # Of each patch it predicts the pattern; its brightness and contrast are the image's own.
        _, mean, deviation = standardised(patches[masks])
        found[masks] = predicted * deviation + mean
        last = "predicted"
        notes.append(
            "Predicted is the pattern of each masked patch, shown with the patch's own brightness "
            "and contrast."
        )
    else:
        found[masks] = predicted
        last = "predicted"
    rows = [("image", patches), ("masked", masked), (last, found)]
    pictures = [(name, _pictures(network, values)) for name, values in rows]
    drawn = partial(reconstructions, pictures, title=title, notes=notes)
    page.write_both(drawn, folder / "reconstructions")


def _filled(
    network: MaskedNetwork, patches: torch.Tensor, where: torch.Tensor, colour: tuple[int, ...]
) -> torch.Tensor:
    levels = torch.tensor(colour, device=patches.device).view(1, 3, 1, 1) / 255
    value = (levels - network.pixels.mean) / network.pixels.std  # type: ignore[operator]
    # The channels of a pixel stand last in a patch.
    flat = value.flatten().repeat(patches.shape[-1] // 3)
    return torch.where(where.unsqueeze(-1), flat, patches)


def _pictures(network: MaskedNetwork, patches: torch.Tensor) -> list[np.ndarray]:
    """[n, patches, 3 * patch ** 2] -> uint8 [h, w, 3] each."""
    n, side, patch = len(patches), network.side, network.patch
    grid = patches.reshape(n, side, side, patch, patch, 3).permute(0, 1, 3, 2, 4, 5)
    whole = grid.reshape(n, side * patch, side * patch, 3)
    mean, std = (x.flatten() for x in (network.pixels.mean, network.pixels.std))  # type: ignore[operator]
    levels = ((whole * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    return list(levels.cpu().numpy())
