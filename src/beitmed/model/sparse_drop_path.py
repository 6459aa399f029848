"""Drop path in BEiT's layers, without computing what it drops."""

from __future__ import annotations

from typing import Any

import torch


def beit_layer(
    layer: Any, tokens: torch.Tensor, bias: torch.Tensor | None, resolution: tuple[int, int]
) -> torch.Tensor:
    """What a BeitLayer of transformers gives for tokens [n, 1 + patches, hidden]."""
    if _drops_paths_only(layer):
        return _sparse_drop_path(layer, tokens, bias)
    return layer(tokens, attention_mask=bias, resolution=resolution)


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
