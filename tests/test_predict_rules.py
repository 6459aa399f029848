"""From the logits of finished runs to what is said of an image, fitted on validation images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import run_folders
from scipy.special import expit, log_softmax, softmax

from beitmed import trained
from beitmed.errors import UserError
from beitmed.predict import rules as predicted_by
from beitmed.predict.choice import Choice
from beitmed.predict.rules import Rules
from beitmed.runs import reader
from beitmed.statistics import coverage
from beitmed.tasks import probabilities


def make(folder: Path, *overrides: str, **options) -> Rules:
    """The rules of one run."""
    choice = options.pop("choice", Choice())
    run = run_folders.make(folder, *overrides, data={"colour": False}, **options)
    return Rules([trained.open_run(run)], choice)


@pytest.mark.parametrize("dataset", ["breast", "blood", "retina"])
def test_probabilities_are_those_of_the_runs_own_temperature(dataset, tmp_path):
    rules = make(tmp_path / "run", f"dataset={dataset}")
    test = rules.runs[0].run.test
    temperature = rules.runs[0].run.metrics["test"]["temperature"]["value"]
    found = rules.decide([test.logits])
    np.testing.assert_allclose(found.mean.p, softmax(test.logits / temperature, axis=1), atol=1e-12)
    assert rules.temperatures[0].fitted == (pytest.approx(temperature),)
    assert (found.called.argmax(axis=1) == test.logits.argmax(axis=1)).all()
    assert found.mean.sd is None


def test_each_of_several_labels_has_a_temperature_or_a_reason(tmp_path):
    rules = make(tmp_path / "run", "dataset=chest", choice=Choice(threshold="0.3"))
    test, [fitted] = rules.runs[0].run.test, rules.temperatures
    assert len(fitted.fitted) == 14 and sum(isinstance(t, float) for t in fitted.fitted) == 2
    found = rules.decide([test.logits])
    by = [t if isinstance(t, float) else 1 for t in fitted.fitted]
    np.testing.assert_allclose(found.mean.p, expit(test.logits / np.array(by)))
    assert (found.called == (found.mean.p > 0.3)).all() and found.abstains is None
    assert rules.abstention == "it is not defined for images with several labels"
    said = fitted.described(rules.class_names)["fitted"]
    assert list(said) == list(rules.class_names)


def test_where_no_temperature_is_best_the_logits_stay(tmp_path):
    rules = make(tmp_path / "run", "dataset=breast", skill=50.0)
    [fitted] = rules.temperatures
    assert "no validation case is misclassified" in str(fitted.fitted[0])
    logits = rules.runs[0].run.test.logits
    np.testing.assert_allclose(rules.decide([logits]).mean.p, softmax(logits, axis=1))


def test_the_operating_point_is_the_runs(tmp_path):
    point = "evaluate.operating_point=sensitivity:0.9"
    folder = tmp_path / "run"
    run_folders.make(folder, "dataset=breast", point, data={"colour": False})
    rules = Rules([trained.open_run(folder)], Choice(threshold="operating_point"))
    run = rules.runs[0].run
    score = run.val.logits[:, run.positive] - run.val.logits[:, 1 - run.positive]
    of = np.sort(score[run.val.labels == run.positive])[::-1]
    cut = of[int(np.ceil(0.9 * len(of))) - 1]
    assert rules.threshold == pytest.approx(cut / rules.temperatures[0].fitted[0])
    test = run.test.logits[:, run.positive] - run.test.logits[:, 1 - run.positive]
    assert (rules.decide([run.test.logits]).called[:, run.positive] == (test >= cut)).all()
    with pytest.raises(UserError, match=r"the runs have None.*evaluate\.operating_point="):
        _ = make(tmp_path / "b", "dataset=breast", choice=rules.choice).threshold


def test_a_threshold_that_is_a_probability(tmp_path):
    rules = make(tmp_path / "run", "dataset=breast", choice=Choice(threshold="0.2"))
    found = rules.decide([rules.runs[0].run.test.logits])
    assert (found.called[:, 1] == (found.mean.p[:, 1] >= 0.2)).all()
    for dataset, cut in (
        ("blood", "0.2"),
        ("blood", "operating_point"),
        ("chest", "operating_point"),
    ):
        with pytest.raises(UserError, match=rf"threshold: found {cut}, but .* allowed"):
            _ = make(tmp_path / dataset / cut, f"dataset={dataset}",
                     choice=Choice(threshold=cut)).threshold  # fmt: skip


def test_several_runs_are_averaged_by_hand(tmp_path):
    runs = [
        trained.open_run(run_folders.make(tmp_path / f"{seed}", "dataset=blood", f"seed={seed}",
                                          data={"colour": False}))
        for seed in (1, 2, 3)
    ]  # fmt: skip
    predicted_by.check_alike(runs)
    rules = Rules(runs, Choice())
    logits = [run.run.test.logits for run in runs]
    found = rules.decide(logits)
    each = np.array([softmax(own / t.fitted[0], axis=1)
                     for own, t in zip(logits, rules.temperatures, strict=True)])  # fmt: skip
    np.testing.assert_allclose(found.mean.p, each.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.mean.sd, each.std(axis=0, ddof=1), atol=1e-12)
    np.testing.assert_allclose(found.mean.low, each.min(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.mean.high, each.max(axis=0), atol=1e-12)
    np.testing.assert_allclose(expit(found.mean.log_odds), found.mean.p, atol=1e-12)
    assert isinstance(rules.val, tuple)


def test_a_mean_of_saturated_probabilities_still_tells_cases_apart():
    odds = np.array([[[60.0, -60.0], [50.0, -50.0]], [[61.0, -61.0], [51.0, -51.0]]])
    found = probabilities.mean(odds)
    assert found.p[0, 0] == found.p[1, 0] == 1.0
    assert found.log_odds[0, 0] > found.log_odds[1, 0] > 50
    expected = -(np.logaddexp(-60, -61) - np.log(2))  # of small ones the odds are the probability
    assert found.log_odds[0, 0] == pytest.approx(expected) == -found.log_odds[0, 1]
    logits = np.array([[900.0, 0.0], [0.0, 900.0]])
    one = probabilities.Temperatures((1.0,), 2, several_labels=False)
    assert np.isfinite(probabilities.mean(one.log_odds(logits)[None]).log_odds).all()


def test_runs_that_cannot_be_averaged_are_refused(tmp_path):
    breast = make(tmp_path / "a", "dataset=breast").runs[0]
    for name, overrides, what in (
        ("b", ["dataset=pneumonia"], "classes"),
        ("c", ["dataset=breast", "dataset.positive_label=0"], "positive class"),
        ("d", ["dataset=breast", "size=64"], "form of images"),
    ):
        other = make(tmp_path / name, *overrides).runs[0]
        with pytest.raises(UserError, match=rf"its {what} .* is not that of"):
            predicted_by.check_alike([breast, other])


def test_runs_of_other_validation_images_are_averaged_and_rule_nothing_out(tmp_path):
    other = make(tmp_path / "b", "dataset=breast", md5="1" * 32, official=False)
    runs = [make(tmp_path / "a", "dataset=breast").runs[0], other.runs[0]]
    rules = Rules(runs, Choice())
    assert rules.abstention == "the runs have different validation images"
    assert rules.decide([run.run.test.logits for run in runs]).mean.sd is not None
    with pytest.raises(UserError, match=r"different validation images; give threshold=0\.5"):
        _ = Rules(with_point(runs), Choice(threshold="operating_point")).threshold


def with_point(runs: list[trained.Trained]) -> list[trained.Trained]:
    for run in runs:
        said = reader.read_json(run.run.path / "metrics.json")
        asked = said["evaluation"] | {"evaluate.operating_point": "sensitivity:0.9"}
        run_folders.edit(run.run.path / "metrics.json", evaluation=asked)
    return [trained.open_run(run.run.path) for run in runs]


@pytest.mark.parametrize("dataset", ["breast", "blood"])
def test_it_answers_where_the_predicted_class_alone_is_possible(dataset, tmp_path):
    rules = make(tmp_path / "run", f"dataset={dataset}", choice=Choice(risk="0.3"))
    run, found = rules.runs[0].run, rules.decide([rules.runs[0].run.test.logits])
    assert not isinstance(rules.abstention, str)
    mean, labels, _ = rules.val
    for c, cut in enumerate(rules.abstention.cuts):
        assert cut == coverage.cut(mean.p[labels == c, c], 0.3)
    cuts = np.array([cut.value for cut in rules.abstention.cuts])
    assert (found.possible == (found.mean.p >= cuts)).all()
    assert (found.abstains == (found.possible != found.called).any(axis=1)).all()
    assert len(found.abstains) == len(run.test.labels)
    hit, of, low, high = rules.abstention.answered
    assert of == len(labels) and low <= hit / of <= high
    assert Rules(rules.runs, Choice(risk="off")).abstention == "it was not asked for (risk=off)"


def test_the_risk_holds_for_each_class_on_the_whole():
    """Wrongly answered are at most the risk of each class, over draws of both sets of images."""
    rng = np.random.default_rng(0)
    wrong = np.zeros(2)
    for _ in range(300):
        labels = rng.random(400) < 0.27
        margin = 1.5 * (2 * labels - 1) + 2 * rng.normal(size=400)
        p = np.exp(log_softmax(np.column_stack([-margin, margin]), axis=1))
        val, test = slice(0, 78), slice(78, None)
        cuts = [coverage.cut(p[val][labels[val] == c, c], 0.1).value for c in (0, 1)]
        possible = coverage.possible(p[test], np.array(cuts))
        answered = (possible == (p[test] > 0.5)).all(axis=1)
        missed = answered & (p[test].argmax(axis=1) != labels[test])
        wrong += [missed[labels[test] == c].mean() / 300 for c in (0, 1)]
    assert (wrong < 0.105).all()


def test_patients_count_once(tmp_path):
    groups = [f"t{i // 4}" for i in range(run_folders.N["test"])]
    rules = make(tmp_path / "run", "dataset=breast", groups=groups)
    found = rules.abstention
    assert not isinstance(found, str)
    labels = rules.runs[0].run.val.labels
    assert [cut.n for cut in found.cuts] == [(labels == c).sum() for c in (0, 1)]  # one image each


@pytest.mark.parametrize(
    ("key", "value"),
    [("threshold", "half"), ("threshold", "1.5"), ("risk", "0"), ("risk", "0.7"), ("risk", "nan"),
     ("unlike", "100"), ("unlike", "many")],
)  # fmt: skip
def test_a_choice_that_is_none_is_refused(key, value):
    with pytest.raises(UserError, match=rf"{key}: found '{re.escape(value)}'; allowed: "):
        Choice(**{key: value})
