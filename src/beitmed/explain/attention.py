"""Self-attention of a transformer: where the tokens that its classifier reads take values from.

Prefix tokens stand first (CLS, then a family's others; I-JEPA has none), then the patches, row by
row; `tokens` below is their number together. Entry (r, c) of an attention matrix is the share of
attention that token r, the row, pays to token c; each row sums to 1. Layers are counted from 1, so
that layer 24 of BEiT-large is transformers' `beit.layers.23`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from beitmed.backbones.freezing import FreezableBackbone

Rows = Literal["patches", "cls", "both"]


@dataclass(frozen=True)
class Reading:
    """What chosen rows of the attention matrices say about some images, on the CPU.

    heads float32 [n, heads, tokens]: shares of one layer, head by head; rollout float32
    [n, tokens]: shares through all layers; logits float32 [n, classes] of the same pass.
    """

    heads: torch.Tensor
    rollout: torch.Tensor
    logits: torch.Tensor


def read_by_head(network: FreezableBackbone) -> Rows:
    """Which tokens above the last layer the classifier reads: the patches' mean, CLS, or both.

    BEiT's pre-trained checkpoints pool the patches; CLS is then read by nothing after the last
    layer, and its row explains nothing.
    """
    pooled = network.family.pooled
    return "both" if len(pooled) == 2 else "patches" if pooled == ("mean",) else "cls"


def rows_shown(network: FreezableBackbone, asked: str) -> Rows:
    """The rows that "head", "patches" or "cls" stands for."""
    assert asked in ("head", "patches", "cls"), asked
    if asked == "head":
        return read_by_head(network)
    return "cls" if asked == "cls" else "patches"


def prefix(network: FreezableBackbone) -> int:
    """How many tokens stand before the patches."""
    return network.family.prefix(network.model.config)


def of_rows(attention: torch.Tensor, rows: Rows, prefix: int) -> torch.Tensor:
    """[..., tokens, tokens] -> [..., tokens]: CLS's row, the patch rows' mean, or those two's."""
    if rows == "both":
        return (of_rows(attention, "cls", prefix) + of_rows(attention, "patches", prefix)) / 2
    return attention[..., 0, :] if rows == "cls" else attention[..., prefix:, :].mean(-2)


def attention_maps(
    network: FreezableBackbone, pixel_values: torch.Tensor, layer: int
) -> torch.Tensor:
    """Attention probabilities of a layer [n, heads, tokens, tokens], in eval mode.

    softmax(q k' / sqrt(d) + relative position bias), as the layer multiplies it with its values.
    pixel_values [n, 3, h, w] as the image processor makes them; layer from 1 to their number.
    ValueError where there is no such layer.
    """
    kept: list[torch.Tensor] = []
    _check_layer(network, layer)

    def keep(number: int, attention: torch.Tensor) -> None:
        if number == layer:
            kept.append(attention)

    with torch.no_grad(), handing_over(network, keep):
        network(pixel_values=pixel_values)
    return kept[0]


def rollout(attentions: Iterable[torch.Tensor]) -> torch.Tensor:
    """Attention rollout over layers, first to last: [n, t, t] each -> float64 [n, t, t].

    R_0 = I; R_l = A_l R_(l-1) with A_l = (W_l + I) / 2, where W_l is layer l's attention averaged
    over its heads and I stands for the residual connection. Rows of A_l, and so of R_l, sum to 1.
    Source: S. Abnar and W. Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, section
    3. It leaves out the MLPs, the values, layer scale, and which head matters.
    """
    joint: torch.Tensor | None = None
    for attention in attentions:
        joint = _roll(attention, joint)
    if joint is None:
        raise ValueError("rollout: no layers, but at least one is needed")
    return joint


def _roll(attention: torch.Tensor, below: torch.Tensor | None) -> torch.Tensor:
    identity = torch.eye(attention.shape[-1], dtype=torch.float64, device=attention.device)
    mixed = attention.double() + identity
    mixed = mixed / mixed.sum(-1, keepdim=True)
    return mixed if below is None else mixed @ below


def read(
    network: FreezableBackbone, pixel_values: torch.Tensor, layer: int, rows: Rows | None = None
) -> Reading:
    """The rows' shares in a layer and through all layers, from one pass; keeps no full matrices.

    rows: None takes those that the classifier reads. Otherwise as `attention_maps`.
    """
    _check_layer(network, layer)
    rows = rows or read_by_head(network)
    heads: list[torch.Tensor] = []
    joint: list[torch.Tensor] = []

    def gather(number: int, attention: torch.Tensor) -> None:
        if number == layer:
            heads.append(of_rows(attention, rows, prefix(network)))
        joint[:] = [_roll(attention.mean(1), joint[0] if joint else None)]

    with torch.no_grad(), handing_over(network, gather):
        logits = network(pixel_values=pixel_values)["logits"]
    rolled = of_rows(joint[0], rows, prefix(network))
    return Reading(*(t.float().cpu() for t in (heads[0], rolled, logits)))


def relevance(
    attentions: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]
) -> torch.Tensor:
    """How relevant each token was for each other, by attention and its gradient: [n, t, t] float64.

    R_0 = I; R_l = R_(l-1) + A_l R_(l-1), where A_l is the mean over heads of the positive part of
    layer l's attention times the gradient of the score by it, [n, heads, t, t] each, first layer
    first. I is taken away at the end. Source: H. Chefer, S. Gur and L. Wolf, Generic
    Attention-model Explainability, ICCV 2021, equations 5 and 6.
    """
    size = attentions[0].shape[-1]
    identity = torch.eye(size, dtype=torch.float64, device=attentions[0].device)
    joint = identity.expand(len(attentions[0]), size, size)
    for attention, gradient in zip(attentions, gradients, strict=True):
        joint = joint + (attention * gradient).clamp(min=0).mean(1).double() @ joint
    return joint - identity


def _check_layer(network: FreezableBackbone, layer: int) -> None:
    layers = len(network.family.layer_list(network.model))
    if not 1 <= layer <= layers:
        raise ValueError(f"layer: found {layer}; allowed: 1 to {layers}")


@contextmanager
def handing_over(
    network: FreezableBackbone, take: Callable[[int, torch.Tensor], None]
) -> Iterator[None]:
    """While images pass, `take` gets each layer's number and probabilities [n, heads, t, t].

    In eval mode, with an attention that returns its probabilities, which the fast ones do not.
    """
    model, training = network.model, network.training
    before = model.config._attn_implementation
    network.eval()
    model.set_attn_implementation("eager")
    layers: Any = network.family.layer_list(model)
    hooks = [
        layer.attention.register_forward_hook(partial(_hand_over, take, number))
        for number, layer in enumerate(layers, start=1)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        model.set_attn_implementation(before)
        network.train(training)


def _hand_over(
    take: Callable[[int, torch.Tensor], None], number: int, module: Any, args: Any, out: Any
) -> None:
    attention = out[1]
    assert attention is not None, "only eager attention returns its probabilities"
    take(number, attention.float())
