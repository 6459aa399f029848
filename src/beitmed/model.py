"""BEiT, split by depth into a frozen trunk and a trainable top.

What is frozen is decided on module objects by their index, never by parameter names: those differ
between versions of transformers, and a name that matches nothing freezes or trains in silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save, save_file
from torch import nn
from transformers import BeitConfig, BeitForImageClassification

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
        self.whole = trunk_mode == "train" or unfreeze == "all"
        layers = beit.beit.layers
        self.first_trained = -1 if unfreeze == "all" else len(layers) - unfreeze
        assert self.first_trained >= -1, f"unfreeze={unfreeze} of {len(layers)} layers"
        self.requires_grad_(unfreeze == "all")
        for module in self.trained_modules():
            module.requires_grad_(True)
        if self.model.beit.embeddings.mask_token is not None:
            # Used in pre-training only: it would be counted as trained and never get a gradient.
            self.model.beit.embeddings.mask_token.requires_grad_(False)
        self._trunk_facts = self._measure()
        # Frozen with the trunk, and yet every layer above needs it: gathered once, not per step.
        bias = None if self.whole else self._gather_position_bias()
        self.position_bias: torch.Tensor | None
        self.register_buffer("position_bias", bias, persistent=False)
        self.train(self.training)

    def trained_modules(self) -> list[nn.Module]:
        """The modules above the frozen trunk, in the order in which an image passes them."""
        base = self.model.beit
        if self.first_trained == -1:
            return [self.model]
        top = base.layers[self.first_trained :]
        return [*top, base.layernorm, base.pooler, self.model.classifier]

    def frozen_modules(self) -> list[nn.Module]:
        """Embeddings, shared relative position bias and the layers below the trained ones."""
        base = self.model.beit
        if self.first_trained == -1:
            return []
        below = [base.embeddings, base.shared_position_bias, *base.layers[: self.first_trained]]
        return [module for module in below if module is not None]

    def train(self, mode: bool = True) -> FreezableBeit:
        super().train(mode)
        if not self.whole:
            for module in self.frozen_modules():
                module.eval()
        return self

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Images, or what `trunk` made of them, and labels -> logits [n, classes], mean loss.

        pixel_values [n, 3, h, w]; features [n, 1 + patches, hidden], or pooled [n, hidden];
        labels int [n], or float [n, classes] of 0 and 1 where an image has several.
        """
        if self.whole:
            out = self.model(pixel_values=pixel_values, labels=labels)
            return {"logits": out.logits} | ({} if labels is None else {"loss": out.loss})
        if features is None:
            assert pixel_values is not None
            features = self.trunk(pixel_values)
        logits = self.top(features)
        if labels is None:
            return {"logits": logits}
        if labels.dim() == 2:  # several labels an image: a sigmoid each, instead of a softmax
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        else:
            loss = nn.functional.cross_entropy(logits, labels)
        return {"logits": logits, "loss": loss}

    def trunk(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """pixel_values [n, 3, h, w] -> what the top reads: tokens [n, 1 + patches, hidden].

        Where no layer is trained (unfreeze=0), that is pooled already: [n, hidden].
        """
        with torch.no_grad():
            tokens = self.model.beit.embeddings(pixel_values)
        return self.trunk_from(0, tokens)

    @torch.no_grad()
    def trunk_from(self, boundary: int, tokens: torch.Tensor) -> torch.Tensor:
        """What `trunk` gives, from the tokens below layer `boundary`."""
        tokens = self._through(self.model.beit.layers[boundary : self.first_trained], tokens)
        return self._pool(tokens) if self.pools else tokens

    @property
    def pools(self) -> bool:
        """Whether the trunk ends in pooled features, since no layer above it is trained."""
        return self.first_trained == len(self.model.beit.layers)

    def _pool(self, tokens: torch.Tensor) -> torch.Tensor:
        # The parameter-free part of the pooler. Where it takes the CLS token, the LayerNorm before
        # it is trained, but it works token by token and so commutes with taking one.
        mean = self.model.config.use_mean_pooling
        return tokens[:, 1:].mean(1) if mean else tokens[:, 0]

    def top(self, features: torch.Tensor) -> torch.Tensor:
        """What `trunk` gives -> logits [n, classes]."""
        base = self.model.beit
        features = features.to(self.model.classifier.weight.dtype)
        if not self.pools:
            tokens = self._through(base.layers[self.first_trained :], features)
            return self.model.classifier(base.pooler(base.layernorm(tokens)))
        norm = base.pooler.layernorm if self.model.config.use_mean_pooling else base.layernorm
        return self.model.classifier(norm(features))

    def _through(self, layers: nn.ModuleList, tokens: torch.Tensor) -> torch.Tensor:
        resolution = (self.model.config.image_size,) * 2
        for layer in layers:
            if _drops_paths_only(layer):
                tokens = _sparse_drop_path(layer, tokens, self.position_bias)
            else:
                tokens = layer(tokens, attention_mask=self.position_bias, resolution=resolution)
        return tokens

    @torch.no_grad()
    def _gather_position_bias(self) -> torch.Tensor | None:
        shared = self.model.beit.shared_position_bias
        if shared is None or shared.relative_position_bias_table.is_meta:
            # On the meta device there is nothing to gather, and transformers would keep the index
            # that it makes there for every later model of this process: garbage, seen as NaN.
            return None
        side = self.model.config.image_size // self.model.config.patch_size
        return shared((side, side), dim_size=1 + side * side)

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)

    def count(self) -> tuple[int, int]:
        """Trained and all parameters, the trunk's included where it has been released."""
        trained = sum(p.numel() for _, p in self.trained_parameters())
        assert trained == self._trunk_facts["trained"], (trained, self._trunk_facts)
        return trained, self._trunk_facts["total"]

    def _measure(self) -> dict[str, Any]:
        trained = {id(p) for module in self.trained_modules() for p in module.parameters()}
        for name, parameter in self.model.named_parameters():
            expected = id(parameter) in trained and not name.endswith("mask_token")
            assert parameter.requires_grad == expected, f"{name}: requires_grad is not {expected}"
        return {
            "trained": sum(p.numel() for _, p in self.trained_parameters()),
            "total": sum(p.numel() for p in self.model.parameters()),
        }

    def trunk_fingerprint(self) -> str:
        """SHA-256 over names, shapes and values of every frozen parameter."""
        if "sha256" not in self._trunk_facts:
            digest = hashlib.sha256()
            for name, p in sorted(self.model.named_parameters()):
                if not p.requires_grad:
                    digest.update(f"{name} {tuple(p.shape)} {p.dtype}".encode())
                    digest.update(p.detach().cpu().contiguous().numpy().data)
            self._trunk_facts["sha256"] = digest.hexdigest()
        return self._trunk_facts["sha256"]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The trained parameters only: a checkpoint need not repeat a frozen gigabyte."""
        everything = super().state_dict(*args, **kwargs)
        trained = {f"model.{name}" for name, _ in self.trained_parameters()}
        return {name: tensor for name, tensor in everything.items() if name in trained}

    def release_trunk(self) -> None:
        """Let go of the frozen modules' memory: from now on only `features` can be read."""
        assert not self.whole, "the whole model is in use"
        self.trunk_fingerprint()
        self._drop_frozen()

    def _drop_frozen(self) -> None:
        base = self.model.beit
        base.embeddings = base.shared_position_bias = None
        for i in range(self.first_trained):
            base.layers[i] = nn.Identity()  # the layers above keep their index, and so their names

    def top_snapshot(self) -> bytes:
        """All that `from_snapshot` needs to build the same top without the trunk."""
        tensors = _detached(self.trained_parameters())
        if self.position_bias is not None:
            tensors["position_bias"] = self.position_bias.detach().cpu().contiguous()
        self.trunk_fingerprint()
        facts = {
            "config": json.dumps(self.model.config.to_dict(), default=str),
            "trunk": json.dumps(self._trunk_facts),
        }
        return save(tensors, metadata=facts)

    @classmethod
    def from_snapshot(cls, path: Path, unfreeze: int) -> FreezableBeit:
        """A network whose trunk was released, from `top_snapshot`; reads the top's weights only."""
        with safe_open(path, framework="pt") as f:
            facts, names = f.metadata(), set(f.keys())
            with torch.device("meta"):  # shapes only: no memory for a trunk that nobody will use
                beit = BeitForImageClassification(BeitConfig.from_dict(json.loads(facts["config"])))
                network = cls(beit, unfreeze)
            network._trunk_facts = json.loads(facts["trunk"])
            network._drop_frozen()
            # Cloned, as a tensor of the file would keep all of the file's pages in memory.
            bias = f.get_tensor("position_bias").clone() if "position_bias" in names else None
            network.register_buffer("position_bias", bias, persistent=False)
            for module in network.trained_modules():
                module.to_empty(device="cpu")
            _read(f, names - {"position_bias"}, network)
        return network


def _drops_paths_only(layer: Any) -> bool:
    """Whether a BeitLayer is one that `_sparse_drop_path` computes: drop path, no other dropout."""
    return (
        layer.training
        and getattr(layer.drop_path, "drop_prob", 0.0) > 0
        and layer.dropout.p == 0
        and layer.relative_position_bias is None
    )


def _sparse_drop_path(layer: Any, tokens: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A BeitLayer in train mode, without computing what drop path then multiplies by zero.

    The same function of the same random numbers as transformers' layer, for about a tenth less
    arithmetic at the paper's drop rates.
    """

    def attend(x: torch.Tensor) -> torch.Tensor:
        return layer.attention(layer.layernorm_before(x), attention_mask=bias)[0]

    def transform(x: torch.Tensor) -> torch.Tensor:
        return layer.mlp(layer.layernorm_after(x))

    for branch, scale in ((attend, layer.lambda_1), (transform, layer.lambda_2)):
        p = layer.drop_path.drop_prob
        shape = (len(tokens), 1, 1)
        keep = torch.floor(torch.rand(shape, dtype=tokens.dtype, device=tokens.device) + (1 - p))
        kept = keep.flatten().nonzero().squeeze(1)
        if not len(kept):  # one image times zero, so that gradients are zero and not absent
            kept = torch.zeros(1, dtype=torch.long, device=tokens.device)
        update = branch(tokens[kept]) * (scale * keep[kept] / (1 - p))
        tokens = tokens.index_add(0, kept, update.to(tokens.dtype))
    return tokens


def _detached(parameters: Iterator[tuple[str, nn.Parameter]]) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().contiguous() for name, p in parameters}


@torch.no_grad()
def _read(file: Any, names: set[str], network: FreezableBeit) -> None:
    """Copy the trained parameters from an open safetensors file, one in memory at a time."""
    parameters = dict(network.trained_parameters())
    assert names == parameters.keys(), names ^ parameters.keys()
    for name, parameter in parameters.items():
        parameter.copy_(file.get_tensor(name))


def save_top(network: FreezableBeit, path: Path) -> None:
    """Write the trained parameters under Hugging Face's names, with the trunk's fingerprint.

    A safetensors file, for `load_top`.
    """
    facts = {"trunk_sha256": network.trunk_fingerprint()}
    save_file(_detached(network.trained_parameters()), path, metadata=facts)


def load_top(network: FreezableBeit, path: Path) -> None:
    """Put saved parameters back on top of the trunk that they were trained on.

    Raises UserError where the trunk, the depth or a shape differs.
    """
    with safe_open(path, framework="pt") as f:
        saved = (f.metadata() or {}).get("trunk_sha256")
        shapes = {name: tuple(f.get_slice(name).get_shape()) for name in f.keys()}  # noqa: SIM118
        own = {name: tuple(p.shape) for name, p in network.trained_parameters()}
        if shapes != own:
            raise UserError(
                f"{path}: holds {len(shapes)} tensors that are not this network's {len(own)} "
                "trained ones; use the unfreeze and backbone values of the run that saved it."
            )
        if saved != (found := network.trunk_fingerprint()):
            raise UserError(
                f"{path}: was trained on a trunk with SHA-256 {saved}, this one has {found}; give "
                "the backbone.weights that its run used."
            )
        _read(f, set(shapes), network)
