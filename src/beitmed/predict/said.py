"""What a table of predictions means: as JSON beside it, and as lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scipy.special import expit

import beitmed
from beitmed.predict.request import Asked, Counted
from beitmed.predict.rules import Abstention, Rate, Rules
from beitmed.statistics import coverage

FORMAT = 1
_SHOWN = 20  # unreadable images that the terminal names


def described(asked: Asked, counted: Counted) -> dict[str, Any]:
    """JSON values: every column's meaning, what it was fitted on, and the counts."""
    rules, names = asked.rules, asked.rules.class_names
    percentile = asked.choice.percentile
    return {
        "format": FORMAT,
        "beitmed": beitmed.__version__,
        "runs": [
            {
                "run": run.run.path.resolve().name,
                "caveats": run.run.metrics["caveats"],
                "dataset": run.run.dataset,
                "test_images_sha256": run.run.data["digests"]["test"],
                "calibration": fitted.described(names),
            }
            for run, fitted in zip(asked.runs, rules.temperatures, strict=True)
        ],
        "classes": list(names),
        "images_are": {
            "size": asked.form.size, "colour": asked.form.colour, "fit": asked.form.fit,
            "intensity": asked.form.intensity, "min_side": asked.form.min_side,
        },
        "threshold": _threshold(rules),
        "abstention": _abstention(asked),
        "unlikeness": {"reason": asked.unlike} if isinstance(asked.unlike, str) else {
            "runs": [one.described(percentile) for one in asked.unlike if percentile is not None]
        },
        "images": {
            "looked_at": counted.seen, "predicted": counted.images,
            "unreadable": len(counted.problems), "left_out_by_ending": asked.images.left_out,
        },
        "predicted": dict(zip(names, counted.called.tolist(), strict=True)),
        "abstained": None if isinstance(rules.abstention, str) else counted.abstained,
        "unlike": None if isinstance(asked.unlike, str) else counted.unlike,
        "notes": counted.noted,
        "unreadable": counted.problems,
        "images_a_second": counted.images / counted.seconds,
    }  # fmt: skip


def _threshold(rules: Rules) -> dict[str, Any]:
    if rules.positive is None and not rules.task.several_labels:
        return {"predicted": "the most probable class"}
    of = "each label" if rules.positive is None else rules.class_names[rules.positive]
    asked = rules.runs[0].run.config.evaluate.operating_point
    return {
        "of": of,
        "probability": float(expit(rules.threshold)),
        "chosen_for": asked if rules.choice.cut is None else None,
    }


def _abstention(asked: Asked) -> dict[str, Any]:
    found = asked.rules.abstention
    if isinstance(found, str):
        return {"reason": found}
    assert asked.choice.level is not None
    return {
        "risk": asked.choice.level,
        "rule": "a class is ruled out where its probability is below `cut`; an image is answered "
        "where the predicted class alone is left",
        "classes": {
            name: {
                "cut": cut.value, f"validation_{_unit(asked.rules)}": cut.n,
                "kept_possible": {"nominal": 1 - asked.choice.level, "really": [cut.low, cut.high]},
                "validation_images_answered_wrongly": _json(wrong),
            }
            for name, cut, wrong in zip(
                asked.rules.class_names, found.cuts, found.wrong_by_class, strict=True
            )
        },
        "validation_images_answered": _json(found.answered),
        "of_those_wrong": _json(found.wrong),
    }  # fmt: skip


def _json(rate: Rate | None) -> dict[str, Any] | None:
    if rate is None:
        return None
    hit, of, low, high = rate
    return {"n": hit, "of": of, "share": hit / of, "low": low, "high": high}


def lines(asked: Asked, counted: Counted) -> list[str]:
    """What was fitted on what, and what was found."""
    return [
        *(f"Note: {caveat}." for caveat in dict.fromkeys(
            caveat for run in asked.runs for caveat in run.run.metrics["caveats"])),
        *_probabilities(asked.rules),
        _called(asked.rules),
        *_abstains(asked),
        *_unlike(asked),
        *_found(asked, counted),
    ]  # fmt: skip


def _probabilities(rules: Rules) -> Iterator[str]:
    several = len(rules.runs) > 1
    if several:
        yield (
            f"Probabilities: the mean of {len(rules.runs)} runs, each calibrated by itself; "
            "sd_, lowest_ and highest_ are the spread between the runs."
        )
    for run, fitted in zip(rules.runs, rules.temperatures, strict=True):
        who = f" of {run.run.path.resolve().name}" if several else ""
        if len(fitted.fitted) == 1:
            [only] = fitted.fitted
            how = f"not calibrated: {only}" if isinstance(only, str) else (
                f"calibrated by temperature {only:.3g}, fitted to {fitted.on} validation images"
            )  # fmt: skip
        else:
            count = sum(not isinstance(one, str) for one in fitted.fitted)
            how = (
                f"calibrated for {count} of {len(fitted.fitted)} labels by a temperature each, "
                f"fitted to {fitted.on} validation images; the others as they are"
            )
        yield f"Probabilities{who}: {how}."


def _called(rules: Rules) -> str:
    said = _threshold(rules)
    if "predicted" in said:
        return "Predicted: the most probable class."
    why = f", chosen on val for {said['chosen_for']}" if said["chosen_for"] else ""
    return f"Predicted: {said['of']} from a probability of {said['probability']:.3g}{why}."


def _abstains(asked: Asked) -> Iterator[str]:
    found = asked.rules.abstention
    if isinstance(found, str):
        yield f"Abstains: never, since {found}."
        return
    risk = asked.choice.level
    assert risk is not None
    yield f"Abstains (risk={risk:g}): where the predicted class is not the only possible one."
    yield (
        f"  Of a class's new images nominally {_percent(1 - risk)} % keep it possible; really, 9 "
        "times out of 10 with so few validation images:"
    )
    for name, cut in zip(asked.rules.class_names, found.cuts, strict=True):
        count = f"{cut.n} validation {_unit(asked.rules)}"
        yield f"  {name}: " + (
            f"{_percent(cut.low)} to {_percent(cut.high)} % ({count})" if cut.value else
            f"all, as it is never ruled out ({count}; this risk needs {coverage.fewest(risk)})"
        )  # fmt: skip
    yield f"  {_on_val(found)}"


def _unit(rules: Rules) -> str:
    return "images" if rules.runs[0].run.val.groups is None else "patients"


def _on_val(found: Abstention) -> str:
    text = f"Validation images, each judged by the others: {_share(found.answered, 'answered')}"
    return text + ("." if found.wrong is None else f", of those {_share(found.wrong, 'wrongly')}.")


def _share(rate: Rate, what: str) -> str:
    hit, of, low, high = rate
    share = f"{_percent(hit / of)} %, {_percent(low)} to {_percent(high)} %"
    return f"{hit} of {of} {what} ({share})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _unlike(asked: Asked) -> Iterator[str]:
    if isinstance(asked.unlike, str):
        yield f"Unlikeness to the training images: none, since {asked.unlike}."
        return
    limit = asked.choice.percentile
    assert limit is not None
    for one in {(one.features, one.trained_on, len(one.val)): one for one in asked.unlike}.values():
        low, high = one.expected(limit)
        yield (
            f"Unlike the training images ({one.trained_on}; Mahalanobis distance of "
            f"{one.features}): flagged beyond the {limit:g}th percentile of {len(one.val)} "
            f"validation images, as {100 * low:.1f} to {100 * high:.1f} % of images like them are."
        )


def _found(asked: Asked, counted: Counted) -> Iterator[str]:
    yield ""
    n = counted.images
    called = ", ".join(
        f"{count} {name!r}"
        for name, count in zip(asked.rules.class_names, counted.called.tolist(), strict=True)
    )
    yield f"{n:,} images: {called}."
    if not isinstance(asked.rules.abstention, str):
        yield f"abstains: {counted.abstained:,} ({counted.abstained / n:.1%})"
    if not isinstance(asked.unlike, str):
        yield f"unlike:   {counted.unlike:,} ({counted.unlike / n:.1%})"
    for note, count in counted.noted.items():
        yield f"{note}: {count:,}"
    if asked.images.left_out:
        yield f"left out, no images by their ending: {asked.images.left_out:,}"
    yield f"{n / counted.seconds:,.1f} images a second, {counted.seconds:.1f} s"


def unreadable(counted: Counted) -> list[str]:
    """The first images that could not be read, and why; all stand in the JSON file."""
    problems = list(counted.problems.items())
    named = [f"  {name}: {why}" for name, why in problems[:_SHOWN]]
    more = [f"  ... and {len(problems) - _SHOWN:,} more"] if len(problems) > _SHOWN else []
    return [f"{len(problems):,} images could not be read:", *named, *more] if problems else []


def nothing(counted: Counted) -> str:
    """That no image could be read."""
    return "\n".join([*unreadable(counted), "None could be read, so nothing was written."])
