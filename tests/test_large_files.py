"""Files larger than memory: read where they lie, or unpacked once where they are compressed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import medmnist_arrays, resolve

from beitmed import data
from beitmed.data import medmnist_files
from beitmed.errors import UserError
from beitmed.storage import npz_rows, space
from beitmed.storage.rows import Rows
from beitmed.storage.store import Store

N = 90


def settings(folder: Path, *overrides: str):
    return resolve(
        "dataset=path", f"data.root={folder}", "data.allow_unofficial=true",
        f"cache.root={folder}/cache", "data.download=false", *overrides,
    )  # fmt: skip


def read(folder: Path, *overrides: str, in_memory: int = 0):
    cfg = settings(folder, *overrides)
    file = medmnist_files.locate("pathmnist", 28, cfg.data)
    return medmnist_files.read(file, cfg.cache, in_memory)


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    return medmnist_arrays("pathmnist", 28, n=N)


@pytest.mark.parametrize(("save", "entries"), [(np.savez, 0), (np.savez_compressed, 3)])
def test_rows_on_disk_are_the_arrays(tmp_path, arrays, save, entries):
    save(tmp_path / "pathmnist.npz", **arrays)
    for split, (images, labels) in read(tmp_path).items():
        expected = arrays[f"{split}_images"]
        assert isinstance(images, Rows)
        assert (images.shape, images.dtype, len(images)) == (expected.shape, np.uint8, N)
        assert np.array_equal(labels, arrays[f"{split}_labels"][:, 0])
        assert np.array_equal(images, expected)
        chosen = np.array([5, 0, -1])
        for index in (3, -1, np.int64(7), slice(2, 9), slice(None, None, 7), chosen, [1], [],
                      np.arange(N) % 2 == 0):  # fmt: skip
            assert np.array_equal(images[index], expected[index]), index
        with pytest.raises(IndexError):
            images[N]
    assert len(Store(tmp_path / "cache").entries()) == entries
    assert isinstance(read(tmp_path, in_memory=10**9)["train"][0], np.ndarray)


def test_what_was_unpacked_once_is_found_again(tmp_path, arrays):
    np.savez_compressed(tmp_path / "pathmnist.npz", **arrays)
    read(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("cache/*/rows.bin")}
    read(tmp_path, "cache.limit_gb=1e-9")  # needs no more space
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("cache/*/rows.bin")} == before
    assert len(before) == 3


def test_an_interrupted_unpacking_goes_on(tmp_path, arrays, monkeypatch):
    np.savez_compressed(tmp_path / "pathmnist.npz", **arrays)
    monkeypatch.setattr(npz_rows, "_AT_ONCE", 20 * 28 * 28 * 3)
    fill, asked = Store.fill, []

    def interrupted(self, key, shape, dtype, rows_from, *rest, **more):
        def some(start, stop):
            asked.append(start)
            if len(asked) == 3:
                raise KeyboardInterrupt
            return rows_from(start, stop)

        return fill(self, key, shape, dtype, some, *rest, **more)

    monkeypatch.setattr(Store, "fill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path)
    assert np.array_equal(read(tmp_path)["train"][0], arrays["train_images"])
    assert asked[:4] == [0, 20, 40, 40]  # what was there was not written again


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_is_refused_and_leaves_nothing(tmp_path, arrays, save):
    rng = np.random.default_rng(0)
    arrays["test_images"] = rng.integers(0, 256, arrays["test_images"].shape, np.uint8)
    save(tmp_path / "pathmnist.npz", **arrays)
    raw = bytearray((tmp_path / "pathmnist.npz").read_bytes())
    at = raw.find(b"test_images.npy") + 50_000
    raw[at] ^= 1
    (tmp_path / "pathmnist.npz").write_bytes(raw)
    with pytest.raises(UserError, match=r"pathmnist\.npz: cannot be read"):
        read(tmp_path)
    assert not list(tmp_path.glob("cache/*.partial"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"val_images": np.zeros((N, 28, 28), np.uint8)}, ["val_images", "(90, 28, 28)"]),
        ({"val_images": np.zeros((N, 28, 28, 3))}, ["float64", "uint8"]),
        ({"val_images": np.full((N, 28, 28, 3), None)}, ["val_images of type object"]),
        ({"val_images": np.zeros((N - 1, 28, 28, 3), np.uint8)}, ["(89, 28, 28, 3)", "90 rows"]),
        ({"val_labels": np.full((N, 1), None)}, ["Python objects", "can run code"]),
        ({"val_images": np.zeros((3, 28, 28, N), np.uint8).T}, ["column by column"]),
    ],
)
def test_a_wrong_array_is_refused_before_anything_is_unpacked(tmp_path, arrays, change, said):
    np.savez_compressed(tmp_path / "pathmnist.npz", **{**arrays, **change})
    with pytest.raises(UserError) as e:
        read(tmp_path)
    for part in ("pathmnist.npz", *said):
        assert part in str(e.value)
    assert not list(tmp_path.glob("cache/[!.]*"))


def test_what_does_not_fit_says_how_large_it_is(tmp_path, arrays, monkeypatch):
    np.savez_compressed(tmp_path / "pathmnist.npz", **arrays)
    with pytest.raises(UserError, match=r"0\.00 GB.*cache\.limit_gb is 1e-06.*beitmed cache"):
        read(tmp_path, "cache.limit_gb=1e-6")
    monkeypatch.setattr(space, "KEEP_FREE", 10**18)
    with pytest.raises(UserError, match=r"GB that are free at .*cache\.root="):
        read(tmp_path)
    assert not list(tmp_path.glob("cache/[!.]*"))


def test_a_run_reads_the_same_from_disk_and_from_memory(tmp_path, arrays, monkeypatch):
    np.savez_compressed(tmp_path / "pathmnist.npz", **arrays)
    held = data.load(settings(tmp_path, "data.limit=2"))
    monkeypatch.setattr(medmnist_files.read, "__defaults__", (0,))
    by_rows = data.load(settings(tmp_path, "data.limit=2"))
    assert np.array_equal(by_rows.test.images, held.test.images)
    assert isinstance(data.load(settings(tmp_path)).train.images, Rows)


PASS = """
import sys
from conftest import resolve
from beitmed.data import Split, medmnist_files
from beitmed.runs import resources
from beitmed.trunk_cache import keys

medmnist_files.info("tissuemnist")  # imports torch
before = resources.peak_memory()
for folder in sys.argv[1:]:
    cfg = resolve("dataset=tissue", f"data.root={folder}", "data.allow_unofficial=true",
                  f"cache.root={folder}/cache")
    file = medmnist_files.locate("tissuemnist", 28, cfg.data)
    for images, labels in medmnist_files.read(file, cfg.cache).values():
        Split(images, labels).digest  # every image
print(resources.peak_memory() - before)
"""


@pytest.mark.slow
def test_memory_stays_flat_over_a_load_and_a_pass(tmp_path):
    n = 60_000  # TissueMNIST has four times as many; 141 MB in the three splits
    images = np.arange(n * 784, dtype=np.uint32).astype(np.uint8).reshape(n, 28, 28)
    labels = (np.arange(n) % 8).astype(np.uint8)[:, None]
    arrays = {f"{split}_{kind}": values for split in medmnist_files.SPLITS
              for kind, values in (("images", images), ("labels", labels))}  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        (tmp_path / save.__name__).mkdir()
        save(tmp_path / save.__name__ / "tissuemnist.npz", **arrays)
    folders = sorted(str(p) for p in tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", PASS, *folders], cwd=Path(__file__).parent,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60e6  # some blocks of 4 MB, and not the images
