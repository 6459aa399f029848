"""What is wrong with a configuration, in the words of its keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_PLAIN = {
    "a valid boolean": "true or false",
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid string": "a word or phrase",
}


def explain(model: type[BaseModel], error: ValidationError) -> list[str]:
    """A line for each wrong key: what was found, and what is allowed."""
    # Pydantic adds the branch of a union to an error's path ("unfreeze.int"); users know keys only.
    known = {part for path in _paths(model) for part in path.split(".")}
    branches = {kind.__name__ for kind in _models(model)}
    lines: list[str] = []
    wrong: dict[str, tuple[object, list[str]]] = {}  # a union reports each of its branches
    for problem in error.errors():
        path = [str(part) for part in problem["loc"] if part not in branches]
        if problem["type"] == "extra_forbidden":
            lines.append(unknown_key(model, ".".join(path[:-1]), path[-1]))
        elif problem["type"] == "value_error":
            lines.append(problem["msg"].removeprefix("Value error, "))
        elif problem["type"] == "missing":
            lines.append(f"{'.'.join(path)}: is missing")
        else:
            key = ".".join(part for part in path if part in known or part.isdigit())
            allowed = problem["msg"].removeprefix("Input should be ")
            wrong.setdefault(key, (problem["input"], []))[1].append(_PLAIN.get(allowed, allowed))
    lines += [
        f"{key}: found {found!r}; allowed: {', or '.join(dict.fromkeys(allowed))}"
        for key, (found, allowed) in wrong.items()
    ]
    return lines


def unknown_key(model: type[BaseModel], parent: str, key: str) -> str:
    """Say that `parent.key` does not exist, which key was probably meant, and which exist."""
    full = f"{parent}.{key}" if parent else key
    paths = _paths(model)
    if full in paths:  # of another branch of a union
        return f"{full}: is not a key of the chosen {parent}."
    by_last = {path.rpartition(".")[2]: path for path in paths}
    close = difflib.get_close_matches(full, paths, n=1, cutoff=0.75)
    close = close or [by_last[m] for m in difflib.get_close_matches(key, by_last, n=1)]
    hint = f" Did you mean {close[0]}?" if close else ""
    siblings = [path.rpartition(".")[2] for path in paths if path.rpartition(".")[0] == parent] or [
        path for path in paths if "." not in path
    ]
    return f"{full}: no such key.{hint} Allowed{' in ' + parent if parent else ''}: " + ", ".join(
        siblings
    )


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation: itself, or those of a union, however it is annotated."""
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for part in get_args(annotation):
        yield from _parts(part)


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        for kind in _parts(field.annotation):
            yield kind
            yield from _models(kind)


def keys(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of a configuration and its field, those of each branch of a union."""
    for name, field in model.model_fields.items():
        yield above + name, field
        for kind in _parts(field.annotation):
            yield from keys(kind, f"{above}{name}.")


def _paths(model: type[BaseModel]) -> list[str]:
    return list(dict(keys(model)))
