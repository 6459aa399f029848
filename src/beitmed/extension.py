"""Code from outside the package, which the configuration names as `module` or `module.function`."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from beitmed.errors import UserError


def load(key: str, path: str) -> Callable[..., Any]:
    """Import the function `path`. Raises UserError that names `key` where there is none."""
    module, _, name = path.rpartition(".")
    return _function(key, _import(key, path, module), name, path)


def load_module(key: str, path: str, functions: tuple[str, ...]) -> ModuleType:
    """Import the module `path`, which has these functions. Raises UserError as `load`."""
    module = _import(key, path, path)
    for name in functions:
        _function(key, module, name, f"{path}.{name}")
    return module


def _import(key: str, path: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise _missing(key, path, e) from e
    except Exception as e:  # whatever a module's own code raises
        raise UserError(f"{key}: {path} cannot be imported: {_said(e)}.") from e


def _function(key: str, module: ModuleType, name: str, path: str) -> Callable[..., Any]:
    try:
        found = getattr(module, name)
    except AttributeError as e:
        raise _missing(key, path, e) from e
    if not callable(found):
        raise UserError(f"{key}: {path} is no function.")
    return found


def _missing(key: str, path: str, error: Exception) -> UserError:
    return UserError(
        f"{key}: {path} cannot be imported ({error}). It is looked for as Python does: in the "
        "folder that the command is given in, in PYTHONPATH, and among the installed packages."
    )


def call(key: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it. Raises UserError that names `key` and the line where it raises anything."""
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"{key}: the function raised {_said(e)}.") from e


def _said(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
