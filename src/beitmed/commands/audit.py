"""`beitmed audit`: what is wrong with a dataset."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from beitmed import data
from beitmed.audit.findings import KINDS, Audit, Finding
from beitmed.commands import cli, jobs
from beitmed.config import Config
from beitmed.errors import UserError, disk_error
from beitmed.plots import image_pairs
from beitmed.plots.page import write_both
from beitmed.storage import files

USAGE = """
Look for what is wrong with a dataset: `beitmed audit key=value ...`.

  beitmed audit dataset=breast,pneumonia size=28

Takes the same keys as `beitmed train` (such as data.root), and `--config-dir`; values separated by
commas are all audited. For each dataset and size it counts classes, and looks for images that occur
twice, exactly or nearly, within a split or across splits, for duplicates with different labels, for
constant and saturated images, and for class shares that differ between splits.

  output_dir=outputs     where <output_dir>/audit/<dataset>_<size>/ is written: audit.json,
                         audit.csv (a row a finding), pairs.png and pairs.svg; of several paths
                         the second folder ends in _2, and so on
  strict=true            exit code 1 if something is found, that is, if audit.csv has a row:
                         {kinds}

Exit code 0; 1 as above; 2 for bad input, after all datasets that could be read were audited.
"""


def _strict(arguments: Sequence[str]) -> bool:
    values = [a.removeprefix("strict=") for a in arguments if a.startswith("strict=")]
    wrong = [v for v in values if v not in ("true", "false")]
    if wrong:
        raise UserError(f"strict: found {wrong[0]!r}; allowed: true or false")
    return values[-1:] == ["true"]


def _audit_one(cfg: Config, folder: Path) -> Audit:
    if cfg.data.limit is not None:
        raise UserError(
            f"data.limit: found {cfg.data.limit}; an audit looks at whole splits, so that its "
            "indices are those of the file: set data.limit=null"
        )
    cfg = data.complete(cfg)
    loaded = data.load(cfg)
    try:  # before the search, which can take minutes
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise disk_error(e, folder) or e from e
    audit = Audit(cfg, loaded)
    _write(audit, folder)
    return audit


def _write(audit: Audit, folder: Path) -> None:
    """Write the audit's files, `audit.json` last: while it is not there, they are not whole."""
    try:
        (folder / "audit.json").unlink(missing_ok=True)
        pictured, total = audit.pictured(image_pairs.SHOWN)
        if pictured:
            splits = audit.data.splits
            draw = partial(
                image_pairs.image_pairs,
                [image_pairs.Pictured(*p) for p in pictured],
                total=total,
                title=audit.title,
                images={k: s.images for k, s in splits.items()},
                labels={k: s.labels for k, s in splits.items()},
                class_names=audit.data.class_names,
            )
            write_both(draw, folder / "pairs")
        else:  # those of an audit of other data would be taken for this one's
            for old in folder.glob("pairs*.???"):
                old.unlink()
        files.write_atomic(folder / "audit.csv", _table(audit.findings))
        text = json.dumps(audit.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        files.write_atomic(folder / "audit.json", text + "\n")
    except OSError as e:
        raise disk_error(e, folder) or e from e


def _table(findings: list[Finding]) -> str:
    header = [f.name for f in dataclasses.fields(Finding)]
    return files.csv_text(header, map(dataclasses.astuple, findings))


def _audit(arguments: Sequence[str]) -> int:
    strict = _strict(arguments)
    others = [a for a in arguments if not a.startswith("strict=")]
    problems, found = [], 0
    for folder, cfg in _folders(jobs.configurations(others)).items():
        try:
            audit = _audit_one(cfg, folder)
        except UserError as e:
            problems.append(str(e))
            continue
        found += len(audit.findings)
        print("\n".join([*audit.summary(), f"Written to {folder}", ""]))
    for problem in problems:
        print(f"beitmed: {problem}", file=sys.stderr)
    return 2 if problems else int(strict and found > 0)


def _folders(configurations: list[Config]) -> dict[Path, Config]:
    """Each dataset and size once, by the folder that its audit is written to."""
    found: dict[Path, Config] = {}
    sources: set[tuple[object, ...]] = set()
    for cfg in configurations:
        own = cfg.dataset
        source = (own.name, own.path, own.image_root, cfg.size, cfg.data.root, cfg.output_dir)
        if source in sources:
            continue
        sources.add(source)
        first = Path(cfg.output_dir).expanduser() / "audit" / f"{own.name}_{cfg.size}"
        folder, number = first, 1
        while folder in found:  # several folders of images, all under the dataset's one name
            number += 1
            folder = first.with_name(f"{first.name}_{number}")
        found[folder] = cfg
    return found


def main() -> None:
    """Audit what the command line names."""
    cli.run(_audit, USAGE.replace("{kinds}", ("\n" + " " * 25).join(KINDS.values())))
