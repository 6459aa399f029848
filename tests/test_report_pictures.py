"""Pictures of a report: the very pixels of the files, each with what it is."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
from conftest import REAL_DATA
from figure_checks import HOSTILE, assert_legible, assert_whole, figure_of, texts
from PIL import Image

from beitmed.plots import curves
from beitmed.report import pictures

RNG = np.random.default_rng(0)


def images(n, side=28, *, rgb=False):
    return RNG.integers(0, 256, (n, side, side, 3) if rgb else (n, side, side), dtype=np.uint8)


def mistakes(n, **changes):
    usual = {"actual": "malignant", "predicted": "normal, benign", "confidence": 0.973}
    return [pictures.Mistake(7 * i, image=images(1)[0], **{**usual, **changes}) for i in range(n)]


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
def test_samples_are_the_pixels_of_the_file_enlarged_by_whole_factors(
    side, rgb, tmp_path, monkeypatch
):
    given = rows(5, side=side, rgb=rgb)
    figure = figure_of(
        monkeypatch, pictures, lambda: pictures.samples(tmp_path / "x", given, title="t")
    )
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


def test_a_picture_with_more_pixels_than_room_is_averaged(tmp_path, monkeypatch):
    board = (np.indices((224, 224)).sum(axis=0) % 2 * 255).astype(np.uint8)
    given = [pictures.ClassRow("a", np.stack([board] * 10), range(10))]
    figure = figure_of(
        monkeypatch, pictures, lambda: pictures.samples(tmp_path / "x", given, title="t")
    )
    page = drawn(figure)[0]
    assert 50 < len(page) <= 112
    # Nearest would keep black and white and make a false pattern of them.
    assert page.min() > 60 and page.max() < 195
    assert page.mean() == pytest.approx(127.5, abs=3)
    assert any("reduced by averaging" in t.get_text() for t in figure.texts)


def test_grey_is_not_stretched(tmp_path, monkeypatch):
    given = [pictures.ClassRow("a", np.full((1, 28, 28), 90, np.uint8), [3])]
    figure = figure_of(
        monkeypatch, pictures, lambda: pictures.samples(tmp_path / "x", given, title="t")
    )
    assert np.unique(drawn(figure)[0]).tolist() == [90]


def test_samples_name_classes_and_indices_below_their_pictures(tmp_path, monkeypatch):
    given = [*rows(4), pictures.ClassRow("empty", images(0), [])]
    figure = figure_of(
        monkeypatch, pictures, lambda: pictures.samples(tmp_path / "x", given, title="t")
    )
    assert_legible(figure)
    boxes = {t.get_text(): t.get_window_extent() for t in texts(figure)}
    assert {"malignant", "normal, benign", "empty", "no images"} <= set(boxes)
    indices = [i for row in given for i in row.indices]
    for axes, index in zip(figure.axes, indices, strict=True):
        picture, label = axes.get_window_extent(), boxes[f"{index}"]
        assert label.y1 <= picture.y0 + 1 and picture.y0 - label.y1 < 20
        assert (label.x0 + label.x1) / 2 == pytest.approx((picture.x0 + picture.x1) / 2, abs=2)


def test_confident_errors_say_what_each_picture_is(tmp_path, monkeypatch):
    sure = [0.5, 0.973, 0.99949, 0.9996, 1.0, 0.6, 0.7]
    errors = [
        pictures.Mistake(100 + i, f"class {i}", f"other {i}", c, images(1)[0])
        for i, c in enumerate(sure)
    ]
    figure = figure_of(
        monkeypatch, pictures, lambda: pictures.confident_errors(tmp_path / "x", errors, title="t")
    )
    assert_legible(figure)
    told = [t for t in figure.texts if t.get_text().startswith("Index")]
    percent = ["50.0 %", "97.3 %", "99.9 %", "> 99.9 %", "> 99.9 %", "60.0 %", "70.0 %"]
    assert [t.get_text() for t in told] == [
        f"Index {100 + i}\nactual: class {i}\npredicted: other {i}\nconfidence: {p}"
        for i, p in enumerate(percent)
    ]
    for page, error, text, axes in zip(drawn(figure), errors, told, figure.axes, strict=True):
        assert np.array_equal(page, enlarged(error.image, len(page)))
        picture, label = axes.get_window_extent(), text.get_window_extent()
        assert label.y1 <= picture.y0 and abs(label.x0 - picture.x0) < 3


def test_no_error_is_said_so(tmp_path):
    png, svg = pictures.confident_errors(tmp_path / "x", [], title="t")
    assert "No test image was called wrongly." in svg.read_text()
    assert matplotlib.image.imread(png).shape[1] == round(200 * curves.FULL_WIDTH)


@pytest.mark.parametrize("kind", ["samples", "errors"])
def test_files_are_whole_and_the_same_each_time(kind, tmp_path):
    given = rows(2) if kind == "samples" else mistakes(2)
    draw = pictures.samples if kind == "samples" else pictures.confident_errors
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        stem = tmp_path / folder / "fig.v1"
        assert_whole(draw(stem, given, title="t"), stem, (curves.FULL_WIDTH,))
    for suffix in ("png", "svg"):
        first, second = (tmp_path / f / f"fig.v1.{suffix}" for f in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", HOSTILE, ids=["markup", "wide", "long", "empty"])
@pytest.mark.parametrize("kind", ["samples", "errors"])
@pytest.mark.filterwarnings("error::UserWarning")
def test_hostile_names_are_text_and_stay_in_their_place(kind, name, tmp_path, monkeypatch):
    def draw():
        if kind == "samples":
            given = [pictures.ClassRow(name, images(3), [10**30, 2, 3]) for _ in range(2)]
            return pictures.samples(tmp_path / "x", given, title=name)
        given = mistakes(7, actual=name, predicted=name)
        return pictures.confident_errors(tmp_path / "x", given, title=name)

    figure = figure_of(monkeypatch, pictures, draw)
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
        pictures.samples(tmp_path / "x", [pictures.ClassRow("a", images(1), [1, 2])], title="t")
    with pytest.raises(ValueError, match="at least one"):
        pictures.samples(tmp_path / "x", [], title="t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real_data
def test_real_images_are_shown_as_they_are(tmp_path, monkeypatch):
    with np.load(REAL_DATA / "breastmnist.npz") as npz:
        stored, labels = npz["train_images"], npz["train_labels"][:, 0]
    given = [
        pictures.ClassRow(name, stored[at], at.tolist())
        for label, name in enumerate(["malignant", "normal, benign"])
        for at in [np.flatnonzero(labels == label)[:6]]
    ]
    figure = figure_of(
        monkeypatch, pictures, lambda: pictures.samples(tmp_path / "x", given, title="Breast")
    )
    assert_legible(figure)
    indices = [i for row in given for i in row.indices]
    for page, index in zip(drawn(figure), indices, strict=True):
        assert np.array_equal(page, enlarged(stored[index], len(page)))
