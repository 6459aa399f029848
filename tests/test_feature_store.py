"""The store: whole entries or none, whatever happens to the disk, the process or the files."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import beitmed

from beitmed.errors import UserError
from beitmed.storage.store import Store, Target, key_of

SHAPE = (50, 3, 4)
ROWS = np.random.default_rng(0).normal(size=SHAPE).astype(np.float16)
KEY = key_of({"what": "test"})


def fill(root: Path, rows_from=None, block: int = 7, progress=lambda done: None):
    store = Store(root)
    with store.lock(KEY):
        found = store.find(KEY)
        return found or store.fill(
            KEY, SHAPE, np.dtype(np.float16), rows_from or (lambda a, b: ROWS[a:b]), block,
            {"title": "test"}, progress,
        )  # fmt: skip


def interrupt_a_fill(root: Path) -> None:
    """Fill three blocks of seven rows, and stop while the fourth is under way."""

    def interrupted(start, stop):
        if start == 21:
            raise KeyboardInterrupt
        return ROWS[start:stop]

    with pytest.raises(KeyboardInterrupt):
        fill(root, interrupted)


def content(root: Path) -> np.ndarray:
    entry = Store(root).find(KEY)
    assert entry is not None
    return entry.open()[:]


def test_what_was_filled_is_read_back_by_rows(tmp_path):
    done: list[int] = []
    entry = fill(tmp_path, progress=done.append)
    assert done == [0, 7, 14, 21, 28, 35, 42, 49, 50]
    rows = entry.open()
    assert (len(rows), entry.shape, entry.dtype) == (50, SHAPE, np.float16)
    out = np.empty(SHAPE[1:], np.float16)
    for i in (49, 0, 7):
        rows.read(i, out)
        assert np.array_equal(out, ROWS[i])
    assert np.array_equal(rows[10:20], ROWS[10:20])
    assert np.array_equal(content(tmp_path), ROWS)
    assert not list(tmp_path.glob("*.partial"))


def test_a_key_says_everything_that_its_rows_depend_on():
    a = {"images": "1", "boundary": 3}
    assert key_of(a) == key_of(dict(reversed(a.items())))
    assert len({key_of(a), key_of(a | {"boundary": 4}), key_of(a | {"dtype": "fp16"})}) == 3


def test_an_interrupted_fill_goes_on_after_its_last_whole_block(tmp_path):
    interrupt_a_fill(tmp_path)
    assert Store(tmp_path).find(KEY) is None
    asked: list[int] = []

    def counted(start, stop):
        asked.append(start)
        return ROWS[start:stop]

    fill(tmp_path, counted)
    assert asked == [21, 28, 35, 42, 49]
    assert np.array_equal(content(tmp_path), ROWS)


@pytest.mark.parametrize("damage", ["cut", "altered", "more", "journal"])
def test_an_interrupted_fill_trusts_only_what_it_can_verify(tmp_path, damage):
    interrupt_a_fill(tmp_path)
    file = tmp_path / f"{KEY}.partial" / "rows.bin"
    raw = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(raw[:-5])
    elif damage == "altered":
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    elif damage == "more":
        file.write_bytes(raw + b"half a block that was under way")
    else:
        (tmp_path / f"{KEY}.partial" / "journal.jsonl").write_text('{"start": 0, "st')
    fill(tmp_path)
    assert np.array_equal(content(tmp_path), ROWS)


@pytest.mark.parametrize(
    "damage", ["cut", "altered", "no rows", "manifest", "no manifest", "format"]
)
def test_a_damaged_entry_is_found_removed_and_computed_again(tmp_path, caplog, damage):
    entry = fill(tmp_path)
    rows, manifest = entry.path / "rows.bin", entry.path / "manifest.json"
    raw = bytearray(rows.read_bytes())
    if damage == "cut":
        rows.write_bytes(raw[:-1])
    elif damage == "altered":
        raw[100] ^= 1
        rows.write_bytes(raw)
    elif damage == "no rows":
        rows.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text(json.dumps(dict(entry.manifest) | {"format": 0}))
    with caplog.at_level("WARNING", logger="beitmed"):
        import logging

        logging.getLogger("beitmed").propagate = True
        fill(tmp_path)
    assert "computed again" in caplog.text
    assert np.array_equal(content(tmp_path), ROWS)


def _fill_slowly(root: str, asked: str) -> None:
    def rows(start, stop):
        with Path(asked).open("a") as f:
            f.write(f"{start}\n")
        time.sleep(0.05)
        return ROWS[start:stop]

    fill(Path(root), rows)


def test_two_processes_fill_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    both = [
        context.Process(target=_fill_slowly, args=(str(tmp_path / "s"), str(tmp_path / "asked")))
        for _ in range(2)
    ]
    for p in both:
        p.start()
    for p in both:
        p.join(60)
    assert [p.exitcode for p in both] == [0, 0]
    assert len((tmp_path / "asked").read_text().split()) == 8  # each block by one of the two
    assert np.array_equal(content(tmp_path / "s"), ROWS)


def test_killed_while_filling_nothing_half_is_found_and_the_lock_is_free(tmp_path):
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=_fill_slowly, args=(str(tmp_path / "s"), str(tmp_path / "asked"))
    )
    process.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "asked").exists() or len((tmp_path / "asked").read_text().split()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert Store(tmp_path / "s").find(KEY) is None
    fill(tmp_path / "s")
    assert np.array_equal(content(tmp_path / "s"), ROWS)


def _fill_on_a_small_disk(root: str, said: str) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    try:
        fill(Path(root))
    except UserError as e:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        Path(said).write_text(str(e))
        sys.exit(2)


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path):
    context = multiprocessing.get_context("fork")
    said = tmp_path / "said"
    process = context.Process(target=_fill_on_a_small_disk, args=(str(tmp_path / "s"), str(said)))
    process.start()
    process.join(60)
    assert process.exitcode in (1, 2)
    assert not [p.name for p in (tmp_path / "s").iterdir() if p.name != ".locks"]
    fill(tmp_path / "s")
    assert np.array_equal(content(tmp_path / "s"), ROWS)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "occupied").write_text("")
    with pytest.raises(UserError, match=r"occupied.*cannot be written"):
        fill(tmp_path / "occupied" / "below")


def _keep_listing(root: str, ready: str, stop: str) -> None:
    Path(ready).touch()
    while not Path(stop).exists():
        Store(Path(root)).entries()


def test_the_cache_is_listed_while_another_process_publishes_and_removes(tmp_path):
    context = multiprocessing.get_context("spawn")
    names = [str(tmp_path / name) for name in ("s", "ready", "stop")]
    process = context.Process(target=_keep_listing, args=names)
    process.start()
    while not Path(names[1]).exists():
        time.sleep(0.01)
    for _ in range(100):
        assert Store(tmp_path / "s").remove(fill(tmp_path / "s").path)
    Path(names[2]).touch()
    process.join(60)
    assert process.exitcode == 0


def test_a_fill_under_way_is_not_removed(tmp_path):
    context = multiprocessing.get_context("spawn")
    names = str(tmp_path / "s"), str(tmp_path / "asked")
    process = context.Process(target=_fill_slowly, args=names)
    process.start()
    while not (tmp_path / "asked").exists():
        time.sleep(0.005)
    listed = beitmed("prune=all", f"cache.root={tmp_path}/s", cwd=tmp_path, module="cache")
    assert "removed 0 entries" in listed.stdout
    assert "kept 1 entries that another process is using" in listed.stdout
    process.join(60)
    assert process.exitcode == 0
    assert np.array_equal(content(tmp_path / "s"), ROWS)


def test_entries_filled_together_go_on_from_where_both_are_whole(tmp_path):
    other = Target(key_of({"what": "other"}), (50, 3), np.dtype(np.float32), {"title": "other"})
    targets = [Target(KEY, SHAPE, np.dtype(np.float16), {"title": "test"}), other]
    interrupt_a_fill(tmp_path)  # of the first alone
    asked: list[int] = []

    def both(start, stop):
        asked.append(start)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return [ROWS[start:stop], ROWS[start:stop, :, 0]]

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).fill_together(targets, both, 7, lambda done: None)
    Store(tmp_path).fill_together(targets, both, 7, lambda done: None)
    assert asked == [0, 7, 14, 21, 21, 28, 35, 42, 49]
    assert np.array_equal(content(tmp_path), ROWS)
    found = Store(tmp_path).find(other.key)
    assert np.array_equal(found.open()[:], ROWS[..., 0].astype(np.float32))


def test_listed_and_removed(tmp_path):
    fill(tmp_path)
    store = Store(tmp_path)
    [entry] = store.entries()
    assert entry.manifest["title"] == "test"
    assert entry.size > ROWS.nbytes
    assert abs(entry.last_used - time.time()) < 60
    store.remove(entry.path)
    assert store.entries() == []
    assert store.find(KEY) is None


@pytest.fixture
def as_nobody(tmp_path):
    """What a folder that belongs to another account looks like; root may write everywhere."""
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents):
            if folder.owner() == "root" and folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o055)

    @contextlib.contextmanager
    def lowered():
        if os.geteuid() == 0:
            os.seteuid(65534)
            try:
                yield
            finally:
                os.seteuid(0)
        else:
            for folder in (tmp_path / "s", *(tmp_path / "s").glob("*")):
                folder.chmod(0o555)
            try:
                yield
            finally:
                for folder in (tmp_path / "s", *(tmp_path / "s").glob("*")):
                    folder.chmod(0o755)

    return lowered


def test_a_cache_that_can_only_be_read_is_read(tmp_path, as_nobody):
    fill(tmp_path / "s")
    with as_nobody():
        entry = Store(tmp_path / "s").find(KEY)
        assert entry is not None and np.array_equal(entry.open()[:], ROWS)


def test_a_damaged_entry_of_a_cache_that_can_only_be_read_is_named(tmp_path, as_nobody):
    fill(tmp_path / "s")
    rows = tmp_path / "s" / KEY / "rows.bin"
    raw = bytearray(rows.read_bytes())
    raw[5] ^= 1
    rows.write_bytes(raw)
    with as_nobody(), pytest.raises(UserError, match="this cache can only be read"):
        Store(tmp_path / "s").find(KEY)
    assert rows.exists()
