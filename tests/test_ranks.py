"""One run computed by several processes: what each does, and what becomes of those that fail."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import beitmed, resolve
from safetensors.torch import load_file

from beitmed import pipeline, threads
from beitmed.backbones import compute
from beitmed.errors import UserError
from beitmed.pretraining import line
from beitmed.ranks import launch, together
from beitmed.runs import reader
from beitmed.storage.store import Store
from beitmed.training import shares

sys.path.append(str(Path(__file__).parent))
import pretrain_runs
import rank_tasks


@pytest.mark.parametrize(("n", "size", "ranks"), [(32, 8, 2), (13, 8, 4), (1, 8, 3), (7, 2, 3)])
def test_ranks_pass_every_image_of_a_batch_once_and_as_many_parts(n, size, ranks):
    each = [shares.of_batch(n, size, rank, ranks) for rank in range(ranks)]
    assert len({len(parts) for parts in each}) == 1
    seen = np.zeros(n)
    for parts in each:
        start = 0
        for part in parts:
            assert part.stop > part.start  # none sits a part out
            images = slice(start + part.start, start + part.stop)
            seen[images] += part.weight / ranks / (part.stop - part.start)
            start += part.whole
        assert start == n
    np.testing.assert_allclose(seen, 1 / n)  # the mean over ranks is the mean over images


def test_a_rank_draws_what_one_process_draws_for_its_images():
    x = torch.ones(6, 3, 1)

    def draws(rows):
        torch.manual_seed(1)
        with contextlib.nullcontext() if rows is None else shares.SharedDraws(rows):
            y = x if rows is None else x[rows.start : rows.stop]
            found = [torch.rand((len(y), 1, 1)), torch.rand(len(y), 1), torch.rand_like(y),
                     torch.nn.functional.dropout(y, 0.5), torch.nn.Dropout(0.5)(y)]  # fmt: skip
        return [*found, torch.rand(4)]  # and goes on with the same

    whole = draws(None)
    for start, stop in ((0, 2), (2, 6)):
        mine = draws(shares.Share(6, start, stop, 1.0))
        for a, b in zip(whole[:-1], mine[:-1], strict=True):
            assert torch.equal(a[start:stop], b)
        assert torch.equal(whole[-1], mine[-1])


def test_a_batch_that_does_not_divide_is_refused_with_what_does():
    with pytest.raises(UserError) as e:
        resolve("processes=3", "train.batch_size=16")
    for part in ("processes: found 3", "train.batch_size=16", "allowed: 1, 2, 4, 8, 16"):
        assert part in str(e.value)
    assert compute.processes(resolve("processes=auto", "device=cpu")) == 1
    assert compute.processes(resolve("processes=8", "device=cpu", "train.batch_size=16")) == 8
    with pytest.raises(UserError, match="processes: found 3"):
        pretrain_runs.resolve("processes=3", "train.batch_size=16")
    # A baseline on features splits no batch.
    assert compute.processes(resolve("processes=3", "method=features_knn", "device=cpu")) == 3


@pytest.mark.parametrize("method", ["pixels_logistic", "resnet18"])
def test_methods_that_are_computed_by_one_process_say_so(method, tmp_path):
    done = beitmed(f"method={method}", "processes=2", "dataset=phantom", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "processes=2" in done.stderr and "does not read it" in done.stderr


def test_torchrun_is_told_what_to_use_instead(tmp_path):
    by_torchrun = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    for env in (by_torchrun, {"WORLD_SIZE": "2"}):
        done = beitmed("dataset=phantom", cwd=tmp_path, env=env)
        assert done.returncode == 2, done.stdout
        assert "processes=2" in done.stderr and "torchrun" in done.stderr
        assert "Traceback" not in done.stderr and not any(tmp_path.iterdir())


def test_each_process_takes_its_share_of_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert threads.divided(2) == 6  # set by the user: so many each
    monkeypatch.setenv("BEITMED_OMP_NUM_THREADS", "6")
    assert [threads.divided(n) for n in (1, 2, 4, 9)] == [6, 3, 1, 1]


def test_a_process_by_itself_is_all_of_them():
    assert (together.count(), together.index(), together.first()) == (1, 0, True)
    assert together.told(3) == 3 and together.gathered(3) == together.collected(3) == [3]
    found = np.arange(5)
    assert shares.joined(found, 5, 2) is not found and (shares.joined(found, 5, 2) == found).all()


@pytest.mark.slow
def test_ranks_talk_and_the_first_is_heard(capfd):
    heard: list = []
    said: list[logging.LogRecord] = []
    logger, handler = logging.getLogger("beitmed.somewhere"), logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    environment = dict(os.environ)
    try:
        found = launch.start(2, False, rank_tasks.talk, "word", hear=heard.append)
    finally:
        logger.removeHandler(handler)
    assert found == ("word", ["word 0", "word 1"], int(os.environ["OMP_NUM_THREADS"]))
    assert heard == [{"rank": 0}]
    assert [record.getMessage() for record in said] == ["word of 2"]
    assert capfd.readouterr().err == ""
    assert dict(os.environ) == environment
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("user", UserError, ["a.key: found 1; allowed: 2"]),
        ("bug", RuntimeError, ["ZeroDivisionError: of this rank (in process 1 of 2)",
                               "rank_tasks.py"]),
        ("SIGKILL", UserError, ["process 1 of 2", "ended by SIGKILL", "goes on"]),
        ("SIGSTOP", UserError, ["process 0 of 2", "longer than 20 s", "hangs", "goes on"]),
    ],
)  # fmt: skip
def test_what_fails_in_a_rank_is_said_once(how, error, said, monkeypatch, capfd):
    monkeypatch.setattr(launch, "PATIENCE", 20.0 if how == "SIGSTOP" else 200.0)
    with pytest.raises(error) as e:
        launch.start(2, False, rank_tasks.fail, how, 1)
    for part in said:
        assert part in str(e.value)
    assert capfd.readouterr().err == ""
    assert ranks_of(os.getpid()) == []


@pytest.mark.slow
def test_a_block_that_is_refused_ends_a_fill_on_all_ranks_and_another_can_follow(tmp_path):
    said = launch.start(2, False, rank_tasks.fill, tmp_path)
    assert said == "image 40: too large at another depth"
    assert [p.name for p in tmp_path.glob("of*")] == ["of1"]
    entry = Store(tmp_path).find("of1")
    assert entry is not None and (entry.open()[:] == np.arange(100)[:, None]).all()
    assert len(entry.manifest["blocks"]) == 4


def ranks_of(pid: int) -> list[int]:
    """The ranks that a process has started, in their order."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it is gone
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return sorted(found)


RUN = ("dataset=phantom", "backbone=beit_tiny", "data.limit=19", "train.batch_size=12",
       "train.epochs=3", "evaluate.n_resamples=100", "device=cpu")  # fmt: skip


def done(folder: Path, *overrides: str) -> Path:
    return pipeline.run(
        resolve(*RUN, f"output_dir={folder / 'outputs'}", f"cache.root={folder / 'cache'}",
                *overrides)
    )  # fmt: skip


def scores(run: Path) -> np.ndarray:
    found = reader.read_predictions(run)
    return np.concatenate([found[name].logits for name in ("val", "test")])


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [("unfreeze=3",), ("trunk_mode=train",), ("unfreeze=0",)],
    ids=["drop_path", "whole", "probe"],
)  # fmt: skip
def test_two_processes_give_what_one_gives(settings, tmp_path):
    """Of 38 images in batches of 12: the last batch has 2, and one part of it a single image."""
    one = done(tmp_path / "one", *settings)
    two = done(tmp_path / "two", *settings, "processes=2")
    assert one.name == two.name  # the same run, wherever it is computed
    np.testing.assert_allclose(scores(two), scores(one), rtol=0, atol=1e-5)
    for file in sorted((tmp_path / "one" / "cache").glob("*/rows.bin")):
        other = tmp_path / "two" / "cache" / file.relative_to(tmp_path / "one" / "cache")
        assert other.read_bytes() == file.read_bytes()
    rows = [np.loadtxt(run / "history.csv", delimiter=",", skiprows=1) for run in (one, two)]
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-4)
    assert (two / "run.log").read_text().count("epoch 1 of 3") == 1
    environment = reader.read_json(two / "environment.json")
    assert environment["processes"] == 2
    assert environment["phases"]["training"]["peak_memory_bytes"] > 0


@contextlib.contextmanager
def started(folder: Path, *overrides: str) -> Iterator[subprocess.Popen[str]]:
    """A run of two processes, in a process of its own, which does not outlive the test."""
    places = (f"output_dir={folder / 'outputs'}", f"cache.root={folder / 'cache'}")
    command = [sys.executable, "-m", "beitmed", "train", *RUN, "unfreeze=3", "processes=2"]
    with subprocess.Popen(
        [*command, *places, *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ranks_once(process: subprocess.Popen[str], so_far: Callable[[], bool]) -> list[int]:
    """The ranks of a run that has come so far and is not through."""
    until = time.monotonic() + 800
    while not so_far():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    found = ranks_of(process.pid)
    assert len(found) == 2
    return found


def has_checkpoint(folder: Path) -> Callable[[], bool]:
    return lambda: any(folder.glob("outputs/*/checkpoints/*/complete"))


def has_blocks(folder: Path) -> Callable[[], bool]:
    return lambda: any(
        f.read_text().count("\n") > 1 for f in folder.glob("cache/*.partial/journal.jsonl")
    )


def lives(pid: int) -> bool:
    try:  # one that has ended may wait for its parent to look
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    until = time.monotonic() + 20
    while any(map(lives, pids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


LONG = ("train.epochs=20", "features=live")  # ranks are started once: for the training


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> np.ndarray:
    return scores(done(tmp_path_factory.mktemp("undisturbed"), "unfreeze=3", *LONG))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_goes_on_after_either_rank_was_killed(rank, undisturbed, tmp_path):
    with started(tmp_path, *LONG) as process:
        pids = ranks_once(process, has_checkpoint(tmp_path))
        os.kill(pids[rank], signal.SIGKILL)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and gone(pids), said
    assert f"process {rank} of 2" in said and "SIGKILL" in said and "Traceback" not in said, said
    # With another number of processes: checkpoints know nothing of it.
    run = done(tmp_path, "unfreeze=3", *LONG, *(("processes=2",) if rank else ()))
    assert (run / "run.log").read_text().count("epoch 1 of") == 1  # it went on
    np.testing.assert_allclose(scores(run), undisturbed, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_no_rank_outlives_the_run(name, tmp_path):
    with started(tmp_path, *LONG) as process:
        pids = ranks_once(process, has_checkpoint(tmp_path))
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=120)
    expected = {"SIGTERM": -signal.SIGTERM, "SIGINT": 130, "SIGKILL": -signal.SIGKILL}
    assert process.returncode == expected[name], said
    assert gone(pids) and "Traceback" not in said, said


@pytest.mark.slow
def test_a_fill_goes_on_after_a_rank_was_killed(tmp_path):
    settings = ("data.limit=null", "train.max_steps=1", "train.epochs=1")
    with started(tmp_path, *settings) as process:
        pids = ranks_once(process, has_blocks(tmp_path))
        os.kill(pids[1], signal.SIGKILL)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and "process 1 of 2" in said, said
    assert list(tmp_path.glob("cache/*.partial"))
    run = done(tmp_path, "unfreeze=3", *settings)
    assert "going on after" in (run / "run.log").read_text()
    one = tmp_path / "one"
    done(one, "unfreeze=3", *settings)
    for file in sorted(one.glob("cache/*/rows.bin")):
        assert (tmp_path / file.relative_to(one)).read_bytes() == file.read_bytes()


def pretrained(folder: Path, *overrides: str) -> Path:
    return line.run(
        pretrain_runs.resolve(
            *pretrain_runs.FAST, "dataset=phantom", "data.limit=19", "train.batch_size=12",
            "backbone.random.drop_path_rate=0.3", f"output_dir={folder}",
            f"cache.root={folder / 'cache'}", "device=cpu", *overrides,
        )
    )  # fmt: skip


def learnt_the_same(*runs: Path) -> None:
    one, other = (load_file(run / "huggingface" / "model.safetensors") for run in runs)
    for name, values in one.items():
        np.testing.assert_allclose(other[name], values, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective",
    [("objective=pixels",), ("objective=hybrid",), pretrain_runs.WORDS,
     (*pretrain_runs.WORDS, "pretrain.crop=1", "pretrain.flip=false", "pretrain.intensity=0")],
    ids=["pixels", "hybrid", "words", "words_once"],
)  # fmt: skip
def test_a_pretraining_by_two_processes_learns_what_one_learns(objective, tmp_path):
    """Of 37 images in batches of 12: the last batch has one, which one of the two only repeats."""
    one = pretrained(tmp_path / "one", *objective, "pretrain.weights=[0.98]")
    two = pretrained(tmp_path / "two", *objective, "pretrain.weights=[0.98]", "processes=2")
    assert one.name == two.name
    learnt_the_same(one, two)
    rows = [np.genfromtxt(run / "history.csv", delimiter=",", names=True) for run in (one, two)]
    assert rows[0].dtype.names == rows[1].dtype.names
    for name in rows[0].dtype.names:
        np.testing.assert_allclose(rows[1][name], rows[0][name], rtol=1e-4, err_msg=name)
    assert reader.read_json(two / "environment.json")["processes"] == 2


@pytest.mark.slow
def test_a_pretraining_goes_on_with_another_number_of_processes(tmp_path, monkeypatch):
    undisturbed = pretrained(tmp_path / "undisturbed", "objective=hybrid")
    real = line.load_file

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(line, "load_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrained(tmp_path / "run", "objective=hybrid", "processes=2")
    monkeypatch.setattr(line, "load_file", real)
    run = pretrained(tmp_path / "run", "objective=hybrid")
    assert (run / "run.log").read_text().count("epoch 2 of 4") == 1  # it went on
    learnt_the_same(undisturbed, run)
