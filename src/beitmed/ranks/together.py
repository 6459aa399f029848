"""What ranks of one run hand one another; in a process that is none, the process itself is all."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")
_objects: Any = None  # the group by which ranks hand one another objects; None: the default one


def join(gpu: bool, patience: float) -> None:
    """Meet the other ranks; patience: seconds after which one that is waited for is given up.

    gpu: whether this one computes on a GPU of its own.
    """
    global _objects
    wait = timedelta(seconds=patience)
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl", timeout=wait)
        _objects = dist.new_group(backend="gloo", timeout=wait)
    else:
        dist.init_process_group("gloo", timeout=wait)


def leave() -> None:
    """Part from the others once all are through."""
    dist.barrier(group=_objects)
    dist.destroy_process_group()


def count() -> int:
    """How many ranks there are; 1 in a process that is none."""
    return dist.get_world_size() if dist.is_initialized() else 1


def index() -> int:
    """Which rank this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this is the process that writes."""
    return index() == 0


def told(value: Any = None) -> Any:
    """On every rank what the first one gives."""
    box = [value]
    if count() > 1:
        dist.broadcast_object_list(box, 0, group=_objects)
    return box[0]


def gathered(value: T) -> list[T]:
    """On every rank what each gives, by rank."""
    found: list[Any] = [value]
    if count() > 1:
        found = [None] * count()
        dist.all_gather_object(found, value, group=_objects)
    return found


def collected(value: T) -> list[T]:
    """The same on the first rank; nothing on the others."""
    if count() == 1:
        return [value]
    found: list[Any] | None = [None] * count() if first() else None
    dist.gather_object(value, found, 0, group=_objects)
    return found or []


def with_others(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all ranks, by rank, on every one: its own with their gradient, others without."""
    if count() == 1:
        return rows
    counts = gathered(len(rows))
    room = rows.new_zeros(max(counts), *rows.shape[1:])
    room[: len(rows)] = rows.detach()
    found = [torch.empty_like(room) for _ in counts]
    dist.all_gather(found, room)
    each = [one[:n] for one, n in zip(found, counts, strict=True)]
    each[index()] = rows
    return torch.cat(each)
