"""The order of the modules: imports go one way, heavy libraries stay where they belong."""

from __future__ import annotations

import ast
from pathlib import Path

import beitmed

SOURCE = Path(beitmed.__file__).parent
# A module imports from rows above its own only.
LAYERS = [
    {"errors", "fields"},
    {"backbone_config", "lora_config", "family", "heads", "sparse_drop_path"},
    {"config", "locks", "intervals", "phantom", "sampling", "environment"},
    {
        "cli",
        "estimates",
        "calibration",
        "hub",
        "medmnist_files",
        "pixels",
        "families",
        "artifacts",
        "feature_store",
    },
    {"metrics", "data", "weights", "model"},
    {"trainer", "plots", "trunk_features", "adapters"},
    {"record"},
    {"pipeline"},
    {"train", "prepare", "features"},
]
# What only the named modules may import.
CONFINED = {
    "hydra": {"train", "prepare", "features", "cli"},
    "omegaconf": {"train", "config", "cli"},
    "medmnist": {"medmnist_files"},
    "matplotlib": {"plots"},
    "huggingface_hub": {"hub"},
    "pooch": {"medmnist_files"},
    "filelock": {"locks"},
    "peft": {"adapters"},
}
WITHOUT_TORCH = {"errors", "config", "cli", "train", "prepare", "artifacts", "metrics", "estimates",
                 "calibration", "intervals", "phantom", "sampling", "data", "plots",
                 "medmnist_files", "hub", "feature_store", "features", "locks", "fields",
                 "backbone_config", "lora_config"}  # fmt: skip


def imports(module: str) -> tuple[set[str], set[str]]:
    """Names of our modules that it imports anywhere, and of libraries."""
    own, others = set(), set()
    for node in ast.walk(ast.parse((SOURCE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "beitmed":
            own |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            first, _, rest = node.module.partition(".")
            (own if first == "beitmed" else others).add(rest if first == "beitmed" else first)
            if first == "transformers":
                others |= {f"transformers.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            others |= {alias.name.partition(".")[0] for alias in node.names}
    return own, others


MODULES = sorted(p.stem for p in SOURCE.glob("*.py") if p.stem != "__init__")
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}


def test_every_module_has_its_place():
    assert set(MODULES) == set(RANK)


def test_imports_go_one_way():
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imports(module)[0]
        if RANK[other] >= RANK[module]
    ]
    assert wrong == []


def test_heavy_libraries_stay_where_they_belong():
    for library, owners in CONFINED.items():
        assert {m for m in MODULES if library in imports(m)[1]} == owners
    assert {m for m in MODULES if "transformers.Trainer" in imports(m)[1]} == {"trainer"}
    assert {m for m in WITHOUT_TORCH if {"torch", "transformers"} & imports(m)[1]} == set()


def test_files_stay_readable():
    lines = {m: len((SOURCE / f"{m}.py").read_text().splitlines()) for m in MODULES}
    assert {m: n for m, n in lines.items() if n > 350} == {}
