"""Runs in groups: those of one test set, and in them the seeds of one variant.

Only runs of one group are ever compared: their predictions are of the same images, in the same
order, scored for the same class. Why two groups of one dataset are two is said in words.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np

from beitmed.config.balancing import NAMES
from beitmed.runs.finished import FinishedRun
from beitmed.statistics.intervals import Bools, Floats

#: Keys of a configuration that a variant's name always tells, so that they are not repeated.
_NAMED = ("dataset", "size", "balanced", "balancing.name", "backbone.name", "unfreeze", "seed")
# What the paper's recipe sets by itself for a dataset and a balance.
_RECIPE = ("train.batch_size", "train.weight_decay")
PAPERS = NAMES[0]  # the balancing strategy of the paper
_KEYS_NAMED = 4  # in a variant's name; of more, those that tell it apart


@dataclass(frozen=True)
class Variant:
    """Runs that differ in nothing but the seed, by seed. `name` tells variants of a group apart."""

    name: str
    runs: tuple[FinishedRun, ...]

    @property
    def first(self) -> FinishedRun:
        return self.runs[0]

    @cached_property
    def scores(self) -> Floats:
        """Log odds of the positive class [seeds, n]."""
        return np.stack([run.score for run in self.runs])

    @cached_property
    def correct(self) -> Bools:
        """Whether argmax is right [seeds, n]."""
        return np.stack([run.correct for run in self.runs])


@dataclass(frozen=True)
class TestSet:
    """Variants tested on the same images. `id` is a plain word for file names."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    id: str
    name: str
    variants: tuple[Variant, ...]

    @property
    def first(self) -> FinishedRun:
        return self.variants[0].first

    @property
    def runs(self) -> list[FinishedRun]:
        return [run for variant in self.variants for run in variant.runs]

    @property
    def n(self) -> int:
        return len(self.first.test.labels)

    @property
    def class_names(self) -> list[str]:
        return list(self.first.data["class_names"])

    @property
    def positive(self) -> str:
        return self.first.metrics["positive_class"]["name"]

    @property
    def negative(self) -> str:
        return self.first.metrics["negative_class"]["name"]


def group(runs: Sequence[FinishedRun]) -> tuple[list[TestSet], list[str]]:
    """Return the test sets in a fixed order, and what had to be kept apart or left out, and why."""
    of_dataset: dict[str, list[list[FinishedRun]]] = {}
    for members in _same_images(runs):
        of_dataset.setdefault(members[0].dataset, []).append(members)
    result: list[TestSet] = []
    notes: list[str] = []
    taken: set[str] = set()
    for dataset, groups in sorted(of_dataset.items()):
        names = [dataset if len(groups) == 1 else f"{dataset} ({letters(i)})"
                 for i in range(len(groups))]  # fmt: skip
        for name, members in zip(names, groups, strict=True):
            variants, left_out = _variants(members)
            notes += left_out
            result.append(TestSet(_id(name, taken), name, tuple(variants)))
        for name, members in zip(names[1:], groups[1:], strict=True):
            why = "; ".join(_why_apart(groups[0], members))
            notes.append(f"{names[0]} and {name} are not compared: {why}.")
    return result, notes


def letters(i: int) -> str:
    """Return a, b, ... z, aa, ab, ... for 0, 1, ..."""
    first, last = divmod(i, 26)
    return (letters(first - 1) if first else "") + chr(ord("a") + last)


def _id(name: str, taken: set[str]) -> str:
    """A plain word for file names; of two names that give the same the second gets a number."""
    word = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "data"
    found = next(w for i in count(1) if (w := word if i == 1 else f"{word}-{i}") not in taken)
    taken.add(found)
    return found


def _same_images(runs: Sequence[FinishedRun]) -> list[list[FinishedRun]]:
    """Runs by test images, each group in the order in which it came.

    Resolutions of one dataset show the same images, so their files differ and are still paired.
    Where there are two files of one resolution, one of them shows others: then official files
    stand together, and each other file alone.
    """
    by_facts: dict[str, list[FinishedRun]] = {}
    for run in runs:
        key = json.dumps([_test_set(run), run.test.labels.tolist()])
        by_facts.setdefault(key, []).append(run)
    result = []
    for members in by_facts.values():
        files: dict[object, set[object]] = {}
        for run in members:
            files.setdefault(run.metrics["size"], set()).add(run.data.get("md5"))
        if all(len(found) == 1 for found in files.values()):
            result.append(members)
            continue
        by_file: dict[object, list[FinishedRun]] = {}
        for run in members:
            file = "official" if run.data.get("official") else run.data.get("md5")
            by_file.setdefault(file, []).append(run)
        result += by_file.values()
    return result


def _test_set(run: FinishedRun) -> dict[str, Any]:
    return {
        "dataset": run.dataset,
        "task": run.task.name,
        "positive class": run.metrics.get("positive_class"),
        "class names": run.data.get("class_names"),
        "test images": len(run.test.labels),
        "data.limit": run.config.get("data", {}).get("limit"),
        "phantom seed": run.data.get("phantom_seed"),
    }


def _why_apart(a: Sequence[FinishedRun], b: Sequence[FinishedRun]) -> list[str]:
    one, other = _test_set(a[0]), _test_set(b[0])
    why = [f"{key} {_said(one[key])} and {_said(other[key])}" for key in one
           if one[key] != other[key]]  # fmt: skip
    if why:
        return why
    if not np.array_equal(a[0].test.labels, b[0].test.labels):
        return ["the labels of their test images differ, so the images do, or their order"]
    files = [
        " and ".join(
            sorted({f"{run.data.get('source')} of MD5 {run.data.get('md5')}" for run in g})
        )
        for g in (a, b)
    ]
    return [
        f"their data files are not the same, so the images may differ ({' against '.join(files)})"
    ]


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return repr(value.get("name"))
    return "null" if value is None else repr(value)


def _variants(runs: Sequence[FinishedRun]) -> tuple[list[Variant], list[str]]:
    by_key: dict[str, dict[int, FinishedRun]] = {}
    notes = []
    for run in runs:
        seeds = by_key.setdefault(_variant_key(run), {})
        if run.seed in seeds:
            same = np.array_equal(seeds[run.seed].test.logits, run.test.logits)
            notes.append(
                f"{run.path}: left out, as {seeds[run.seed].path} is the same configuration, data, "
                f"weights and seed, with {'the same' if same else 'OTHER'} predictions."
            )
        else:
            seeds[run.seed] = run
    members = [tuple(seeds[s] for s in sorted(seeds)) for seeds in by_key.values()]
    members.sort(key=lambda group: _order(group[0]))
    names = _names([group[0] for group in members])
    return [Variant(n, group) for n, group in zip(names, members, strict=True)], notes


def _variant_key(run: FinishedRun) -> str:
    values = {k: v for k, v in run.identity.items() if k != "seed"}
    source = {k: v for k, v in run.data.items() if k in ("md5", "phantom_seed", "source")}
    return json.dumps([values, source, run.model.get("trunk_sha256")], sort_keys=True)


def _order(run: FinishedRun) -> tuple[Any, ...]:
    m = run.metrics
    depth = math.inf if m["unfreeze"] == "all" else int(m["unfreeze"] or 0)
    return str(m["backbone"]), depth, int(m["size"]), bool(m["balanced"]), _variant_key(run)


def short_name(run: FinishedRun) -> str:
    """A run's variant in the paper's notation, such as `beit_large top 5 (28) balanced`; a
    baseline by its title, such as `ResNet-18 (28)`. A strategy that is not the paper's is named."""
    m = run.metrics
    depth = "all" if m["unfreeze"] == "all" else f"top {m['unfreeze']}"
    model = f"{m['backbone']} {depth}" if method(run) == "backbone" else _title(run)
    by = "" if (strategy := balancing(run)) in (None, PAPERS) else f" by {strategy}"
    return f"{model} ({m['size']}){' balanced' if m['balanced'] else ''}{by}"


def balancing(run: FinishedRun) -> str | None:
    """The strategy that balanced a run's train split; None where nothing did."""
    return run.metrics.get("balancing", PAPERS) if run.metrics["balanced"] else None


def method(run: FinishedRun) -> str:
    """The method's name: backbone, or a baseline's."""
    return run.metrics.get("method", "backbone")


def _title(run: FinishedRun) -> str:
    name, backbone = method(run), str(run.metrics["backbone"])
    title = run.config.get("method", {}).get("title") or name
    return title if backbone == name else f"{backbone} {title}"


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    """Short names, with the keys added in which variants of one short name differ."""
    by_name: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        by_name.setdefault(short_name(run), []).append(i)
    names = [""] * len(runs)
    for name, members in by_name.items():
        extras = [""] if len(members) == 1 else _extras([runs[i] for i in members])
        for i, extra in zip(members, extras, strict=True):
            names[i] = f"{name} [{extra}]" if extra else name
    return names


def _extras(twins: Sequence[FinishedRun]) -> list[str]:
    """What tells these runs apart, a short text each, no two the same."""
    settings = [flatten(run.identity) for run in twins]
    keys = [k for k in _differing(settings) if k not in _NAMED]
    if any(k not in _RECIPE and not k.startswith("dataset.") for k in keys):
        keys = [k for k in keys if not k.startswith("dataset.")]
    if len({_values(own, keys) for own in settings}) < len(twins):
        for own, run in zip(settings, twins, strict=True):
            own["data file MD5"] = str(run.data.get("md5"))[:8]
            own["trunk SHA-256"] = str(run.model.get("trunk_sha256"))[:8]
        keys += [k for k in ("data file MD5", "trunk SHA-256") if len({o[k] for o in settings}) > 1]
    shown = keys if len(keys) <= _KEYS_NAMED else _telling(settings, keys)
    said = []
    for own in settings:
        parts = [f"{k}={plainly(own[k])}" for k in shown if k in own]
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


def plainly(value: Any) -> str:
    """A value as YAML has it, so that it can be given on the command line again."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted keys, as they are given on the command line."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
