"""The wheel: built, installed elsewhere, run from an empty folder, it is the same command."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import FAST, REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--wheel-dir", folder, REPOSITORY],
        check=True, timeout=120,
    )  # fmt: skip
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_code_its_data_the_licence_and_every_yaml_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    source = REPOSITORY / "src"
    kinds = (".py", ".jinja", ".css", ".js", ".csv", ".yaml")
    code = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.suffix in kinds}
    weights = source / "beitmed" / "backbones" / "embedded"
    code |= {p.relative_to(source).as_posix() for p in weights.iterdir()}
    conf = REPOSITORY / "conf"
    yaml = {f"beitmed/conf/{p.relative_to(conf).as_posix()}" for p in conf.rglob("*.yaml")}
    assert {n for n in names if ".dist-info/" not in n} == code | yaml
    assert [n for n in names if n.endswith(".dist-info/licenses/LICENSE")]


def test_the_installed_command_runs_from_an_empty_folder(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--disable-pip-version-check", "--target", site, wheel],
        check=True, timeout=120,
    )  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "import beitmed.config as c; print(c.conf_dir())"],
        cwd=empty, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()) == site / "beitmed" / "conf"
    done = subprocess.run(
        [site / "bin" / "beitmed", "train", *FAST],
        cwd=empty, env=env, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(empty.glob("outputs/*/metrics.json"))) == 1
