"""Room in the cache for what is about to be computed or unpacked."""

from __future__ import annotations

import shutil

from beitmed.config import CacheConfig
from beitmed.errors import UserError
from beitmed.storage.store import Store

KEEP_FREE = 2_000_000_000  # bytes of the disk that the cache leaves to others


def shortage(cache: CacheConfig, needed: int) -> str | None:
    """Why `needed` more bytes do not fit into the cache, and what helps; None where they do."""
    store = Store(cache.root)
    used = sum(entry.size for entry in store.entries())
    folder = next(p for p in (store.root, *store.root.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    if used + needed > cache.limit_gb * 1e9:
        return (
            f"does not fit beside the {used / 1e9:.2f} GB that are in {store.root}: "
            f"cache.limit_gb is {cache.limit_gb:g}. Raise cache.limit_gb, remove what is no longer "
            "used (`beitmed cache` lists it, `beitmed cache prune=unused:30` removes it), or set "
            "cache.root=... to another folder"
        )
    if needed + KEEP_FREE > free:
        return (
            f"would leave less than {KEEP_FREE / 1e9:.0f} GB of the {free / 1e9:.2f} GB that are "
            f"free at {store.root}. Set cache.root=... to a folder on a larger disk"
        )
    return None


def reserve(cache: CacheConfig, needed: int, what: str, or_else: str) -> None:
    """Raise UserError if `needed` more bytes do not fit into the cache.

    what: the subject of the message, such as "data.npz: its images"; or_else: one more way out.
    """
    if needed and (why := shortage(cache, needed)) is not None:
        raise UserError(f"{what} take {needed / 1e9:.2f} GB, which {why}, or {or_else}.")
