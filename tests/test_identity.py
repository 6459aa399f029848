"""What a run is: said once, by the fields of the configuration, and derived everywhere else."""

from __future__ import annotations

import pytest
from conftest import resolve

from beitmed import config
from beitmed.config import key_errors
from beitmed.config.fields import Decides, decides
from beitmed.errors import UserError

KEYS = {key: decides(field) for key, field in key_errors.keys(config.Config)}


def of(kind: Decides) -> set[str]:
    return {key for key, found in KEYS.items() if found is kind}


def test_what_is_no_prediction_is_said_field_by_field():
    assert of(Decides.SEED) == {"seed"}
    assert of(Decides.EVALUATION) == {
        "dataset.columns.subgroups", "dataset.positive_class", "dataset.positive_label",
        "evaluate.n_resamples", "evaluate.metrics", "evaluate.operating_point",
        "evaluate.prevalence", "evaluate.tta",
    }  # fmt: skip
    places = {"output_dir", "name", "export", "device", "processes", "cache.root", "cache.limit_gb",
              "cache.depths", "data.root", "data.download", "data.mirror", "data.allow_unofficial",
              "dataset.path", "dataset.image_root", "dataset.columns.path",
              "dataset.columns.label", "dataset.columns.split", "dataset.columns.patient",
              "dataset.recipe", "dataset.several_images_per_patient",
              "dataset.flip", "backbone.about",
              "backbone.name", "backbone.weights", "backbone.revision", "train.eval_batch_size",
              "method.title", "method.python"}  # fmt: skip
    assert of(Decides.NOTHING) - {"method.title"} == places - {"method.title"}


NAMES = {
    "dataset=breast": "breast_28_full_beit_large_top5_seed42_",
    "balanced=true": "breast_28_balanced_beit_large_top5_seed42_",
    "unfreeze=all": "breast_28_full_beit_large_topall_seed42_".replace("topall", "all"),
    "method=resnet18": "breast_28_full_resnet18_seed42_",
    "method=features_knn": "breast_28_full_features_knn_beit_large_seed42_",
}


@pytest.mark.parametrize("override", NAMES)
def test_a_runs_name_says_what_a_reader_asks_for_first(override):
    name = config.run_name(resolve(override))
    assert name.startswith(NAMES[override]) and len(name) == len(NAMES[override]) + 8
    assert config.run_name(resolve(override, "name=mine")) == "mine"


def test_where_a_run_stands_and_what_is_asked_of_its_predictions_is_no_part_of_it():
    base = resolve()
    for other in (
        "data.root=/elsewhere", "output_dir=x", "device=cpu", "processes=2", "export=true",
        "cache.depths=[0,5]",
        "train.eval_batch_size=1", "evaluate.n_resamples=100", "dataset.positive_label=0",
        "+evaluate.metrics.mine=my.own", "backbone.weights=/a/folder", "backbone.revision=x",
        "features=cached", "lora.rank=3", "data.allow_unofficial=true",
    ):  # fmt: skip
        assert config.identity(resolve(other)) == config.identity(base), other
        assert config.run_name(resolve(other)) == config.run_name(base)


def test_whatever_may_change_a_prediction_is_another_run():
    seen = {config.digest(resolve())}
    for other in (
        ["seed=1"], ["size=64"], ["balanced=true"], ["unfreeze=all"], ["unfreeze=0"],
        ["trunk_mode=train"], ["train.epochs=6"], ["precision=bf16"], ["data.limit=3"],
        ["features=live"], ["cache.dtype=fp32"], ["adapter=lora"], ["adapter=lora", "lora.rank=3"],
        ["backbone.weights=random"], ["backbone.weights=random", "backbone.random.init_seed=1"],
        ["+backbone.content=abc"], ["balanced=true", "majority_ratio=2"],
        ["balanced=true", "balancing=oversample"], ["method=pixels_logistic"],
        ["method=pixels_logistic", "method.C=[1.0]"], ["dataset=pneumonia"],
    ):  # fmt: skip
        digest = config.digest(resolve(*other))
        assert digest not in seen, other
        seen.add(digest)


def test_what_a_method_does_not_read_is_no_part_of_its_runs():
    base = config.identity(resolve("method=resnet18"))
    for other in ("unfreeze=1", "train.epochs=9", "backbone=beit_tiny", "cache.dtype=fp32"):
        assert config.identity(resolve("method=resnet18", other)) == base
    assert config.identity(resolve("method=resnet18", "precision=bf16")) != base


def test_seeds_of_one_variant_differ_in_nothing_else():
    one, other = resolve("seed=1"), resolve("seed=2")
    assert config.variant(one) == config.variant(other)
    assert config.differences(config.identity(one), config.identity(other)) == ["seed was 1, now 2"]


def test_only_what_is_allowed_to_change_changes():
    cfg = resolve()
    moved = config.changed(cfg, ["data.root=/x", "device=cpu"], Decides.NOTHING)
    assert (moved.data.root, moved.device) == ("/x", "cpu")
    for wrong in ("seed=1", "dataset.positive_label=0", "nonsense=1", "data.root"):
        with pytest.raises(UserError, match=r"cannot be set.*data\.root=\.\.\."):
            config.changed(cfg, [wrong], Decides.NOTHING)


@pytest.mark.parametrize(
    ("members", "overrides", "said"),
    [
        ([["method=resnet18"]], ["train.epochs=3"], "train.epochs=3: found with method=resnet18"),
        ([["method=majority"]], ["unfreeze=1", "lora.rank=2"], "unfreeze=1, lora.rank=2: found"),
        ([["method=resnet18"], ["method=majority"]], ["train.epochs=3"], "resnet18, majority"),
        ([[]], ["balancing=oversample"], "balanced=false"),
    ],
)
def test_a_key_that_no_run_of_the_command_reads_is_refused(members, overrides, said):
    with pytest.raises(UserError, match=said):
        config.check_read([resolve(*m) for m in members], overrides)


def test_a_key_that_one_run_of_the_command_reads_is_taken():
    both = [resolve("method=resnet18"), resolve("method=backbone")]
    config.check_read(both, ["train.epochs=3", "method=resnet18,backbone"])
    config.check_read([resolve("method=features_knn")], ["backbone=beit_tiny", "features=live"])
