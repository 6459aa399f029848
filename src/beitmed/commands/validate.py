"""`beitmed validate`: external testing of a finished run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from beitmed import trained
from beitmed.commands import arguments as parser
from beitmed.commands import cli, jobs
from beitmed.commands.arguments import SWITCH, Key
from beitmed.config import Config
from beitmed.errors import UserError
from beitmed.external import cases, classes

log = logging.getLogger("beitmed.validate")
USAGE = """
Test a finished run on other data (external testing): `beitmed validate RUN dataset=NAME key=value`.

  beitmed validate outputs/my-run dataset=pneumonia split=test
  beitmed validate outputs/my-run dataset=folder dataset.path=clinic.csv dataset.name=clinic
  beitmed validate outputs/my-run dataset=folder dataset.path=DIR 'classes={normal: healthy}'

{keys}
  dataset.*, data.*     the new data, as for `beitmed train`, and --config-dir; where nothing is
                        said of data.root, data.download, data.mirror and data.allow_unofficial,
                        the run's own values
  run.*                 where the run's own data and weights are, if they were moved, and how it
                        computes: run.data.root, run.dataset.path, run.backbone.weights, run.device

Writes <run>_on_<dataset>[_<split>] beside the run: external.json, predictions.csv, overlap.csv
where there is any, and figures. `beitmed report` shows it beside the run's own test. Exit codes: 0
done; 2 bad input.
"""
KEYS = {
    "dataset": Key("the new data: a name in conf/dataset, or folder for your own images"),
    "split": Key(
        "which images; if not given all of them, or, of the run's own dataset, test",
        None, cases.SPLITS,
    ),
    "classes": Key(
        "which of the dataset's classes, or list of classes, is which of the run's, where the "
        "names differ: '{normal: healthy, lesion: [benign, malignant]}'"
    ),
    "overlap": Key("look for the run's own images among the new ones", "true", SWITCH),
    "output_dir": Key("the folder that the result's folder goes into; if not given, the run's"),
}  # fmt: skip
_OF_PLACE = ("root", "download", "mirror", "allow_unofficial")


def _validate(arguments: Sequence[str]) -> int:
    options, rest = jobs.options(arguments)
    given = parser.parse(rest, KEYS, others=True)
    run = given.one_run("beitmed validate outputs/<run> dataset=pneumonia")
    changes, of_data = _sorted(given.others)
    found_run = trained.open_run(run, changes)
    stated = classes.parse(given.values["classes"])
    parent = given.values["output_dir"]
    to = run.resolve().parent if parent is None else Path(parent).expanduser()
    where = [] if options.config_dir is None else [f"--config-dir={options.config_dir}"]
    cfg = _data(found_run.cfg, given.values["dataset"], [*where, *of_data], to)
    read = cases.read(found_run, cfg, stated, given.values["split"])
    # matplotlib: a second, after the checks
    from beitmed.external import folder, sentences, validation
    from beitmed.runs import folder as run_folder

    path = folder.path_of(run, read.name, read.part, to)
    identity = validation.identity(found_run, read)
    with run_folder.locked(path), folder.replacing(path, identity) as new:
        result = validation.validate(found_run, read, look_for_overlap=given.is_on("overlap"))
        folder.write(result, new)
    for line in [*sentences.summary(result.values), *sentences.caveat_line(result.values)]:
        log.info("%s", line)
    log.info("written: %s", path)
    return 0


def _sorted(others: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is said of the run, and what of the data."""
    of_run = [o.removeprefix("run.") for o in others if o.startswith("run.")]
    of_data = [o for o in others if o.lstrip("+~").startswith(("dataset.", "data."))]
    wrong = [o for o in others if o not in of_data and not o.startswith("run.")]
    if wrong:
        raise UserError(
            f"{wrong[0]}: cannot be set here. Allowed: {', '.join(f'{k}=...' for k in KEYS)}, "
            "dataset.*=... and data.*=... of the new data, and run.*=... of where the run's own "
            "data and weights are"
        )
    return of_run, of_data


def _data(run: Config, dataset: str | None, overrides: Sequence[str], to: Path) -> Config:
    """The new data's configuration, at the size of the run's images."""
    if dataset is None:
        raise UserError(
            "dataset: not given; name the new data, as in dataset=pneumonia, or dataset=folder "
            "dataset.path=DIR dataset.name=clinic"
        )
    found = jobs.configurations([f"dataset={dataset}", f"size={run.size}", *overrides])
    if len(found) != 1:
        raise UserError(f"dataset: found {len(found)} datasets; allowed: one in a command")
    stated = {override.partition("=")[0] for override in overrides}
    inherited = {k: getattr(run.data, k) for k in _OF_PLACE if f"data.{k}" not in stated}
    place = found[0].data.model_copy(update=inherited)
    # A list of files that cannot be read, if there is one, goes where the result would.
    return found[0].model_copy(update={"data": place, "cache": run.cache, "output_dir": str(to)})


def main() -> None:
    """Test the run that the command line names on the data that it names."""
    cli.run(_validate, USAGE.replace("{keys}", parser.described(KEYS)))
