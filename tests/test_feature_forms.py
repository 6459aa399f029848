"""How features are stored: what comes back of them, and that a saved model reads the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import FAST, beitmed

from beitmed import trained
from beitmed.errors import UserError
from beitmed.storage.rows import Rows
from beitmed.trunk_cache.forms import Form

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("kind", "largest_error"), [("int8", 0.5 / 127), ("fp8", 2**-4)])
def test_one_byte_a_number_is_near_the_number_token_by_token(kind, largest_error):
    rows = (RNG.normal(size=(3, 5, 16)) * 10.0 ** np.arange(-4, 1)[:, None]).astype(np.float32)
    form = Form(rows.shape, kind)
    packed = form.pack(torch.from_numpy(rows))
    assert packed.shape == form.stored_shape == (3, 5, 20)
    assert packed.dtype == form.stored_dtype == np.uint8
    token = np.abs(rows).max(-1, keepdims=True)
    error = np.abs(form.unpack(packed) - rows) / (token if kind == "int8" else np.abs(rows))
    # E4M3 has 3 bits after the point; below its normal range, 2**-6 of 448, its error is absolute.
    normal = np.abs(rows) > token * 2**-6 / 448
    assert error[normal].max() <= largest_error * (1 + 1e-6)
    assert np.abs(form.unpack(packed)).max() == pytest.approx(np.abs(rows).max(), rel=1e-6)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_what_is_packed_again_stays_and_zero_is_zero(kind):
    rows = RNG.normal(size=(2, 4, 8)).astype(np.float32)
    rows[0, 1] = 0
    form = Form(rows.shape, kind)
    once = form.unpack(form.pack(torch.from_numpy(rows)))
    assert not once[0, 1].any()
    assert np.allclose(form.unpack(form.pack(torch.from_numpy(once))), once, rtol=1e-6)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_number_that_is_not_finite_is_refused(kind):
    rows = np.full((1, 2, 4), np.inf, np.float32)
    with pytest.raises(UserError, match="numbers that are not finite"):
        Form(rows.shape, kind).pack(torch.from_numpy(rows))


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_rows_are_unpacked_as_they_are_read(kind, tmp_path):
    rows = RNG.normal(size=(6, 4, 8)).astype(np.float32)
    form = Form(rows.shape, kind)
    packed = form.pack(torch.from_numpy(rows))
    (tmp_path / "rows").write_bytes(packed.tobytes())
    read = form.read(Rows(tmp_path / "rows", form.stored_shape, form.stored_dtype))
    assert np.array_equal(read[2:5], form.unpack(packed)[2:5])
    assert np.array_equal(read[[5, 0]], form.unpack(packed)[[5, 0]])


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_run_on_one_byte_a_number_takes_half_and_its_saved_model_is_the_same(kind, tmp_path):
    out = beitmed(
        *FAST, f"cache.dtype={kind}", "unfreeze=2", f"cache.root={tmp_path}/cache",
        f"output_dir={tmp_path}/outputs", cwd=tmp_path,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    [run] = (tmp_path / "outputs").glob("[!.]*")
    model = trained.open_run(run)
    assert model.run.model["features"] == {"mode": "cached", "dtype": kind}
    again = model.model.logits(model.data.test.images)
    assert np.array_equal(again, model.run.test.logits)
    bytes_of = {p.stat().st_size for p in (tmp_path / "cache").glob("*/rows.bin")}
    images = len(model.data.test.labels)  # 50 tokens of 96 numbers, a byte each, and the scales
    assert images * 50 * (96 + 4) in bytes_of and images * 50 * 96 * 2 not in bytes_of
