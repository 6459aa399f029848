"""Pictures of a report: the very pixels of the files, each with what it is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import REAL_DATA
from figure_checks import HOSTILE, assert_legible, assert_whole, rendered, texts
from PIL import Image

from beitmed.plots import pictures
from beitmed.plots.page import FULL_WIDTH, WIDTH, write

RNG = np.random.default_rng(0)


def images(n, side=28, *, rgb=False):
    return RNG.integers(0, 256, (n, side, side, 3) if rgb else (n, side, side), dtype=np.uint8)


def rows(n=5, **changes):
    return [
        pictures.ClassRow("malignant", images(n, **changes), range(10, 10 + n)),
        pictures.ClassRow("normal, benign", images(n - 1, **changes), range(n - 1)),
    ]


def drawn(figure):
    """The images of a figure as they lie on its page, [h, w, 3] uint8, in the order drawn."""
    page = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    found = []
    for axes in figure.axes:
        box = axes.get_window_extent()
        x0, x1 = round(box.x0), round(box.x1)
        y0, y1 = round(figure.bbox.y1 - box.y1), round(figure.bbox.y1 - box.y0)
        found.append(page[y0:y1, x0:x1])
    return found


def enlarged(image, side):
    """The image as squares of pixels, by Pillow."""
    picture = Image.fromarray(image).convert("RGB")
    return np.asarray(picture.resize((side, side), Image.Resampling.NEAREST))


@pytest.mark.parametrize("rgb", [False, True])
@pytest.mark.parametrize("side", [28, 64, 128])
def test_samples_are_the_pixels_of_the_file_enlarged_by_whole_factors(side, rgb):
    given = rows(5, side=side, rgb=rgb)
    figure = rendered(pictures.samples(given, title="t"))
    originals = [image for row in given for image in row.images]
    pages = drawn(figure)
    assert len(pages) == len(originals) == 9
    for page, original in zip(pages, originals, strict=True):
        assert page.shape[0] == page.shape[1] and page.shape[0] % side == 0
        assert np.array_equal(page, enlarged(original, page.shape[0]))
    factor = pages[0].shape[0] // side
    said = " ".join(t.get_text() for t in figure.texts)
    how = "at full resolution" if factor == 1 else f"each pixel enlarged {factor} times"
    assert f"{side} × {side} px, {how}" in said


def test_a_picture_with_more_pixels_than_room_is_averaged():
    board = (np.indices((224, 224)).sum(axis=0) % 2 * 255).astype(np.uint8)
    given = [pictures.ClassRow("a", np.stack([board] * 10), range(10))]
    figure = rendered(pictures.samples(given, title="t"))
    page = drawn(figure)[0]
    assert 50 < len(page) <= 112
    # Nearest would keep black and white and make a false pattern of them.
    assert page.min() > 60 and page.max() < 195
    assert page.mean() == pytest.approx(127.5, abs=3)
    assert any("reduced by averaging" in t.get_text() for t in figure.texts)


def test_grey_is_not_stretched():
    given = [pictures.ClassRow("a", np.full((1, 28, 28), 90, np.uint8), [3])]
    figure = rendered(pictures.samples(given, title="t"))
    assert np.unique(drawn(figure)[0]).tolist() == [90]


def test_samples_name_classes_and_indices_below_their_pictures():
    given = [*rows(4), pictures.ClassRow("empty", images(0), [])]
    figure = rendered(pictures.samples(given, title="t"))
    assert_legible(figure)
    boxes = {t.get_text(): t.get_window_extent() for t in texts(figure)}
    assert {"malignant", "normal, benign", "empty", "no images"} <= set(boxes)
    indices = [i for row in given for i in row.indices]
    for axes, index in zip(figure.axes, indices, strict=True):
        picture, label = axes.get_window_extent(), boxes[f"{index}"]
        assert label.y1 <= picture.y0 + 1 and picture.y0 - label.y1 < 20
        assert (label.x0 + label.x1) / 2 == pytest.approx((picture.x0 + picture.x1) / 2, abs=2)


def test_files_are_whole_and_the_same_each_time(tmp_path):
    given = rows(2)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        stem = tmp_path / folder / "fig.v1"
        assert_whole(write(pictures.samples(given, title="t"), stem), stem, (FULL_WIDTH,))
    for suffix in ("png", "svg"):
        first, second = (tmp_path / f / f"fig.v1.{suffix}" for f in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("width", [FULL_WIDTH, WIDTH])
@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "wide", "long", "empty"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_hostile_names_are_text_and_stay_in_their_place(name, width):
    given = [pictures.ClassRow(name, images(3), [10**30, 2, 3]) for _ in range(2)]
    figure = rendered(pictures.samples(given, title=name, width=width))
    assert_legible(figure)
    for text in texts(figure):
        assert not (set(text.get_text()) & set("\x00\x1b\ufffe\U0001f9ec\u6f22"))
        assert not (text.get_parse_math() and "$" in text.get_text()), text


@pytest.mark.parametrize(("side", "shown"), [(28, 112), (64, 128), (128, 128), (224, 224)])
@pytest.mark.parametrize("rgb", [False, True])
def test_png_bytes_hold_the_image_in_whole_squares(side, shown, rgb):
    (image,) = images(1, side, rgb=rgb)
    content = pictures.png_bytes(image)
    picture = Image.open(io.BytesIO(content))
    assert (picture.format, picture.size) == ("PNG", (shown, shown))
    assert picture.mode == ("RGB" if rgb else "L")
    assert np.array_equal(np.asarray(picture.convert("RGB")), enlarged(image, shown))
    assert pictures.png_bytes(image.copy()) == content


def test_malformed_images_are_refused(tmp_path):
    wrong = [np.zeros((28, 28)), np.zeros((28, 28, 4), np.uint8), np.zeros((0, 28), np.uint8)]
    for image in wrong:
        with pytest.raises(ValueError, match=r"uint8 \[h, w\]"):
            pictures.png_bytes(image)
    with pytest.raises(ValueError, match="1 images, 2 indices"):
        pictures.samples([pictures.ClassRow("a", images(1), [1, 2])], title="t")
    with pytest.raises(ValueError, match="at least one"):
        pictures.samples([], title="t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real_data
def test_real_images_are_shown_as_they_are():
    with np.load(REAL_DATA / "breastmnist.npz") as npz:
        stored, labels = npz["train_images"], npz["train_labels"][:, 0]
    given = [
        pictures.ClassRow(name, stored[at], at.tolist())
        for label, name in enumerate(["malignant", "normal, benign"])
        for at in [np.flatnonzero(labels == label)[:6]]
    ]
    figure = rendered(pictures.samples(given, title="Breast"))
    assert_legible(figure)
    indices = [i for row in given for i in row.indices]
    for page, index in zip(drawn(figure), indices, strict=True):
        assert np.array_equal(page, enlarged(stored[index], len(page)))
