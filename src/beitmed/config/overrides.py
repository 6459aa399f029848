"""Which overrides of a command line are read by the runs that it asks for."""

from __future__ import annotations

from collections.abc import Sequence

from beitmed.config.method import reads, unread
from beitmed.config.run import Config
from beitmed.errors import UserError


def check_read(members: Sequence[Config], overrides: Sequence[str]) -> None:
    """Raise UserError where the command line sets what none of its runs reads.

    members: the run, or all runs of the sweep. overrides: as Hydra lists them, `key=value`.
    """
    unused = [o for o in overrides if all(_unused(o, cfg) for cfg in members)]
    if not unused:
        return
    it = "it" if len(unused) == 1 else "them"
    if all(_names(o, "balancing") for o in unused) and not any(cfg.balanced for cfg in members):
        raise UserError(
            f"{', '.join(unused)}: found with balanced=false, which balances nothing; set "
            f"balanced=true, or leave {it} out."
        )
    names = ", ".join(dict.fromkeys(cfg.method.name for cfg in members))
    own = dict.fromkeys(key for cfg in members for key in _own_settings(cfg))
    raise UserError(
        f"{', '.join(unused)}: found with method={names}, which does not read {it}; leave out what "
        f"does not apply (the method's own settings: {', '.join(own) or 'none'}), or set "
        "method=backbone."
    )


def _unused(override: str, cfg: Config) -> bool:
    method = cfg.method.model_dump()
    keys = [*unread(method), *([] if cfg.balanced else ["balancing"])]
    # Of a key that means nothing as a whole a method may read a part.
    return _names(override, *keys) and not _names(override, *reads(method))


def _names(override: str, *keys: str) -> bool:
    """Whether an override sets one of the keys, or a part of one."""
    key = override.lstrip("+~").partition("=")[0].partition("@")[0]
    return any(key == k or key.startswith(f"{k}.") for k in keys)


def _own_settings(cfg: Config) -> list[str]:
    return [
        f"method.{key}" for key in type(cfg.method).model_fields if key not in ("name", "title")
    ]
