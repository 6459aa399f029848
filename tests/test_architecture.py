"""The order of the modules: imports go one way, heavy libraries stay where they belong."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import beitmed

SOURCE = Path(beitmed.__file__).parent
# A folder of modules, or a module beside them, imports from rows above its own only; within a
# folder modules import one another, but never in a circle.
LAYERS = [
    {"errors"},
    {"extension", "statistics", "console", "threads"},
    {"tasks"},
    {"config"},
    {"storage"},
    {"data"},
    {"audit", "model"},
    {"plots"},
    {"backbones"},
    {"runs"},
    {"ranks"},
    {"trunk_cache", "training", "evaluation", "cross_validation"},
    {"methods"},
    {"test_time", "trained"},
    {"explain", "external", "predict"},
    {"report"},
    {"export", "robustness"},
    {"pipeline", "pretraining"},
    {"sweeps"},
    {"commands"},
    {"forms"},
]
PYTHON_M = {"__main__", "train", "prepare", "features"}
# What only the named modules may import.
CONFINED = {
    "hydra": {"commands.train", "commands.jobs", "commands.cli", "commands.launchers",
              "sweeps.work"},
    "omegaconf": {"commands.train", "config.compose", "commands.cli", "commands.jobs",
                  "sweeps.work"},
    "medmnist": {"data.medmnist_files"},
    "jinja2": {"report.render.page"},
    "huggingface_hub": {"backbones.hub", "export.card"},
    "pooch": {"data.medmnist_files"},
    "filelock": {"storage.locks"},
    "peft": {"backbones.adapters"},
    "flaml": {"methods.automl"},
    "skops": {"methods.estimators"},
    "autogluon": {"methods.autogluon_worker"},
    "timm": {"methods.autogluon_worker"},
    "datasets": {"data.folder_table"},
    "pydicom": {"data.image_files"},
    "onnxruntime": {"export.card", "export.onnx_file"},
    "pyarrow": {"data.new_image_sources", "predict.table"},
}  # fmt: skip
# Rooms of which no module may import torch or transformers, and single modules of others that do.
WITHOUT_TORCH = {"commands", "config", "errors", "extension", "plots", "report", "statistics",
                 "storage", "tasks"}  # fmt: skip
WITH_LOSSES = {"tasks.multilabel", "tasks.task"}
PACKAGES = {
    ".".join(p.parent.relative_to(SOURCE.parent).parts) for p in SOURCE.rglob("__init__.py")
}


def file_of(module: str) -> Path:
    return SOURCE / f"{module.replace('.', '/')}.py"


def imports(module: str) -> tuple[set[str], set[str]]:
    """Names of our modules that it imports anywhere, and of libraries."""
    own, others = set(), set()
    for node in ast.walk(ast.parse(file_of(module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
            package = node.module.removeprefix("beitmed").removeprefix(".")
            own |= {f"{package}.{alias.name}".removeprefix(".") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            first, _, rest = node.module.partition(".")
            (own if first == "beitmed" else others).add(rest if first == "beitmed" else first)
            if first == "transformers":
                others |= {f"transformers.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            others |= {alias.name.partition(".")[0] for alias in node.names}
    return own, others


MODULES = sorted(
    ".".join(p.relative_to(SOURCE).with_suffix("").parts)
    for p in SOURCE.rglob("*.py")
    if p.stem != "__init__"
)
RANK = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer}


def unit(module: str) -> str:
    """The module itself, or the folder that it lies in; what `python -m` runs is of neither."""
    first, _, rest = module.partition(".")
    return "forms" if rest == "__main__" or module in PYTHON_M else first


def test_every_module_has_its_place():
    assert {unit(module) for module in MODULES} == set(RANK)


def test_imports_go_one_way():
    wrong = [
        f"{module} imports {other}"
        for module in MODULES
        for other in imports(module)[0]
        if RANK[unit(other)] >= RANK[unit(module)] and unit(other) != unit(module)
    ]
    assert wrong == []


def test_no_modules_of_a_folder_import_one_another_in_a_circle():
    inside = {m: {o for o in imports(m)[0] if o in MODULES} for m in MODULES if "." in m}
    order = list(TopologicalSorter(inside).static_order())  # raises where there is a circle
    assert set(inside) <= set(order)


def test_heavy_libraries_stay_where_they_belong():
    for library, owners in CONFINED.items():
        assert {m for m in MODULES if library in imports(m)[1]} == owners
    assert {m for m in MODULES if "transformers.Trainer" in imports(m)[1]} == {"training.trainer"}
    assert {unit(m) for m in MODULES if "matplotlib" in imports(m)[1]} == {"plots"}
    with_torch = {m for m in MODULES if {"torch", "transformers"} & imports(m)[1]}
    assert {m for m in with_torch if unit(m) in WITHOUT_TORCH} == WITH_LOSSES
    for module in WITH_LOSSES:  # only where a loss is computed, and for the type checker
        top = ast.parse(file_of(module).read_text()).body
        assert not any("torch" in ast.unparse(node) for node in top
                       if isinstance(node, ast.Import | ast.ImportFrom))  # fmt: skip


def test_files_stay_readable():
    lines = {m: len(file_of(m).read_text().splitlines()) for m in MODULES}
    assert {m: n for m, n in lines.items() if n > 350} == {}


def test_what_is_said_knows_nothing_of_how_it_is_set():
    content = {m for m in MODULES if m.startswith("report.content.")}
    render = {m for m in MODULES if m.startswith("report.render.")}
    assert content and render
    assert {o for m in content for o in imports(m)[0]} & render == set()
    reached = {o for m in render for o in imports(m)[0]}
    assert {o for o in reached if unit(o) == "report"} <= render | {"report.document"}
    assert {o for o in reached if unit(o) in ("plots", "runs", "statistics")} == set()
