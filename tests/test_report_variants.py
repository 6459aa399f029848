"""Runs in groups: what is a seed, what is a variant, and what must not be compared at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import run_folders
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from beitmed.report.content import comparison_tables, contents, evidence, variants
from beitmed.report.document import Interval
from beitmed.runs import reader
from beitmed.runs.reader import FinishedRun

TINY = "backbone=beit_tiny"


class Runs:
    """Folders made one after the other, read back on demand."""

    def __init__(self, root: Path) -> None:
        self.root, self.count = root, 0

    def add(self, *overrides: str, **kwargs) -> FinishedRun:
        self.count += 1
        return reader.read(
            run_folders.make(self.root / f"{self.count:03d}", TINY, *overrides, **kwargs)
        )


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def names(test_set: variants.TestSet) -> list[str]:
    return [v.name for v in test_set.variants]


def test_seeds_of_one_configuration_are_one_variant(runs: Runs):
    made = [runs.add(f"seed={s}", f"name=run{s}") for s in (3, 1, 2)]
    made.append(runs.add("seed=1", "size=224"))
    [test_set], notes = variants.group(made)
    assert notes == [] and (test_set.id, test_set.name, test_set.n) == ("breast", "breast", 40)
    assert names(test_set) == [
        "beit_tiny top 5 (28), RANDOM weights",
        "beit_tiny top 5 (224), RANDOM weights",
    ]
    assert [run.seed for run in test_set.variants[0].runs] == [1, 2, 3]
    assert test_set.scores(test_set.variants[0]).shape == (3, 40, 1)


def test_the_same_run_under_two_names_counts_once(runs: Runs):
    same = [runs.add("seed=1", f"name={name}") for name in "ab"]
    other = runs.add("seed=1", "name=c", draw=99)
    [test_set], [one, two] = variants.group([*same, other])
    assert len(test_set.runs) == 1
    assert "002: left out, as" in one and "the same predictions" in one
    assert "003: left out, as" in two and "OTHER predictions" in two


def test_depths_stand_in_their_order_and_all_last(runs: Runs):
    [test_set], _ = variants.group([runs.add(f"unfreeze={d}") for d in ("all", 5, 1, 0)])
    assert [v.first.config.unfreeze for v in test_set.variants] == [0, 1, 5, "all"]


# --- What must not be compared


@pytest.mark.parametrize(
    ("overrides", "kwargs", "why"),
    [
        (["data.limit=10"], {}, "data.limit null and 10"),
        (["dataset.positive_label=0"], {},
         "positive class 'normal, benign' and 'malignant'"),
        ([], {"labels": run_folders.labels_of(run_folders.resolved((TINY,)), 40, shift=1)},
         "the labels of their test images differ"),
        ([], {"labels": run_folders.labels_of(run_folders.resolved((TINY,)), 36)},
         "test images 40 and 36"),
        ([], {"md5": "1" * 32, "official": False},
         "their test images differ, or their order"),
    ],
)  # fmt: skip
def test_other_test_data_are_kept_apart_and_the_difference_is_named(
    runs: Runs, overrides: list[str], kwargs: dict, why: str
):
    sets, [note] = variants.group([runs.add("seed=1"), runs.add("seed=2", *overrides, **kwargs)])
    assert [(s.id, s.name) for s in sets] == [
        ("breast-a", "breast (a)"),
        ("breast-b", "breast (b)"),
    ]
    assert note.startswith("breast (a) and breast (b) are not compared: ") and why in note
    assert all(len(s.variants) == 1 for s in sets)


def test_files_of_two_resolutions_are_compared_but_two_of_one_are_not(runs: Runs):
    small, large = runs.add(md5="a" * 32), runs.add("size=224", md5="b" * 32)
    assert len(variants.group([small, large])[0]) == 1
    changed = runs.add("seed=2", md5="c" * 32, official=False)
    official, other = variants.group([small, large, changed])[0]
    assert len(official.variants) == 2 and other.runs == [changed]


def test_other_datasets_are_other_sets_without_a_word(runs: Runs):
    sets, notes = variants.group([runs.add(), runs.add("dataset=pneumonia")])
    assert [s.name for s in sets] == ["breast", "pneumonia"] and notes == []


def test_ids_stay_apart_and_letters_go_on():
    taken: set[str] = set()
    found = [variants._id(name, taken) for name in ("breast (a)", "breast-a", "Breast_a", "é")]
    assert found == ["breast-a", "breast-a-2", "breast-a-3", "data"]
    assert [variants.letters(i) for i in (0, 25, 26, 27, 51, 52, 701, 702)] == [
        "a", "z", "aa", "ab", "az", "ba", "zz", "aaa",
    ]  # fmt: skip


# --- Names


def test_a_name_tells_the_settings_in_which_variants_differ(runs: Runs):
    [test_set], _ = variants.group([
        runs.add("seed=1"), runs.add("seed=2"), runs.add("train.learning_rate=1e-4"),
        runs.add("train.max_steps=7"),
    ])  # fmt: skip
    assert set(names(test_set)) == {
        "beit_tiny top 5 (28), RANDOM weights [train.max_steps=null, train.learning_rate=0.0003]",
        "beit_tiny top 5 (28), RANDOM weights [train.max_steps=null, train.learning_rate=0.0001]",
        "beit_tiny top 5 (28), RANDOM weights [train.max_steps=7, train.learning_rate=0.0003]",
    }


def test_a_setting_that_one_of_them_lacks_is_told(runs: Runs):
    lora = runs.add("adapter=lora")
    [test_set], _ = variants.group([runs.add(), lora])
    plain, other = sorted(names(test_set), key=len)
    assert plain == "beit_tiny top 5 (28), RANDOM weights [adapter=none]"
    assert other == "beit_tiny top 5 (28), RANDOM weights [adapter=lora, and 4 more settings]"


def test_names_of_many_differing_settings_stay_short_and_apart(runs: Runs):
    changes = (
        "train.learning_rate", "train.adam_beta1", "train.adam_beta2", "train.warmup_steps",
        "train.max_grad_norm", "train.epochs", "train.weight_decay",
    )  # fmt: skip
    values = {"train.warmup_steps": (0, 5), "train.epochs": (5, 6)}
    made = []
    for i in range(6):
        chosen = [f"{c}={values.get(c, (0.5, 0.25))[i >> (j % 3) & 1]}"
                  for j, c in enumerate(changes)]  # fmt: skip
        made.append(runs.add(*chosen))
    [test_set], _ = variants.group(made)
    found = names(test_set)
    assert len(set(found)) == 6 and max(map(len, found)) < 150
    assert all(name.endswith("and 4 more settings]") for name in found)


def test_random_weights_and_synthetic_images_stand_in_the_name(runs: Runs):
    [own, foreign], _ = variants.group([
        runs.add("dataset=phantom"), runs.add("backbone=beit_large"),
    ])  # fmt: skip
    assert names(own) == ["beit_large top 5 (28)"]  # no mark where there is nothing to mark
    assert names(foreign) == ["beit_tiny top 5 (28), RANDOM weights, SYNTHETIC images"]
    assert foreign.name == "phantom, SYNTHETIC images" and foreign.id == "phantom"


def test_other_weights_or_data_give_names_of_their_own(runs: Runs):
    made = [runs.add(), runs.add(trunk="u" * 64), runs.add(trunk="v" * 64)]
    [test_set], _ = variants.group(made)
    assert set(names(test_set)) == {
        f"beit_tiny top 5 (28), RANDOM weights [trunk SHA-256={c * 8}]" for c in "tuv"
    }


# --- The numbers of a group


def test_seeds_are_summarised_and_pairs_tested_as_references_do(runs: Runs):
    made = [runs.add(f"seed={s}") for s in (1, 2, 3)] + [runs.add("size=224", "seed=4", skill=0.2)]
    [test_set], _ = variants.group(made)
    found = evidence.Evidence(test_set)
    first, second = names(test_set)
    aucs = [roc_auc_score(run.test.labels, run.score) for run in test_set.variants[0].runs]
    aucs_found = found.summaries["auc"]
    assert aucs_found[first].mean == pytest.approx(np.mean(aucs), abs=1e-12)
    assert aucs_found[first].sd == pytest.approx(np.std(aucs, ddof=1), abs=1e-12)
    assert aucs_found[second].sd is None
    [pair] = found.pairs["accuracy"]
    assert (pair.first, pair.second) == (first, second)
    table = comparison_tables.variants(found)
    assert [row[:3] for row in table.rows] == [[first, 60, 3], [second, 60, 1]]


def test_single_seeds_have_mcnemars_p_and_holm_counts_all_pairs(runs: Runs):
    made = [runs.add(f"size={s}", f"seed={s}", skill=k) for s, k in ((28, 2.5), (64, 0), (128, 1))]
    [test_set], _ = variants.group(made)
    found = evidence.Evidence(test_set)
    raw = []
    for pair, (a, b) in zip(found.pairs["accuracy"], [(0, 1), (0, 2), (1, 2)], strict=True):
        x, y = test_set.variants[a].correct[0], test_set.variants[b].correct[0]
        only = int((x & ~y).sum()), int((~x & y).sum())
        exact = binomtest(only[0], sum(only)).pvalue
        assert pair.difference.p_models == pytest.approx(exact, abs=1e-12)
        raw.append(pair.difference.p)
    least = min(raw)
    adjusted = {pair.difference.p: pair.p for pair in found.pairs["accuracy"]}
    assert adjusted[min(adjusted)] == pytest.approx(min(1.0, 3 * least), abs=1e-12)


@pytest.mark.parametrize("dataset", ["blood", "retina", "chest"])
def test_tasks_without_a_positive_class_are_reported(runs: Runs, tmp_path: Path, dataset: str):
    made = [runs.add(f"dataset={dataset}", f"size={s}", f"seed={s}") for s in (28, 64)]
    made.append(runs.add("seed=1"))
    folder = tmp_path / "to"
    folder.mkdir()
    document = contents.build(made, [], folder, contents.Options(images=False, attention=False))
    ids = {table.id for table in document.tables}
    kinds = {
        f"{kind}-{name}" for kind in ("variants", "runs", "more") for name in (dataset, "breast")
    }
    assert kinds | {"rules-breast"} <= ids
    assert f"pairs-auc-{dataset}" in ids
    assert (f"pairs-accuracy-{dataset}" in ids) == (dataset != "chest")
    assert {curve.dataset for curve in document.curves} == {"breast"}
    [runs_table] = [table for table in document.tables if table.id == f"runs-{dataset}"]
    auc = runs_table.rows[0][[c.label for c in runs_table.columns].index("AUC")]
    assert isinstance(auc, Interval) and auc.value == made[0].metrics["test"]["auc"]["value"]


def test_a_test_split_of_one_class_has_no_auc_but_a_report(runs: Runs, tmp_path: Path):
    labels = np.ones(40, np.int64)
    made = [runs.add(f"seed={s}", f"size={s}", labels=labels) for s in (28, 64)]
    folder = tmp_path / "to"
    folder.mkdir()
    document = contents.build(made, [], folder, contents.Options(images=False, attention=False))
    assert any("AUC: no pair of variants can be tested" in s for s in document.summary)
