"""BEiT, split by depth into a frozen trunk and a trainable top.

What is frozen is decided on module objects by their index, never by parameter names: those differ
between versions of transformers, and a name that matches nothing freezes or trains in silence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn
from transformers import BeitForImageClassification

from beitmed.errors import UserError

Unfreeze = int | Literal["all"]


class FreezableBeit(nn.Module):
    """A BEiT classifier whose top layers, pooler and classifier are trained, the rest frozen.

    unfreeze: the number of top layers trained; 0 trains pooler and classifier only, "all" trains
        every parameter that a classification uses.
    trunk_mode: "eval" keeps frozen modules in eval mode, so that what they compute for an image
        never changes. "train" is what the paper's code did: the whole Hugging Face model in train
        mode, so that drop path makes even frozen layers random at each step.
    """

    def __init__(
        self,
        beit: BeitForImageClassification,
        unfreeze: Unfreeze,
        trunk_mode: Literal["eval", "train"] = "eval",
    ) -> None:
        super().__init__()
        self.model: Any = beit  # transformers annotates its modules as perhaps None
        self.trunk_mode = trunk_mode
        layers = beit.beit.layers
        self.first_trained = -1 if unfreeze == "all" else len(layers) - unfreeze
        assert self.first_trained >= -1, f"unfreeze={unfreeze} of {len(layers)} layers"
        self.requires_grad_(unfreeze == "all")
        for module in self.trained_modules():
            module.requires_grad_(True)
        if beit.beit.embeddings.mask_token is not None:
            # Used in pre-training only: it would be counted as trained and never get a gradient.
            beit.beit.embeddings.mask_token.requires_grad_(False)
        self.train(self.training)

    def trained_modules(self) -> list[nn.Module]:
        """The modules above the frozen trunk, in the order in which an image passes them."""
        base = self.model.beit
        if self.first_trained == -1:
            return [self.model]
        return [
            *base.layers[self.first_trained :],
            base.layernorm,
            base.pooler,
            self.model.classifier,
        ]

    def frozen_modules(self) -> list[nn.Module]:
        """Embeddings, shared relative position bias and the layers below the trained ones."""
        base = self.model.beit
        if self.first_trained == -1:
            return []
        shared = [] if base.shared_position_bias is None else [base.shared_position_bias]
        return [base.embeddings, *shared, *base.layers[: self.first_trained]]

    def train(self, mode: bool = True) -> FreezableBeit:
        super().train(mode)
        if self.trunk_mode == "eval":
            for module in self.frozen_modules():
                module.eval()
        return self

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """pixel_values [n, 3, h, w], labels [n] -> logits [n, classes], and the mean loss."""
        if self.trunk_mode == "train" or self.first_trained == -1:
            out = self.model(pixel_values=pixel_values, labels=labels)
            return {"logits": out.logits} | ({} if labels is None else {"loss": out.loss})
        logits = self.top(self.trunk(pixel_values))
        if labels is None:
            return {"logits": logits}
        return {"logits": logits, "loss": nn.functional.cross_entropy(logits, labels)}

    @torch.no_grad()
    def trunk(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """pixel_values [n, 3, h, w] -> the tokens [n, 1 + patches, hidden] that the top reads."""
        base = self.model.beit
        tokens = base.embeddings(pixel_values)
        return self._through(base.layers[: self.first_trained], tokens)

    def top(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens [n, 1 + patches, hidden] -> logits [n, classes]."""
        base = self.model.beit
        tokens = self._through(base.layers[self.first_trained :], tokens)
        return self.model.classifier(base.pooler(base.layernorm(tokens)))

    def _through(self, layers: nn.ModuleList, tokens: torch.Tensor) -> torch.Tensor:
        base = self.model.beit
        size, patch = self.model.config.image_size, self.model.config.patch_size
        resolution, bias = (size, size), None
        if base.shared_position_bias is not None:
            # Belongs to the frozen part, and yet every layer above needs it.
            bias = base.shared_position_bias((size // patch,) * 2, dim_size=tokens.shape[1])
        for layer in layers:
            tokens = layer(tokens, attention_mask=bias, resolution=resolution)
        return tokens

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)

    def count(self) -> tuple[int, int]:
        """Trained and all parameters; raises if a module is not frozen or trained as it should."""
        trained = {id(p) for module in self.trained_modules() for p in module.parameters()}
        for name, parameter in self.model.named_parameters():
            expected = id(parameter) in trained and not name.endswith("mask_token")
            assert parameter.requires_grad == expected, (
                f"{name}: requires_grad should be {expected}"
            )
        return (
            sum(p.numel() for _, p in self.trained_parameters()),
            sum(p.numel() for p in self.model.parameters()),
        )

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The trained parameters only: a checkpoint need not repeat a frozen gigabyte."""
        everything = super().state_dict(*args, **kwargs)
        trained = {f"model.{name}" for name, _ in self.trained_parameters()}
        return {name: tensor for name, tensor in everything.items() if name in trained}

    def trunk_fingerprint(self) -> str:
        """SHA-256 over names, shapes and values of every frozen parameter."""
        digest = hashlib.sha256()
        for name, p in sorted(self.model.named_parameters()):
            if not p.requires_grad:
                digest.update(f"{name} {tuple(p.shape)} {p.dtype}".encode())
                digest.update(p.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()


def top_bytes(network: FreezableBeit) -> bytes:
    """The trained parameters under Hugging Face's names, with the frozen trunk's fingerprint.

    In safetensors format, for `load_top`.
    """
    tensors = {name: p.detach().cpu().contiguous() for name, p in network.trained_parameters()}
    return save(tensors, metadata={"trunk_sha256": network.trunk_fingerprint()})


def load_top(network: FreezableBeit, path: Path) -> None:
    """Put saved parameters back on top of the trunk that they were trained on.

    Raises UserError where the trunk, the depth or a shape differs.
    """
    with safe_open(path, framework="pt") as f:
        saved = (f.metadata() or {}).get("trunk_sha256")
        tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (no mapping)
    own = dict(network.trained_parameters())
    if {n: t.shape for n, t in tensors.items()} != {n: p.shape for n, p in own.items()}:
        raise UserError(
            f"{path}: holds {len(tensors)} tensors that are not this network's {len(own)} trained "
            "ones; use the unfreeze and backbone values of the run that saved it."
        )
    if saved != (found := network.trunk_fingerprint()):
        raise UserError(
            f"{path}: was trained on a trunk with SHA-256 {saved}, this one has {found}; give the "
            "backbone.weights that its run used."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])
