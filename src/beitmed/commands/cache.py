"""What the cache holds, and its pruning: `beitmed cache`.

    beitmed cache                     list entries: data, weights, size, last use
    beitmed cache prune=unused:30     remove what was not used for 30 days
    beitmed cache prune=to:10         remove the least recently used down to 10 GB
    beitmed cache prune=all           remove everything

What another process is filling at the time stays. `cache.root=FOLDER` names another cache than the
default.
"""

from __future__ import annotations

import re
import sys
import time

from hydra import compose, initialize_config_dir

from beitmed import config
from beitmed.commands import cli
from beitmed.errors import UserError, disk_error
from beitmed.storage.store import Listed, Store

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


def _cache() -> int:
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    rules = [a.removeprefix("prune=") for a in arguments if a.startswith("prune=")]
    others = [a for a in arguments if not a.startswith("prune=")]
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        cfg = config.resolve(compose("config", overrides=others))
    store = Store(cfg.cache.root)
    entries = store.entries()
    for rule in rules:
        _prune(store, _chosen(entries, rule))
        entries = store.entries()
    for entry in entries:
        print(_line(entry))
    print(f"{store.root}: {len(entries)} entries, {sum(e.size for e in entries) / 1e6:,.1f} MB")
    return 0


def main() -> None:
    """List the cache, after pruning it where that is asked for."""
    sys.exit(cli.guarded(_cache))


if __name__ == "__main__":
    main()
