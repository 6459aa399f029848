"""The one parser of commands that take run folders and `key=value`, and of their help."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from beitmed.errors import UserError


@dataclass(frozen=True)
class Key:
    """A key of a command: what it means, its default, and the values that it takes if not any."""

    meaning: str
    default: str | None = None
    allowed: tuple[str, ...] = ()


SWITCH = ("true", "false")


@dataclass(frozen=True)
class Arguments:
    """What a command line says: folders, the command's own keys, and other `key=value`."""

    folders: tuple[Path, ...]
    values: Mapping[str, str | None]
    others: tuple[str, ...] = field(default_factory=tuple)

    def one_run(self, example: str) -> Path:
        """The only folder that was given. Raises UserError for none or several of them."""
        if len(self.folders) != 1:
            found = ", ".join(map(str, self.folders)) or "none"
            raise UserError(
                f"found {len(self.folders)} run folders ({found}); allowed: one, as in `{example}`"
            )
        return self.folders[0]

    def is_on(self, key: str) -> bool:
        return self.values[key] == "true"


def parse(arguments: Sequence[str], keys: Mapping[str, Key], *, others: bool = False) -> Arguments:
    """Sort a command line. An argument that is a folder's name is one, even with a = in it.

    others: whether keys are taken that are not in `keys`, such as those of a run's configuration.
    Raises UserError for an unknown or repeated key, an empty value, or one that is not allowed.
    """
    folders: list[Path] = []
    given: dict[str, str] = {}
    rest: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        path = Path(argument).expanduser()
        if path.exists() or not (equals or argument.startswith("-")):
            folders.append(path)
        elif key in keys:
            if not value:
                raise UserError(f"{key}: found nothing after the =; give a value, or leave it out.")
            if key in given:
                raise UserError(f"{key}: given twice, {given[key]!r} and {value!r}; give it once.")
            given[key] = value
        elif others and equals and not argument.startswith("-"):
            rest.append(argument)
        else:
            what = "option" if argument.startswith("-") else "key"
            raise UserError(f"{key}: no such {what}. Allowed: folders, {_listed(keys)}.")
    for key, value in given.items():
        if keys[key].allowed and value not in keys[key].allowed:
            raise UserError(f"{key}: found {value!r}; allowed: {', '.join(keys[key].allowed)}")
    values = {key: given.get(key, one.default) for key, one in keys.items()}
    return Arguments(tuple(folders), values, tuple(rest))


def described(keys: Mapping[str, Key]) -> str:
    """The keys as a help text lists them."""
    lines = []
    for key, one in keys.items():
        meaning = one.meaning
        if one.allowed:
            meaning += f" ({' | '.join(one.allowed)})"
        if one.default is not None:
            meaning += f" [{one.default}]"
        first, *more = textwrap.wrap(meaning, 74) or [""]
        lines += [f"  {key + '=...':22}{first}", *(" " * 24 + line for line in more)]
    return "\n".join(lines)


def _listed(keys: Mapping[str, Key]) -> str:
    return ", ".join(f"{key}=..." for key in keys)
