"""Which classes of a dataset are which of a run: by their names, or as the user says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import yaml

from beitmed.errors import UserError

#: The dataset's classes that count as each of the run's, in the order of the run's.
Matched = tuple[tuple[str, ...], ...]


def parse(text: str | None) -> dict[str, tuple[str, ...]]:
    """The classes that `classes={run's class: dataset's class or [several]}` says.

    Every name is text, whatever YAML would make of it (`yes`, `01`). UserError: it is no mapping.
    """
    try:
        found = {} if text is None else yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError as e:
        raise UserError(f"classes: found {text!r}, which is no YAML ({e}). {_FORM}") from e
    if not isinstance(found, dict) or not all(map(_is_target, found.values())):
        raise UserError(f"classes: found {text!r}. {_FORM}")
    return {name: (to,) if isinstance(to, str) else tuple(to) for name, to in found.items()}


_FORM = (
    "Allowed: the run's class, a colon and a blank, and the dataset's class or a list of them, as "
    "in classes='{normal: healthy, lesion: [benign, malignant]}'; a name with a comma in quotes."
)


def _is_target(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
    )


def match(
    of_run: Sequence[str],
    of_data: Sequence[str],
    stated: Mapping[str, tuple[str, ...]],
    *,
    name: str,
    several_labels: bool,
) -> Matched:
    """Return which of the dataset's classes count as each class of the run.

    A class that `stated` does not mention is the one of its own name. Of one label an image, each
    class of the dataset has to be one of the run's; labels beyond the run's are left aside where an
    image has several. Raises UserError with both lists where it does not come out.
    """
    wrong = [f"the run has no class {c!r}" for c in stated if c not in of_run]
    wrong += [
        f"{name} has no class {to!r}"
        for targets in stated.values()
        for to in targets
        if to not in of_data
    ]
    matched = tuple(stated.get(c, (c,) if c in of_data else ()) for c in of_run)
    used = Counter(to for targets in matched for to in targets)
    wrong += [f"{to!r} is given to several of the run's classes" for to, n in used.items() if n > 1]
    wrong += [f"{name} has nothing for {c!r}" for c, to in zip(of_run, matched, strict=True)
              if not to]  # fmt: skip
    if not several_labels:
        wrong += [f"the run knows no {c!r}" for c in of_data if c not in used]
    if wrong:
        raise UserError(
            f"classes: {'; '.join(dict.fromkeys(wrong))}. The run's classes: "
            f"{_listed(of_run)}. Those of {name}: {_listed(of_data)}. Say which is which by "
            f"classes='{{{_yaml(of_run[0])}: {_yaml(of_data[0])}, ...}}' (a list of several is "
            "allowed), or leave out the images of classes that the run does not know."
        )
    return matched


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _yaml(name: str) -> str:
    return name if name.replace(" ", "").replace("-", "").isalnum() else f'"{name}"'


def relabelled(labels: np.ndarray, of_data: Sequence[str], matched: Matched) -> np.ndarray:
    """Labels of the dataset, int64 [n] or [n, labels], as those of the run's classes."""
    at = {name: i for i, name in enumerate(of_data)}
    if labels.ndim == 2:
        columns = [labels[:, [at[to] for to in targets]].max(axis=1) for targets in matched]
        return np.column_stack(columns).astype(np.int64)
    table = np.full(len(of_data), -1, np.int64)
    for i, targets in enumerate(matched):
        table[[at[to] for to in targets]] = i
    return table[labels]
