"""LoRA: low-rank updates beside the frozen weights of the trained layers, by the peft library.

Source: E. Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from beitmed.backbones.freezing import FreezableBackbone
from beitmed.config import Config
from beitmed.config.lora import LoraConfig
from beitmed.errors import UserError, install


def build(cfg: Config, model: Any) -> FreezableBackbone:
    """A model frozen, and adapted where asked for, as a configuration says."""
    return adapt(cfg, FreezableBackbone(model, cfg.unfreeze, cfg.trunk_mode))


def adapt(cfg: Config, network: FreezableBackbone) -> FreezableBackbone:
    """With adapter=lora: freeze the top layers' own weights and train low-rank updates of them.

    The last norm and the classifier are trained as ever, and what lies below the top layers is not
    touched: features computed without adapters remain theirs. An update starts at zero; what else
    it starts from depends on `cfg.seed` alone. Raises UserError where peft is not installed.
    """
    if cfg.adapter == "none":
        return network
    network.adapt(lambda layers: _inject(network.model, layers, cfg.lora, cfg.seed))
    return network


def merge(network: FreezableBackbone) -> None:
    """Add every update to the weight that it stands beside: the plain model, of the same logits."""
    for name, module in list(network.model.named_modules()):
        if hasattr(module, "get_base_layer"):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(network.model.get_submodule(parent), child, module.get_base_layer())


def _inject(model: Any, layers: list[nn.Module], lora: LoraConfig, seed: int) -> list[nn.Parameter]:
    peft = _peft()
    linears: set[int] = set()
    for layer in layers:
        adapted: Any = layer.attention if lora.target == "attention" else layer
        linears |= {id(m) for m in adapted.modules() if isinstance(m, nn.Linear)}
    names = [name for name, m in model.named_modules() if id(m) in linears]
    settings = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=names,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, model)
    found = [p for name, p in model.named_parameters() if ".lora_" in name]
    assert len(found) == 2 * len(linears), (len(found), len(linears))
    return found


def _peft() -> Any:
    try:
        import peft
    except ImportError as e:
        raise UserError(
            f"adapter: found lora, which needs the peft package: {install('lora')}; or set "
            "adapter=none"
        ) from e
    return peft
