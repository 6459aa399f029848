"""What is asked: which corruptions, how severe, and where they act. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from beitmed.config.fields import FUNCTION_PATH
from beitmed.data import corruptions
from beitmed.data.corruptions import Corruption
from beitmed.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)
_NAME = r"[A-Za-z][A-Za-z0-9_]{0,60}"


@dataclass(frozen=True)
class Choice:
    """named: the corruptions by name, each with a function of the user's own or None; None: all
    of the set.
    """

    set: str | None = None
    named: Mapping[str, str | None] | None = None
    severities: tuple[int, ...] = SEVERITIES
    at: str = "224"

    @classmethod
    def parse(cls, values: Mapping[str, str | None]) -> Choice:
        """From a command line's values. Raises UserError for one that means nothing."""
        given = values.get("corruptions")
        return cls(
            values.get("set"),
            None if given is None else _named(given),
            _severities(values.get("severities") or "1,2,3,4,5"),
            values.get("at") or "224",
        )

    def of(self, flag: str | None) -> dict[str, Corruption]:
        """The corruptions of images of this MedMNIST flag, in their order.

        Raises UserError for a name that the set has not, or a function that does not work.
        """
        only_own = self.named is not None and all(self.named.values())
        known = {} if only_own and self.set is None else corruptions.set_of(self.set, flag)
        if self.named is None:
            return known
        if unknown := [n for n, path in self.named.items() if path is None and n not in known]:
            raise UserError(
                f"corruptions: found {', '.join(unknown)}; allowed: {', '.join(known)}, or your "
                "own as name:module.function"
            )
        return {
            name: known[name] if path is None else corruptions.own(name, path)
            for name, path in self.named.items()
        }


def _named(given: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for part in given.strip().removeprefix("{").removesuffix("}").split(","):
        name, colon, path = (x.strip() for x in part.partition(":"))
        wrong = not re.fullmatch(_NAME, name) or (colon and not re.fullmatch(FUNCTION_PATH, path))
        if wrong or name in found:
            what = "twice" if name in found else "which is neither"
            raise UserError(
                f"corruptions: found {part.strip()!r}, {what}; allowed: names of corruptions and "
                "your own as name:module.function, such as pixelate,fog:my_module.fog"
            )
        found[name] = path or None
    return found


def _severities(given: str) -> tuple[int, ...]:
    parts = [part.strip() for part in given.split(",")]
    allowed = {str(s) for s in SEVERITIES}
    if not set(parts) <= allowed or len(set(parts)) < len(parts):
        raise UserError(
            f"severities: found {given}; allowed: numbers from 1 to 5, each once, such as 1,3,5"
        )
    return tuple(sorted(map(int, parts)))
