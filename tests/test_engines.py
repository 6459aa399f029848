"""Sweeps on real engines: joblib's processes, a Slurm of this machine, a Ray of this machine.

`bash scripts/engines.sh` sets up the last two and runs these.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST
from pretrain_runs import FAST as PRETRAINING

pytestmark = [pytest.mark.slow, pytest.mark.engine]
RAY = os.environ.get("BEITMED_RAY_PYTHON")
MUST_RUN = os.environ.get("BEITMED_REQUIRE_ENGINES") == "1"
ON = {
    "local": (),
    "joblib": (),
    "slurm": ("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=null"),
    "ray": ("hydra.launcher.ray.init.num_cpus=2",),
}
MISSING = {
    "slurm": None if shutil.which("sbatch") and "SLURM_CONF" in os.environ else "Slurm",
    "ray": None if RAY else "Ray",
}


@pytest.fixture(params=["joblib", "slurm", "ray"])
def engine(request: pytest.FixtureRequest) -> str:
    if (missing := MISSING.get(request.param)) and not MUST_RUN:
        pytest.skip(f"{missing} is not set up; `bash scripts/engines.sh` does it")
    return request.param


def command(engine: str, *arguments: str, name: str = "train") -> list[str]:
    python = RAY if engine == "ray" else sys.executable
    assert python is not None
    return [python, "-m", "beitmed", name, "-m", f"launcher={engine}", *ON[engine], *arguments]


def sweep(
    engine: str, folder: Path, *arguments: str, name: str = "train"
) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        command(engine, f"cache.root={folder}/cache", *arguments, name=name), cwd=folder,
        timeout=1800, capture_output=True, text=True, check=False,
        env={**os.environ, "RAY_DEDUP_LOGS": "0"},  # Ray leaves out lines that are alike
    )  # fmt: skip


def predictions(folder: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in folder.glob("outputs/*/predictions.csv")}


def said(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    """What all runs said, wherever the engine keeps it."""
    logs = sorted(folder.glob("outputs/.sweep/.submitit/*/*_log.out"))
    return "\n".join([done.stdout, *(p.read_text() for p in logs)])


@pytest.fixture(scope="module")
def eight(paper_data: Path) -> tuple[str, ...]:
    return (
        "experiment=paper", "backbone=beit_tiny", f"data.root={paper_data}", "data.download=false",
        "data.allow_unofficial=true", "data.limit=8", "train.epochs=1", "evaluate.n_resamples=100",
    )  # fmt: skip


@pytest.fixture(scope="module")
def here(eight: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("local")
    done = sweep("local", folder, *eight)
    assert done.returncode == 0, done.stdout + done.stderr
    return predictions(folder)


def test_the_eight_variants_are_the_same_bytes_as_here(engine, eight, here, tmp_path):
    done = sweep(engine, tmp_path, *eight)
    assert done.returncode == 0, said(done, tmp_path) + done.stderr
    assert len(here) == 8 and predictions(tmp_path) == here
    everything = said(done, tmp_path)
    assert "4 of the sweep's 8 runs fill the cache first" in everything
    assert everything.count("features: computing") == 4  # once for each dataset and size
    assert everything.count("features: all") == 8


def test_what_failed_is_listed_as_it_is_here(engine, tmp_path):
    asked = ("dataset=phantom,breast", *FAST[1:], "method=majority", "unfreeze=1",
             "data.download=false", "data.root=nowhere")  # fmt: skip
    asked = tuple(a for a in asked if not a.startswith(("train.", "unfreeze")))
    listed = {}
    for name in ("local", engine):
        folder = tmp_path / name
        done = sweep(name, folder, *asked)
        assert done.returncode == 1, done.stdout + done.stderr
        [_, closing] = done.stdout.split("beitmed: 1 of the sweep's runs failed:")
        for word in (f"launcher={name} ", " ".join([*ON[name], ""]), str(folder)):
            closing = closing.replace(word, "")
        listed[name] = closing
        assert len(predictions(folder)) == 1
        assert len(list(folder.glob("outputs/.failures/*.json"))) == 1
    assert "nowhere" in listed["local"] and "retry" in listed["local"]
    assert listed["local"] == listed[engine]


def test_pre_trainings_are_the_same_bytes_as_here_and_fail_alike(engine, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "archive.npz", train_images=rng.integers(0, 256, (40, 28, 28), np.uint8))
    asked = (*PRETRAINING, f"pretrain.images={tmp_path}/archive.npz,{tmp_path}/none", "seed=1,2")
    learnt = {}
    for name in ("local", engine):
        folder = tmp_path / name
        done = sweep(name, folder, *asked, name="pretrain")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "beitmed: 2 of the sweep's runs failed:" in done.stdout
        assert "2 of the sweep's 4 runs are finished" in done.stdout
        assert len(list(folder.glob("pretrained/.failures/*.json"))) == 2
        files = folder.glob("pretrained/*/huggingface/model.safetensors")
        learnt[name] = {p.parts[-3]: p.read_bytes() for p in files}
        assert len(list(folder.glob("cache/*/manifest.json"))) == 1
        if name != "local":
            assert "2 of the sweep's 4 runs fill the cache first" in done.stdout
    assert len(learnt["local"]) == 2 and learnt["local"] == learnt[engine]


def worker_of(run: Path) -> int:
    """The process that has the run's log open."""
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if fd.readlink() == run / "run.log":
                return int(fd.parts[2])
        except OSError:  # it ended meanwhile
            continue
    raise AssertionError(f"no process is at {run}")


def interrupt(engine: str, run: Path) -> None:
    """Kill a run's worker, or have Slurm take its node away and give it another."""
    if engine == "slurm":
        running = ["squeue", "--noheader", "--array", "--states=RUNNING", "--format=%A"]
        [job] = subprocess.check_output(running, text=True).split()
        subprocess.run(["scontrol", "requeue", job], check=True)
    else:
        os.kill(worker_of(run.resolve()), signal.SIGKILL)


def test_a_run_that_is_interrupted_goes_on(engine, tmp_path):
    asked = (FAST[0], "seed=1", "train.epochs=6", "evaluate.n_resamples=100")
    undisturbed = tmp_path / "undisturbed"
    assert sweep("local", undisturbed, *asked).returncode == 0

    folder = tmp_path / engine
    folder.mkdir()
    with (tmp_path / "output.txt").open("w") as out:
        process = subprocess.Popen(
            command(engine, f"cache.root={folder}/cache", *asked), cwd=folder, stdout=out,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        until = time.monotonic() + 600
        while not (marks := list(folder.glob("outputs/*/checkpoints/*/complete"))):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
        interrupt(engine, marks[0].parents[2])
        code = process.wait(timeout=900)
    output = (tmp_path / "output.txt").read_text()
    if engine == "joblib":  # which gives up; the others try again by themselves
        assert code == 1
        assert "1 of the sweep's runs stopped without a word" in output
        assert sweep(engine, folder, *asked).returncode == 0
    else:
        assert code == 0, output
    assert predictions(folder) == predictions(undisturbed)
    [log] = folder.glob("outputs/*/run.log")
    assert log.read_text().count("epoch 1 of 6") == 1
