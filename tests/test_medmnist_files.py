"""MedMNIST files: fetched, verified, read; and refused with a reason, never unpickled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import REAL_DATA, beitmed, medmnist_arrays, resolve
from medmnist import BreastMNIST

from beitmed import data
from beitmed.data import medmnist_files
from beitmed.errors import UserError


def settings(root: Path, *overrides: str):
    return resolve("dataset=breast", f"data.root={root}", "data.allow_unofficial=true", *overrides)


def load(root: Path, *overrides: str) -> data.Data:
    return data.load(settings(root, "data.download=false", *overrides))


@pytest.mark.parametrize(("size", "name"), [(28, "breastmnist"), (224, "breastmnist_224")])
def test_read_as_the_medmnist_package_reads_it(medmnist_folder, size, name):
    loaded = load(medmnist_folder, f"size={size}")
    for split, ours in loaded.splits.items():
        official = BreastMNIST(split, root=medmnist_folder, size=size)
        assert np.array_equal(ours.images, official.imgs)
        assert np.array_equal(ours.labels, official.labels[:, 0])
        assert (ours.images.dtype, ours.labels.dtype) == (np.uint8, np.int64)
    assert loaded.class_names == ("malignant", "normal, benign")
    md5 = medmnist_files.md5_of(medmnist_folder / f"{name}.npz")
    assert loaded.provenance == {"source": f"{name}.npz", "md5": md5, "official": False}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("dataset", "counts"),
    [
        ("breast", {"train": [147, 399], "val": [21, 57], "test": [42, 114]}),
        ("pneumonia", {"train": [1214, 3494], "val": [135, 389], "test": [234, 390]}),
    ],
)
def test_the_real_files(dataset, counts):
    loaded = data.load(
        resolve(f"dataset={dataset}", f"data.root={REAL_DATA}", "data.allow_unofficial=true")
    )
    assert {k: np.bincount(s.labels).tolist() for k, s in loaded.splits.items()} == counts
    assert loaded.provenance["official"] is False


def test_a_file_with_another_md5_is_refused_unless_it_is_meant(medmnist_folder):
    with pytest.raises(UserError) as e:
        load(medmnist_folder, "data.allow_unofficial=false")
    for part in (
        "breastmnist.npz",
        "750601b1f35ba3300ea97c75c52ff8f6",
        "data.allow_unofficial=true",
    ):
        assert part in str(e.value)


def _labels(n: int, value: int = 1) -> np.ndarray:
    labels = np.zeros((n, 1), np.uint8)
    labels[::2] = value
    return labels


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"val_labels": None}, ["val_labels", "exactly"]),
        ({"extra": np.zeros(3)}, ["extra", "exactly"]),
        ({"train_images": np.zeros((546, 28, 28), np.float32)}, ["float32", "uint8"]),
        ({"train_images": np.zeros((545, 28, 28), np.uint8)}, ["(545, 28, 28)", "(546, 28, 28)"]),
        ({"train_images": np.zeros((546, 64, 64), np.uint8)}, ["(546, 64, 64)"]),
        ({"train_images": np.zeros((546, 28, 28, 3), np.uint8)}, ["(546, 28, 28, 3)"]),
        ({"test_labels": _labels(156)[:, 0]}, ["test_labels", "(156,)", "(156, 1)"]),
        ({"test_labels": _labels(156).astype(np.float64)}, ["float64", "integers"]),
        ({"test_labels": _labels(156, 7)}, ["[7]", "test_labels", "0 to 1", "malignant"]),
        ({"test_labels": np.ones((156, 1), np.uint8)}, ["no image of class 0 (malignant)", "test"]),
        ({"train_labels": np.zeros((546, 1), np.uint8)}, ["class 1 (normal, benign)", "train"]),
        ({"train_labels": np.array([[None]] * 546)}, ["Python objects", "can run code"]),
    ],
)
def test_a_wrong_array_is_named_with_what_is_allowed(edit_npz, changes, said):
    folder = edit_npz(**changes)
    with pytest.raises(UserError) as e:
        load(folder)
    for part in (str(folder / "breastmnist.npz"), *said):
        assert part in str(e.value)


@pytest.mark.parametrize("kept", [0, 10, 5_000, 0.5, 0.999])
def test_a_truncated_file(medmnist_folder, tmp_path, kept):
    raw = (medmnist_folder / "breastmnist.npz").read_bytes()
    size = int(len(raw) * kept) if isinstance(kept, float) else kept
    (tmp_path / "breastmnist.npz").write_bytes(raw[:size])
    with pytest.raises(UserError, match=r"breastmnist\.npz: cannot be read.*complete \.npz"):
        load(tmp_path)


def test_a_flipped_bit(medmnist_folder, tmp_path):
    raw = bytearray((medmnist_folder / "breastmnist.npz").read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "breastmnist.npz").write_bytes(raw)
    with pytest.raises(UserError, match=r"cannot be read.*CRC"):
        load(tmp_path)


def test_a_single_array_instead_of_an_archive(tmp_path):
    with (tmp_path / "breastmnist.npz").open("wb") as f:
        np.save(f, np.zeros(3))
    with pytest.raises(UserError, match="single array"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html>\n<title>Sign in</title>", "is a web page"),
        (b"\n<HTML><body>404", "is a web page"),
        (b"something else", r"is no \.npz archive"),
    ],
)
def test_what_is_no_archive_is_said_to_be_none(tmp_path, content, said):
    (tmp_path / "breastmnist.npz").write_bytes(content)
    with pytest.raises(UserError, match=rf"breastmnist\.npz: {said}.*allowed: a \.npz archive"):
        load(tmp_path)


def test_the_command_refuses_a_damaged_file_without_leaving_a_run(tmp_path, edit_npz):
    folder = edit_npz(val_labels=None)
    done = beitmed(
        "dataset=breast", "backbone=beit_tiny", f"data.root={folder}",
        "data.allow_unofficial=true", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "val_labels" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/[!.]*"))


class Mirror:
    """A server on this machine; `answers` holds what it sends, one for each request."""

    def __init__(self, answers: list[bytes | None]) -> None:
        self.requested: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requested.append(self.path)
                answer = answers.pop(0) if answers else None
                if answer is None:  # hang up without a word
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/files"


@pytest.fixture
def mirror() -> Iterator[type]:
    made: list[Mirror] = []

    def make(answers: list[bytes | None]) -> Mirror:
        made.append(Mirror(answers))
        return made[-1]

    yield make
    for m in made:
        m.server.shutdown()


def test_a_missing_file_is_fetched_after_a_failed_try(medmnist_folder, tmp_path, mirror):
    raw = (medmnist_folder / "breastmnist.npz").read_bytes()
    server = mirror([None, raw])
    loaded = data.load(settings(tmp_path / "new", f"data.mirror={server.url}"))
    assert server.requested == ["/files/breastmnist.npz"] * 2
    assert len(loaded.train.labels) == 546
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["breastmnist.npz"]
    data.load(settings(tmp_path / "new", f"data.mirror={server.url}"))
    assert len(server.requested) == 2  # it is here now
    (tmp_path / "example").touch()  # as the umask has it
    modes = {p.stat().st_mode for p in (tmp_path / "example", tmp_path / "new/breastmnist.npz")}
    assert len(modes) == 1


def test_what_is_fetched_must_have_the_official_md5(medmnist_folder, tmp_path, mirror):
    raw = (medmnist_folder / "breastmnist.npz").read_bytes()
    server = mirror([raw] * 9)
    with pytest.raises(UserError) as e:
        data.load(settings(tmp_path, f"data.mirror={server.url}", "data.allow_unofficial=false"))
    for part in ("not the official file", "750601b1f35ba3300ea97c75c52ff8f6", server.url):
        assert part in str(e.value)
    assert not list(tmp_path.iterdir())  # nor a half of it


def test_without_an_answer_the_error_says_which_file_goes_where(tmp_path, mirror):
    server = mirror([])
    with pytest.raises(UserError) as e:
        data.load(settings(tmp_path, f"data.mirror={server.url}"))
    for part in (str(tmp_path / "breastmnist.npz"), f"{server.url}/breastmnist.npz", "MD5"):
        assert part in str(e.value)
    assert not list(tmp_path.iterdir())


def test_without_a_mirror_the_record_of_the_package_is_named(tmp_path):
    with pytest.raises(UserError) as e:
        load(tmp_path, "size=224")
    for part in ("breastmnist_224.npz", "10519652", "b56378a6eefa9fed602bb16d192d4c8b"):
        assert part in str(e.value)


def test_an_unknown_flag_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"dataset\.flag.*breastmnist.*pneumoniamnist"):
        load(tmp_path, "dataset.flag=lungmnist")


def test_a_limit_keeps_the_first_images_of_each_class(medmnist_folder):
    whole, part = load(medmnist_folder), load(medmnist_folder, "data.limit=5")
    for name, split in part.splits.items():
        assert np.bincount(split.labels).tolist() == [5, 5]
        first = np.flatnonzero(whole.splits[name].labels == 1)[:5]
        assert np.array_equal(split.images[split.labels == 1], whole.splits[name].images[first])
    assert part.provenance["limit_per_class"] == 5


def test_arrays_of_the_fixture_are_of_the_official_form():
    arrays = medmnist_arrays("pneumoniamnist", 28)
    assert arrays["train_images"].shape == (4708, 28, 28)


def test_prepare_prints_what_is_there_and_what_is_not(medmnist_folder, tmp_path, mirror):
    server = mirror([])
    done = beitmed(
        "dataset=breast,pneumonia", "size=28,224", "backbone=beit_tiny",
        f"data.root={medmnist_folder}", "data.allow_unofficial=true", f"data.mirror={server.url}",
        cwd=tmp_path, module="prepare",
    )  # fmt: skip
    assert done.returncode == 2
    lines = {line[:18].strip(): line for line in done.stdout.splitlines()}
    assert "there, accepted" in lines["breast, 28 px"]
    assert "there, accepted" in lines["breast, 224 px"]
    assert "missing" in lines["pneumonia, 224 px"]
    assert "random" in lines["beit_tiny"]
    assert f"{server.url}/pneumoniamnist_224.npz" in done.stderr
    assert "Traceback" not in done.stderr


def test_prepare_calls_an_unofficial_file_by_its_name(medmnist_folder, tmp_path):
    done = beitmed(
        "dataset=breast", "backbone=beit_tiny", f"data.root={medmnist_folder}",
        cwd=tmp_path, module="prepare",
    )  # fmt: skip
    assert done.returncode == 2
    assert "not the official one (set data.allow_unofficial=true)" in done.stdout
    assert "damaged" not in done.stdout


def test_prepare_refuses_an_unknown_key(tmp_path):
    done = beitmed("dataset=breast", "sise=28", cwd=tmp_path, module="prepare")
    assert done.returncode == 2
    assert "Did you mean size?" in done.stderr
