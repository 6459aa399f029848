"""What the freezing machine must know of a family of vision transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

Shared = Mapping[str, torch.Tensor]  # what all layers read besides tokens, by name


def _embed(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    return model.base_model.embeddings(pixels)


def _plain(layer: Any, tokens: torch.Tensor, shared: Shared, side: int) -> torch.Tensor:
    return layer(tokens)


def _nothing(model: Any) -> dict[str, torch.Tensor]:
    return {}


@dataclass(frozen=True)
class Family:
    """What the freezing machine must know of a family. Paths are those of submodules of the model.

    classifier: the whole model; transformers' own ForImageClassification where there is one.
    layers: the path of the list of layers.
    below: what runs before the layers; absent ones are skipped.
    norm, norm_first: the last LayerNorm, and whether tokens are normalised before they are pooled.
        A norm after the pooling belongs to the head: no checkpoint of a trunk brings it.
    pooled: what is pooled, side by side: the CLS token, or the mean of the patch tokens.
    prefix: config -> how many tokens stand before the patches.
    embed: (model, pixels [n, 3, h, w]) -> tokens [n, prefix + patches, hidden].
    shared: model -> tensors that the frozen part makes once and every layer reads.
    layer: (layer, tokens, shared, side of the image) -> tokens.
    mean_of_layer: the same -> the mean of the patch tokens [n, hidden], where that is all that is
        read of the last layer and costs less than its tokens; None where it does not.
    interpolates: whether images of another size than config.image_size are its normal use.
    processor: its image processor where weights are random; a checkpoint brings its own. So are
    fixed, layer_scale: further keys of its configuration, and the one of layer scale's start.
    always: keys of a checkpoint's configuration that are set, whatever it says.
    zero_at_first: parameters that transformers starts at zero, though a trained model has them.
    """

    classifier: Any
    layers: str
    below: tuple[str, ...]
    norm: str
    pooled: tuple[Literal["cls", "mean"], ...]
    processor: Any
    norm_first: bool = True
    prefix: Callable[[Any], int] = lambda config: 1
    embed: Callable[[Any, torch.Tensor], torch.Tensor] = _embed
    shared: Callable[[Any], dict[str, torch.Tensor]] = _nothing
    layer: Callable[[Any, torch.Tensor, Shared, int], torch.Tensor] = _plain
    mean_of_layer: Callable[[Any, torch.Tensor, Shared, int], torch.Tensor] | None = None
    interpolates: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    layer_scale: str | None = None
    always: Mapping[str, Any] = field(default_factory=dict)
    zero_at_first: tuple[str, ...] = ()

    def layer_list(self, model: Any) -> nn.ModuleList:
        return model.get_submodule(self.layers)

    def modules_below(self, model: Any) -> list[nn.Module]:
        return [m for path in self.below if (m := submodule(model, path)) is not None]

    def modules_above(self, model: Any) -> list[nn.Module]:
        """The last norm and the classifier, which are trained at every depth."""
        return [model.get_submodule(self.norm), model.classifier]

    def drop_below(self, model: Any) -> None:
        for path in self.below:
            parent, _, name = path.rpartition(".")
            if submodule(model, path) is not None:
                setattr(model.get_submodule(parent), name, None)

    def finish(self, model: Any, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens above the last layer [n, prefix + patches, hidden] -> logits [n, classes]."""
        norm = model.get_submodule(self.norm)
        if self.norm_first:
            return model.classifier(self._pick(model, norm(tokens)))
        return model.classifier(norm(self._pick(model, tokens)))

    def pool(self, model: Any, tokens: torch.Tensor) -> torch.Tensor:
        """The part of `finish` that has no parameters: tokens -> [n, pooled_size].

        A norm before the pooling is trained, but its scale and shift are the same for every token
        and so commute with taking one or the mean: only its normalisation is done here.
        """
        if self.norm_first and "mean" in self.pooled:
            norm = model.get_submodule(self.norm)
            tokens = nn.functional.layer_norm(tokens, norm.normalized_shape, eps=norm.eps)
        return self._pick(model, tokens)

    def finish_pooled(self, model: Any, pooled: torch.Tensor) -> torch.Tensor:
        """What `pool` gives -> logits [n, classes]."""
        norm = model.get_submodule(self.norm)
        if self.norm_first and "mean" in self.pooled:
            parts = pooled.unflatten(1, (len(self.pooled), -1))
            return model.classifier((parts * norm.weight + norm.bias).flatten(1))
        return model.classifier(norm(pooled))

    def _pick(self, model: Any, tokens: torch.Tensor) -> torch.Tensor:
        start = self.prefix(model.config)
        taken = [tokens[:, 0] if p == "cls" else tokens[:, start:].mean(1) for p in self.pooled]
        return taken[0] if len(taken) == 1 else torch.cat(taken, dim=1)

    def pooled_size(self, config: Any) -> int:
        return len(self.pooled) * config.hidden_size


def submodule(model: Any, path: str) -> nn.Module | None:
    for name in path.split("."):
        model = getattr(model, name, None)
    return model


def side(size: Any) -> Any:
    """An image's or patch's side; configurations may say [side, side]."""
    if isinstance(size, (list, tuple)) and len(set(size)) == 1:
        return size[0]
    return size
