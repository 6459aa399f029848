"""How many images of a batch are passed through a network at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from beitmed.backbones.freezing import FreezableBackbone

_NUMBERS_AT_ONCE_ON_A_CPU = 8 * 197 * 1024  # tokens of eight images of BEiT-large


def chunks(
    batch: Mapping[str, Any], network: FreezableBackbone
) -> Iterator[tuple[float, dict[str, Any]]]:
    """Parts of a batch and their share of it, to be passed one after the other.

    On a CPU what a few images need stays near the processor, and a batch's activations never exist
    at the same time; the sum of the parts' gradients is the batch's. How many are passed at once is
    decided by the network's geometry alone: as many, a power of two, as have about the tokens of
    eight images of BEiT-large. A GPU gets the batch whole.
    """
    n = len(batch["labels"])
    size = at_once(batch, network, n)
    for start in range(0, n, size):
        part = cut(batch, start, start + size)
        yield len(part["labels"]) / n, part


def cut(batch: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    """The images start to stop of a batch."""
    return {
        name: cut(values, start, stop) if isinstance(values, Mapping) else values[start:stop]
        for name, values in batch.items()
    }


def at_once(batch: Mapping[str, Any], network: FreezableBackbone, n: int) -> int:
    """How many of a batch's n images `chunks` passes at once."""
    if next(network.parameters()).device.type != "cpu":
        return n
    return at_once_on_a_cpu(_numbers(batch, network))


def at_once_on_a_cpu(numbers: int) -> int:
    """How many images, of which each layer passes on so many numbers."""
    return 1 << max(0, int(math.log2(_NUMBERS_AT_ONCE_ON_A_CPU / numbers)))


def _numbers(batch: Mapping[str, Any], network: FreezableBackbone) -> int:
    """How many numbers the layers pass on for one image of a batch."""
    if "features" in batch:
        return batch["features"][0].numel()
    return network.tokens(batch["pixel_values"].shape[-1]) * network.model.config.hidden_size
