"""`beitmed prepare`: data and weights, fetched and verified beforehand."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from beitmed.commands import cli, jobs
from beitmed.config import Config
from beitmed.config.backbone import BackboneConfig
from beitmed.errors import UserError

log = logging.getLogger(__name__)
USAGE = """
Fetch and verify what runs will need: `beitmed prepare key=value ...`.

  beitmed prepare dataset=breast,pneumonia size=28,224 backbone=beit_large

Takes the same keys as `beitmed train`, and `--config-dir`; values separated by commas are all
prepared. Prints a table of what is there and what is not. Exit code 0 if everything is there,
else 2.
"""


class Row(NamedTuple):
    what: str
    state: str
    where: str
    problem: str | None = None


def _data(cfg: Config) -> Row:
    what = f"{cfg.dataset.name}, {cfg.size} px"
    if cfg.dataset.own:
        return _own_images(cfg, what)
    if cfg.dataset.flag is None:
        return Row(what, "generated", "in memory, at each run")
    from beitmed.data import medmnist_files

    path = medmnist_files.path_of(cfg.dataset.flag, cfg.size, cfg.data)
    try:
        entry = medmnist_files.entry_of(cfg.dataset)
        file = medmnist_files.locate(cfg.dataset.flag, cfg.size, cfg.data, entry)
        medmnist_files.read(file, cfg.cache)
    except medmnist_files.UnofficialFile as e:
        state = "not the official one (set data.allow_unofficial=true)"
        return Row(what, state, str(path), str(e))
    except UserError as e:
        return Row(what, "damaged" if path.is_file() else "missing", str(path), str(e))
    kind = "official" if file.official else "accepted, not the official file"
    kind = kind if cfg.dataset.classes is None else "a file of your own"
    return Row(what, f"there, {kind}", _with_size(path))


def _own_images(cfg: Config, what: str) -> Row:
    from beitmed import data

    try:
        loaded = data.load(data.complete(cfg))  # converts them, into the cache
    except UserError as e:
        return Row(what, "not usable", str(cfg.dataset.path), str(e))
    n = ", ".join(f"{len(split.labels):,} {name}" for name, split in loaded.splits.items())
    return Row(what, f"there, own images ({n})", str(cfg.dataset.path))


def _weights(backbone: BackboneConfig) -> Row:
    if backbone.random_weights:
        return Row(backbone.name, "random", "in memory, at each run")
    from beitmed.backbones import weights

    try:
        folder = weights.locate(backbone)
        backbone = weights.complete(backbone)
        weights.load(backbone, ("0", "1"), seed=0)  # the only check that a file is whole
    except UserError as e:
        return Row(backbone.name, "missing or damaged", backbone.weights, str(e))
    return Row(backbone.name, "there, complete", _with_size(folder))


def _with_size(path: Path) -> str:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return f"{path} ({sum(p.stat().st_size for p in files) / 1e6:,.1f} MB)"


def _table(rows: Iterable[Row]) -> str:
    cells = [("what", "state", "where"), *((r.what, r.state, r.where) for r in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(2)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in cells)


def _prepare(arguments: Sequence[str]) -> int:
    configurations = jobs.configurations(arguments)
    data = {(c.dataset.name, c.dataset.path, c.size): c for c in configurations}
    backbones = {
        (c.backbone.name, c.backbone.weights): c.backbone
        for c in configurations
        if c.reads_backbone
    }
    rows = [*map(_data, data.values()), *map(_weights, backbones.values())]
    print(_table(rows))
    problems = [row.problem for row in rows if row.problem]
    for problem in problems:
        print(f"\nbeitmed: {problem}", file=sys.stderr)
    return 2 if problems else 0


def main() -> None:
    """Prepare what the command line names."""
    cli.run(_prepare, USAGE)
