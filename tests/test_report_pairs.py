"""Which runs are paired: those of the same test images in the same order, and no others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import run_folders
from conftest import medmnist_arrays, resolve

from beitmed import data
from beitmed.report.content import examples, same_images, variants
from beitmed.runs import reader
from beitmed.runs.reader import FinishedRun

TINY = ("backbone=beit_tiny", "data.allow_unofficial=true")
OTHER = {"test": "f" * 64, "val": "f" * 64, "train": "f" * 64}
Make = Callable[..., FinishedRun]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    made = iter(range(100))

    def run(*overrides: str, **kwargs) -> FinishedRun:
        folder = tmp_path / "runs" / str(next(made))
        return reader.read(run_folders.make(folder, *TINY, *overrides, **kwargs))

    return run


def own_images(make: Make, name: str, digest: str, **said: object) -> FinishedRun:
    """A run on two classes of one's own images; all such have equal labels."""
    overrides = (
        "dataset=folder", f"dataset.name={name}", "dataset.path=x", "dataset.task=binary",
        "dataset.classes=[left,right]", "dataset.positive_label=1", "dataset.content=" + "c" * 64,
    )  # fmt: skip
    digests = {"digests": dict.fromkeys(("train", "val", "test"), digest * 64)}
    return make(*overrides, md5=None, official=False, data={**digests, **said})


def test_two_folders_of_equal_class_counts_are_not_paired(make: Make):
    made = [own_images(make, "mine", "a"), own_images(make, "mine", "b")]
    assert np.array_equal(made[0].test.labels, made[1].test.labels)
    sets, [note] = variants.group(made)
    assert [len(s.variants) for s in sets] == [1, 1]
    assert "their test images differ, or their order (SHA-256 in data.json)" in note


def test_two_split_seeds_are_not_paired(make: Make):
    made = [own_images(make, "mine", d, split_seed=s) for s, d in enumerate("ab")]
    sets, [note] = variants.group(made)
    assert len(sets) == 2 and "split seed 0 and 1" in note


def test_own_images_at_two_sizes_are_paired_where_files_and_splits_are_the_same(make: Make):
    said = {"sha256": "c" * 64, "splits_sha256": "d" * 64}
    small = own_images(make, "mine", "a", **said)
    large = own_images(make, "mine", "b", **said)
    large = reader.FinishedRun(**{**vars(large), "config": resized(large, 64)})
    [test_set], notes = variants.group([small, large])
    assert notes == [] and len(test_set.variants) == 2
    large.data["splits_sha256"] = "e" * 64
    assert len(variants.group([small, large])[0]) == 2


def resized(run: FinishedRun, size: int):
    return run.config.model_copy(update={"size": size})


def test_the_same_images_in_another_order_are_not_paired(make: Make):
    made = [make("seed=1"), make("seed=2", data={"digests": OTHER})]
    assert len(variants.group(made)[0]) == 2


def test_patients_that_differ_are_told(make: Make):
    made = [make("seed=1"), make("seed=2", groups=[str(i // 2) for i in range(40)])]
    _, [note] = variants.group(made)
    assert "patients null and of 20 in 40 images" in note


def files(root: Path, order: np.ndarray | None = None) -> Path:
    """Files of 28 and 224 px of the same images; order: of the larger test images."""
    small = medmnist_arrays("breastmnist", 28, n=40)
    large = {
        k: v.repeat(8, axis=1).repeat(8, axis=2) if k.endswith("images") else v
        for k, v in small.items()
    }
    if order is not None:
        large["test_images"] = large["test_images"][order]
    root.mkdir()
    np.savez(root / "breastmnist.npz", **small)
    np.savez(root / "breastmnist_224.npz", **large)
    return root


def of_files(make: Make, root: Path) -> list[FinishedRun]:
    made = []
    for size in (28, 224):
        loaded = data.load(resolve(*TINY, f"size={size}", f"data.root={root}"))
        digests = {"digests": {name: split.digest for name, split in loaded.splits.items()}}
        labels = loaded.test.labels.astype(np.int64)
        made.append(make(f"size={size}", official=False, labels=labels, data=digests))
    return made


def test_two_sizes_of_unofficial_files_are_paired_where_the_images_agree(
    make: Make, tmp_path: Path
):
    made = of_files(make, root := files(tmp_path / "data"))
    load = partial(examples.load, data_root=str(root))
    [test_set], [note] = variants.group(made, load)
    assert len(test_set.variants) == 2
    assert "28 and 224 px are not both official; their test images agree one by one" in note
    assert "median 1.000, smallest 1.000" in note
    assert len(variants.group(made)[0]) == 2  # unseen, nothing says that they are the same


def test_a_test_split_permuted_within_its_classes_is_not_paired(make: Make, tmp_path: Path):
    labels = medmnist_arrays("breastmnist", 28, n=40)["test_labels"][:, 0]
    order = np.arange(40)
    for label in (0, 1):
        order[labels == label] = np.roll(order[labels == label], 1)
    made = of_files(make, root := files(tmp_path / "data", order))
    assert np.array_equal(made[0].test.labels, made[1].test.labels)
    sets, [note] = variants.group(made, partial(examples.load, data_root=str(root)))
    assert len(sets) == 2 and "do not agree one by one (correlations over pixels" in note


def test_correlations_are_of_single_images():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, 28, 28), np.uint8)
    large = small.repeat(8, axis=1).repeat(8, axis=2)
    large[1] = 7
    r = same_images.correlations(large, small)
    assert r.tolist() == pytest.approx([1, 0, 1])
