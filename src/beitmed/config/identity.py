"""What a run is, derived from what each field of its configuration says that it decides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from beitmed.config import key_errors
from beitmed.config.fields import Decides, Strict, decides
from beitmed.config.pretrain import PretrainRun
from beitmed.config.run import Config, check
from beitmed.errors import UserError


def identity(cfg: Config) -> dict[str, Any]:
    """What a run's predictions depend on: JSON values by dotted key.

    Two configurations of the same identity are the same run, wherever its files are.
    """
    return _values(cfg, Decides.PREDICTIONS, Decides.SEED)


def variant(cfg: Config) -> dict[str, Any]:
    """The same without the seed: what runs have in common that differ by chance alone."""
    return _values(cfg, Decides.PREDICTIONS)


def without_fold(cfg: Config) -> dict[str, Any]:
    """The identity without the fold: what the folds of one cross-validation have in common."""
    return {key: value for key, value in identity(cfg).items() if key != "data.fold"}


def evaluation(cfg: Config) -> dict[str, Any]:
    """What is asked of a run's predictions, which can be asked anew without training."""
    return _values(cfg, Decides.EVALUATION)


def digest(cfg: Config) -> str:
    """Eight hexadecimal digits of the identity."""
    text = json.dumps(identity(cfg), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def run_name(cfg: Config) -> str:
    """The run folder's name: what a reader asks for first, then the identity's digest."""
    if cfg.name is not None:
        return cfg.name
    if isinstance(cfg, PretrainRun):
        sets = "-".join(cfg.sets)
        model = f"{cfg.objective.name}_{cfg.backbone.name}"
        return f"{sets}_{cfg.size}_{model}_seed{cfg.seed}_{digest(cfg)}"
    balance = "full"
    if cfg.balanced:
        balance = "balanced" if cfg.balancing.papers else cfg.balancing.name
    if cfg.trains_backbone:
        depth = "all" if cfg.unfreeze == "all" else f"top{cfg.unfreeze}"
        model = f"{cfg.backbone.name}_{depth}"
    else:
        model = cfg.method.name + (f"_{cfg.backbone.name}" if cfg.reads_backbone else "")
    if cfg.shots is not None:
        model += f"_shots{cfg.shots}"
    elif cfg.part_of_labels:
        model += f"_labels{cfg.label_fraction:g}"
    if cfg.data.folds is not None:
        model += f"_fold{cfg.data.fold}"
    return f"{cfg.dataset.name}_{cfg.size}_{balance}_{model}_seed{cfg.seed}_{digest(cfg)}"


def changed(cfg: Config, changes: Sequence[str], *allowed: Decides) -> Config:
    """The same run with other values of keys that decide what is `allowed` to change.

    changes: `key=value`, the value as in YAML. Raises UserError for any other key or value.
    """
    values = cfg.model_dump()
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or _decides(key) not in allowed:
            raise UserError(
                f"{change}: cannot be set for a run that is there. Allowed: "
                + ", ".join(f"{k}=..." for k in keys(*allowed))
            )
        *parents, last = key.split(".")
        node = values
        for parent in parents:
            node = node[parent]
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError as e:
            raise UserError(f"{key}: found {text!r}, which is no value ({e}).") from e
    return check(values, type(cfg)) if changes else cfg


def keys(*wanted: Decides) -> list[str]:
    """The dotted keys that decide this."""
    return [key for key, field in key_errors.keys(Config) if decides(field) in wanted]


def as_yaml(cfg: Config) -> str:
    """Every key and its value, as a file that `check` takes once it is read."""
    return yaml.safe_dump(cfg.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Which values of two identities differ, one phrase a key."""
    return [
        f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]


def _decides(key: str) -> Decides | None:
    return next((decides(field) for k, field in key_errors.keys(Config) if k == key), None)


def _values(cfg: Config, *wanted: Decides) -> dict[str, Any]:
    dumped = cfg.model_dump(mode="json")
    # What `auto` stands for, so that it is the same run as the one that says so.
    dumped["features"] = cfg.feature_mode
    return {key: _at(dumped, key) for key, found in _used(cfg, cfg.unused()) if found in wanted}


def _used(part: Strict, unused: set[str], above: str = "") -> Iterator[tuple[str, Decides]]:
    """Dotted key of every value that decides something beside the others, and what."""
    for name, field in type(part).model_fields.items():
        if name in unused:
            continue
        value = getattr(part, name)
        if isinstance(value, Strict) and decides(field) is Decides.PREDICTIONS:
            below = {u.removeprefix(f"{name}.") for u in unused if u.startswith(f"{name}.")}
            yield from _used(value, below | value.unused(), f"{above}{name}.")
        else:
            yield f"{above}{name}", decides(field)


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values
