"""The runs that a command line stands for: Hydra's own grammar, product and composition."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig

from beitmed import config
from beitmed.config import Config
from beitmed.errors import UserError, install

# Which extra brings which of Hydra's launchers.
_EXTRAS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}


class Launcher(NamedTuple):
    """What starts the runs of a sweep: as it was asked for, and Hydra's name of its class."""

    name: str
    target: str

    @property
    def parallel(self) -> bool:
        """Whether runs go on at the same time."""
        return not self.target.endswith(".BasicLauncher")

    @property
    def slurm(self) -> bool:
        return self.target.endswith(".SlurmLauncher")


class Jobs(NamedTuple):
    """Every configuration of a command line, or what is wrong with it; and whether it is a sweep.

    kind: what a configuration is. overrides: those of the command line, as they were given. each:
    those of each run. config_dir: of the user's own YAML files.
    """

    kind: type[Config]
    found: Sequence[Config | UserError]
    overrides: list[str]
    sweep: bool
    each: list[list[str]]
    launcher: Launcher
    config_dir: Path | None

    @property
    def configurations(self) -> list[Config]:
        """Those that are right. Raises the first UserError where none is."""
        right = [one for one in self.found if isinstance(one, Config)]
        if not right:
            raise next(one for one in self.found if isinstance(one, UserError))
        return right


def configurations(arguments: Sequence[str]) -> list[Config]:
    """Every configuration of a command line whose values separated by commas are all taken.

    Raises UserError, and what Hydra raises, where one of them is wrong.
    """
    found = of(arguments, sweep=True).found
    for one in found:
        if isinstance(one, UserError):
            raise one
    return [one for one in found if isinstance(one, Config)]


def of(
    arguments: Sequence[str],
    *,
    sweep: bool | None = None,
    kind: type[Config] = Config,
) -> Jobs:
    """Compose every run of a command line.

    sweep: whether values separated by commas are all taken; None: with `--multirun`, or where an
    experiment asks for a sweep. kind: what a configuration of this command is. Raises UserError,
    and what Hydra raises, for what cannot be read.
    """
    known, overrides = options(arguments)
    with initialized(known.config_dir) as search:
        try:
            first = compose(kind.FILE, [*_fixed(overrides), *search], return_hydra_config=True)
        except MissingConfigException as e:
            if (missing := _no_plugin(e)) is None:
                raise
            raise missing from e
        is_sweep = sweep or known.multirun or first.hydra.mode == RunMode.MULTIRUN
        launcher = _launcher(first, overrides, is_sweep)
        params = dict(first.hydra.sweeper.params or {}) if is_sweep else {}
        lists = [[o for o in overrides if not o.startswith("hydra.")]]
        if is_sweep:
            parsed = _parse([*(f"{k}={v}" for k, v in params.items()), *lists[0]])
            [lists] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        found = [_resolved([*job, *search], kind) for job in lists]
    return Jobs(kind, found, overrides, is_sweep, lists, launcher, known.config_dir)


def with_depths(planned: Jobs, depths: Sequence[int]) -> Jobs:
    """The same runs, of which one pass through the trunk fills the cache for all `depths`."""
    found = [
        one if isinstance(one, UserError)
        else one.model_copy(update={"cache": one.cache.model_copy(update={"depths": list(depths)})})
        for one in planned.found
    ]  # fmt: skip
    override = f"cache.depths={list(depths)}".replace(" ", "")
    return planned._replace(found=found, each=[[*each, override] for each in planned.each])


def _launcher(first: DictConfig, overrides: Sequence[str], is_sweep: bool) -> Launcher:
    name = str(first.hydra.runtime.choices.get("launcher"))
    found = Launcher(name, str(first.hydra.launcher.get("_target_")))
    for override in _parse(overrides):
        if override.key_or_group == "launcher" and override.is_sweep_override():
            raise UserError(
                f"{override.input_line}: a sweep has one launcher. Allowed: one name, such as "
                "launcher=joblib."
            )
    if found.parallel and not is_sweep:
        raise UserError(
            f"launcher: found {name} without -m. It starts the runs of a sweep: add -m, "
            "also for a single run, or leave it out to have the run done here."
        )
    return found


def _no_plugin(error: MissingConfigException) -> UserError | None:
    """What to install where a launcher's plugin is missing; None where something else is."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if group != "hydra/launcher" or name not in _EXTRAS:
        return None
    command = install(_EXTRAS[name])
    if name == "ray":
        command += ", into an environment of its own and with its own constraints, as "
        command += "docs/many-machines.md says"
    return UserError(f"launcher: Hydra's plugin for it is not installed; {command}.")


def _resolved(overrides: list[str], kind: type[Config]) -> Config | UserError:
    try:
        return config.resolve(compose(kind.FILE, overrides), kind)
    except UserError as e:
        return e


def options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Hydra's own options that matter here, and the overrides."""
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--multirun", "-m", action="store_true")
    try:
        known, overrides = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as e:
        raise UserError(str(e)) from e
    if known.config_dir is not None and not known.config_dir.is_dir():
        raise UserError(f"--config-dir: found {known.config_dir}, which is no folder.")
    return known, overrides


@contextmanager
def initialized(config_dir: Path | None) -> Iterator[list[str]]:
    """Hydra, ready to compose; gives the override that adds the user's own YAML files."""
    with initialize_config_dir(str(config.conf_dir()), job_name="beitmed", version_base="1.3"):
        yield (
            []
            if config_dir is None
            else [f"hydra.searchpath={json.dumps([f'file://{config_dir.resolve()}'])}"]
        )


def _fixed(overrides: Sequence[str]) -> list[str]:
    """The overrides of one value: an experiment says by them whether it is a sweep."""
    return [
        text
        for text, override in zip(overrides, _parse(overrides), strict=True)
        if not override.is_sweep_override()
    ]


def _parse(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    found: list[Override] = []
    for override in overrides:
        try:
            found += parser.parse_overrides([override])
        except HydraException as e:
            key = override.partition("=")[0]
            said = str(e).partition("\n")[0]
            raise UserError(
                f"{key}: {override!r} cannot be read ({said}). Allowed: key=value; brackets, "
                "braces and quotes must be closed."
            ) from e
    return found
