"""`beitmed pretrain`: learn from images without labels, once or in a sweep."""

from __future__ import annotations

from collections.abc import Sequence

from beitmed import config
from beitmed.commands import cli, jobs, sweep
from beitmed.config import PretrainRun
from beitmed.errors import UserError

USAGE = """
Pre-train a network on images without labels: `beitmed pretrain key=value ...`.

  beitmed pretrain dataset=breast                                regression of masked pixels
  beitmed pretrain pretrain.datasets=[breast,pneumonia]          several sets at once
  beitmed pretrain pretrain.images=FOLDER size=224               your own images, PNG to DICOM
  beitmed pretrain objective=tokens backbone=beit_large dataset=breast size=224    BEiT goes on
  beitmed pretrain objective=hybrid dataset=pneumonia            masked pixels and a contrast
  beitmed pretrain -m dataset=breast seed=1,2,3                  a sweep: every combination
  beitmed pretrain -m launcher=joblib dataset=breast seed=1,2,3  two of its runs at once
  beitmed pretrain --keys dataset=breast                         print every key and its value

Then `beitmed train backbone=auto backbone.weights=FOLDER`, where FOLDER is the run's huggingface.
Keys and their defaults stand in conf/pretrain.yaml, conf/objective and conf/config.yaml. Neither
labels nor the test split are learnt from. A finished run is skipped, an interrupted one goes on.
Exit codes: 0 done; 1 a run of a sweep failed, or a bug; 2 bad input; 130 interrupted.
"""


def _pretrain(arguments: Sequence[str]) -> int:
    keys = [a for a in arguments if a != "--keys"]
    planned = jobs.of(keys, kind=PretrainRun)
    members = planned.configurations
    _check_read(members, planned.overrides)
    if len(keys) < len(arguments):
        print(config.as_yaml(members[0]), end="")
        return 0
    return sweep.do(planned)


def _check_read(members: Sequence[config.Config], overrides: Sequence[str]) -> None:
    """Refuse what no pre-training of the command line reads."""
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0].partition("@")[0]
        if key == "experiment":
            raise UserError(f"{override}: is of beitmed train; name what it sets, or leave it out.")
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
