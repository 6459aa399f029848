"""From Hydra's YAML files to a checked configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from beitmed.config.run import Config, Kind, check
from beitmed.errors import UserError


def conf_dir() -> Path:
    """The folder of YAML files: inside an installed wheel, else at the top of the repository."""
    packaged = Path(__file__).parents[1] / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "conf"


def _recipe(key: str, *, _root_: DictConfig) -> Any:
    # `${recipe:...}`: an interpolation key cannot be a bool, so the choice is made here. A value
    # of `balanced` that is no bool is reported by `resolve`, with its key.
    recipes = _root_.dataset.recipe
    balanced = _root_.balanced is True and recipes.balanced is not None
    return recipes["balanced" if balanced else "full"][key]


def register_resolvers() -> None:
    """Make `${recipe:...}` known to OmegaConf; calling it again does nothing."""
    OmegaConf.register_new_resolver("recipe", _recipe, replace=True)


@overload
def resolve(composed: DictConfig) -> Config: ...
@overload
def resolve(composed: DictConfig, kind: type[Kind]) -> Kind: ...
def resolve(composed: DictConfig, kind: type[Config] = Config) -> Config:
    """Check a composed configuration and freeze it.

    Raises UserError that lists every wrong key with what was found and what is allowed.
    """
    try:
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as e:
        raise UserError(f"configuration: {e}") from e
    assert isinstance(values, dict)
    return check(values, kind)
