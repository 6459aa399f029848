"""A million images: what a run holds, writes and reads grows with numbers, not with text."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from conftest import REPOSITORY

from beitmed.errors import UserError
from beitmed.runs import predictions, reader
from beitmed.runs.predictions import Predictions
from beitmed.storage import files
from beitmed.storage.rows import Rows
from beitmed.trunk_cache.forms import Form
from beitmed.trunk_cache.rows import FeatureDataset

N = 20_000
HEADER = ("split", "index", "x")


def peak(job: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy hold at a time while it is done."""
    tracemalloc.start()
    try:
        job()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def rows(n: int, last: float | None = 0.1):
    return (["a", i, None if i % 3 else last] for i in range(n))


def test_a_table_is_written_as_its_text_is_made(tmp_path):
    files.write_csv(tmp_path / "t.csv", HEADER, rows(5))
    assert (tmp_path / "t.csv").read_bytes() == files.csv_text(HEADER, rows(5)).encode()
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_a_table_that_cannot_be_made_leaves_nothing(tmp_path):
    def broken():
        yield ["a", 0, 1]
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        files.write_csv(tmp_path / "t.csv", HEADER, broken())
    assert list(tmp_path.iterdir()) == []


def test_a_table_is_known_again_by_all_of_its_bytes(tmp_path):
    path = tmp_path / "t.csv"
    files.write_csv(path, HEADER, rows(5))
    assert files.holds_csv(path, HEADER, rows(5))
    assert not files.holds_csv(path, HEADER, rows(4))
    assert not files.holds_csv(path, HEADER, rows(6))
    assert not files.holds_csv(path, HEADER, rows(5, 0.2))
    assert not files.holds_csv(path, HEADER[:2], rows(5))


def test_of_a_long_table_one_row_is_held(tmp_path):
    path = tmp_path / "t.csv"
    assert peak(lambda: files.write_csv(path, HEADER, rows(N))) < 20 * N  # as text some 200 a row
    assert peak(lambda: files.holds_csv(path, HEADER, rows(N))) < 20 * N


@pytest.fixture
def splits() -> dict[str, Predictions]:
    rng = np.random.default_rng(0)
    return {
        name: Predictions(rng.integers(0, 2, n), rng.standard_normal((n, 2)))
        for name, n in (("val", N // 10), ("test", N))
    }


def test_predictions_are_read_as_numbers(tmp_path, splits):
    """24 bytes an image are its label and logits; as text a row takes some 400."""
    path = tmp_path / "predictions.csv"
    assert peak(lambda: files.write_csv(path, *predictions.table(splits))) < 20 * N
    found: dict[str, Predictions] = {}
    assert peak(lambda: found.update(predictions.read(path))) < 90 * 1.1 * N
    for name, split in splits.items():
        assert np.array_equal(found[name].labels, split.labels)
        assert np.array_equal(found[name].logits, split.logits)


def test_patients_of_one_split_only_keep_their_column(tmp_path):
    one = Predictions(np.array([0, 1]), np.eye(2))
    header, of = predictions.table({"val": one, "test": one})
    assert "patient" not in header and len(next(of)) == len(header)
    known = Predictions(one.labels, one.logits, ("p", "q"))
    header, of = predictions.table({"val": one, "test": known})
    assert [row[2] for row in of] == ["", "", "p", "q"] and header[2] == "patient"


def test_what_was_trained_on_is_read_as_numbers(tmp_path):
    path = tmp_path / "train_indices.csv"
    files.write_csv(path, ("index", "label"), ([i, i % 2] for i in range(N)))
    assert peak(lambda: reader.read_trained(tmp_path)) < 60 * N
    indices, labels = reader.read_trained(tmp_path)
    assert np.array_equal(indices, np.arange(N)) and np.array_equal(labels, np.arange(N) % 2)
    assert indices.dtype == labels.dtype == np.int64


@pytest.mark.parametrize("content", ["", "index,label\n", "index,label\n1,x\n", "i,l\n1,2\n3\n"])
def test_damaged_lists_of_what_was_trained_on(tmp_path, content):
    (tmp_path / "train_indices.csv").write_text(content)
    with pytest.raises(UserError, match="cannot be read"):
        reader.read_trained(tmp_path)


@pytest.mark.parametrize(("tokens", "together"), [(9, True), (1, False)])
def test_long_rows_are_read_several_at_a_time_and_in_order(tmp_path, tokens, together):
    values = np.random.default_rng(0).standard_normal((40, tokens, 2_000)).astype(np.float32)
    (tmp_path / "rows.bin").write_bytes(values.tobytes())
    stored = _Watched(tmp_path / "rows.bin", values.shape, values.dtype)
    chosen = np.random.default_rng(1).permutation(40)
    items = FeatureDataset(stored, np.arange(40), chosen).__getitems__(range(40))
    assert [item["labels"] for item in items] == chosen.tolist()
    assert np.array_equal(np.stack([item["features"].numpy() for item in items]), values[chosen])
    assert (len(stored.threads) > 1) == together
    assert Form(values.shape, "int8").read(stored).at_once == stored.at_once


class _Watched(Rows):
    """Rows that remember which threads read them."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.threads: set[int] = set()

    def read(self, row: int, out: np.ndarray) -> None:
        time.sleep(0.002)
        self.threads.add(threading.get_ident())
        super().read(row, out)


@pytest.fixture(scope="module")
def large_set():
    spec = importlib.util.spec_from_file_location("large_set", REPOSITORY / "scripts/large_set.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["large_set"] = module
    spec.loader.exec_module(module)
    return module


def test_the_script_s_images_are_of_medmnist_s_form(tmp_path, large_set):
    large_set.write_images(tmp_path / "large.npz", 1_000)
    with np.load(tmp_path / "large.npz") as npz:
        for split, n in (("train", 700), ("val", 100), ("test", 200)):
            images, labels = npz[f"{split}_images"], npz[f"{split}_labels"]
            assert (images.shape, images.dtype, labels.shape) == ((n, 28, 28), np.uint8, (n, 1))
            brighter = images[labels[:, 0] == 1].mean() - images[labels[:, 0] == 0].mean()
            assert 10 < brighter < 30


def test_the_script_counts_what_a_kill_cost(tmp_path, large_set):
    (tmp_path / "said").write_text("a\nx.partial: going on after 320 of 700 images.\nb\n")
    assert large_set.lost(tmp_path, 351) == 31


def test_the_script_s_table(large_set):
    def found(images, megabytes):
        phases = {name: {"seconds": 1.0, "peak_memory_bytes": x * 1e6}
                  for name, x in zip(("data", "training"), megabytes, strict=True)}  # fmt: skip
        return large_set.Found(images, phases, 0, 0)

    *_, last = large_set.table(found(10, (100, 400)), found(20, (120, 410)))
    assert last == {"phase": "all of it", "20 images": "410 MB", "10 images": "400 MB",
                    "times": "1.025"}  # fmt: skip


@pytest.mark.slow
def test_ten_times_the_images_take_the_same_memory(tmp_path):
    """The script itself in its small form: a fill killed and gone on with, peaks within 10 %."""
    table = tmp_path / "table.csv"
    done = subprocess.run(
        [sys.executable, "scripts/large_set.py", "--smoke", "--csv", str(table)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = list(csv.DictReader(table.open()))
    phases = {"data", "training", "features", "evaluation", "all of it"}
    assert {row["phase"] for row in found} == phases
    assert list(found[0]) == ["phase", "10,000 images", "1,000 images", "times"]
    assert "of them were computed again (allowed: a block of 32)" in done.stdout


def test_what_scaling_costs_is_what_the_script_says(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts"))
    scaling = importlib.import_module("scaling")
    with (REPOSITORY / "docs" / "results" / "scaling.csv").open(newline="") as f:
        assert list(csv.DictReader(f)) == scaling.rows()
    assert scaling.rows()[-1]["images"] == "1000000000"
