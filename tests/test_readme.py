"""The README: every command in it is run here, and its figures are those of the code.

A command is run as it stands there; what it cannot have offline (BEiT-large's weights, MedMNIST's
own files, minutes) is given by the overrides that are appended.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import FAST, REPOSITORY, beitmed, resolve
from PIL import Image

from beitmed import config

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
OFFLINE = ["backbone=beit_tiny", "data.allow_unofficial=true"]
SHORT = [*FAST[1:], "train.max_steps=1"]
APPENDED = {
    "bash scripts/quickstart.sh": SHORT,
    "bash scripts/test.sh": ["tests/test_sampling.py", "-p", "no:cacheprovider"],
    "python -m beitmed.train": [*OFFLINE, *SHORT],
    "python -m beitmed.prepare": OFFLINE,
    "python -m beitmed.features": [],
    "python -m beitmed.report": [],
    "python -m beitmed.audit": OFFLINE[1:],
    "python -m beitmed.explain": [],
    "python scripts/bench.py": ["--smoke", "--only", "parts"],  # CI runs the rest
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which the scripts find their installation done: this very one."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    stamp = subprocess.run(
        "cat pyproject.toml constraints.txt | cksum", shell=True, cwd=REPOSITORY,
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (tmp_path / "venv" / ".beitmed-test").write_text(stamp)
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "BEITMED_VENV": str(tmp_path / "venv"), "PATH": path}


def test_the_readme_has_the_two_commands_and_only_known_ones():
    assert {"bash scripts/quickstart.sh", "bash scripts/test.sh"} <= set(COMMANDS)
    assert [c for c in COMMANDS if not c.startswith(tuple(APPENDED))] == []


@pytest.mark.parametrize("command", [*COMMANDS, "python -m beitmed.train --cfg job"])
def test_the_command_does_what_the_readme_says(command, tmp_path, environment, paper_data):
    words = shlex.split(command)
    appended = next(more for start, more in APPENDED.items() if command.startswith(start))
    if "--cfg" in words:
        appended = []
    if command.startswith(("python -m beitmed.report", "python -m beitmed.explain")):
        _finished_run(tmp_path)
    if ("train" in command and "--cfg" not in words) or "prepare" in command or "audit" in command:
        appended = [*appended, f"data.root={paper_data}"]
    if "dataset=folder" in command:
        _own_images(tmp_path)
    if "--config-dir" in command:
        _own_files(tmp_path)
    if "bench" in command:
        appended = [*appended, f"--csv={tmp_path}/benchmark.csv"]
    if "quickstart" in command:
        appended = [*appended, f"output_dir={tmp_path}/outputs"]
    if "freeze_depth" in command:
        appended = [*appended, "seed=1,2"]
    if "seed=1,2,3" in words:
        appended = [*appended, "seed=1"]
    done = subprocess.run(
        [*words, *appended], cwd=REPOSITORY if "scripts/" in command else tmp_path,
        env=environment,
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    if command == "python -m beitmed.report outputs":
        assert (tmp_path / "report" / "report.html").stat().st_size > 100_000
    made = {p.parent.name.rpartition("_")[0] for p in tmp_path.glob("outputs/*/metrics.json")}
    assert made - {""} == _expected_runs(command)


def _own_images(folder: Path) -> None:
    rng, rows = np.random.default_rng(0), ["path,label,patient"]
    for i in range(40):
        pixels = rng.integers(0, 120, (40, 48), np.uint8) + np.uint8(100 * (i % 2))
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{'healthy' if i % 2 else 'ill'},p{i // 4}")
    (folder / "images.csv").write_text("\n".join(rows))


def _own_files(folder: Path) -> None:
    """The files that the README shows, each of which names its path in its first line."""
    shown = re.findall(r"```(?:yaml|python)\n# (\S+)\n(.*?)```", README, re.DOTALL)
    assert len(shown) == 2
    for name, content in shown:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def _finished_run(folder: Path) -> None:
    done = beitmed(*FAST, "name=my-run", "cache.root=cache", cwd=folder)
    assert done.returncode == 0, done.stderr


def _expected_runs(command: str) -> set[str]:
    tiny = "beit_tiny_top5_seed42"
    if "quickstart" in command:
        return {f"phantom_28_full_{tiny}"}
    if "freeze_depth" in command:
        return {f"breast_28_full_beit_tiny_top{d}_seed{s}" for d in (0, 1, 2, 5) for s in (1, 2)}
    if "experiment=paper" in command or "seed=1,2,3" in command:
        return {
            f"{dataset}_{size}_{balance}_{tiny if 'paper' in command else 'beit_tiny_top5_seed1'}"
            for dataset in ("breast", "pneumonia")
            for size in (28, 224)
            for balance in ("full", "balanced")
        }
    if "--config-dir" in command:
        return {f"breast_28_equal_{tiny}"}
    if "dataset=folder" in command:
        return {f"folder_224_full_{tiny}"}
    if "method=" in command:
        return {
            f"breast_28_full_{method}_seed42"
            for method in ("majority", "pixels_logistic", "features_knn_beit_tiny")
        }
    return {f"breast_28_balanced_{tiny}"} if "dataset=breast size=28 balanced" in command else set()


def test_the_table_of_the_papers_variants_is_the_recipe():
    rows = re.findall(
        r"^\| (Breast|Pneumonia)MNIST \| (\d+) \| (yes|no) \| ([\d,]+) \| (\d+) \| ([\d.]+) \|",
        README, re.MULTILINE,
    )  # fmt: skip
    assert len(rows) == 8
    counts = {"breast": (147, 399), "pneumonia": (1214, 3494)}
    for name, size, balanced, n, batch, decay in rows:
        cfg = resolve(f"dataset={name.lower()}", f"size={size}", f"balanced={balanced == 'yes'}")
        minority, majority = counts[name.lower()]
        kept = majority if cfg.majority_ratio is None else int(minority * cfg.majority_ratio)
        assert (cfg.train.batch_size, cfg.train.weight_decay) == (int(batch), float(decay))
        assert minority + kept == int(n.replace(",", ""))


def test_the_keys_and_defaults_of_the_readme_exist():
    cfg = resolve().model_dump()
    table = README.partition("## Knobs")[2].partition("## The code")[0]
    keys = {
        key
        for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for key in re.findall(r"`([a-z_]+)(?:\.\*)?`", cell)
    }
    assert keys - {"experiment"} <= set(cfg)
    assert {"dataset", "size", "unfreeze", "trunk_mode", "seed"} <= keys
    for group in ("dataset", "backbone", "method", "balancing", "experiment"):
        [row] = [line for line in table.splitlines() if line.startswith(f"| `{group}` |")]
        named = set(re.findall(r"`([a-z0-9_]+)`", row.split("|")[2]))
        assert named == {p.stem for p in (config.conf_dir() / group).glob("*.yaml")}


def test_files_that_the_readme_names_exist():
    named = re.findall(r"\]\(([^)#:]+)\)|src=\"([^\"]+)\"", README)
    paths = [REPOSITORY / (a or b) for a, b in named]
    assert paths
    assert [str(p) for p in paths if not p.exists()] == []
    source = REPOSITORY / "src" / "beitmed"
    table = README.partition("## The code")[2].partition("A new dataset")[0]
    there = {p.name for p in source.glob("*.py")} | {
        f"{p.parent.name}/" for p in source.glob("*/*.py")
    }
    first = set(
        re.findall(r"`([a-z_./]+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))
    )
    assert first - {"src/beitmed/"} == there - {"__init__.py"}
    inside = set(re.findall(r"`([a-z_]+\.py)`", table)) - first
    assert inside <= {p.name for p in source.glob("*/*.py")}
