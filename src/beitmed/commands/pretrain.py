"""`beitmed pretrain`: learn from images without labels, once or in a sweep."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from beitmed import config
from beitmed.commands import cli, jobs
from beitmed.config import PretrainRun
from beitmed.errors import UserError

log = logging.getLogger("beitmed")
USAGE = """
Pre-train a network on images without labels: `beitmed pretrain key=value ...`.

  beitmed pretrain dataset=breast                                regression of masked pixels
  beitmed pretrain pretrain.datasets=[breast,pneumonia]          several sets at once
  beitmed pretrain pretrain.images=FOLDER size=224               your own images, PNG to DICOM
  beitmed pretrain objective=tokens backbone=beit_large dataset=breast size=224    BEiT goes on
  beitmed pretrain objective=hybrid dataset=pneumonia            masked pixels and a contrast
  beitmed pretrain -m dataset=breast seed=1,2,3                  a sweep: every combination
  beitmed pretrain --keys dataset=breast                         print every key and its value

Then `beitmed train backbone=auto backbone.weights=FOLDER`, where FOLDER is the run's huggingface.
Keys and their defaults stand in conf/pretrain.yaml, conf/objective and conf/config.yaml. Neither
labels nor the test split are learnt from. A finished run is skipped, an interrupted one goes on.
Exit codes: 0 done; 1 a run of a sweep failed, or a bug; 2 bad input; 130 interrupted.
"""


def _pretrain(arguments: Sequence[str]) -> int:
    keys = [a for a in arguments if a != "--keys"]
    planned = jobs.of(keys, primary="pretrain", kind=PretrainRun)
    if planned.launcher.parallel:
        raise UserError(
            f"launcher={planned.launcher.name}: pre-trainings are done here, one after the other; "
            "leave the launcher out."
        )
    members = planned.configurations
    _check_read(members, planned.overrides)
    if len(keys) < len(arguments):
        print(config.as_yaml(members[0]), end="")
        return 0
    failures = []
    for found in planned.found:
        try:
            if isinstance(found, UserError):
                raise found
            from beitmed.pretraining import line  # torch and transformers: seconds

            assert isinstance(found, PretrainRun)
            line.run(found)
        except Exception as e:
            if not planned.sweep:
                raise
            failures.append(e)
            bug = None if isinstance(e, UserError) else e
            log.error("This run failed, the others go on: %s", e, exc_info=bug)
    if failures:
        log.error("beitmed: %d of the sweep's runs failed:", len(failures))
        for failure in failures:
            log.error("  %s", str(failure).replace("\n", "\n    "))
        log.error("Run the same command again to retry them; finished runs are skipped.")
    return 1 if failures else 0


def _check_read(members: Sequence[config.Config], overrides: Sequence[str]) -> None:
    """Refuse what no pre-training of the command line reads."""
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0].partition("@")[0]
        if key == "experiment":
            raise UserError(f"{override}: is of beitmed train; name what it sets, or leave it out.")
        if key == "launcher":
            raise UserError(
                f"{override}: starts the runs of beitmed train; those of beitmed pretrain are done "
                "here, one after the other. Leave it out, or give each as a job of its own."
            )
        if all(any(key == k or key.startswith(f"{k}.") for k in cfg.unused()) for cfg in members):
            why = (
                "which learns from pretrain.datasets or pretrain.images; name the dataset there"
                if key.partition(".")[0] == "dataset"
                else "which does not read it; leave it out"
            )
            raise UserError(f"{override}: found with beitmed pretrain, {why}.")


def main() -> None:
    """Pre-train what the command line names."""
    cli.run(_pretrain, USAGE, PretrainRun)
