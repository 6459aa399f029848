"""MedMNIST's `.npz` files: found or fetched, verified, and read without unpickling anything.

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

from beitmed.config import DataConfig
from beitmed.errors import UserError, disk_error

log = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")
_TIMEOUT = (10, 60)  # seconds to connect, and between two packets


@dataclass(frozen=True)
class MedMNISTFile:
    """A file that is there and whose MD5 is the official one, or was accepted as it is."""

    path: Path
    md5: str
    official: bool
    size: int
    info: Mapping[str, Any]  # the `medmnist` package's entry for this dataset

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.info["label"][str(i)] for i in range(len(self.info["label"])))

    @property
    def provenance(self) -> dict[str, Any]:
        return {"source": self.path.name, "md5": self.md5, "official": self.official}


def info(flag: str) -> Mapping[str, Any]:
    """The `medmnist` package's entry for a dataset: url, MD5, n_samples, label, task, ..."""
    from medmnist import INFO

    if flag not in INFO:
        raise UserError(f"dataset.flag: found {flag!r}; allowed: {', '.join(sorted(INFO))}")
    return INFO[flag]


def path_of(flag: str, size: int, data: DataConfig) -> Path:
    return Path(data.root).expanduser() / f"{flag}{_suffix(size)}.npz"


def _suffix(size: int) -> str:
    return "" if size == 28 else f"_{size}"


def md5_of(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "md5").hexdigest()


def locate(flag: str, size: int, data: DataConfig) -> MedMNISTFile:
    """Find the file in `data.root`, fetch it if it is missing, and check its MD5."""
    entry = info(flag)
    path = path_of(flag, size, data)
    if not path.is_file():
        _fetch(path, entry, size, data)
    official_md5 = entry[f"MD5{_suffix(size)}"]
    try:
        md5 = md5_of(path)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror}).") from e
    if md5 != official_md5 and not data.allow_unofficial:
        raise UserError(
            f"{path}: its MD5 is {md5}, the official file's is {official_md5}: it is damaged or "
            "not MedMNIST's own. Delete it and run again to fetch the official one, or, if the "
            "file is meant, set data.allow_unofficial=true; the run then records its MD5."
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
    except requests.RequestException as e:
        raise UserError(f"{path}: no such file, and it cannot be fetched ({e}). {by_hand}") from e
    except ValueError as e:  # pooch: the MD5 of what was fetched is wrong
        raise UserError(f"{path}: what {url} sent is not the official file ({e}). {by_hand}") from e
    except OSError as e:
        raise disk_error(e, path.parent) or e from e


def read(file: MedMNISTFile) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read and check a file: split -> (images uint8 [n, size, size(, 3)], labels [n]).

    Keys, dtypes, shapes, split sizes and labels must be those that the `medmnist` package
    records; each class must occur in each split. Raises UserError otherwise.
    """
    arrays = _arrays(file)
    out = {}
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        _check_images(file, split, images)
        _check_labels(file, split, labels, len(images))
        out[split] = (images, labels[:, 0])
    return out


def _arrays(file: MedMNISTFile) -> dict[str, np.ndarray]:
    expected = {f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")}
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
            return {key: npz[key] for key in npz.files}
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, MemoryError) as e:
        if "allow_pickle" in str(e):
            _refuse(
                file,
                "holds an array of Python objects, which can run code when it is read",
                "arrays of numbers",
            )
        _refuse(file, f"cannot be read ({type(e).__name__}: {e})", "a complete .npz archive")


def _check_images(file: MedMNISTFile, split: str, images: np.ndarray) -> None:
    colour = (3,) if file.info["n_channels"] == 3 else ()
    expected = (file.info["n_samples"][split], file.size, file.size, *colour)
    if images.dtype != np.uint8 or images.shape != expected:
        _refuse(
            file,
            f"has {split}_images of type {images.dtype} and shape {images.shape}",
            f"uint8 of shape {expected}",
        )


def _check_labels(file: MedMNISTFile, split: str, labels: np.ndarray, n: int) -> None:
    classes = len(file.info["label"])
    if labels.dtype.kind not in "iu" or labels.shape != (n, 1):
        _refuse(
            file,
            f"has {split}_labels of type {labels.dtype} and shape {labels.shape}",
            f"integers of shape {(n, 1)}",
        )
    outside = np.setdiff1d(labels, np.arange(classes))
    if outside.size:
        _refuse(
            file,
            f"has the labels {outside[:5].tolist()} in {split}_labels",
            f"0 to {classes - 1} ({', '.join(file.class_names)})",
        )
    empty = np.setdiff1d(np.arange(classes), labels)
    if empty.size:
        names = ", ".join(f"{c} ({file.class_names[c]})" for c in empty)
        _refuse(file, f"has no image of class {names} in {split}", "at least one of each class")


def _refuse(file: MedMNISTFile, found: str, allowed: str) -> NoReturn:
    raise UserError(
        f"{file.path}: {found}; allowed: {allowed}. Delete the file and run again to fetch the "
        "official one, or put a correct file in its place."
    )
