"""`beitmed evaluate`: a run's metrics anew, from its predictions."""

from __future__ import annotations

from collections.abc import Sequence

from beitmed import config, evaluation
from beitmed.commands import arguments as parser
from beitmed.commands import cli
from beitmed.config.fields import Decides
from beitmed.errors import UserError
from beitmed.runs import folder, reader

USAGE = """
Compute the metrics and figures of runs anew from their predictions, in seconds and without images
or weights: `beitmed evaluate RUN... key=value ...`.

  beitmed evaluate outputs/my-run dataset.positive_label=0
  beitmed evaluate outputs/* evaluate.n_resamples=5000
  beitmed evaluate outputs/my-run 'evaluate.metrics={youden: my_metrics.youden}'

Only what decides nothing but the evaluation can be given:

{keys}

What is not given stays as the run has it. Exit codes: 0 done; 2 bad input.
"""


def _evaluate(arguments: Sequence[str]) -> int:
    given = parser.parse(arguments, {}, others=True)
    if not given.folders:
        raise UserError("no run folder given: name one or more, such as outputs/my-run.")
    wanted = []
    for path in given.folders:  # all are checked before the first is changed
        cfg = reader.read_evaluated_config(path)
        wanted.append((path, config.changed(cfg, given.others, Decides.EVALUATION)))
    for path, cfg in wanted:
        with folder.locked(path):
            evaluation.evaluate(folder.Run(path), cfg)
    return 0


def main() -> None:
    """Evaluate the runs that the command line names."""
    keys = "\n".join(f"  {key}=..." for key in config.keys(Decides.EVALUATION))
    cli.run(_evaluate, USAGE.replace("{keys}", keys))
