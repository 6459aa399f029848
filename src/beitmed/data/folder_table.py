"""Which image files there are and what is known of each: from class folders, or from a table.

Class folders are walked here, not by the `imagefolder` loader of Hugging Face's `datasets`: it
leaves out files of unknown endings (DICOM, damaged names) without a word, takes a class folder
named "test" for a split, and decodes only when an image is asked for, hours into a run. Tables
are read by that library.
"""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from beitmed import tasks
from beitmed.config import Config
from beitmed.errors import UserError, disk_error
from beitmed.storage import files

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "test": "test",
          "validation": "val", "dev": "val", "testing": "test"}  # fmt: skip
_TABLES = {".csv": "csv", ".parquet": "parquet"}
_LEFT_BY_SYSTEMS = {"thumbs.db", "desktop.ini"}
_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom"}
_SHOWN = 20  # problems that a message holds
_SUBGROUPS = 30  # values of a column at most: more are a measurement, which has to be grouped


class Image(NamedTuple):
    """One image file; `where` is its row in the table, or empty."""

    file: Path
    name: str  # as the table has it, or relative to the folder
    label: str
    split: str | None
    patient: str | None
    where: str = ""
    subgroups: tuple[str, ...] = ()  # its values of `dataset.columns.subgroups`, some perhaps ""


def shown(name: str | Path) -> str:
    """A file's name on one line, whatever its bytes are."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def refuse(cfg: Config, what: str, problems: Mapping[str, str], advice: str) -> None:
    """As `refuse_all`, of the dataset of a configuration."""
    refuse_all(cfg.output_dir, cfg.dataset.name, f"{cfg.dataset.path}: {what}", problems, advice)


def refuse_all(
    output_dir: str, name: str, what: str, problems: Mapping[str, str], advice: str
) -> None:
    """Raise UserError that names the first problems, after all were written to a file.

    name: the file's. problems: what is wrong, by file or row. Without any, nothing happens.
    """
    if not problems:
        return
    folder = Path(output_dir).expanduser()
    lines = [f"  {shown(name)}: {why}" for name, why in list(problems.items())[:_SHOWN]]
    if len(problems) > _SHOWN:
        listed = folder / f"{name}_problems.csv"
        rows = [(shown(name), why) for name, why in problems.items()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.write_atomic(listed, files.csv_text(("file", "problem"), rows))
        except OSError as e:
            raise disk_error(e, folder) or e from e
        lines.append(f"  ... and {len(problems) - _SHOWN:,} more; all are in {listed}")
    head = f"{what} ({len(problems):,}):"
    raise UserError("\n".join([head, *lines, advice]))


def read(cfg: Config) -> list[Image]:
    """All images, in the order of their names, or of the table's rows.

    Raises UserError for a path that is neither, and names all rows or files that are wrong.
    """
    if cfg.dataset.path is None:
        raise UserError(
            "dataset.path: found null; give the folder of your images (<path>/<class>/* or "
            "<path>/<split>/<class>/*), or a .csv or .parquet file with the columns path and label"
        )
    path = Path(cfg.dataset.path).expanduser()
    try:
        if path.is_dir():
            if columns := cfg.dataset.columns.subgroups:
                raise UserError(
                    f"dataset.columns.subgroups: found {columns}, but {shown(path)} is a folder, "
                    "which has no columns; give a table (.csv or .parquet), or leave them out"
                )
            images = _of_folder(cfg, path)
        elif not path.is_file():
            raise UserError(f"dataset.path: {shown(path)} does not exist; give a folder or a table")
        elif path.suffix.lower() not in _TABLES:
            raise UserError(
                f"dataset.path: found {shown(path)}; allowed: a folder, a .csv or a .parquet file"
            )
        else:
            images = _of_table(cfg, path)
    except OSError as e:
        raise UserError(f"{shown(path)}: cannot be read ({e.strerror or e}).") from e
    if not images:
        raise UserError(f"{shown(path)}: holds no image; give a folder or a table that does")
    return images


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        kept = [
            e for e in entries
            if not e.name.startswith(".") and e.name.lower() not in _LEFT_BY_SYSTEMS
        ]  # fmt: skip
    return sorted(kept, key=lambda e: e.name)


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder whose other files carry no label; images among them are refused."""
    entries = _visible(folder)
    loose = [
        e.name for e in entries if not _is_folder(e) and Path(e.name).suffix.lower() in _IMAGES
    ]
    if loose:
        raise UserError(
            f"{shown(folder)}: has {len(loose):,} images outside of a class folder, such as "
            f"{shown(loose[0])}; put each into the folder of its class, or give a table"
        )
    return [Path(e.path) for e in entries if _is_folder(e)]


def _of_folder(cfg: Config, root: Path) -> list[Image]:
    folders = _folders(root)
    splits = [f for f in folders if f.name.lower() in SPLITS]
    if splits and len(splits) < len(folders):
        other = next(f for f in folders if f not in splits)
        raise UserError(
            f"{shown(root)}: has folders of splits ({splits[0].name}) beside others "
            f"({shown(other.name)}); allowed: train, val and test alone, or classes alone. A class "
            "of such a name can be given in a table."
        )
    if not splits:
        return list(_of_classes(root, folders, None))
    names = [SPLITS[f.name.lower()] for f in splits]
    if len(set(names)) < len(names):
        found = ", ".join(f.name for f in splits)
        raise UserError(f"{shown(root)}: has two folders of one split ({found}); keep one")
    return [
        image
        for folder, name in zip(splits, names, strict=True)
        for image in _of_classes(root, _folders(folder), name)
    ]


def _of_classes(root: Path, classes: Iterable[Path], split: str | None) -> Iterator[Image]:
    for folder in classes:
        for file in files_below(folder):
            yield Image(file, str(file.relative_to(root)), folder.name, split, None)


def files_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """All files below, by name; a link to a folder that it lies in leads nowhere."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in _visible(folder):
        if _is_folder(entry):
            yield from files_below(Path(entry.path), above | {here})
        elif not _is_loop(entry):
            yield Path(entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link onto itself
        return False


def _is_loop(entry: os.DirEntry[str]) -> bool:
    # A link onto itself; one whose file is missing is a missing image, which is reported.
    try:
        entry.stat()
    except OSError as e:
        return not isinstance(e, FileNotFoundError) and entry.is_symlink()
    return False


def _of_table(cfg: Config, path: Path) -> list[Image]:
    columns, task = cfg.dataset.columns, tasks.TASKS.get(cfg.dataset.task)  # None of "auto"
    one_label = task is not None and not task.several_labels
    names, rows = _rows(cfg, path)
    root = Path(cfg.dataset.image_root or path.parent).expanduser()
    images, problems, seen = [], {}, dict[str, str]()
    for i, row in enumerate(rows, start=1):
        where = f"row {i}"
        cell = {key: text(row[name]) for key, name in names.items()}
        # A split or patient that is known of some images only is as good as unknown.
        wrong = [f"no {key}" for key in names if not cell[key]]
        if "split" in names and cell["split"] and cell["split"].lower() not in SPLITS:
            wrong.append(f"{columns.split or 'split'} is {cell['split']!r}, not train, val or test")
        file = root / cell["path"]
        if cell["path"] and (first := seen.setdefault(os.path.realpath(file), where)) != where:
            wrong.append(f"the same file as {first}")
        if wrong:
            problems[f"{where} ({cell['path']})" if cell["path"] else where] = "; ".join(wrong)
            continue
        split = SPLITS[cell["split"].lower()] if "split" in names else None
        subgroups = tuple(text(row[name]) for name in columns.subgroups)
        images.append(
            Image(file, cell["path"], cell["label"], split, cell.get("patient"), where, subgroups)
        )
    refuse(
        cfg, "has rows that cannot be used, counted without the header", problems,
        f"Correct them, or take them out.{'' if one_label else _ON_NO_LABEL}",
    )  # fmt: skip
    _check_subgroups(path, columns.subgroups, images)
    return images


def _check_subgroups(path: Path, columns: list[str], images: list[Image]) -> None:
    for at, column in enumerate(columns):
        if (count := len({image.subgroups[at] for image in images})) > _SUBGROUPS:
            raise UserError(
                f"dataset.columns.subgroups: {shown(path)} has {count} different values of "
                f"{column!r}; allowed: {_SUBGROUPS} or fewer. Group them in a column of their own, "
                "such as ages into 0-39, 40-59 and 60 or more."
            )


_ON_NO_LABEL = (
    " An image with none of several labels needs a text that says so: dataset.none_label=..."
)


def text(value: Any) -> str:
    """A cell as text, empty where it holds nothing; Parquet has numbers, and NaN among them."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():  # integers beside a missing one
        value = int(value)
    return str(value).strip()


def _rows(cfg: Config, path: Path) -> tuple[dict[str, str], Iterable[Mapping[str, Any]]]:
    """The column of each of path, label, split and patient that there is, and the rows."""
    import datasets
    from datasets.utils.logging import CRITICAL, set_verbosity

    set_verbosity(CRITICAL)  # its errors are raised as well
    options: dict[str, Any] = {}
    if (kind := _TABLES[path.suffix.lower()]) == "csv":
        # Every cell as it is written: no patient 007 becomes 7, no class "NA" becomes a gap.
        names = header(path)
        features = datasets.Features(dict.fromkeys(names, datasets.Value("string")))
        options = {"keep_default_na": False, "na_filter": False, "encoding": "utf-8-sig"}
        options["features"] = features
    try:
        # Streaming, so that no copy is kept that could be older than the file; a lock is.
        table = datasets.load_dataset(
            kind, data_files=glob.escape(str(path)), split="train", streaming=True,
            cache_dir=str(Path(cfg.cache.root).expanduser() / ".datasets"), **options,
        )  # fmt: skip
        rows = list(table)
    except OSError:
        raise
    except Exception as e:  # pandas' and Arrow's own, of many kinds
        raise UserError(
            f"{shown(path)}: cannot be read as a table ({shown(str(e)).strip()}); allowed: UTF-8 "
            "with a header and as many cells in each row, or Parquet"
        ) from e
    return _columns(cfg, path, names if kind == "csv" else list(table.features or rows[0])), rows


def header(path: Path) -> list[str]:
    """The names of a CSV file's columns. Raises UserError for what is no such file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as f:
            names = next(csv.reader(f), [])
    except (UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{shown(path)}: is not a CSV file in UTF-8 ({e})") from e
    if len(set(names)) < len(names) or not names:
        raise UserError(
            f"{shown(path)}: its header is {names}; allowed: a name for each column, each once"
        )
    return names


def _columns(cfg: Config, path: Path, found: list[str]) -> dict[str, str]:
    wanted = cfg.dataset.columns
    names = {"path": wanted.path, "label": wanted.label}
    for key, name in (("split", wanted.split), ("patient", wanted.patient)):
        if name is not None or key in found:
            names[key] = name or key
    asked = [*names.items(), *(("subgroups", name) for name in wanted.subgroups)]
    if missing := [(key, name) for key, name in asked if name not in found]:
        raise UserError(
            f"{shown(path)}: has no column {', '.join(repr(name) for _, name in missing)}; found: "
            f"{', '.join(map(shown, found))}. Name the right ones, as in "
            + " ".join(f"dataset.columns.{key}=..." for key in dict(missing))
        )
    return names
