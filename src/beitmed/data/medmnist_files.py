"""MedMNIST2D's `.npz` files: found or fetched, verified, read without unpickling anything.

The `medmnist` package says where a file comes from, its MD5, its split sizes and its labels; it is
imported where it is needed only, since it pulls torch in.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from beitmed import tasks
from beitmed.config import CacheConfig, DataConfig
from beitmed.config.dataset import DatasetConfig
from beitmed.errors import UserError, disk_error
from beitmed.storage import files, npz_rows
from beitmed.storage.rows import Rows
from beitmed.tasks import Task

log = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")
IN_MEMORY = 128 << 20  # bytes of an unpacked file; a larger one's images stay on disk
_TIMEOUT = (10, 60)  # seconds to connect, and between two packets


class UnofficialFile(UserError):
    """A file under an official one's name that is another, and was not accepted as it is."""


@dataclass(frozen=True)
class MedMNISTFile:
    """A file that is there and whose MD5 is the official one, or was accepted as it is."""

    path: Path
    md5: str
    official: bool
    size: int
    info: Mapping[str, Any]  # what `entry_of` its dataset gives

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.info["label"][str(i)] for i in range(len(self.info["label"])))

    @property
    def own(self) -> bool:
        """Whether it is the user's own, of which MedMNIST knows nothing."""
        return "n_samples" not in self.info

    @property
    def task(self) -> Task:
        return tasks.by_official_name(self.info["task"])

    @property
    def provenance(self) -> dict[str, Any]:
        return {"source": self.path.name, "md5": self.md5, "official": self.official}


def info(flag: str) -> Mapping[str, Any]:
    """The `medmnist` package's entry for a 2D dataset: url, MD5, n_samples, label, task, ..."""
    flat = _known()
    if flag not in flat:
        raise UserError(
            f"dataset.flag: found {flag!r}; allowed: {', '.join(sorted(flat))}, or, for a file of "
            "your own of MedMNIST's form, give dataset.classes, the names of its labels 0, 1, ..."
        )
    return flat[flag]


def _known() -> dict[str, Mapping[str, Any]]:
    from medmnist import INFO

    return {name: entry for name, entry in INFO.items() if "3D" not in entry["python_class"]}


def entry_of(dataset: DatasetConfig) -> Mapping[str, Any]:
    """The `medmnist` package's entry; of a file of the user's own only its task and labels.

    Such a file's flag is its own name, and `dataset.classes` name its labels.
    """
    assert dataset.flag is not None
    if dataset.classes is None:
        return info(dataset.flag)
    if dataset.flag in _known():
        raise UserError(
            f"dataset.classes: found with dataset.flag={dataset.flag}, whose classes MedMNIST "
            "names; leave them out, or give a file of your own a flag of its own"
        )
    count, task = len(dataset.classes), tasks.of(dataset.task)
    if not task.allows(count) or len({*dataset.classes}) < count:
        raise UserError(
            f"dataset.classes: found {', '.join(dataset.classes)} with task {task.name}; "
            f"allowed: a name of its own for each label, and {task.classes_needed}"
        )
    return {
        "task": task.official_name,
        "label": {str(i): name for i, name in enumerate(dataset.classes)},
    }


def path_of(flag: str, size: int, data: DataConfig) -> Path:
    return Path(data.root).expanduser() / f"{flag}{_suffix(size)}.npz"


def _suffix(size: int) -> str:
    return "" if size == 28 else f"_{size}"


def md5_of(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "md5").hexdigest()


def locate(
    flag: str, size: int, data: DataConfig, entry: Mapping[str, Any] | None = None
) -> MedMNISTFile:
    """Find the file in `data.root`, fetch it if it is missing, and check its MD5.

    entry: from `entry_of`. A file of the user's own has no MD5 to check, and is not fetched.
    """
    entry = entry or info(flag)
    path = path_of(flag, size, data)
    if not path.is_file():
        if "n_samples" not in entry:
            raise UserError(
                f"{path}: no such file. Put the dataset's file there, or name its folder by "
                "data.root=..."
            )
        _fetch(path, entry, size, data)
    official_md5 = entry.get(f"MD5{_suffix(size)}")
    try:
        md5 = md5_of(path)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror}).") from e
    if official_md5 not in (None, md5) and not data.allow_unofficial:
        raise UnofficialFile(
            f"{path}: its MD5 is {md5}, the official file's is {official_md5}: it is not "
            "MedMNIST's own, or was damaged. Delete it and run again to fetch the official one, "
            "or, if the file is meant, set data.allow_unofficial=true; the run then records its "
            "MD5."
        )
    return MedMNISTFile(path, md5, md5 == official_md5, size, entry)


def _fetch(path: Path, entry: Mapping[str, Any], size: int, data: DataConfig) -> None:
    url = entry[f"url{_suffix(size)}"]
    if data.mirror is not None:
        url = f"{data.mirror.rstrip('/')}/{path.name}"
    by_hand = (
        f"Fetch {path.name} from {url} on a machine with a network and put it at {path} "
        f"(MD5 {entry[f'MD5{_suffix(size)}']})."
    )
    if not data.download:
        raise UserError(f"{path}: no such file, and data.download=false. {by_hand}")
    import pooch
    import requests

    log.info("%s is not there yet; fetching it from %s", path, url)
    fetcher = pooch.create(
        path=path.parent,
        base_url="",
        registry={
            path.name: None if data.allow_unofficial else f"md5:{entry[f'MD5{_suffix(size)}']}"
        },
        urls={path.name: url},
        retry_if_failed=2,
    )
    pooch.get_logger().setLevel("WARNING")
    try:
        # Into a temporary file beside the goal, renamed once its MD5 is right.
        fetcher.fetch(
            path.name, downloader=pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT)
        )
        files.share(path)
    except requests.RequestException as e:
        raise UserError(f"{path}: no such file, and it cannot be fetched ({e}). {by_hand}") from e
    except ValueError as e:  # pooch: the MD5 of what was fetched is wrong
        raise UserError(f"{path}: what {url} sent is not the official file ({e}). {by_hand}") from e
    except OSError as e:
        raise disk_error(e, path.parent) or e from e


def read(
    file: MedMNISTFile, cache: CacheConfig, in_memory: int = IN_MEMORY
) -> dict[str, tuple[np.ndarray | Rows, np.ndarray]]:
    """Read and check a file: split -> (images uint8 [n, size, size(, 3)], labels).

    Labels are int64 [n], or [n, labels] of 0 and 1 where an image has several. Keys, dtypes, shapes
    and labels must be those that the `medmnist` package records, and so must the number of images
    unless the file was accepted as an unofficial one; each class must occur in each split. Images
    stay on disk if the unpacked file has more than `in_memory` bytes. Raises UserError otherwise.
    """
    out = {}
    arrays = _arrays(file, cache, in_memory)
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], np.asarray(arrays[f"{split}_labels"])
        _check_images(file, split, images, len(labels) if labels.ndim else 0)
        _check_labels(file, split, labels, len(images))
        out[split] = (images, file.task.from_columns(labels))
    return out


def _arrays(file: MedMNISTFile, cache: CacheConfig, in_memory: int) -> dict[str, np.ndarray | Rows]:
    expected = {f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")}
    _check_kind(file)
    try:
        archive = np.load(file.path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            _refuse(file, "is a single array", "a .npz archive")
        with archive as npz:
            found = set(npz.files)
            if found != expected:
                _refuse(
                    file,
                    f"has the arrays {', '.join(sorted(found)) or '(none)'}",
                    f"exactly {', '.join(sorted(expected))}",
                )
            with zipfile.ZipFile(file.path) as members:
                small = sum(member.file_size for member in members.infolist()) <= in_memory
            if small:
                return {key: npz[key] for key in npz.files}
            labels = {key: npz[key] for key in npz.files if key.endswith("labels")}
        return labels | _large(file, cache, labels)
    except UserError:
        raise
    except (
        zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, MemoryError,
        NotImplementedError, RuntimeError,  # zipfile: an unknown method, a password
    ) as e:  # fmt: skip
        if "allow_pickle" in str(e):
            _refuse(
                file,
                "holds an array of Python objects, which can run code when it is read",
                "arrays of numbers",
            )
        _refuse(file, f"cannot be read ({type(e).__name__}: {e})", "a complete .npz archive")


def _check_kind(file: MedMNISTFile) -> None:
    """Refuse what numpy would take for an array of Python objects, since it is no archive."""
    with file.path.open("rb") as f:
        start = f.read(512)
    if start and not start.startswith((b"PK", b"\x93NUMPY")):
        page = start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))
        what = "is a web page, saved in place of the file" if page else "is no .npz archive"
        _refuse(file, what, "a .npz archive")


def _large(
    file: MedMNISTFile, cache: CacheConfig, labels: dict[str, np.ndarray]
) -> dict[str, np.ndarray | Rows]:
    """The arrays of images, as rows on disk; their form is checked before any is unpacked."""
    with zipfile.ZipFile(file.path) as members:
        headers = {
            f"{split}_images": npz_rows.header(members, f"{split}_images") for split in SPLITS
        }
    for split in SPLITS:
        _check_images(file, split, headers[f"{split}_images"], len(labels[f"{split}_labels"]))
    npz_rows.require_space(cache, file.path, headers, file.md5)
    return {
        name: npz_rows.rows(file.path, name, header, cache, file.md5)
        for name, header in headers.items()
    }


def _check_images(
    file: MedMNISTFile, split: str, images: np.ndarray | Rows | npz_rows.Header, n_labels: int
) -> None:
    if file.own:  # any number of images, grey or in colour
        colour, count = len(images.shape) == 4, images.shape[:1]
    else:
        colour, count = file.info["n_channels"] == 3, (file.info["n_samples"][split],)
    official = (*count, file.size, file.size, *([3] if colour else []))
    form = images.shape[1:] == official[1:] and images.dtype == np.uint8
    n = images.shape[0] if form else 0
    if not form or (file.official and n != official[0]) or n == 0:
        _refuse(
            file,
            f"has {split}_images of type {images.dtype} and shape {images.shape}",
            f"uint8 of shape {official}",
        )
    if n != n_labels:
        _refuse(
            file,
            f"has {split}_images of shape {images.shape}, but {n_labels} rows of {split}_labels",
            f"one for the other; images of shape {official} are expected",
        )


def _check_labels(file: MedMNISTFile, split: str, labels: np.ndarray, n: int) -> None:
    classes = len(file.info["label"])
    shape = (n, file.task.columns(classes))
    if labels.dtype.kind not in "iu" or labels.shape != shape:
        _refuse(
            file,
            f"has {split}_labels of type {labels.dtype} and shape {labels.shape}",
            f"integers of shape {shape}",
        )
    allowed = file.task.values(classes)
    outside = np.setdiff1d(labels, allowed)
    if outside.size:
        names = f" ({', '.join(file.class_names)})" if len(allowed) == classes else ""
        _refuse(
            file,
            f"has the labels {outside[:5].tolist()} in {split}_labels",
            f"0 to {allowed[-1]}{names}",
        )
    members = file.task.members(file.task.from_columns(labels), classes)
    empty = np.flatnonzero(~members.any(axis=0))
    if empty.size:
        names = ", ".join(f"{c} ({file.class_names[c]})" for c in empty)
        _refuse(file, f"has no image of class {names} in {split}", "at least one of each class")


def _refuse(file: MedMNISTFile, found: str, allowed: str) -> NoReturn:
    fetch = "Delete the file and run again to fetch the official one, or put"
    raise UserError(
        f"{file.path}: {found}; allowed: {allowed}. {'Put' if file.own else fetch} a "
        "correct file in its place."
    )
