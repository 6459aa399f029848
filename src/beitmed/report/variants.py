"""Runs in groups: those of one test set, and in them the seeds of one variant.

Only runs of one group are ever compared: their predictions are of the same images, in the same
order, scored for the same class. Why two groups of one dataset are two is said in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from beitmed.finished import FinishedRun
from beitmed.intervals import Bools, Floats

#: Keys of a configuration that a variant's name always tells, so that they are not repeated.
_NAMED = ("dataset", "size", "balanced", "backbone.name", "unfreeze", "seed", "majority_ratio")
# What the paper's recipe sets by itself for a dataset and a balance.
_RECIPE = ("train.batch_size", "train.weight_decay")


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
    by_set: dict[str, list[FinishedRun]] = {}
    for run in runs:
        by_set.setdefault(_test_set_key(run), []).append(run)
    of_dataset: dict[str, list[list[FinishedRun]]] = {}
    for members in by_set.values():
        of_dataset.setdefault(members[0].dataset, []).append(members)
    result, notes = [], []
    for dataset, groups in sorted(of_dataset.items()):
        for i, members in enumerate(groups):
            letter = "" if len(groups) == 1 else f"-{chr(ord('a') + i) if i < 26 else i}"
            variants, left_out = _variants(members)
            notes += left_out
            name = dataset + (letter and f" ({letter[1:]})")
            result.append(TestSet(f"{_plain(dataset)}{letter}", name, tuple(variants)))
            if i:
                notes.append(
                    f"{result[-1 - i].name} and {name} are not compared: "
                    + "; ".join(_why_apart(groups[0][0], members[0]))
                    + "."
                )
    return result, notes


def _plain(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())


def _test_set_key(run: FinishedRun) -> str:
    facts = _test_set(run)
    return json.dumps([facts, run.test.labels.tolist()])


def _test_set(run: FinishedRun) -> dict[str, Any]:
    return {
        "dataset": run.dataset,
        "task": run.task,
        "positive class": run.metrics.get("positive_class"),
        "class names": run.data.get("class_names"),
        "test images": len(run.test.labels),
        "data.limit": run.config.get("data", {}).get("limit"),
        "phantom seed": run.data.get("phantom_seed"),
    }


def _why_apart(a: FinishedRun, b: FinishedRun) -> list[str]:
    one, other = _test_set(a), _test_set(b)
    why = [f"{key} {one[key]!r} and {other[key]!r}" for key in one if one[key] != other[key]]
    return why or ["the labels of their test images differ, so the images do, or their order"]


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
    depth = -1 if m["unfreeze"] == "all" else -int(m["unfreeze"] or 0)
    return str(m["backbone"]), depth, int(m["size"]), bool(m["balanced"]), _variant_key(run)


def short_name(run: FinishedRun) -> str:
    """A run's variant in the paper's notation, such as `beit_large top 5 (28) balanced`; a
    baseline by its title, such as `ResNet-18 (28)`."""
    m = run.metrics
    depth = "all" if m["unfreeze"] == "all" else f"top {m['unfreeze']}"
    model = f"{m['backbone']} {depth}" if method(run) == "backbone" else _title(run)
    return f"{model} ({m['size']}){' balanced' if m['balanced'] else ''}"


def method(run: FinishedRun) -> str:
    """The method's name: backbone, or a baseline's."""
    return run.metrics.get("method", "backbone")


def _title(run: FinishedRun) -> str:
    name, backbone = method(run), str(run.metrics["backbone"])
    title = run.config.get("method", {}).get("title") or name
    return title if backbone == name else f"{backbone} {title}"


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    """Short names, with the keys added in which variants of one short name differ."""
    by_name: dict[str, list[FinishedRun]] = {}
    for run in runs:
        by_name.setdefault(short_name(run), []).append(run)
    names = []
    for run in runs:
        twins = [flatten(other.identity) for other in by_name[short_name(run)]]
        own = flatten(run.identity)
        keys = [k for k in own if k not in _NAMED and any(t.get(k) != own[k] for t in twins)]
        if any(k not in _RECIPE for k in keys):
            keys = [k for k in keys if not k.startswith("dataset.")]
        if len(twins) > 1 and not keys:
            keys = ["data or weights"]
            own["data or weights"] = run.path.name
        extra = ", ".join(f"{k}={own[k]}" for k in keys)
        names.append(short_name(run) + (f" [{extra}]" if extra else ""))
    return names


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted keys, as they are given on the command line."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
