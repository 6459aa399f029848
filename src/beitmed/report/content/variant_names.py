"""Names of variants: what a reader asks for first, and the settings in which two differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from beitmed import config
from beitmed.config import Config
from beitmed.report.document import without_places
from beitmed.runs.published import plainly
from beitmed.runs.reader import FinishedRun

RANDOM, SYNTHETIC = "RANDOM weights", "SYNTHETIC images"
_KEYS_NAMED = 4  # of more, those that tell a variant apart


def short_name(run: FinishedRun, labels: bool = True) -> str:
    """A run's variant in the paper's notation, such as `beit_large top 5 (28) balanced`; a
    baseline by its title, such as `ResNet-18 (28)`. A strategy that is not the paper's is named.

    A name says where it is of a part of the labels (unless `labels` is false), of random weights
    or of synthetic images, for it stands in every figure and every exported table.
    """
    cfg = run.config
    name = model(cfg)
    if cfg.trains_backbone:
        name += " all" if cfg.unfreeze == "all" else f" top {cfg.unfreeze}"
    name += f" ({cfg.size})"
    if cfg.balanced:
        name += " balanced" if cfg.balancing.papers else f" balanced by {cfg.balancing.name}"
    marks = [part_of_labels(cfg)] * (labels and cfg.part_of_labels)
    marks += [RANDOM] * is_random(run)
    marks += [SYNTHETIC] * cfg.dataset.synthetic
    return ", ".join([name, *marks])


def part_of_labels(cfg: Config) -> str:
    """Which part of the training labels a run may use, such as `10 % of labels`."""
    if cfg.shots is not None:
        return f"{cfg.shots} label{'' if cfg.shots == 1 else 's'} per class"
    return f"{100 * cfg.label_fraction:g} % of labels"


def is_random(run: FinishedRun) -> bool:
    """Whether a run's backbone was never pre-trained."""
    return run.config.reads_backbone and run.config.backbone.random_weights


def model(cfg: Config) -> str:
    """A backbone by its name, a baseline by its title, after the backbone that it reads."""
    title = cfg.method.title or cfg.method.name
    if cfg.trains_backbone:
        return cfg.backbone.name
    return f"{cfg.backbone.name} {title}" if cfg.reads_backbone else title


def of(runs: Sequence[FinishedRun], labels: bool = True) -> list[str]:
    """Short names, with the keys added in which variants of one short name differ.

    labels: whether names say which part of the labels a run may use.
    """
    by_name: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        by_name.setdefault(short_name(run, labels), []).append(i)
    names = [""] * len(runs)
    for name, members in by_name.items():
        extras = [""] if len(members) == 1 else _extras([runs[i] for i in members])
        for i, extra in zip(members, extras, strict=True):
            names[i] = f"{name} [{extra}]" if extra else name
    return names


def _extras(twins: Sequence[FinishedRun]) -> list[str]:
    """What tells these runs apart, a short text each, no two the same."""
    settings = [config.variant(run.config) for run in twins]
    keys = _differing(settings)
    if len({_values(own, keys) for own in settings}) < len(twins):
        for own, run in zip(settings, twins, strict=True):
            own["data SHA-256"] = "+".join(d[:4] for d in run.data["digests"].values())
            own["trunk SHA-256"] = str(run.model.get("trunk_sha256"))[:8]
        keys += [k for k in ("data SHA-256", "trunk SHA-256") if len({o[k] for o in settings}) > 1]
    shown = keys if len(keys) <= _KEYS_NAMED else _telling(settings, keys)
    said = []
    for own in settings:
        parts = [f"{k}={without_places(plainly(own[k]))}" for k in shown if k in own]
        if rest := len([k for k in keys if k in own and k not in shown]):
            parts.append(f"and {rest} more setting{'' if rest == 1 else 's'}")
        said.append(", ".join(parts))
    return [x if said.count(x) == 1 else f"{x} #{said[:i].count(x) + 1}".strip()
            for i, x in enumerate(said)]  # fmt: skip


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys that are not the same everywhere, also where one lacks them, in their order."""
    keys = dict.fromkeys(key for own in settings for key in own)
    return [k for k in keys if len({json.dumps(own.get(k), default=str) for own in settings}) > 1]


def _values(own: Mapping[str, Any], keys: Sequence[str]) -> str:
    return json.dumps([own.get(k) for k in keys], default=str)


def _telling(settings: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """As few keys as tell the settings apart: each next one splits them the most."""
    chosen: list[str] = []
    while len(chosen) < len(keys):
        apart = {k: len({_values(own, [*chosen, k]) for own in settings}) for k in keys}
        best = max(keys, key=lambda k: apart[k])
        if chosen and apart[best] == len({_values(own, chosen) for own in settings}):
            break
        chosen.append(best)
    return [k for k in keys if k in chosen]
