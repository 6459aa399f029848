"""An audit of one dataset: its findings, row by row, as JSON and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from beitmed.audit import duplicates, near_duplicates, split_checks
from beitmed.audit.duplicates import Place
from beitmed.config import Config
from beitmed.data import Data, medmnist_files

FORMAT = 1  # of audit.json; a reader refuses what it does not know
#: What a finding can be. `audit.csv` has a row for each, and `strict` counts these rows.
KINDS = {
    "size": "a split's size is not the one that the `medmnist` package records",
    "class_shift": f"classes of train or val against test differ, p < {split_checks.SHIFT_LEVEL}",
    "exact_duplicate": "an image with the pixels of an earlier one (train, then val, then test)",
    "exact_label_conflict": "the same, and the two labels differ",
    "near_duplicate": "an image that is nearly an earlier one",
    "near_label_conflict": "the same, and the two labels differ",
    "constant": "an image of a single grey value or colour",
    "saturated": "an image that holds 0 and 255 and nothing between",
}


@dataclass(frozen=True)
class Finding:
    """A row of `audit.csv`. The `other` is the earlier image; what does not apply is None.

    `distance` is 0 for the same pixels, else 1 - the correlation of the pair.
    """

    kind: str
    split: str
    index: int | None = None
    other_split: str | None = None
    other_index: int | None = None
    label: int | str | None = None
    other_label: int | str | None = None
    distance: float | None = None
    detail: str | None = None


class Audit:
    """What was found in `data`, which `cfg` names. Everything is computed here, once."""

    def __init__(self, cfg: Config, data: Data) -> None:
        self.cfg, self.data = cfg, data
        self.official = None
        if cfg.dataset.flag is not None:
            self.official = medmnist_files.entry_of(cfg.dataset).get("n_samples")
        self.shares = split_checks.class_shares(data)
        self.shifts = split_checks.class_shifts(data)
        self.duplicates = duplicates.find(data.splits)
        self.findings = [*self._of_splits(), *self._exact(), *self._near(), *self._empty()]

    @property
    def title(self) -> str:
        return f"{self.cfg.dataset.name}, {self.cfg.size} px"

    def label(self, place: Place) -> int | str:
        return split_checks.label_of(self.data.splits[place.split].labels[place.index])

    def count(self, *kinds: str) -> int:
        return sum(f.kind in kinds for f in self.findings)

    def _of_splits(self) -> Iterator[Finding]:
        if self.official is not None:
            different = split_checks.size_differences(self.data, self.official)
            for split, (found, expected) in different.items():
                yield Finding("size", split, detail=f"{found} images, not {expected}")
        for shift in self.shifts:
            if shift.found:
                split, other = shift.splits
                detail = f"{shift.test}: p = {shift.p_value:.2g}"
                yield Finding("class_shift", split, other_split=other, detail=detail)

    def _pair(self, kind: str, first: Place, second: Place, distance: float) -> Iterator[Finding]:
        """The rows of a pair: the duplicate, and the conflict where its labels differ."""
        labels = self.label(second), self.label(first)
        row = (second.split, second.index, first.split, first.index, *labels, distance)
        yield Finding(f"{kind}_duplicate", *row)
        if labels[0] != labels[1]:
            yield Finding(f"{kind}_label_conflict", *row)

    def _exact(self) -> Iterator[Finding]:
        for first, *others in self.duplicates.exact:
            for other in others:
                yield from self._pair("exact", first, other, 0.0)

    def _near(self) -> Iterator[Finding]:
        for pair in self.duplicates.near:
            # Rounding can take the correlation of equal windows past 1.
            distance = max(0.0, round(1 - pair.correlation, 6))
            yield from self._pair("near", pair.first, pair.second, distance)

    def _empty(self) -> Iterator[Finding]:
        for name, split in self.data.splits.items():
            for i in split_checks.constant_images(split).tolist():
                value = split.images[i][0, 0].tolist()
                label = self.label(Place(name, i))
                yield Finding("constant", name, i, label=label, detail=f"{value}")
            for i in split_checks.saturated_images(split).tolist():
                yield Finding("saturated", name, i, label=self.label(Place(name, i)))

    def pictured(self, limit: int) -> tuple[list[tuple[Place, Place, str]], int]:
        """Return the pairs to show first, each with its heading, and how many there are in all.

        Differing labels come first, then pairs across splits, then the least alike.
        """
        pairs = [f for f in self.findings if f.kind in ("exact_duplicate", "near_duplicate")]
        pairs.sort(
            key=lambda f: (f.label == f.other_label, f.split == f.other_split, -(f.distance or 0))
        )
        shown = []
        for f in pairs[:limit]:
            assert f.index is not None and f.other_split is not None and f.other_index is not None
            near = f"near, r = {1 - (f.distance or 0):.3f}"
            heading = near if f.kind == "near_duplicate" else "exact"
            shown.append((Place(f.other_split, f.other_index), Place(f.split, f.index), heading))
        return shown, len(pairs)

    def as_dict(self) -> dict[str, Any]:
        """Return the audit as JSON values; places in it are [split, index]."""
        found = self.duplicates
        return {
            "format": FORMAT,
            "dataset": self.cfg.dataset.name,
            "size": self.cfg.size,
            "data": dict(self.data.provenance),
            "class_names": list(self.data.class_names),
            "splits": {
                name: {
                    "n": len(self.data.splits[name].labels),
                    "n_official": None if self.official is None else self.official[name],
                    "classes": [asdict(share) for share in shares],
                }
                for name, shares in self.shares.items()
            },
            "class_shift": [{**asdict(s), "found": s.found} for s in self.shifts],
            "duplicates": {
                "method": found.method,
                "exact": {
                    "beyond_first": duplicates.beyond_first(found.exact),
                    "across": {"-".join(names): n for names, n in self._across().items()},
                    "groups": [self._group(g) for g in found.exact],
                },
                "near": {
                    "pairs": self._near_pairs(),
                    "groups": [self._group(g) for g in found.near_groups],
                },
            },
            "kinds": {k: {"meaning": v, "n": self.count(k)} for k, v in KINDS.items()},
            "findings": [asdict(f) for f in self.findings],
        }

    def _group(self, places: tuple[Place, ...]) -> dict[str, Any]:
        return {
            "images": [[p.split, p.index] for p in places],
            "labels": [self.label(p) for p in places],
        }

    def _across(self) -> dict[tuple[str, str], dict[str, int]]:
        return duplicates.across(self.duplicates.exact, self.data.splits)

    def _near_pairs(self) -> dict[str, int]:
        """How many near pairs there are within each split and between each two."""
        names = list(self.data.splits)
        keys = [*((n, n) for n in names), *combinations(names, 2)]
        counts = dict.fromkeys(keys, 0)
        for pair in self.duplicates.near:
            counts[pair.first.split, pair.second.split] += 1
        return {a if a == b else f"{a}-{b}": n for (a, b), n in counts.items()}

    def summary(self) -> list[str]:
        """Return what a reader of the console is told."""
        origin = self.data.provenance
        kind = "official" if origin["official"] else "not an official file"
        if self.cfg.dataset.own:
            kind = f"own images, splits {origin['splits']}"
        return [
            f"{self.title}: {origin['source']} ({kind})",
            *self._summary_of_splits(),
            *self._summary_of_duplicates(),
            *(
                f"  {_plural(n, f'{kind} image')}"
                for kind in ("constant", "saturated")
                if (n := self.count(kind))
            ),
            f"  {_plural(len(self.findings), 'finding')} in all"
            if self.findings
            else "  nothing found",
        ]

    def _summary_of_splits(self) -> Iterator[str]:
        for name, shares in self.shares.items():
            classes = ", ".join(
                f"{s.n:,} {s.name!r} ({s.share:.1%} [{s.ci_low:.1%}, {s.ci_high:.1%}])"
                for s in shares
            )
            yield f"  {name:5} {len(self.data.splits[name].labels):>7,}: {classes}"
        for shift in self.shifts:
            a, b = shift.splits
            p = "p < 0.001" if shift.p_value < 0.001 else f"p = {shift.p_value:.3f}"
            said = "classes differ" if shift.found else "no sign that classes differ"
            yield f"  {a} against {b}: {said} ({shift.test}, {p})"

    def _summary_of_duplicates(self) -> Iterator[str]:
        within = duplicates.beyond_first(self.duplicates.exact)
        yield "  exact duplicates, images beyond the first of each group: " + _counts(within)
        for (a, b), n in self._across().items():
            if n["pairs"]:
                yield (
                    f"  exact duplicates across splits: {_plural(n['pairs'], 'pair')} of {a} and "
                    f"{b} ({_plural(n['first'], 'image')} of {a}, {n['second']:,} of {b})"
                )
        yield (
            f"  near duplicates, pairs (r ≥ {near_duplicates.MIN_CORRELATION}): "
            f"{_counts(self._near_pairs())}"
        )
        for kind in ("exact", "near"):
            if conflicts := self.count(f"{kind}_label_conflict"):
                yield f"  {_plural(conflicts, f'{kind} duplicate')} with differing labels"
        if self.duplicates.limit is not None:
            yield f"  near search limited: {self.duplicates.limit}"


def _plural(n: int, what: str) -> str:
    return f"{n:,} {what}" + "s" * (n != 1)


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in numbers.items() if n) or "none"
