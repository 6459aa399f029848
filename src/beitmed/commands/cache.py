"""`beitmed cache`: what the cache holds, and its pruning."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from beitmed.commands import arguments as parser
from beitmed.commands import cli
from beitmed.commands.arguments import Key
from beitmed.errors import UserError, disk_error
from beitmed.storage.store import Listed, Store

USAGE = """
List what the cache holds (data, weights, size, days since its last use), and prune it:
`beitmed cache key=value ...`.

{keys}
"""
KEYS = {
    "prune": Key(
        "unused:30 removes what was not used for 30 days, to:10 the least recently used down to "
        "10 GB, all removes everything; what another process is filling stays"
    ),
    "cache.root": Key("the cache's folder", "~/.cache/beitmed"),
}
_DAY = 86_400


def _chosen(entries: list[Listed], rule: str) -> list[Listed]:
    """The entries that a rule of `prune=` removes."""
    if rule == "all":
        return entries
    match = re.fullmatch(r"(unused|to):(\d+(?:\.\d+)?)", rule)
    if match is None:
        raise UserError(
            f"prune: found {rule!r}; allowed: all, unused:DAYS (such as unused:30), or to:GB "
            "(such as to:10)"
        )
    kind, number = match[1], float(match[2])
    if kind == "unused":
        return [e for e in entries if time.time() - e.last_used > number * _DAY]
    chosen, left = [], sum(e.size for e in entries)
    for entry in sorted(entries, key=lambda e: e.last_used):
        if left <= number * 1e9:
            break
        chosen.append(entry)
        left -= entry.size
    return chosen


def _prune(store: Store, chosen: list[Listed]) -> None:
    try:
        removed = [entry for entry in chosen if store.remove(entry.path)]
    except OSError as e:
        raise disk_error(e, store.root) or e from e
    print(f"removed {len(removed)} entries, {sum(e.size for e in removed) / 1e6:,.1f} MB")
    if len(removed) < len(chosen):
        print(f"kept {len(chosen) - len(removed)} entries that another process is using")


def _line(entry: Listed) -> str:
    m = entry.manifest
    age = (time.time() - entry.last_used) / _DAY
    what = m.get("title", "unfinished")
    depth = f"{m.get('backbone', '')}, below layer {m['boundary']}" if "boundary" in m else ""
    rows = f"{m['shape'][0]:,} x {m['dtype']}" if "boundary" in m else ""
    return (
        f"{entry.path.name[:8]}  {entry.size / 1e6:>10,.1f} MB  {age:>5.1f} days  {what:32} "
        f"{depth:32} {rows}"
    ).rstrip()


def _cache(arguments: Sequence[str]) -> int:
    given = parser.parse(arguments, KEYS)
    if given.folders:
        raise UserError(f"found {given.folders[0]}; allowed: {', '.join(KEYS)}, as key=value.")
    root = given.values["cache.root"]
    assert root is not None
    store = Store(root)
    entries = store.entries()
    if (rule := given.values["prune"]) is not None:
        _prune(store, _chosen(entries, rule))
        entries = store.entries()
    for entry in entries:
        print(_line(entry))
    print(f"{store.root}: {len(entries)} entries, {sum(e.size for e in entries) / 1e6:,.1f} MB")
    return 0


def main() -> None:
    """List the cache, after pruning it where that is asked for."""
    cli.run(_cache, USAGE.replace("{keys}", parser.described(KEYS)))
