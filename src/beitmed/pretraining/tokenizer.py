"""The visual words of an image: DALL-E's discrete VAE, as transformers has it for FLAVA."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import FlavaImageCodebook, FlavaImageCodebookConfig
from transformers.models.flava.image_processing_pil_flava import LOGIT_LAPLACE_EPS

from beitmed.backbones import content, hub
from beitmed.config.pretrain import PretrainRun, TokensObjective
from beitmed.errors import UserError
from beitmed.runs import reader

log = logging.getLogger(__name__)
STRIDE = 8  # px of what it reads, a visual word


class Tokenizer:
    """A frozen tokenizer for images of `side` x `side` patches; px: the side of what it reads."""

    def __init__(self, network: Any, side: int) -> None:
        self.network, self.px = network.eval(), STRIDE * side
        self.vocabulary: int = network.config.vocab_size

    @torch.no_grad()
    def codes(self, levels: torch.Tensor) -> torch.Tensor:
        """Grey levels from 0 to 1, [n, 1 or 3, px, px] -> visual words int64 [n, side * side]."""
        device = levels.device
        if next(self.network.parameters()).device != device:
            self.network.to(device)
        with torch.autocast(device.type, enabled=False):
            mapped = (1 - 2 * LOGIT_LAPLACE_EPS) * levels.expand(-1, 3, -1, -1) + LOGIT_LAPLACE_EPS
            return self.network.get_codebook_indices(mapped).flatten(1)


def complete(cfg: PretrainRun) -> PretrainRun:
    """The configuration with the digest of its tokenizer's files. Raises UserError without them."""
    objective = cfg.objective
    if not isinstance(objective, TokensObjective) or objective.tokenizer == "random":
        return cfg
    try:
        found = content.digest(locate(objective.tokenizer), {}, cfg.cache.root)
    except FileNotFoundError as e:
        raise UserError(f"objective.tokenizer: {e}; give a folder that has its weights") from e
    if objective.content not in (None, found):
        raise UserError(
            f"objective.tokenizer: {objective.tokenizer} does not hold the weights that were "
            "recorded (objective.content). Restore them, or set objective.content=null."
        )
    return cfg.model_copy(update={"objective": objective.model_copy(update={"content": found})})


def locate(given: str) -> Path:
    return hub.locate(given, "main", "objective.tokenizer", "facebook/flava-image-codebook")


def load(objective: TokensObjective, side: int) -> Tokenizer:
    """The tokenizer of images of side x side patches.

    Raises UserError where it is of another grid, or its files are missing or damaged.
    """
    if objective.tokenizer == "random":
        _check_grid(objective, objective.tokenizer_px or STRIDE * side, side)
        log.warning("Note: the tokenizer has RANDOM weights; its words mean nothing.")
        r = objective.random
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(r.init_seed)
            config = FlavaImageCodebookConfig(hidden_size=r.hidden_size, vocab_size=r.vocab_size)
            return Tokenizer(FlavaImageCodebook(config), side)
    folder = locate(objective.tokenizer)
    _check_grid(objective, objective.tokenizer_px or _own_px(folder) or STRIDE * side, side)
    try:
        network: Any = FlavaImageCodebook.from_pretrained(folder, dtype=torch.float32)
    except Exception as e:  # transformers, safetensors and torch each raise their own kinds
        first = str(e).partition("\n")[0]
        raise UserError(
            f"objective.tokenizer: {folder} cannot be read ({type(e).__name__}: {first}). It must "
            "hold a FlavaImageCodebook as save_pretrained writes it."
        ) from e
    return Tokenizer(network, side)


def _own_px(folder: Path) -> int | None:
    file = folder / "preprocessor_config.json"
    said = reader.read_json(file).get("codebook_size") if file.is_file() else None
    return said.get("height") if isinstance(said, dict) else said


def _check_grid(objective: TokensObjective, px: int, side: int) -> None:
    if px != STRIDE * side:
        grid, own = f"{px / STRIDE:g} x {px / STRIDE:g}", f"{side} x {side}"
        raise UserError(
            f"objective.tokenizer: reads {px} px and gives {grid} visual words, but this backbone "
            f"has {own} patches. Choose a backbone of as many patches, or have the tokenizer read "
            f"images of that side: objective.tokenizer_px={STRIDE * side}."
        )
