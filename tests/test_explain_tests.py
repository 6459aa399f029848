"""The tests of explanations: what passes them and what must not."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, beitmed
from test_explain_methods import transformer

from beitmed.explain import localisation, maps, randomisation, removal, repeatability
from beitmed.explain.evidence import Evidence
from beitmed.explain.maps import Question
from beitmed.explain.tested import Result, Tested, cell_maps
from beitmed.statistics.estimates import Estimate

N, SIDE = 8, 4  # images, and cells along a side


@pytest.fixture(scope="module")
def tested() -> Tested:
    """A network, images whose brightness differs from cell to cell, and its occlusion maps."""
    net = transformer()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, SIDE, SIDE)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    pixels = net.pixels(images)
    question = Question(net.logits(pixels).argmax(1), maps.baseline(net, images, "mean"))
    found = cell_maps(net, pixels, ("occlusion",), question)
    return Tested(net, images, pixels, question, None, None, found)


def test_a_faithful_order_passes_and_its_reverse_fails(tested):
    both = replace(
        tested, maps={"own": tested.maps["occlusion"], "turned": -tested.maps["occlusion"]}
    )
    found = removal.test(both, seed=0)
    for kind in removal.KINDS:
        own, turned = found[kind]["own"], found[kind]["turned"]
        assert own.passes and not turned.passes, kind
        gains = [own.estimates[f"better_than_{k}"].value for k in ("random", "centre")]
        assert min(gains) > 0 > turned.estimates["better_than_random"].value
        # Curves run between the image and the baseline, whatever the order.
        ends = [(r.more[c][0], r.more[c][-1]) for r in (own, turned)
                for c in ("curve", "curve_random", "curve_centre")]  # fmt: skip
        assert np.ptp(ends, axis=0) == pytest.approx(0, abs=1e-9)
        steps = np.array(own.more["curve"])
        area = (steps[1:-1].sum() + (steps[0] + steps[-1]) / 2) / removal.STEPS
        assert own.estimates["area"].value == pytest.approx(area)
    # Removed in the reverse order is put in, seen from the end.
    deleted, put_in = (found[k][m].more["curve"] for k, m in
                       (("deletion", "own"), ("insertion", "turned")))  # fmt: skip
    assert np.abs(np.array(deleted) - put_in[::-1]).max() < 0.05  # up to the rounding of counts


def test_a_faithful_map_of_a_network_that_hardly_moves_fails(tested):
    still = replace(tested, network=copy.deepcopy(tested.network))
    with torch.no_grad():
        still.network.module.model.classifier.weight.mul_(1e-4)
    found = removal.test(still, seed=0)["deletion"]["occlusion"]
    gains = [found.estimates[f"better_than_{name}"] for name in ("random", "centre")]
    assert all(gain.ci_low > 0 and gain.value < removal.LEAST for gain in gains)
    assert not found.passes


def test_equal_values_are_taken_in_random_order(tested):
    flat = replace(tested, maps={"nothing": np.zeros((N, SIDE, SIDE))})
    found = removal.test(flat, seed=0)["deletion"]["nothing"]
    assert not found.passes
    assert found.estimates["better_than_random"].value == pytest.approx(0, abs=0.05)


def test_a_map_that_ignores_the_weights_fails_randomisation(tested):
    def cascade(name):
        own = {name: tested.maps["occlusion"]}
        return replace(tested, maps=own)

    found, random = randomisation.test(cascade("occlusion"), seed=0)
    assert len(random) == randomisation.NETWORKS
    parts = [stage["part"] for stage in found["occlusion"].more["stages"]]
    assert parts == ["head", "layer 3", "layer 2", "layer 1", "embeddings"]
    # The image's own brightness instead: the same of every network.
    shown = tested.images[:, ::8, ::8].astype(float)
    same = randomisation._judge(
        replace(tested, maps={"own": shown}), "own", {p: {"own": shown} for p in parts},
        [{"own": shown}] * 3,
    )  # fmt: skip
    assert not same.passes and same.estimates["similarity"].value == pytest.approx(1)
    # Unlike random networks' maps, which are all alike: learnt.
    learnt = randomisation._judge(
        replace(tested, maps={"own": shown.max() - shown[::-1] + 0.3 * shown}), "own",
        {"head": {"own": shown}}, [{"own": shown}] * 3,
    )  # fmt: skip
    assert learnt.passes
    # Not of a sign alone.
    turned = randomisation._judge(
        replace(tested, maps={"own": shown}), "own", {"head": {"own": -shown}},
        [{"own": -shown}] * 3,
    )  # fmt: skip
    assert not turned.passes


def test_repeatability_is_over_seeds_where_there_are_some(tested):
    alone = repeatability.test(tested, [], seed=0)["occlusion"]
    assert alone.more["over"] == "noise of 1 % of the grey scale"
    again = repeatability.test(tested, [tested.network], seed=0)["occlusion"]
    assert again.passes and again.estimates["similarity"].value == pytest.approx(1)
    assert again.more["over"] == "2 seeds"
    *_, (_, other) = tested.network.redrawn(tested.pixels, seed=5)
    unlike = repeatability.test(tested, [other], seed=0)["occlusion"]
    assert not unlike.passes and unlike.estimates["similarity"].value < 0.5


def test_localisation_needs_the_mask_and_more_than_an_eye_catcher(tested):
    masks = np.zeros((N, 32, 32), bool)
    masks[1:, 8:16, 16:24] = True  # one cell; of the first image nothing
    found = np.zeros((N, SIDE, SIDE))
    found[:, 1, 2] = 1
    rng = np.random.default_rng(0)
    unlike = [{"own": rng.random((N, SIDE, SIDE))} for _ in range(3)]
    with_masks = replace(tested, masks=masks, maps={"own": found})
    result = localisation.test(with_masks, unlike)["own"]
    assert result.passes
    assert result.estimates["area"].value == pytest.approx(1)
    assert result.estimates["area"].n == N - 1
    assert result.estimates["pointing"].value == 1
    assert result.estimates["pointing_by_chance"].value == pytest.approx(1 / 16)
    # Higher there than mostly elsewhere, and yet highest elsewhere: it does not point there.
    beside = found + 2 * np.roll(found, 1, axis=2)
    beside_it = localisation.test(replace(with_masks, maps={"own": beside}), unlike)["own"]
    assert not beside_it.passes and beside_it.estimates["area"].value > 0.9
    # Random networks point there too: it only catches the eye.
    assert not localisation.test(with_masks, [{"own": found}] * 3)["own"].passes
    assert not localisation.test(replace(with_masks, maps={"own": -found}), unlike)["own"].passes
    without = localisation.test(replace(with_masks, masks=None), unlike)["own"]
    assert without.passes is None and without.reason == localisation.NO_MASKS


def test_maps_lie_where_the_network_saw_the_image():
    grid = np.arange(4.0).reshape(1, 2, 2)
    whole = localisation.on_image(grid, (4, 4), (1.0, 1.0))
    assert np.array_equal(whole[0], grid[0].repeat(2, 0).repeat(2, 1))
    half = localisation.on_image(grid, (4, 4), (0.5, 0.5))[0]
    assert np.array_equal(half[1:3, 1:3], grid[0])
    assert np.isnan(half[0]).all() and np.isnan(half[:, 3]).all()
    padded = localisation.on_image(grid, (2, 2), (2.0, 2.0))[0]  # the inner half of the map
    assert np.array_equal(padded, grid[0])


def test_a_verdict_counts_what_could_be_made():
    results = {
        "deletion": Result(True), "insertion": Result(False),
        "localisation": Result(None, reason="no masks"),
    }  # fmt: skip
    found = Evidence({"a": results, "b": {"deletion": Result(True)}}, np.arange(3), None)
    assert found.verdict("a") == "FAILS 1 of 2 tests (insertion)" and not found.passes("a")
    assert found.verdict("b") == "passes 1 of 1 tests" and found.passes("b")
    area = {"area": Estimate(0.5, 0.4, 0.6, 9, "t", None)}
    said = Result(True, area, "area", more={"curve": [1.0]})
    assert said.in_numbers() == "0.50 [0.40, 0.60]"
    told = Evidence({"a": {"localisation": said}}, np.arange(3), None)
    assert told.numbers("a") == "localisation 0.50 [0.40, 0.60]"
    assert said.as_dict()["area"]["ci_low"] == 0.4 and said.as_dict()["curve"] == [1.0]


@pytest.mark.slow
def test_a_planted_marker_is_found_by_what_passes_and_by_nothing_that_learnt_nothing(tmp_path):
    """The known answer: a bright corner decides the label, in training and in the test images."""
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    try:
        import planted_marker
    finally:
        sys.path.pop(0)
    planted_marker.write(tmp_path / "planted")
    verdicts = {}
    for name, how in (
        ("learnt", ("train.learning_rate=1e-3",)),
        ("nothing", ("train.learning_rate=1e-12", "train.epochs=1")),
    ):
        done = beitmed(
            "dataset=breast", "backbone=beit_tiny", "data.root=planted", "data.download=false",
            "data.allow_unofficial=true", f"name={name}", *how, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        done = beitmed(
            f"outputs/{name}", "masks=planted/masks.npz", "images=each:1", module="explain",
            cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        path = tmp_path / "outputs" / name / "explanation" / "explanation.json"
        verdicts[name] = json.loads(path.read_text())["tests"]["methods"]
    assert not any(method["passes"] for method in verdicts["nothing"].values())
    passed = [method for method in verdicts["learnt"].values() if method["passes"]]
    assert passed
    for method in passed:
        assert method["localisation"]["area"]["value"] > 0.85
        assert method["localisation"]["pointing"]["value"] > 0.75  # 0.02 by chance
