"""What a command line asks for, done: one run, or a sweep that a launcher starts.

What the runs of a sweep came to is told from their folders.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from beitmed.commands import launchers
from beitmed.commands.jobs import Jobs
from beitmed.config import Config
from beitmed.errors import UserError, disk_error, disk_full
from beitmed.sweeps import fills, work
from beitmed.sweeps.outcomes import Outcome, Records, State
from beitmed.sweeps.work import Fill, Origin, Work

log = logging.getLogger(__name__)
_HEADINGS: dict[State, str] = {
    "failed": "failed:",
    "stopped": "stopped without a word (killed, out of memory or of time, or the machine went):",
    "not started": "not started:",
}


def do(planned: Jobs) -> int:
    """Do the run or the sweep of a command line; the exit code. Raises what a single run raises."""
    for folder in {Path(cfg.output_dir).expanduser() for cfg in planned.configurations}:
        try:  # a launcher makes a sweep's folder by itself, and would say less
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise disk_error(e, folder) or e from e
    if planned.sweep:
        return _sweep(planned)
    [cfg] = planned.configurations
    work.attempt(cfg, planned.overrides)
    return 0


def _sweep(planned: Jobs) -> int:
    """Do every run of a sweep and list those that are not finished; the exit code, 0 or 1.

    Raises UserError where none of them could be started.
    """
    right = [(o, c) for o, c in zip(planned.each, planned.found, strict=True)
             if isinstance(c, Config)]  # fmt: skip
    if planned.launcher.slurm and shutil.which("sbatch") is None:
        raise UserError(
            f"launcher={planned.launcher.name}: sbatch is not found here. Give the command on a "
            "machine from which Slurm's jobs are submitted, or set launcher=local or joblib."
        )
    outputs = Path(right[0][1].output_dir).expanduser()
    records = Records.create(outputs)
    problem: Exception | None = None
    try:
        _launch(planned, [o for o, _ in right], [c for _, c in right], records)
    except Exception as e:
        problem = e
    launchers.settle()
    outcomes = [_outcome(found, records) for found in planned.found]
    if problem is not None and not any(records.folder.iterdir()):
        records.drop()
        if not isinstance(problem, RuntimeError | OSError):
            raise problem
        raise disk_full(problem, outputs) or UserError(
            f"launcher={planned.launcher.name}: could not start the runs: {problem}"
        )
    records.drop()
    return _tell(planned, outcomes, problem)


def _launch(
    planned: Jobs, each: Sequence[list[str]], members: Sequence[Config], records: Records
) -> None:
    parallel, origin = planned.launcher.parallel, Origin.here()
    if planned.launcher.slurm:
        log.info("What the runs say is in %s.", records.folder.parent / ".submitit")
    if parallel and (before := fills.first(members)):
        log.info("%d of the sweep's %d runs fill the cache first, for all that share it.",
                 len(before), len(each))  # fmt: skip
        launchers.launch(planned, [each[i] for i in before], Fill(origin, parallel, planned.kind))
    launchers.launch(planned, each, Work(origin, parallel, planned.kind, records))


def _outcome(found: Config | UserError, records: Records) -> Outcome:
    return Outcome("failed", str(found)) if isinstance(found, UserError) else records.outcome(found)


def _tell(planned: Jobs, outcomes: Sequence[Outcome], problem: Exception | None) -> int:
    if problem is not None:
        known = isinstance(problem, RuntimeError | OSError)
        log.error("beitmed: launcher=%s: %s: %s", planned.launcher.name, type(problem).__name__,
                  problem, exc_info=None if known else problem)  # fmt: skip
    code = 0
    for state, heading in _HEADINGS.items():
        these = [i for i, outcome in enumerate(outcomes) if outcome.state == state]
        if these:
            code = 1
            log.error("beitmed: %d of the sweep's runs %s", len(these), heading)
        for i in these:
            reason = (outcomes[i].reason or "").replace("\n", "\n    ")
            log.error("  %s%s", " ".join(planned.each[i]), f": {reason}" if reason else "")
    finished = sum(outcome.state == "finished" for outcome in outcomes)
    log.info("%d of the sweep's %d runs are finished.", finished, len(outcomes))
    if code:
        log.error("Run the same command again to retry them; finished runs are skipped.")
    return code
