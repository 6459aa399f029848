"""Train, validation and test of one's own images: as given, else drawn, with no patient in two.

Drawn by scikit-learn: StratifiedGroupKFold where patients are known, StratifiedShuffleSplit where
not (of a cross-validation StratifiedKFold); what is drawn depends on the seed, and on the order and
the labels of the images.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from beitmed import tasks
from beitmed.config import Config
from beitmed.data.folder_table import Image, refuse, shown
from beitmed.errors import UserError

SPLITS = ("train", "val", "test")
_ATTEMPTS = 20  # draws, until each class is in each split
_FOLDS = 20  # at most; a share is so many of so many folds


def assign(
    cfg: Config, images: Sequence[Image], labels: np.ndarray, class_names: Sequence[str]
) -> tuple[np.ndarray, str]:
    """The split of each image, and how it came about: "given", or "drawn by patient" or "image".

    labels: int64 [n], or [n, labels] of 0 and 1. Only a missing validation split is drawn from the
    given train split. Raises UserError that names patients in two splits, and classes that a split
    has no image of.
    """
    splits = np.array([image.split or "" for image in images])
    known = images[0].patient is not None
    patients = _patients(images) if known else None
    given = set(splits.tolist())
    _check_patients(cfg, images)
    by = "patient" if known else "image"
    if cfg.data.folds is not None:
        if given != {""}:
            raise UserError(
                f"data.folds: found {cfg.data.folds}, but {cfg.dataset.path} gives splits; leave "
                "out data.folds, or the splits"
            )
        how = f"fold {cfg.data.fold} of {cfg.data.folds}, drawn by {by}"
        return _one_fold(cfg, labels, patients, class_names), how
    if given == {""}:
        return _draw_all(cfg, labels, patients, class_names), f"drawn by {by}"
    if given in ({"train", "test"}, set(SPLITS)):
        for name in (s for s in SPLITS if s in given):
            _check_classes(cfg, labels[splits == name], class_names, name)
    if given == {"train", "test"}:
        _draw_val(cfg, labels, patients, class_names, splits)
        how = f"given; validation drawn from train by {by}"
    elif given == set(SPLITS):
        how = "given"
    else:
        missing = ", ".join(s for s in SPLITS if s not in given)
        raise UserError(
            f"{cfg.dataset.path}: gives no images of the split {missing}; allowed: train and test, "
            "with val or without, or no splits at all"
        )
    return splits, how


def _patients(images: Sequence[Image]) -> np.ndarray:
    return np.unique([image.patient or "" for image in images], return_inverse=True)[1]


def _check_patients(cfg: Config, images: Sequence[Image]) -> None:
    seen: dict[str, dict[str, str]] = defaultdict(dict)
    for image in images:
        if image.patient is not None and image.split is not None:
            seen[image.patient].setdefault(image.split, image.name)
    problems = {
        f"patient {patient}": ", ".join(f"{s} ({shown(n)})" for s, n in places.items())
        for patient, places in seen.items()
        if len(places) > 1
    }
    refuse(
        cfg, "has patients in two splits", problems,
        "What is learnt of a patient in one split would be tested in the other: give each patient "
        "one split, or leave the splits out, and they are drawn by patient.",
    )  # fmt: skip


def _check_classes(cfg: Config, labels: np.ndarray, class_names: Sequence[str], split: str) -> None:
    there = _present(cfg, labels, len(class_names))
    missing = [shown(name) for c, name in enumerate(class_names) if not there[c]]
    if missing:
        raise UserError(
            f"{cfg.dataset.path}: has no image of class {', '.join(missing)} in {split}; each "
            "class needs one in each split. Correct the splits or labels, or take the class out."
        )


def _present(cfg: Config, labels: np.ndarray, classes: int) -> np.ndarray:
    return np.any(tasks.of(cfg.dataset.task).members(labels, classes), axis=0)


def _draw_all(
    cfg: Config, labels: np.ndarray, patients: np.ndarray | None, class_names: Sequence[str]
) -> np.ndarray:
    train, val, test = cfg.dataset.fractions
    order = ("test", "val", "train")
    drawn = _attempts(cfg, labels, patients, [test, val / (train + val)], class_names, order)
    return np.array(order)[drawn]


def _draw_val(
    cfg: Config,
    labels: np.ndarray,
    patients: np.ndarray | None,
    class_names: Sequence[str],
    splits: np.ndarray,
) -> None:
    """Turn some of the train images into the validation split."""
    inside = np.flatnonzero(splits == "train")
    groups = None if patients is None else patients[inside]
    train, val, _ = cfg.dataset.fractions
    drawn = _attempts(
        cfg, labels[inside], groups, [val / (train + val)], class_names, ("val", "train")
    )
    splits[inside[drawn == 0]] = "val"


def _one_fold(
    cfg: Config, labels: np.ndarray, patients: np.ndarray | None, class_names: Sequence[str]
) -> np.ndarray:
    """The splits with one fold as the test set; the folds are the same whichever it is."""
    assert cfg.data.folds is not None and cfg.data.fold is not None
    _check_enough(cfg, labels, patients, class_names, max(cfg.data.folds, 3))
    strata = tasks.of(cfg.dataset.task).strata(labels)
    for attempt in range(_ATTEMPTS):
        seed = np.random.SeedSequence([cfg.dataset.split_seed, attempt]).generate_state(1)
        folds = _folds(strata, patients, cfg.data.folds, int(seed[0]))
        if all(_present(cfg, labels[fold], len(class_names)).all() for fold in folds):
            break
    else:
        for i, fold in enumerate(folds):
            _check_classes(cfg, labels[fold], class_names, f"fold {i} after {_ATTEMPTS} draws")
    splits = np.full(len(labels), "train")
    splits[folds[cfg.data.fold]] = "test"
    _draw_val(cfg, labels, patients, class_names, splits)
    return splits


def _folds(
    strata: np.ndarray, groups: np.ndarray | None, count: int, seed: int
) -> list[np.ndarray]:
    """The images of each fold."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if np.unique(strata, return_counts=True)[1].max() < count:  # nothing can be stratified by
        strata = np.zeros_like(strata)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fewer images of a class than folds
        found = kind(count, shuffle=True, random_state=seed).split(strata, strata, groups)
        return [fold for _, fold in found]


def _attempts(
    cfg: Config,
    labels: np.ndarray,
    patients: np.ndarray | None,
    shares: Sequence[float],
    class_names: Sequence[str],
    names: Sequence[str],
) -> np.ndarray:
    """The number of the part, into `names`, that each image falls into.

    Part i takes shares[i] of what the parts before it left; the last takes the rest.
    """
    _check_enough(cfg, labels, patients, class_names, len(names))
    strata = tasks.of(cfg.dataset.task).strata(labels)
    for attempt in range(_ATTEMPTS):
        part = np.full(len(labels), len(shares))
        left = np.arange(len(labels))
        seeds = np.random.SeedSequence([cfg.dataset.split_seed, attempt]).generate_state(
            len(shares)
        )
        for i, (share, seed) in enumerate(zip(shares, seeds, strict=True)):
            groups = None if patients is None else patients[left]
            taken = _draw(strata[left], groups, share, int(seed))
            part[left[taken]] = i
            left = np.setdiff1d(left, left[taken])
        parts = [labels[part == i] for i in range(len(names))]
        if all(_present(cfg, p, len(class_names)).all() for p in parts):
            return part
    for name, p in zip(names, parts, strict=True):
        _check_classes(cfg, p, class_names, f"{name} after {_ATTEMPTS} draws")
    raise AssertionError("the last draw lacked a class")


def _check_enough(
    cfg: Config,
    labels: np.ndarray,
    patients: np.ndarray | None,
    class_names: Sequence[str],
    needed: int,
) -> None:
    what = "images" if patients is None else "patients"
    few = []
    member = tasks.of(cfg.dataset.task).members(labels, len(class_names))
    for name, column in zip(class_names, member.T, strict=True):
        members = np.flatnonzero(column)
        n = len(members if patients is None else np.unique(patients[members]))
        if n < needed:
            few.append(f"{shown(name)} ({n} {what})")
    if few:
        raise UserError(
            f"{cfg.dataset.path}: too few {what} to draw splits from: {', '.join(few)}; each class "
            f"needs {needed} or more, one for each split or fold. Add some, or take the class out."
        )


def _draw(strata: np.ndarray, groups: np.ndarray | None, share: float, seed: int) -> np.ndarray:
    """The images, sorted, that make up about `share` of all."""
    from sklearn.model_selection import StratifiedShuffleSplit

    classes, where, counts = np.unique(strata, return_inverse=True, return_counts=True)
    if groups is None:
        # A class that is due less than one image gets one.
        rare = np.flatnonzero(share * counts < 1)
        rng = np.random.default_rng(seed)
        taken = [rng.choice(np.flatnonzero(where == c), 1) for c in rare]
        if len(rare) < len(classes):
            others = np.flatnonzero(~np.isin(where, rare))
            n = len(classes) - len(rare)
            n = min(max(n, round(share * len(others))), len(others) - n)
            shuffle = StratifiedShuffleSplit(1, test_size=n, random_state=seed)
            taken.append(others[next(shuffle.split(others, strata[others]))[1]])
        return np.sort(np.concatenate(taken))
    most = max(2, min(_FOLDS, len(np.unique(groups)), counts.max()))
    part = Fraction(share).limit_denominator(int(most)) or Fraction(1, int(most))
    if part == 1:
        part = Fraction(int(most) - 1, int(most))
    drawn = _folds(strata, groups, part.denominator, seed)
    return np.sort(np.concatenate(drawn[: part.numerator]))
