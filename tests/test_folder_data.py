"""One's own images: from class folders or a table to splits, and every mistake by its name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import resolve
from PIL import Image

from beitmed import config, data
from beitmed.config import Config
from beitmed.errors import UserError

N = 12  # images of a class
RNG = np.random.default_rng(0)


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((RNG.integers(0, 100, (30, 36)) + level).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two class folders of twelve images each."""
    for i, name in enumerate(("benign", "malignant")):
        for k in range(N):
            picture(tmp_path / "images" / name / f"{k:02}.png", 100 * i)
    return tmp_path / "images"


def configured(path: Path, *overrides: str) -> Config:
    cfg = resolve(
        "dataset=folder", f"output_dir={path.parent}/outputs",
        f"cache.root={path.parent}/cache", *overrides,
    )  # fmt: skip
    values = (
        cfg.model_dump()
    )  # not by Hydra's grammar, which hostile names would have to be quoted for
    return config.check({**values, "dataset": {**values["dataset"], "path": str(path)}})


def load(path: Path, *overrides: str) -> data.Data:
    return data.load(data.complete(configured(path, *overrides)))


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as e:
        load(path, *overrides)
    return str(e.value)


def table(folder: Path, **columns) -> pd.DataFrame:
    files = sorted(str(f.relative_to(folder)) for f in folder.rglob("*.png"))
    return pd.DataFrame({"path": files, "label": [Path(f).parent.name for f in files], **columns})


def written(folder: Path, rows: pd.DataFrame, name: str = "table.csv") -> Path:
    path = folder / name
    rows.to_csv(path, index=False) if path.suffix == ".csv" else rows.to_parquet(path)
    return path


def pixels(loaded: data.Data) -> dict[str, np.ndarray]:
    """The image of each file, by its name."""
    return {
        file[0]: image
        for split in loaded.splits.values()
        for file, image in zip(split.files, split.images, strict=True)
    }


def test_class_folders_become_stratified_splits(folder):
    loaded = load(folder)
    assert loaded.class_names == ("benign", "malignant")
    assert {k: len(s.labels) for k, s in loaded.splits.items()} == {
        "train": 17,
        "val": 2,
        "test": 5,
    }
    found = pixels(loaded)
    assert len(found) == 2 * N
    for name, image in found.items():
        with Image.open(folder / name) as original:
            small = np.asarray(original.resize((28, 23), Image.Resampling.BICUBIC))
        assert np.array_equal(image[3:26], small) and not image[:3].any()
    for split in loaded.splits.values():
        assert [loaded.class_names[label] for label in split.labels] == [f[1] for f in split.files]
    assert loaded.provenance["source"] == "images" and not loaded.provenance["official"]
    assert str(folder.parent) not in str(loaded.provenance)


def test_split_folders_are_kept_and_other_words_for_them_known(folder, tmp_path):
    for split in ("Train", "validation", "test"):
        shutil.copytree(folder, tmp_path / "split" / split)
    loaded = load(tmp_path / "split")
    assert loaded.provenance["splits"] == "given"
    assert {f[0].split("/")[0] for f in loaded.val.files} == {"validation"}
    (tmp_path / "split" / "other").mkdir()
    assert "beside others (other)" in refused(tmp_path / "split")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_says_the_same_as_folders(kind, folder):
    whole = load(folder)
    by_table = load(written(folder, table(folder), f"t[1]*.{kind}"))
    for split, other in zip(whole.splits.values(), by_table.splits.values(), strict=True):
        assert split.files == other.files and np.array_equal(split.images, other.images)


def test_columns_of_other_names_and_texts_that_look_like_something_else(folder):
    rows = table(folder, who=[f"{i // 2:03}" for i in range(2 * N)], notes=["NaN", ""] * N)
    rows["label"] = np.where(rows["label"] == "benign", "NA", "01")
    rows = rows.rename(columns={"path": "file", "label": "diagnosis"})
    names = ("dataset.columns.path=file", "dataset.columns.label=diagnosis")
    loaded = load(written(folder, rows), *names, "dataset.columns.patient=who")
    assert loaded.class_names == ("01", "NA")
    assert loaded.provenance["patients"] == N
    assert all(len(f[2]) == 3 for f in loaded.train.files)
    of = {k: {f[2] for f in s.files} for k, s in loaded.splits.items()}
    assert not (of["train"] & of["test"] or of["train"] & of["val"] or of["val"] & of["test"])


def test_numbers_in_parquet_are_classes_and_sorted_as_numbers(folder):
    rows = table(folder)
    rows["label"] = np.arange(2 * N) % 3 * 5
    loaded = load(written(folder, rows, "t.parquet"))
    assert loaded.class_names == ("0", "5", "10")


def test_several_labels_in_a_table(folder):
    rows = table(folder)
    rows["label"] = ["a", "b | a", "No Finding", "c|b"] * 6
    path = written(folder, rows)
    loaded = load(path, "dataset.none_label=No Finding")
    cfg = data.complete(configured(path, "dataset.none_label=No Finding"))
    assert (cfg.dataset.task, loaded.class_names) == ("multilabel", ("a", "b", "c"))
    by_name = dict(zip(rows["path"], rows["label"], strict=True))
    for split in loaded.splits.values():
        for label, file in zip(split.labels, split.files, strict=True):
            said = {p.strip() for p in by_name[file[0]].split("|")} - {"No Finding"}
            assert {n for n, y in zip(loaded.class_names, label, strict=True) if y} == said


def test_what_the_labels_decide(folder, caplog):
    def of(*overrides: str) -> Config:
        return data.complete(configured(folder, *overrides))

    dataset = of().dataset
    assert (dataset.task, dataset.positive_label) == ("binary", 1)
    assert "the positive class is 'malignant'" in caplog.text
    assert of("dataset.positive_class=benign").dataset.positive_label == 0
    turned = of("dataset.classes=[malignant,benign]", "dataset.positive_class=benign").dataset
    assert (turned.classes, turned.positive_label) == (["malignant", "benign"], 1)
    assert config.run_name(of("dataset.positive_class=malignant")) == config.run_name(of())
    assert config.run_name(of()).startswith("folder_28_")
    assert config.run_name(of("dataset.name=mydata")).startswith("mydata_28_")
    for k in range(N):
        picture(folder / "normal" / f"{k}.png")
    assert of().dataset.task == "multiclass" and of().dataset.positive_label is None
    assert of("dataset.task=ordinal").dataset.task == "ordinal"
    assert "allowed: null" in refused(folder, "dataset.positive_class=benign")
    assert "a binary task needs 2" in refused(folder, "dataset.task=binary")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["dataset.positive_class=bening"], "found 'bening'; allowed: benign or malignant"),
        (["dataset.positive_class=benign", "dataset.positive_label=1"], "positive_label=1"),
        (["dataset.classes=[benign]"], "malignant/00.png: is labelled 'malignant'"),
        (["dataset.classes=[benign,malignant,normal]"], "no image is of normal"),
        (["dataset.classes=[benign,benign]"], "each class once"),
        (["dataset.task=multilabel"], "needs a table"),
        (["dataset.task=ordinal"], "has 2 classes"),
        (["dataset.name=breast"], "which is a dataset that is shipped"),
        (["dataset.content=abc"], "are not those that the configuration was made from"),
        (["cache.limit_gb=1e-9"], "cache.limit_gb is 1e-09"),
    ],
)
def test_settings_that_the_images_contradict(overrides, said, folder):
    assert said in refused(folder, *overrides)


def test_paths_that_are_no_images(folder, tmp_path):
    with pytest.raises(UserError, match=r"dataset\.path: found null; give the folder"):
        data.complete(resolve("dataset=folder"))
    assert "does not exist" in refused(tmp_path / "none")
    (tmp_path / "a.txt").write_text("x")
    assert "allowed: a folder, a .csv or a .parquet file" in refused(tmp_path / "a.txt")
    (tmp_path / "empty").mkdir()
    assert "holds no image" in refused(tmp_path / "empty")
    picture(folder / "loose.png")
    assert "1 images outside of a class folder, such as loose.png" in refused(folder)
    (folder / "loose.png").unlink()
    shutil.rmtree(folder / "benign")
    assert "has 1 classes (malignant)" in refused(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="label"), ["no column 'label'", "dataset.columns.label=..."]),
        (lambda t: t.assign(label=t.label.mask(t.index == 2)), ["row 3 (benign/02.png): no label"]),
        (lambda t: t.assign(path=t.path.mask(t.index == 2, "benign/00.png")),
         ["row 3 (benign/00.png): the same file as row 1"]),
        (lambda t: t.assign(path=t.path.mask(t.index == 2, "./malignant/../benign/01.png")),
         ["row 3", "the same file as row 2"]),
        (lambda t: t.assign(path=t.path.mask(t.index == 2, "gone.png")),
         ["row 3, gone.png: does not exist"]),
        (lambda t: t.assign(path=t.path.mask(t.index == 2)), ["row 3: no path"]),
        (lambda t: t.assign(split="train").assign(split=lambda u: u.split.mask(u.index == 2, "x")),
         ["row 3", "split is 'x', not train, val or test"]),
        (lambda t: t.assign(patient="p").assign(patient=lambda u: u.patient.mask(u.index == 2)),
         ["row 3 (benign/02.png): no patient"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_that_are_wrong_are_named(kind, change, said, folder):
    message = refused(written(folder, change(table(folder)), f"table.{kind}"))
    for part in (f"table.{kind}", *said):
        assert part in message


def test_files_that_are_no_tables(folder):
    for content in (b"path,label\na,b\nc,d,e\n", b"path,label\n\xff\xfe,b\n", b"path,path\na,b\n"):
        (folder / "t.csv").write_bytes(content)
        assert "t.csv: " in refused(folder / "t.csv")
    (folder / "t.csv").write_bytes(b"")
    assert "its header is []" in refused(folder / "t.csv")
    (folder / "t.csv").write_bytes(b"path,label\n")
    assert "holds no image" in refused(folder / "t.csv")
    (folder / "t.parquet").write_bytes(b"PAR1 not really")
    assert "cannot be read as a table" in refused(folder / "t.parquet")


def test_all_bad_images_are_named_at_once(folder):
    whole = (folder / "benign" / "00.png").read_bytes()
    (folder / "benign" / "00.png").write_bytes(whole[:100])
    (folder / "malignant" / "03.png").write_bytes(b"")
    (folder / "malignant" / "notes.txt").write_text("not an image")
    Image.fromarray(np.zeros((9, 99), np.uint8)).save(folder / "benign" / "small.png")
    message = refused(folder)
    for part in ("cannot be used (4)", "benign/00.png: cannot be read", "03.png: is empty",
                 "notes.txt: is of no supported format", "small.png: is of 99 x 9 px"):  # fmt: skip
        assert part in message
    (folder / "malignant" / "03.png").unlink()  # found while converting, no more before
    assert "cannot be used (3)" in refused(folder)
    assert not list(folder.parent.glob("cache/[!.]*"))
    for k in range(30):
        (folder / "benign" / f"bad {k:02}.png").write_bytes(b"bad")
    message = refused(folder)
    assert message.count("\n") == 22 and "... and 13 more" in message
    listed = pd.read_csv(folder.parent / "outputs" / "folder_problems.csv")
    assert len(listed) == 33 and "benign/bad 29.png" in set(listed["file"])


def test_hostile_names_hidden_files_and_links(folder):
    before = load(folder)
    (folder / ".hidden").mkdir()
    (folder / "benign" / ".DS_Store").write_bytes(b"x")
    (folder / "benign" / "Thumbs.db").write_bytes(b"x")
    (folder / "benign" / "loop").symlink_to(folder / "benign")
    (folder / "benign" / "itself").symlink_to(folder / "benign" / "itself")
    again = load(folder)
    assert again.train.files == before.train.files
    picture(folder / "benign" / 'ein Bild,\n"ü" \u202e.png')
    strange = Path(os.fsdecode(os.fsencode(folder / "benign") + b"/\xff.png"))
    (folder / "benign" / "00.png").rename(strange)
    names = set(pixels(load(folder)))
    assert len(names) == 2 * N + 1
    assert {'benign/ein Bild,\\n"ü" \\u202e.png', "benign/\\xff.png"} <= names
    (folder / "benign" / "gone.png").symlink_to(folder / "nowhere.png")
    assert "benign/gone.png: does not exist" in refused(folder)


def test_images_are_converted_once_and_anew_where_something_changed(folder, monkeypatch):
    first = load(folder)
    entries = sorted((folder.parent / "cache").glob("[!.]*"))
    assert len(entries) == 1 and first.train.images.shape[1:] == (28, 28)
    written_at = (entries[0] / "rows.bin").stat().st_mtime_ns
    other = load(folder, "dataset.split_seed=3")  # other splits, the same rows
    assert sorted((folder.parent / "cache").glob("[!.]*")) == entries
    assert (entries[0] / "rows.bin").stat().st_mtime_ns == written_at
    for name, image in pixels(first).items():
        assert np.array_equal(image, pixels(other)[name])
    changed = RNG.integers(0, 256, (30, 30, 3), np.uint8)
    Image.fromarray(changed).save(folder / "benign" / "00.png")
    third = load(folder)
    assert third.train.images.shape[1:] == (28, 28, 3)
    squashed = Image.fromarray(changed).resize((28, 28), Image.Resampling.BICUBIC)
    assert np.array_equal(pixels(third)["benign/00.png"], np.asarray(squashed))
    assert third.provenance["sha256"] != first.provenance["sha256"]


def test_a_finished_configuration_holds_the_content_fast(folder):
    cfg = data.complete(configured(folder))
    moved = folder.rename(folder.parent / "elsewhere")
    values = cfg.model_dump()
    there = config.check({**values, "dataset": {**values["dataset"], "path": str(moved)}})
    assert config.run_name(there) == config.run_name(cfg)
    assert len(data.load(there).train.labels) == 17
    picture(moved / "benign" / "00.png")
    with pytest.raises(UserError, match="are not those that the run was made from"):
        data.load(there)


def test_a_limit_keeps_files_and_images_together(folder):
    whole, part = pixels(load(folder)), load(folder, "data.limit=2")
    assert len(part.train.labels) == 4
    for name, image in pixels(part).items():
        assert np.array_equal(image, whole[name])
