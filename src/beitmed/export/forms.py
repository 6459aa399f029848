"""Which runs have which form outside this package. Imports no torch: a refusal takes a second."""

from __future__ import annotations

from importlib.util import find_spec

from beitmed.config import Config
from beitmed.config.method import BackboneMethod, ResNetMethod
from beitmed.errors import UserError, install

HUGGING_FACE, ONNX = "huggingface", "onnx"
#: Families that transformers has a trunk but no classifier of, and what ours would lack there.
WITHOUT_CLASSIFIER = {
    "vit_mae": "the mean of the patch tokens under a LayerNorm of its own",
    "dinov3_vit": "a linear layer on the CLS token beside the mean of the patch tokens",
}
_SMALL_STEM = 28  # px: up to here a ResNet's first convolution is 3x3 without pooling


def refuse(cfg: Config, to: str) -> None:
    """Raise UserError where a run of this configuration cannot be exported so, and say why."""
    if not isinstance(cfg.method, BackboneMethod | ResNetMethod):
        raise UserError(
            f"method: found {cfg.method.name}, which has no such form: it is not one network from "
            "pixels to logits. Allowed: runs of backbone and of a ResNet. Others can ask "
            "this one with beitmed, from the run's folder."
        )
    if to == ONNX:
        lacking = [name for name in ("onnx", "onnxscript", "onnxruntime") if not find_spec(name)]
        if lacking:
            raise UserError(f"to: found onnx, which needs {', '.join(lacking)}: {install('onnx')}.")
        return
    why = _no_class(cfg)
    if why is not None:
        raise UserError(f"to: found huggingface, but {why}. Set to=onnx.")


def _no_class(cfg: Config) -> str | None:
    if isinstance(cfg.method, ResNetMethod):
        if cfg.size > _SMALL_STEM:
            return None
        return (
            f"transformers has no ResNet with the stem that {cfg.method.name} has at {cfg.size} "
            "px: a 3x3 convolution without pooling"
        )
    head = WITHOUT_CLASSIFIER.get(cfg.backbone.family or "")
    if head is None:
        return None
    return (
        f"transformers has no image classifier of type {cfg.backbone.family} with its head: {head}"
    )
