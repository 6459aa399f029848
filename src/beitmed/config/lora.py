"""What can be configured of LoRA. Imports no torch."""

from __future__ import annotations

from typing import Literal

from beitmed.config.fields import Count, Momentum, Positive, Strict


class LoraConfig(Strict):
    """Low-rank updates W + alpha / rank * B A of the linear maps in the top `unfreeze` layers.

    dropout: of what A reads, while training.
    target: the projections of the attention, or those and the linear maps of the MLP.
    """

    rank: Count
    alpha: Positive
    dropout: Momentum
    target: Literal["attention", "attention_and_mlp"]
