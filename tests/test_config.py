"""Configuration: the paper's recipe by two words, and mistakes named before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import beitmed, resolve

from beitmed import config
from beitmed.errors import UserError

CONF = config.conf_dir()
GROUPS = {
    group: sorted(p.stem for p in (CONF / group).glob("*.yaml"))
    for group in ("dataset", "method", "backbone", "balancing", "experiment")
}


@pytest.mark.parametrize(
    ("overrides", "batch_size", "weight_decay", "ratio"),
    [
        (["dataset=breast"], 32, 0.01, None),
        (["dataset=breast", "balanced=true"], 16, 0.1, 1.5),
        (["dataset=pneumonia"], 32, 0.1, None),
        (["dataset=pneumonia", "balanced=true"], 32, 0.1, 1.0),
    ],
)
def test_dataset_and_balance_alone_select_the_papers_recipe(
    overrides, batch_size, weight_decay, ratio
):
    cfg = resolve(*overrides)
    assert (cfg.train.batch_size, cfg.train.weight_decay) == (batch_size, weight_decay)
    assert cfg.majority_ratio == ratio
    t = cfg.train
    assert (t.learning_rate, t.epochs, t.schedule, t.warmup_steps) == (3e-4, 5, "linear", 0)
    assert (t.max_grad_norm, cfg.precision, cfg.seed, cfg.unfreeze) == (1.0, "fp32", 42, 5)
    assert cfg.backbone.weights == "microsoft/beit-large-patch16-224-pt22k"


@pytest.mark.parametrize(
    "override", [f"{group}={name}" for group, names in GROUPS.items() for name in names]
)
def test_every_shipped_yaml_composes_to_a_valid_configuration(override):
    needed = {"backbone=auto": ["backbone.weights=owner/model"]}
    more = ["balanced=true"] if override.startswith("balancing=") else needed.get(override, [])
    assert isinstance(resolve(override, *more), config.Config)


def test_an_experiment_changes_values_and_the_command_line_wins_over_it():
    assert resolve("experiment=smoke").train.learning_rate == 1e-3
    assert resolve("experiment=smoke", "train.learning_rate=0.5").train.learning_rate == 0.5
    assert resolve("experiment=smoke", "dataset=breast").dataset.name == "breast"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.epochs=three"], ["train.epochs", "'three'", "integer"]),
        (["train.epochs=0"], ["train.epochs", "0", "greater than or equal to 1"]),
        (["train.learning_rate=-1"], ["train.learning_rate", "-1", "greater than 0"]),
        (["train.learning_rate=nan"], ["train.learning_rate", "nan"]),
        (["balanced=2"], ["balanced", "2", "true or false"]),
        (["balanced=maybe"], ["balanced", "'maybe'", "true or false"]),
        (["seed=1.5"], ["seed", "1.5", "integer"]),
        (["seed=-1"], ["seed", "-1"]),
        (["size=29"], ["size", "29", "28, 64, 128 or 224"]),
        (["unfreeze=25"], ["unfreeze", "25", "24 layers", "0 to 24", "all"]),
        (["unfreeze=6", "backbone=beit_tiny", "backbone.geometry.num_hidden_layers=4"],
         ["unfreeze", "6", "0 to 4"]),
        (["unfreeze=some"], ["unfreeze", "'some'", "integer", "'all'"]),
        (["trunk_mode=frozen"], ["trunk_mode", "'eval' or 'train'"]),
        (["precision=fp64"], ["precision", "'fp32', 'bf16' or 'fp16'"]),
        (["precision=fp16", "device=cpu"], ["precision", "fp16", "GPU"]),
        (["majority_ratio=2"], ["majority_ratio", "balanced=false"]),
        (["balanced=true", "majority_ratio=null"], ["majority_ratio", "balanced=true"]),
        (["balanced=true", "majority_ratio=0.5"], ["majority_ratio", "0.5"]),
        (["+unknown=1"], ["unknown", "no such key", "dataset, backbone, size"]),
        (["+train.momentum=1"], ["train.momentum", "no such key", "learning_rate"]),
        (["dataset=chest", "balanced=true"], ["balanced", "several labels", "balanced=false"]),
        (["dataset=path", "dataset.positive_label=1"], ["positive_label", "multiclass", "null"]),
        (["dataset=breast", "dataset.positive_label=null"], ["positive_label", "binary", "0 or 1"]),
        (["dataset=path", "dataset.task=many"], ["dataset.task", "'many'", "'multilabel'"]),
        (["dataset=path", "+dataset.recipe.balanced.decay=1"],
         ["dataset.recipe.balanced.decay", "weight_decay"]),
        (["name=../elsewhere"], ["name", "'../elsewhere'"]),
        (["train=3"], ["train", "3"]),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_is_allowed(overrides, said):
    with pytest.raises(UserError) as e:
        resolve(*overrides)
    for part in said:
        assert part in str(e.value)


def test_all_wrong_values_are_told_at_once():
    with pytest.raises(UserError) as e:
        resolve("seed=x", "size=1", "+unknown=1")
    assert all(key in str(e.value) for key in ("seed", "size", "unknown"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["epcohs=3"], ["epcohs: no such key", "Did you mean train.epochs?", "size"]),
        (["train.epcohs=3"], ["train.epcohs: no such key", "train.epochs", "learning_rate"]),
        (["+unknown=1"], ["unknown: no such key"]),
        (["dataset=brest"], ["dataset/brest", "breast", "phantom", "pneumonia"]),
        (["unfreeze=99"], ["unfreeze", "99", "0 to 24"]),
        (["size==28"], ["size==28"]),
        (["-m", "sizes=28,224"], ["sizes: no such key"]),
    ],
)
def test_the_command_says_it_with_exit_code_2_and_without_a_traceback(tmp_path, arguments, said):
    done = beitmed(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for part in said:
        assert part in done.stderr
    assert not list(tmp_path.glob("outputs/[!.]*"))


def test_a_wrong_configuration_is_found_before_torch_is_imported(tmp_path):
    probe = (
        "import sys; from beitmed.commands import train\n"
        "try: train.main()\n"
        "except SystemExit as e: assert e.code == 2, e.code\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, "train.epochs=three"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["False", "False"]


def test_a_yaml_file_of_ones_own_that_is_broken_is_named(tmp_path):
    (tmp_path / "own" / "dataset").mkdir(parents=True)
    (tmp_path / "own" / "dataset" / "mine.yaml").write_text("name: [mine\n")
    done = beitmed("--config-dir", "own", "dataset=mine", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "mine.yaml" in done.stderr and "cannot be read" in done.stderr


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_broken_brace_is_told_with_its_key(tmp_path, sweep):
    done = beitmed(*sweep, "train={epochs: 3", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "beitmed: train: 'train={epochs: 3' cannot be read" in done.stderr


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for arguments in ([], ["-m", "seed=1,2"]):
        done = beitmed(*arguments, "output_dir=file/outputs", cwd=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "file/outputs: cannot be written" in done.stderr


def test_the_configuration_folder_is_the_repositorys_or_the_wheels():
    assert (Path(config.conf_dir()) / "config.yaml").is_file()
