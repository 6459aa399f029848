"""Hydra's launchers: they start the runs of a sweep, here or on an engine of any kind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode

from beitmed.commands import jobs
from beitmed.commands.jobs import Jobs


def launch(planned: Jobs, each: Sequence[Sequence[str]], task: Callable[[Any], None]) -> None:
    """Have `task` called with the composed configuration of each list of overrides.

    Returns when all of them are over. Raises what the launcher raises, such as where a worker was
    killed, and what stands between a worker and its task.
    """
    with jobs.initialized(planned.config_dir) as search:
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config(
            planned.kind.FILE, [*planned.overrides, *search], run_mode=RunMode.MULTIRUN
        )
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(hydra.config_loader, Callbacks(master)),
            task_function=task,
            config=master,
        )
        returned: Sequence[JobReturn] = launcher.launch([list(o) for o in each], initial_job_idx=0)
    for one in returned:
        if one.status is not JobStatus.COMPLETED:
            _ = one.return_value  # raises


def settle() -> None:
    """End what prints the words of workers later than they were said, so that nothing comes after
    what is said from here on.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        time.sleep(1)  # for the last lines; when a process exits Ray itself gives them half of that
        ray.shutdown()
