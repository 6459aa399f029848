"""Where a pre-training starts from, and the folder in Hugging Face's format that it leaves."""

from __future__ import annotations

import copy
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from beitmed.backbones import weights
from beitmed.config import PretrainRun
from beitmed.config.pretrain import TokensObjective
from beitmed.errors import UserError
from beitmed.pretraining import tokenizer
from beitmed.pretraining.network import MaskedNetwork, grid_of
from beitmed.pretraining.views import Pixels
from beitmed.storage import files

log = logging.getLogger(__name__)
FOLDER = "huggingface"
#: Names under which heads are saved; the first are those of transformers' own classes.
_HEADS = {"tokens": "lm_head", "pixels": "decoder", "hybrid": "decoder"}
_BESIDE = ("mask_token", "lm_head.weight", "lm_head.bias", "decoder.weight", "decoder.bias",
           "layernorm.weight", "layernorm.bias")  # fmt: skip


def begin(cfg: PretrainRun) -> tuple[MaskedNetwork, Any]:
    """The network to train, on a CPU, and its image processor.

    From a checkpoint all is taken that it has: trunk, mask token, and the head of this objective.
    Raises UserError where it has no mask token and the objective is to go on with BEiT's own, or
    where its visual vocabulary is not the tokenizer's.
    """
    model, processor = weights.load(cfg.backbone, ("0", "1"), cfg.seed)
    geometry = cfg.backbone.known_geometry
    pixels = Pixels(processor, geometry.input_size or geometry.image_size, cfg.size)
    side = grid_of(pixels, model)
    words = None
    if isinstance(cfg.objective, TokensObjective):
        words = tokenizer.load(cfg.objective, side)
    vocabulary = None if words is None else words.vocabulary
    network = MaskedNetwork(model, cfg.objective, pixels, vocabulary, cfg.seed)
    if words is not None:
        network.use_tokenizer(words)
    _take(cfg, network, weights.beside(cfg.backbone, _BESIDE))
    return network, processor


def _take(cfg: PretrainRun, network: MaskedNetwork, found: dict[str, torch.Tensor]) -> None:
    """Put what a checkpoint has beside its trunk into the network."""
    tokens = isinstance(cfg.objective, TokensObjective)
    token = next((t for name, t in found.items() if name.endswith("mask_token")), None)
    if token is not None and token.numel() == network.token.numel():  # not that of a decoder
        _copy(network.token, token.view_as(network.token))
    elif not cfg.backbone.random_weights:
        if tokens:
            raise UserError(
                f"backbone.weights: {cfg.backbone.weights} has no mask token, so it was not "
                "pre-trained by this objective. Choose a checkpoint that was (such as "
                "backbone=beit_base), or objective=pixels, which makes one."
            )
        log.info("The checkpoint has no mask token; a new one is learnt.")
    if isinstance(network.layernorm, torch.nn.LayerNorm) and "layernorm.weight" in found:
        for name, parameter in network.layernorm.named_parameters():
            _copy(parameter, found[f"layernorm.{name}"])
    head = _HEADS[cfg.objective.name]
    saved = found.get(f"{head}.weight")
    if saved is None:
        return
    if saved.shape == network.head.weight.shape:
        _copy(network.head.weight, saved)
        _copy(network.head.bias, found[f"{head}.bias"])
        log.info("The checkpoint's own %s goes on.", head)
    elif tokens:
        raise UserError(
            f"objective.tokenizer: has {network.head.weight.shape[0]:,} visual words, but "
            f"{cfg.backbone.weights} was trained on {saved.shape[0]:,}. Give the tokenizer that it "
            "was trained with, or objective=pixels."
        )


@torch.no_grad()
def _copy(parameter: torch.Tensor, tensor: torch.Tensor) -> None:
    parameter.copy_(tensor)


def tensors(network: MaskedNetwork, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """All that was pre-trained, under the names of transformers' classes, and contiguous."""
    left_out = {name for name, _ in network.of_the_classification()}
    found = {n: t for n, t in network.model.state_dict().items() if n not in left_out}
    found[f"{network.embeddings}.mask_token"] = network.token
    head = _HEADS[network.objective.name]
    found |= {f"{head}.{n}": t for n, t in network.head.state_dict().items()}
    found |= {f"layernorm.{n}": t for n, t in network.layernorm.state_dict().items()}
    return {
        name: t.detach().to("cpu", dtype if t.is_floating_point() else t.dtype).contiguous()
        for name, t in found.items()
    }


def write(
    network: MaskedNetwork, processor: Any, about: dict[str, str], card: str, target: Path,
    dtype: torch.dtype = torch.float32,
) -> None:  # fmt: skip
    """Write a folder that `backbone=auto backbone.weights=FOLDER` takes, and a card in it.

    about: what `config.backbone.About` says of the checkpoint; it stands in config.json.
    """
    config = copy.deepcopy(network.model.config)
    config.architectures = [_architecture(network)]
    if hasattr(config, "use_mask_token"):
        config.use_mask_token = True
    if isinstance(network.objective, TokensObjective):
        config.vocab_size = network.head.out_features
    config.num_labels = 2  # those of a start from labels name classes that mean nothing here
    config.about = about
    folder = target.with_name(f".{target.name}.tmp")
    for left in (folder, target):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    save_file(tensors(network, dtype), folder / "model.safetensors", {"format": "pt"})
    (folder / "README.md").write_text(card, encoding="utf-8")
    for file in folder.iterdir():
        files.share(file)
    folder.rename(target)


def _architecture(network: MaskedNetwork) -> str:
    if network.model.config.model_type == "beit" and isinstance(network.objective, TokensObjective):
        return "BeitForMaskedImageModeling"
    return type(network.model.base_model).__name__
