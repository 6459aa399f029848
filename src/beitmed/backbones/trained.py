"""A finished run's network, put together again from its backbone and what it has trained."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from transformers import BaseImageProcessor

from beitmed.backbones import adapters, freezing, weights
from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.errors import UserError


def load(
    cfg: Config, top: Path, class_names: tuple[str, ...]
) -> tuple[FreezableBackbone, BaseImageProcessor]:
    """The network of a run, in eval mode and in main memory, and its image processor.

    top: the run's top.safetensors. Raises UserError where the backbone's weights are missing or
    not those that the run was trained on, or where `top` is damaged.
    """
    if not cfg.trains_backbone:
        raise UserError(
            f"{top.parent}: a run with method={cfg.method.name}, but this needs a trained "
            "backbone; give a run with method=backbone."
        )
    backbone, processor = weights.load(cfg.backbone, class_names, cfg.seed)
    network = adapters.build(cfg, backbone)
    try:
        freezing.load_top(network, top)
    except SafetensorError as e:
        raise UserError(f"{top}: cannot be read ({e}). Restore it, or train the run anew.") from e
    return network.eval(), processor
