"""Self-attention of a BEiT: where the tokens that the classifier reads take their values from.

Token 0 is CLS, tokens 1 and up are the patches, row by row. Entry (r, c) of an attention matrix is
the share of attention that token r, the row, pays to token c; each row sums to 1. Layers are
counted from 1, so that layer 24 of BEiT-large is transformers' `beit.layers.23`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from beitmed.backbones.freezing import FreezableBackbone

Rows = Literal["patches", "cls"]


@dataclass(frozen=True)
class Reading:
    """What chosen rows of the attention matrices say about some images, on the CPU.

    heads float32 [n, heads, 1 + patches]: shares of one layer, head by head; rollout float32
    [n, 1 + patches]: shares through all layers; logits float32 [n, classes] of the same pass.
    """

    heads: torch.Tensor
    rollout: torch.Tensor
    logits: torch.Tensor


def read_by_head(network: FreezableBackbone) -> Rows:
    """Which tokens of the last layer the classifier reads: the patches' mean, or CLS alone.

    BEiT's pre-trained checkpoints pool the patches; CLS is then read by nothing after the last
    layer, and its row explains nothing.
    """
    return "patches" if network.model.config.use_mean_pooling else "cls"


def rows_shown(network: FreezableBackbone, asked: str) -> Rows:
    """The rows that "head", "patches" or "cls" stands for."""
    assert asked in ("head", "patches", "cls"), asked
    if asked == "head":
        return read_by_head(network)
    return "cls" if asked == "cls" else "patches"


def of_rows(attention: torch.Tensor, rows: Rows) -> torch.Tensor:
    """[..., 1 + patches, 1 + patches] -> [..., 1 + patches]: CLS's row, or the patch rows' mean."""
    return attention[..., 0, :] if rows == "cls" else attention[..., 1:, :].mean(-2)


def attention_maps(
    network: FreezableBackbone, pixel_values: torch.Tensor, layer: int
) -> torch.Tensor:
    """Attention probabilities of a layer [n, heads, 1 + patches, 1 + patches], in eval mode.

    softmax(q k' / sqrt(d) + relative position bias), as the layer multiplies it with its values.
    pixel_values [n, 3, h, w] as the image processor makes them; layer from 1 to their number.
    ValueError where there is no such layer.
    """
    kept: list[torch.Tensor] = []
    _check_layer(network, layer)

    def keep(number: int, attention: torch.Tensor) -> None:
        if number == layer:
            kept.append(attention)

    _forward(network, pixel_values, keep)
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
            heads.append(of_rows(attention, rows))
        joint[:] = [_roll(attention.mean(1), joint[0] if joint else None)]

    logits = _forward(network, pixel_values, gather)
    rolled = of_rows(joint[0], rows)
    return Reading(*(t.float().cpu() for t in (heads[0], rolled, logits)))


def _check_layer(network: FreezableBackbone, layer: int) -> None:
    layers = len(network.model.beit.layers)
    if not 1 <= layer <= layers:
        raise ValueError(f"layer: found {layer}; allowed: 1 to {layers}")


@torch.no_grad()
def _forward(
    network: FreezableBackbone,
    pixel_values: torch.Tensor,
    take: Callable[[int, torch.Tensor], None],
) -> torch.Tensor:
    """Pass images; `take` gets each layer's number and probabilities [n, heads, t, t] in turn."""
    with _probabilities(network):
        hooks = [
            layer.attention.register_forward_hook(partial(_hand_over, take, number))
            for number, layer in enumerate(network.model.beit.layers, start=1)
        ]
        try:
            return network(pixel_values=pixel_values)["logits"]
        finally:
            for hook in hooks:
                hook.remove()


def _hand_over(
    take: Callable[[int, torch.Tensor], None], number: int, module: Any, args: Any, out: Any
) -> None:
    attention = out[1]
    assert attention is not None, "only eager attention returns its probabilities"
    take(number, attention.float())


@contextmanager
def _probabilities(network: FreezableBackbone) -> Iterator[None]:
    """Eval mode, and an attention that returns its probabilities, which the fast ones do not."""
    model, training = network.model, network.training
    before = model.config._attn_implementation
    network.eval()
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        network.train(training)
