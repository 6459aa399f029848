"""Shared fixtures: configurations, MedMNIST files of the official form, a saved tiny BEiT.

Nothing here reaches a network, and nothing of the project's own code is replaced.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

# Before torch is imported anywhere: two workers on two cores, and no look at a hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
# Neither the user's data nor the user's caches.
os.environ["HOME"] = tempfile.mkdtemp(prefix="beitmed-tests-")

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from beitmed import config
from beitmed.commands import front

# Ignored in tests that a script starts with `&`, and in what they start, which some interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "medmnist"
REAL_DATA_MUST_RUN = os.environ.get("BEITMED_REQUIRE_REAL_DATA") == "1"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
CHROMIUM_MUST_RUN = os.environ.get("BEITMED_REQUIRE_BROWSER") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="real MedMNIST files (../shared/medmnist) are not here")
    no_browser = pytest.mark.skip(reason="no Chromium is installed")
    for item in items:
        if "real_data" in item.keywords:
            item.user_properties.append(("real_data", "yes"))  # for CI: were they run?
            if not REAL_DATA.is_dir() and not REAL_DATA_MUST_RUN:
                item.add_marker(skip)
        if "browser" in item.keywords:
            item.user_properties.append(("browser", "yes"))
            if CHROMIUM is None and not CHROMIUM_MUST_RUN:
                item.add_marker(no_browser)


def resolve(*overrides: str) -> config.Config:
    """The configuration that these command-line overrides give."""
    config.register_resolvers()
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        return config.resolve(compose("config", overrides=list(overrides)))


def beitmed(
    *arguments: str,
    cwd: Path,
    module: str = "train",
    env: dict[str, str] | None = None,
    process: bool = False,
    **kwargs,
) -> subprocess.CompletedProcess[str]:
    """Do what `beitmed <module> ...` does for a user in the folder `cwd`.

    In this process, unless a process is the point of the test: the imports alone take six seconds.
    """
    command = [sys.executable, "-m", "beitmed", module, *arguments]
    environment = {**os.environ, **(env or {})}
    if process or kwargs:
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300,
            check=False, **kwargs,
        )  # fmt: skip
    before = Path.cwd(), dict(os.environ), sys.argv, list(sys.path)
    out, err = io.StringIO(), io.StringIO()
    try:
        os.chdir(cwd)
        os.environ.update(env or {})
        sys.argv = ["beitmed", module, *arguments]
        sys.path.insert(0, "")  # as `python -m` has it
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                front.main()
                code = 0
            except SystemExit as e:
                code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
            except BaseException:  # what an interpreter does with it
                traceback.print_exc()
                code = 1
    finally:
        os.chdir(before[0])
        os.environ.clear()
        os.environ.update(before[1])
        sys.argv, sys.path[:] = before[2], before[3]
        for name, found in list(sys.modules.items()):  # a user's own modules, as in a new process
            if Path(getattr(found, "__file__", None) or "/").is_relative_to(cwd):
                del sys.modules[name]
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


# A run of seconds: few images, one epoch, the tiny backbone.
FAST = (
    "experiment=smoke",
    "data.limit=8",
    "train.epochs=1",
    "evaluate.n_resamples=100",
)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of seconds. Tests share it: to damage it, copy it."""
    from beitmed import pipeline

    return pipeline.run(resolve(*FAST, f"output_dir={tmp_path_factory.mktemp('runs') / 'outputs'}"))


def medmnist_arrays(
    flag: str, size: int, seed: int = 0, n: int | None = None
) -> dict[str, np.ndarray]:
    """Arrays of a MedMNIST file's form: brighter images are of a higher class.

    The split sizes are the official ones, or `n`. Of several labels a brighter image has more.
    """
    from beitmed.data import medmnist_files

    info = medmnist_files.info(flag)
    classes, several = len(info["label"]), "multi-label" in info["task"]
    colour = (3,) if info["n_channels"] == 3 else ()
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, official in info["n_samples"].items():
        count = n or official
        if classes == 2:
            level = (np.arange(count) % 4 > 0).astype(np.uint8)  # both classes, 1 : 3
        else:
            level = (np.arange(count) % classes).astype(np.uint8)
        noise = rng.integers(0, 150, size=(count, size, size, *colour))
        step = 40 if classes == 2 else 100 // classes
        shift = step * level.astype(np.int64).reshape(-1, *[1] * (noise.ndim - 1))
        arrays[f"{split}_images"] = (noise + shift).astype(np.uint8)
        labels = rng.random((count, classes)) < 0.3 * (level[:, None] + 1) / classes
        labels[level, level] = True  # each label occurs
        arrays[f"{split}_labels"] = labels.astype(np.uint8) if several else level[:, None]
    return arrays


@pytest.fixture(scope="session")
def medmnist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with generated BreastMNIST and PneumoniaMNIST files at 28 and breast at 224."""
    folder = tmp_path_factory.mktemp("medmnist")
    for flag, size, name in (
        ("breastmnist", 28, "breastmnist.npz"),
        ("pneumoniamnist", 28, "pneumoniamnist.npz"),
        ("breastmnist", 224, "breastmnist_224.npz"),
    ):
        np.savez(folder / name, **medmnist_arrays(flag, size))
    return folder


@pytest.fixture(scope="session")
def paper_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four files of the paper, of the official form, from generated pixels."""
    folder = tmp_path_factory.mktemp("paper")
    for flag in ("breastmnist", "pneumoniamnist"):
        small = medmnist_arrays(flag, 28)
        np.savez(folder / f"{flag}.npz", **small)
        large = {
            k: v.repeat(8, axis=1).repeat(8, axis=2) if k.endswith("images") else v
            for k, v in small.items()
        }
        np.savez_compressed(folder / f"{flag}_224.npz", **large)
    return folder


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pt22k checkpoints are: a masked-image BEiT with an image processor."""
    import torch
    from transformers import BeitConfig, BeitForMaskedImageModeling, BeitImageProcessorPil

    folder = tmp_path_factory.mktemp("weights") / "tiny-beit"
    geometry = resolve("backbone=beit_tiny").backbone.geometry.model_dump()
    torch.manual_seed(1)
    model = BeitForMaskedImageModeling(
        BeitConfig(
            **geometry, use_shared_relative_position_bias=True, use_mask_token=True, vocab_size=16
        )
    )
    randomise(model)
    model.save_pretrained(folder)
    BeitImageProcessorPil(size={"height": 112, "width": 112}, resample=2).save_pretrained(folder)
    return folder


def randomise(module) -> None:
    """Give every parameter values of its own: at their initial 0 or 1 many errors do not show."""
    import torch

    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.05)


@pytest.fixture
def edit_npz(medmnist_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a changed copy of the BreastMNIST file; a value of None drops the array."""

    def edit(**changes: np.ndarray | None) -> Path:
        with np.load(medmnist_folder / "breastmnist.npz") as npz:
            arrays = {key: npz[key] for key in npz.files} | changes
        np.savez(tmp_path / "breastmnist.npz", **{k: v for k, v in arrays.items() if v is not None})
        return tmp_path

    return edit
