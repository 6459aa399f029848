"""BEiT's layers while they are trained, without arithmetic that no result depends on.

The functions and gradients are those of transformers' layers, for the same random numbers and up
to rounding. What is not computed:

- the branches of images that drop path then multiplies by zero (on a CPU: a GPU would have to wait
  for their number, which takes longer than they do);
- gradients for what the frozen trunk gave, which nobody reads, below the lowest trained layer;
- the last product of the last layer, token by token, where only the mean over tokens is read:
  a linear layer of the mean is the mean of the linear layer.

A layer in eval mode is transformers' own, to the bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call

_GATHERED_ON = ("cpu",)


def beit_layer(
    layer: Any, tokens: torch.Tensor, bias: torch.Tensor | None, resolution: tuple[int, int]
) -> torch.Tensor:
    """What a BeitLayer of transformers gives for tokens [n, 1 + patches, hidden]."""
    if not _drops_paths_only(layer):
        return layer(tokens, attention_mask=bias, resolution=resolution)
    tokens = _attended(layer, tokens, bias)
    kept, scale = _drawn(layer, tokens, layer.lambda_2)
    return _added(tokens, kept, layer.mlp(layer.layernorm_after(_of(kept, tokens))) * scale)


def mean_of_beit_layer(
    layer: Any, tokens: torch.Tensor, bias: torch.Tensor | None, resolution: tuple[int, int]
) -> torch.Tensor:
    """The mean over the patches of what a BeitLayer gives: [n, hidden]."""
    if not _drops_paths_only(layer) or type(layer.mlp.fc2) is not nn.Linear:
        return beit_layer(layer, tokens, bias, resolution)[:, 1:].mean(1)
    tokens = _attended(layer, tokens, bias)
    kept, scale = _drawn(layer, tokens, layer.lambda_2)
    patches = tokens[:, 1:]
    inner = layer.mlp.activation_fn(layer.mlp.fc1(layer.layernorm_after(_of(kept, patches))))
    update = layer.mlp.fc2(inner.mean(1)) * scale.flatten(1)
    return _added(patches.mean(1), kept, update)


def _drops_paths_only(layer: Any) -> bool:
    """Whether a BeitLayer is one that is computed here: trained, drop path, no other dropout."""
    return layer.training and layer.dropout.p == 0 and layer.relative_position_bias is None


def _attended(layer: Any, tokens: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Tokens after a layer's attention, its residual included."""
    kept, scale = _drawn(layer, tokens, layer.lambda_1)
    attend = _attend if tokens.requires_grad or _adapted(layer) else _attend_to_constants
    return _added(tokens, kept, attend(layer, _of(kept, tokens), bias) * scale)


def _drawn(
    layer: Any, tokens: torch.Tensor, layer_scale: torch.Tensor | float
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """The images whose branch is computed, [k], and what it is multiplied by, [k, 1, hidden].

    Drawn as transformers' BeitDropPath does. None: all are, some of them to be multiplied by zero.
    """
    n, p = len(tokens), getattr(layer.drop_path, "drop_prob", 0.0)
    keep = tokens.new_ones(n, 1, 1)
    if p > 0:
        keep = torch.floor(torch.rand_like(keep) + (1 - p))
    if tokens.device.type not in _GATHERED_ON:
        return None, layer_scale * keep / (1 - p)
    kept = keep.flatten().nonzero().squeeze(1)
    if not len(kept):  # one image times zero, so that gradients are zero and not absent
        kept = torch.zeros(1, dtype=torch.long, device=tokens.device)
    return kept, layer_scale * keep[kept] / (1 - p)


def _of(kept: torch.Tensor | None, tokens: torch.Tensor) -> torch.Tensor:
    return tokens if kept is None else tokens[kept]


def _added(tokens: torch.Tensor, kept: torch.Tensor | None, update: torch.Tensor) -> torch.Tensor:
    update = update.to(tokens.dtype)
    return tokens + update if kept is None else tokens.index_add(0, kept, update)


def _adapted(layer: Any) -> bool:
    """Whether a projection is not the plain linear layer, with the biases, that BEiT has."""
    query, key, value = (getattr(layer.attention, f"{name}_proj") for name in "qkv")
    plain = all(type(linear) is nn.Linear for linear in (query, key, value))
    return not plain or query.bias is None or value.bias is None


def _attend(layer: Any, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return layer.attention(layer.layernorm_before(x), attention_mask=bias)[0]


def _attend_to_constants(layer: Any, x: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The same for x that need no gradient.

    W (scale * x' + shift) + b is (W * scale) x' + (W shift + b): with the norm's scale and shift in
    the weights, no product has to carry gradients back to them through every token. A key has no
    bias, and needs none: W shift adds the same to a query's score of every key, which a softmax
    does not see.
    """
    norm, changed = layer.layernorm_before, {}
    for name in ("q_proj", "k_proj", "v_proj"):
        linear = getattr(layer.attention, name)
        changed[f"{name}.weight"] = linear.weight * norm.weight
        if linear.bias is not None:
            # A sum, not a product of matrices: that would be rounded to bf16 where it is asked for.
            changed[f"{name}.bias"] = linear.bias + (linear.weight * norm.bias).sum(1)
    normalised = nn.functional.layer_norm(x, norm.normalized_shape, eps=norm.eps)
    found: tuple[torch.Tensor, Any] = functional_call(
        layer.attention, changed, (normalised,), {"attention_mask": bias}
    )
    return found[0]
