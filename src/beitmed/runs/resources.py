"""What a run takes, by phase: seconds and peak memory; what an earlier process took counts too."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Phases = dict[str, dict[str, Any]]
Peaks = dict[str, int | None]
_others: Peaks = {}  # of the processes that this one has started since the phase began


class Resources:
    """The phases of one run. Within a phase another may begin, whose share is then its own.

    phases: what earlier processes took. save: called with all phases whenever they change.
    """

    def __init__(self, phases: Phases, save: Callable[[Phases], None]) -> None:
        self._phases, self._save = phases, save
        self._names: list[str] = []
        self._since = time.monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile as `name`."""
        self.update()
        self._names.append(name)
        _reset_peaks()
        try:
            yield
        finally:
            self.update()
            self._names.pop()
            _reset_peaks()

    def update(self) -> None:
        """Add what was taken since the last time, so that a killed process loses little of it."""
        now = time.monotonic()
        if self._names:
            one = self._phases.setdefault(self._names[-1], {"seconds": 0.0})
            one["seconds"] = round(one["seconds"] + now - self._since, 3)
            for key, peak in peaks().items():
                one[key] = _larger(one.get(key), peak)
            self._save(self._phases)
        self._since = now

    def stop(self) -> None:
        """Count no further: what is left of a run is to mark it as finished."""
        self.update()
        self._save = lambda phases: None


def peaks() -> Peaks:
    """The peak memory since the phase began, in bytes: of this process, or of one it has started
    and that was counted by `count_other`, whichever took most.
    """
    own = {"peak_memory_bytes": peak_memory(), "peak_gpu_memory_bytes": _peak_gpu_memory()}
    return {key: _larger(peak, _others.get(key)) for key, peak in own.items()}


def count_other(found: Peaks) -> None:
    """Count the `peaks` of a process that this one has started."""
    for key, peak in found.items():
        _others[key] = _larger(peak, _others.get(key))


def _larger(*numbers: int | None) -> int | None:
    return max((x for x in numbers if x is not None), default=None)


def peak_memory() -> int | None:
    """The largest resident memory of this process since the phase began, in bytes.

    Where the system does not start anew (macOS) since the process began; None where it is not
    told.
    """
    try:
        # Linux. Not ru_maxrss: that begins with what the process held that started this one.
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) * 1024
    except (OSError, IndexError):
        if sys.platform != "darwin":
            return None
    import resource  # not there on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _reset_peaks() -> None:
    _others.clear()
    if os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")
    if (torch := _torch_with_gpu()) is not None:
        torch.cuda.reset_peak_memory_stats()


def _peak_gpu_memory() -> int | None:
    torch = _torch_with_gpu()
    return None if torch is None else torch.cuda.max_memory_allocated()


def _torch_with_gpu() -> Any:
    torch = sys.modules.get("torch")  # not imported for this: an evaluation does without
    return torch if torch is not None and torch.cuda.is_available() else None
