"""Images without labels: which there are, and that they come as a run of them has seen them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from test_image_files import dicom

from beitmed import data, trained
from beitmed.data import new_image_sources as sources
from beitmed.data import new_images
from beitmed.data.new_images import AS_GREY, Form
from beitmed.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 28, 28), np.uint8)
COLOUR = RNG.integers(0, 256, (40, 60, 3), np.uint8)
FORM = Form(28, colour=False)


def read(*paths: Path, form: Form = FORM, **options: str) -> new_images.Block:
    return new_images.read_all(sources.find(paths, **options), form)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine grey images, the last two in a folder within."""
    (tmp_path / "images" / "more").mkdir(parents=True)
    for i, image in enumerate(GREY):
        place = "more/" if i > 6 else ""
        Image.fromarray(image).save(tmp_path / "images" / f"{place}{i}.png")
    return tmp_path / "images"


def test_a_folder_is_read_to_its_ground(folder):
    (folder / "notes.txt").write_text("no image by its ending")
    (folder / ".hidden.png").write_bytes(b"")
    found = sources.find([folder])
    assert (len(found), found.left_out) == (9, 1)
    block = new_images.read_all(found, FORM)
    assert np.array_equal(block.images, GREY)
    assert block.names[0] == str(folder / "0.png") and block.names[8] == str(folder / "more/8.png")
    assert not any(block.notes) and not block.problems


def test_what_cannot_be_read_is_named_and_the_rest_is_read(folder):
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
    (folder / "4.png").write_text("no image")
    (folder / "5.png").write_bytes(b"")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    Image.fromarray(GREY[0, :20]).save(folder / "6.png")
    block = read(folder)
    assert {Path(name).name: why[:16] for name, why in block.problems.items()} == {
        "3.png": "cannot be read (", "4.png": "is of no support", "5.png": "is empty",
        "6.png": "is of 28 x 20 px", "gone.png": "does not exist",
    }  # fmt: skip
    assert np.array_equal(block.images, GREY[[0, 1, 2, 7, 8]]) and block.seen == 10


def test_blocks_are_full_whatever_could_not_be_read(folder):
    (folder / "1.png").write_bytes(b"")
    (folder / "more" / "8.png").write_bytes(b"")
    found = list(new_images.blocks(sources.find([folder]), FORM, 3))
    assert [len(block.images) for block in found] == [3, 3, 1]
    assert [len(block.problems) for block in found] == [1, 0, 1]
    assert sum(block.seen for block in found) == 9
    assert np.array_equal(found[0].images, GREY[[0, 2, 3]])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_of_files(ending, folder, tmp_path):
    cells = ["images/2.png", "", str(folder / "0.png"), "images/none.png"]
    table = tmp_path / f"table.{ending}"
    if ending == "csv":
        table.write_text("id,scan\n" + "".join(f"0{i},{c}\n" for i, c in enumerate(cells)))
    else:
        parquet.write_table(pyarrow.table({"id": range(4), "scan": cells}), table)
    block = read(table, column="scan")
    assert block.names == ("images/2.png", str(folder / "0.png"))
    assert np.array_equal(block.images, GREY[[2, 0]])
    assert block.problems == {
        f"{table}, row 2": "has nothing in the column 'scan'",
        "images/none.png": "does not exist",
    }
    with pytest.raises(UserError, match=r"no column 'path'; found: id, scan\. .*column="):
        read(table)


def test_an_archive_gives_its_pixels_one_after_another(tmp_path):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, val_images=GREY[:2], test_images=GREY, test_labels=np.zeros((9, 1)))
    assert np.array_equal(read(file).images, GREY)
    assert read(file).names[8] == f"{file}/test/8"
    assert np.array_equal(read(file, split="all").images, np.concatenate([GREY[:2], GREY]))
    # Of another size: resized as a file of these pixels is.
    np.savez(file, test_images=COLOUR[None])
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    form = Form(32, colour=True, fit="crop")
    both = read(file, tmp_path / "a.png", form=form).images
    assert both.shape == (2, 32, 32, 3) and np.array_equal(both[0], both[1])


def test_an_archive_that_is_none(tmp_path):
    file = tmp_path / "a.npz"
    file.write_text("words")
    with pytest.raises(UserError, match=r"a\.npz: cannot be read as an \.npz archive"):
        sources.find([file])
    np.savez(file, train_images=GREY)
    with pytest.raises(UserError, match=r"has no test_images; found: train_images.*split=train"):
        sources.find([file])
    np.savez(file, test_images=GREY.astype(float))
    with pytest.raises(UserError, match=r"float64 .*allowed: uint8"):
        sources.find([file])
    np.savez(file, test_images=np.array([{}, 1]))  # an object that only pickle reads
    with pytest.raises(UserError, match=r"allowed: uint8"):
        sources.find([file])
    np.savez(file, test_images=np.repeat(GREY, 9, axis=0))
    with zipfile.ZipFile(file) as archive:
        at = archive.getinfo("test_images.npy").header_offset + 5000
    with file.open("r+b") as f:
        f.seek(at)
        f.write(b"other pixels, so that the checksum is wrong")
    with pytest.raises(UserError, match=r"a\.npz: is damaged"):
        read(file)


def test_colour_and_grey(tmp_path):
    grey_of_three = np.repeat(GREY[0][..., None], 3, axis=2)
    Image.fromarray(grey_of_three).save(tmp_path / "1.png")
    Image.fromarray(COLOUR[:28, :28]).save(tmp_path / "2.png")
    block = read(tmp_path)
    assert np.array_equal(block.images[0], GREY[0])
    assert np.array_equal(
        block.images[1], np.asarray(Image.fromarray(COLOUR[:28, :28]).convert("L"))
    )
    assert block.notes == ("", AS_GREY)
    refused = read(tmp_path, form=Form(28, colour=False, refuses_colour=True))
    assert len(refused.images) == 1
    assert "in colour, and the run was trained on grey" in refused.problems[str(tmp_path / "2.png")]
    Image.fromarray(GREY[0]).save(tmp_path / "1.png")
    in_colour = read(tmp_path, form=Form(28, colour=True))
    assert np.array_equal(in_colour.images[0], grey_of_three) and not any(in_colour.notes)


def test_depth_and_dicom_as_in_training(tmp_path):
    deep = GREY[0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "1.png")
    dicom(tmp_path / "2", deep)
    assert np.array_equal(read(tmp_path).images, GREY[[0, 0]])


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(UserError, match="cannot be read"):
        sources.find([tmp_path])


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        sources.find([tmp_path / "none"])
    with pytest.raises(UserError, match="no image there"):
        sources.find([tmp_path])


def test_a_run_knows_the_form_of_its_images(finished_run):
    found = trained.open_run(finished_run)
    assert found.form.shape == found.data.test.images.shape[1:]
    assert found.run.data["colour"] == found.form.colour
    assert data.load(found.cfg).test.images.shape[1:] == found.form.shape
