"""What an external test says, in sentences, from the values of its external.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beitmed import tasks

Values = Mapping[str, Any]


def cell(found: Values | None, digits: int = 3) -> str:
    """A value with its limits as it stands in a sentence."""
    if found is None or found.get("value") is None:
        return "undefined"
    low, high = found.get("ci_low"), found.get("ci_high")
    value = f"{found['value']:z.{digits}f}"
    return value if low is None else f"{value} [{low:z.{digits}f}, {high:z.{digits}f}]"


def summary(values: Values, *, metrics: bool = True) -> list[str]:
    """The results in their order: what was tested, how well, what differs, what to distrust.

    metrics: whether the headlines are said, which a table may hold.
    """
    task = tasks.of(values["task"])
    patients = "" if values["patients"] is None else f" of {values['patients']:,} patients"
    said = [
        f"{values['run']} on {values['dataset']} ({_part(values)}): {values['images']:,} "
        f"images{patients}."
    ]
    if metrics:
        said += [_headline(name, values) for name in task.headlines if name in values["external"]]
    said += [*_calibration(values), *_thresholds(values), *_recalibration(values)]
    return [*said, *_data_shift(values), *_overlap(values)]


def _part(values: Values) -> str:
    return "all images" if values["split"] == "all" else f"split {values['split']}"


def headline(values: Values) -> str:
    """The test, and the metric that its task is compared by, in one sentence."""
    [name, *_] = tasks.of(values["task"]).headlines
    found = values["overlap"]
    seen = 0 if isinstance(found, str) else found["in_train_or_val"]
    doubt = f", NOT EXTERNAL: {seen:,} of {values['images']:,} images in train or val" * bool(seen)
    return (
        f"{values['run']} on {values['dataset']} ({_part(values)}{doubt}): "
        f"{_headline(name, values)}"
    )


def _headline(name: str, values: Values) -> str:
    names = list(values["classes"])
    positive = None if values["positive_class"] is None else names.index(values["positive_class"])
    label = tasks.of(values["task"]).title(name, names, positive)
    inside, outside = values["internal"].get(name), values["external"][name]
    apart = values["differences"].get(name)
    said = f"{label}: internal {cell(inside)}, external {cell(outside)}"
    if apart is None or apart["value"] is None:
        return f"{said}."
    low, high = apart["ci_low"], apart["ci_high"]
    verdict = "not told apart" if low <= 0 <= high else "lower" if high < 0 else "higher"
    return f"{said}; external less internal {cell(apart)}: {verdict}."


def _calibration(values: Values) -> list[str]:
    found = values["calibration"]
    if len(found) != 1:
        return []
    inside, outside = found[0]["internal"], found[0]["external"]
    return [
        f"Calibration slope: internal {cell(inside['slope'], 2)}, external "
        f"{cell(outside['slope'], 2)} (1 is calibrated); in the large: internal "
        f"{cell(inside['large'], 2)}, external {cell(outside['large'], 2)} (0 is calibrated)."
    ]


def _thresholds(values: Values) -> list[str]:
    """Of two classes, the run's operating point, or else its threshold of highest accuracy."""
    rows = [one for one in values["thresholds"] if one["rule"] != "probability 0.5"]
    if values["positive_class"] is None or not rows:
        return []
    last = rows[-1]["rule"]
    rule = last if last.startswith("operating point") else "highest accuracy"
    carried, anew = (one for one in rows if one["rule"] == rule)
    said = f"Threshold ({rule}): {_rates(carried)} as {carried['source'].removeprefix('of ')} set "
    return [
        f"{said}it; {_rates(anew)} as these images would, corrected for having been chosen on them."
    ]


def _rates(found: Values) -> str:
    if found["threshold"] is None:
        return f"none ({found['sensitivity']['reason']})"
    return (
        f"at probability {found['probability']:.3f} sensitivity {cell(found['sensitivity'])}, "
        f"specificity {cell(found['specificity'])}"
    )


def _recalibration(values: Values) -> list[str]:
    found = {one["kind"]: one for one in values["recalibration"]}
    plain, both = found["none"]["log_loss"], found["both"]["log_loss"]
    if both["value"] is None:
        return [f"Recalibration: {both['reason']}."]
    return [
        f"Log loss: {cell(plain)} as it is; with a temperature and a shift fitted to these images "
        f"{cell(both)}, corrected for having been fitted to them ({both['apparent']:.3f} before)."
    ]


def _data_shift(values: Values) -> list[str]:
    found = values["data_shift"]
    shares = found["classes"]
    test = shares["test"] + (", every image counted by itself" if values["patients"] else "")
    said = [
        "Class shares, internal against external: "
        + ", ".join(
            f"{a['name']} {a['share']:.1%} and {b['share']:.1%}"
            for a, b in zip(shares["internal"][:5], shares["external"][:5], strict=True)
        )
        + f" ({test}, p {_p(shares['p'])})."
    ]
    if not isinstance(found["images"], str):
        properties = ", ".join(
            f"{one['name']} {one['higher']:.2f} [{one['ci_low']:.2f}, {one['ci_high']:.2f}]"
            for one in found["images"]
            if one["name"] in ("brightness", "contrast", "sharpness")
        )
        said.append(f"Probability that an external image has more than a test image: {properties}.")
    if not isinstance(features := found["features"], str):
        apart, yardstick = features["external_test"], features["val_test"]
        said.append(
            f"Features ({features['features']}): energy coefficient {apart['value']:.3f} between "
            f"external images and test (p {_p(apart['p'])}), {yardstick['value']:.3f} between val "
            f"and test (p {_p(yardstick['p'])}); 0 is alike, 1 is apart."
        )
    return said


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _overlap(values: Values) -> list[str]:
    found = values["overlap"]
    if isinstance(found, str):
        return [f"Images that the run was made from: {found}."]
    seen, tested = found["in_train_or_val"], found["in_test"]
    if not seen and not tested:
        return [
            f"None of the external images stands in the run's train, val or test.{_more(found)}"
        ]
    said = [
        f"{seen:,} of {values['images']:,} external images also stand in the run's train or val "
        f"({found['exact']['train or val']:,} with the same pixels, the rest nearly), {tested:,} "
        "in its test split."
    ]
    if seen:
        said[0] = f"NOT EXTERNAL: {said[0]}"
        rest = found["metrics"].get("in neither")
        said.append(
            "No image is left without them."
            if rest is None
            else f"Without them ({rest['images']:,} images): AUC {cell(rest['auc'])}, accuracy "
            f"{cell(rest['accuracy'])}."
        )
    if tested:
        said.append(
            "Internal and external test share images, so the intervals of the differences, which "
            "take them for different ones, are wider than they need to be."
        )
    said[-1] += _more(found)
    return said


def _more(found: Values) -> str:
    """What is to be said of patients, and of what was not searched."""
    patients, said = found["patients_in_train_or_val"], ""
    if patients:
        said += f" {patients:,} of their patients have the name of one in train or val."
    return said if found["limit"] is None else f"{said} Search: {found['limit']}."


def caveat_line(values: Values) -> Sequence[str]:
    """The caveats as a line of its own, if there are any."""
    return [f"Note: {'; '.join(values['caveats'])}."] if values["caveats"] else []
