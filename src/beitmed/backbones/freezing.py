"""A vision transformer, split by depth into a frozen trunk and a trainable top.

What is frozen is decided on module objects by their index, never by parameter names: those differ
between versions of transformers, and a name that matches nothing freezes or trains in silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save, save_file
from torch import nn

from beitmed.backbones import families
from beitmed.errors import UserError

Unfreeze = int | Literal["all"]


class FreezableBackbone(nn.Module):
    """A classifier whose top layers, last norm and classifier are trained, the rest frozen.

    model: of any family in `families.FAMILIES`; what differs between them stands there.
    unfreeze: the number of top layers trained; 0 trains norm and classifier only, "all" trains
        every parameter that a classification uses.
    trunk_mode: "eval" keeps frozen modules in eval mode, so that what they compute for an image
        never changes. "train" is what the paper's code did: the whole Hugging Face model in train
        mode, so that drop path makes even frozen layers random at each step.

    loss: of logits [n, classes] and labels; cross entropy, unless a task sets its own.
    """

    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def __init__(
        self,
        model: Any,
        unfreeze: Unfreeze,
        trunk_mode: Literal["eval", "train"] = "eval",
    ) -> None:
        super().__init__()
        self.loss = nn.functional.cross_entropy
        self.model: Any = model  # transformers annotates its modules as perhaps None
        self.family = families.of(model.config)
        self.whole = trunk_mode == "train" or unfreeze == "all"
        layers = self.family.layer_list(model)
        self.first_trained = -1 if unfreeze == "all" else len(layers) - unfreeze
        assert self.first_trained >= -1, f"unfreeze={unfreeze} of {len(layers)} layers"
        self.requires_grad_(unfreeze == "all")
        for module in self.trained_modules():
            module.requires_grad_(True)
        for name, parameter in model.named_parameters():
            if name.endswith("mask_token"):
                # Used in pre-training only: it would be counted as trained, without a gradient.
                parameter.requires_grad_(False)
        self._trunk_facts = self._measure()
        self.train(self.training)
        # Frozen with the trunk, and yet every layer above needs it: made once, not per step.
        self._share({} if self.whole else self._make_shared())

    def trained_modules(self) -> list[nn.Module]:
        """The modules above the frozen trunk, in the order in which an image passes them."""
        if self.first_trained == -1:
            return [self.model]
        top = self.family.layer_list(self.model)[self.first_trained :]
        return [*top, *self.family.modules_above(self.model)]

    def frozen_modules(self) -> list[nn.Module]:
        """Embeddings, what all layers share, and the layers below the trained ones."""
        if self.first_trained == -1:
            return []
        layers = self.family.layer_list(self.model)[: self.first_trained]
        return [*self.family.modules_below(self.model), *layers]

    def adapt(self, inject: Callable[[list[nn.Module]], list[nn.Parameter]]) -> None:
        """Freeze the top layers' own weights and train what `inject` puts into them instead.

        inject: top layers -> the parameters that it added to them.
        """
        top = list(self.family.layer_list(self.model)[self.first_trained :])
        digest = hashlib.sha256(self.trunk_fingerprint().encode())
        for layer in top:
            for name, p in sorted(layer.named_parameters()):
                _update(digest, name, p)
        above = [p for m in self.family.modules_above(self.model) for p in m.parameters()]
        _, total = self.count()
        added = inject(top)
        self.requires_grad_(False)
        for parameter in (*added, *above):
            parameter.requires_grad_(True)
        self._trunk_facts = {
            "trained": sum(p.numel() for p in (*added, *above)),
            "total": total + sum(p.numel() for p in added),
            "sha256": digest.hexdigest(),
        }
        self.train(self.training)

    @torch.no_grad()
    def _make_shared(self) -> dict[str, torch.Tensor]:
        return self.family.shared(self.model)

    def _share(self, tensors: dict[str, torch.Tensor]) -> None:
        self._shared_names = tuple(tensors)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def shared(self) -> dict[str, torch.Tensor]:
        """What every layer reads besides tokens: a position bias, rotary embeddings, or nothing."""
        return {name: self.get_buffer(name) for name in self._shared_names}

    def train(self, mode: bool = True) -> FreezableBackbone:
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

        pixel_values [n, 3, h, w]; features [n, tokens, hidden], or pooled [n, pooled];
        labels int [n], or float [n, classes] of 0 and 1 where an image has several.
        """
        if self.whole:
            logits = self.model(pixel_values=pixel_values).logits
        else:
            if features is None:
                assert pixel_values is not None
                features = self.trunk(pixel_values)
            logits = self.top(features)
        return {"logits": logits} | ({} if labels is None else {"loss": self.loss(logits, labels)})

    def trunk(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """pixel_values [n, 3, h, w] -> what the top reads: tokens [n, tokens, hidden].

        CLS and register tokens, as the family has them, stand before the patches. Where no layer
        is trained (unfreeze=0), that is pooled already: [n, pooled].
        """
        return self.below(pixel_values, [self.first_trained])[0]

    @torch.no_grad()
    def below(self, pixel_values: torch.Tensor, boundaries: Sequence[int]) -> list[torch.Tensor]:
        """What each of these layers reads, from one pass: tokens [n, tokens, hidden].

        boundaries: indices of layers, from below. Behind the last layer, that is at the number of
        layers, it is pooled: [n, pooled].
        """
        tokens, start, found = self.family.embed(self.model, pixel_values), 0, []
        layers = self.family.layer_list(self.model)
        for boundary in boundaries:
            tokens = self._through(layers[start:boundary], tokens)
            start, last = boundary, boundary == len(layers)
            found.append(self.family.pool(self.model, tokens) if last else tokens)
        return found

    @property
    def pools(self) -> bool:
        """Whether the trunk ends in pooled features, since no layer above it is trained."""
        return self.first_trained == len(self.family.layer_list(self.model))

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """What `trunk` gives -> [n, features]: of tokens the mean of the patches'."""
        if self.pools:
            return features
        return features[:, self.family.prefix(self.model.config) :].float().mean(dim=1)

    def top(self, features: torch.Tensor) -> torch.Tensor:
        """What `trunk` gives -> logits [n, classes]."""
        features = features.to(self.model.classifier.weight.dtype)
        if self.pools:
            return self.family.finish_pooled(self.model, features)
        layers = self.family.layer_list(self.model)[self.first_trained :]
        if self.family.mean_of_layer is None:
            return self.family.finish(self.model, self._through(layers, features))
        tokens = self._through(layers[:-1], features)
        mean = self.family.mean_of_layer(layers[-1], tokens, self.shared, self._side)
        return self.family.finish_pooled(self.model, mean)

    def _through(self, layers: nn.ModuleList, tokens: torch.Tensor) -> torch.Tensor:
        shared, side = self.shared, self._side
        for layer in layers:
            tokens = self.family.layer(layer, tokens, shared, side)
        return tokens

    def tokens(self, side: int) -> int:
        """How many tokens an image of side x side pixels has."""
        patch = families.side(self.model.config.patch_size)
        return self.family.prefix(self.model.config) + (side // patch) ** 2

    @property
    def _side(self) -> int:
        return families.side(self.model.config.image_size)

    def trained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self.model.named_parameters() if p.requires_grad)

    def count(self) -> tuple[int, int]:
        """Trained and all parameters, the trunk's included where it has been released."""
        trained = sum(p.numel() for _, p in self.trained_parameters())
        # A network from a snapshot may have another head: of as many classes as its own dataset.
        return trained, trained + self._trunk_facts["total"] - self._trunk_facts["trained"]

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
                    _update(digest, name, p)
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
        self.family.drop_below(self.model)
        layers = self.family.layer_list(self.model)
        for i in range(self.first_trained):
            layers[i] = nn.Identity()  # the layers above keep their index, and so their names

    def top_snapshot(self) -> bytes:
        """All that `from_snapshot` needs to build the same top without the trunk."""
        tensors = _detached(self.trained_parameters())
        tensors |= _detached(iter(self.shared.items()))
        self.trunk_fingerprint()
        facts = {"config": self.model.config.to_dict(), "trunk": self._trunk_facts}
        # One entry: of several safetensors writes another order each time, and so other bytes.
        return save(tensors, metadata={"facts": json.dumps(facts, default=str)})

    @classmethod
    def from_snapshot(cls, path: Path, unfreeze: int) -> FreezableBackbone:
        """A network whose trunk was released, from `top_snapshot`; reads the top's weights only."""
        with safe_open(path, framework="pt") as f:
            facts, names = json.loads(f.metadata()["facts"]), set(f.keys())
            values = facts["config"]
            classifier = families.FAMILIES[values["model_type"]].classifier
            with torch.device("meta"):  # shapes only: no memory for a trunk that nobody will use
                model = classifier(classifier.config_class.from_dict(values))
                network = cls(model, unfreeze)
            network._trunk_facts = facts["trunk"]
            network._drop_frozen()
            # Cloned, as a tensor of the file would keep all of the file's pages in memory.
            shared = names - {name for name, _ in network.trained_parameters()}
            network._share({name: f.get_tensor(name).clone() for name in shared})
            for module in network.trained_modules():
                module.to_empty(device="cpu")
            _read(f, names - shared, network)
        return network


def _update(digest: Any, name: str, p: nn.Parameter) -> None:
    digest.update(f"{name} {tuple(p.shape)} {p.dtype}".encode())
    digest.update(p.detach().cpu().contiguous().numpy().data)


def _detached(parameters: Iterator[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: p.detach().cpu().contiguous() for name, p in parameters}


@torch.no_grad()
def _read(file: Any, names: set[str], network: FreezableBackbone) -> None:
    """Copy the trained parameters from an open safetensors file, one in memory at a time."""
    parameters = dict(network.trained_parameters())
    assert names == parameters.keys(), names ^ parameters.keys()
    for name, parameter in parameters.items():
        parameter.copy_(file.get_tensor(name))


def save_top(network: FreezableBackbone, path: Path) -> None:
    """Write the trained parameters under Hugging Face's names, with the trunk's fingerprint.

    A safetensors file, for `load_top`.
    """
    facts = {"trunk_sha256": network.trunk_fingerprint()}
    save_file(_detached(network.trained_parameters()), path, metadata=facts)


def load_top(network: FreezableBackbone, path: Path) -> None:
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
