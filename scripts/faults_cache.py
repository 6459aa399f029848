"""A cache that many use, that can only be read, and of which bytes were changed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import faults_work
import numpy as np
from faults_stops import Result
from faults_work import Process, Undisturbed, Work

from beitmed import config, data, pipeline
from beitmed.commands import jobs
from beitmed.trunk_cache import features


def together(work: Work, of: Undisturbed, scratch: Path, processes: int) -> Result:
    """The same command several times at once: one does it, and all end well."""
    result = Result(f"{processes} processes, one run and one cache")
    folder = scratch / "together"
    started = [Process(work, folder, cold=True) for _ in range(processes)]
    ended = [(p.wait(), p.said()) for p in started]
    problem = faults_work.differing(folder, of)
    _count(result, ended, problem, "training on", "did it", "found it done")
    return result


def _count(
    result: Result,
    ended: list[tuple[int, str]],
    problem: str | None,
    word: str,
    one: str,
    rest: str,
) -> None:
    """Count processes that ended with a code and words: exactly one has said `word`."""
    said_it = sum(word in said for _, said in ended)
    for code, said in ended:
        wrong = f"exit code {code}: {said[-2000:]}" if code else problem
        result.count(one if word in said else rest, wrong)
    if said_it != 1:
        result.count("all", f"{said_it} of them: {one}")


def seeds(work: Work, scratch: Path, processes: int) -> Result:
    """Runs of several seeds at once on one cache that is empty: one fills it, and all are right."""
    result = Result(f"{processes} processes, a run each, one cache")
    chosen = [str(i + 11) for i in range(processes)]
    each = [replace(work, arguments=(*work.arguments, f"seed={seed}")) for seed in chosen]
    folder = scratch / "seeds"
    started = [Process(one, folder, cold=False) for one in each]
    ended = [(p.wait(), p.said()) for p in started]
    after_one_another = ("train", "-m", *work.arguments[1:], f"seed={','.join(chosen)}")
    expected = faults_work.undisturbed(
        replace(work, arguments=after_one_another), scratch / "seeds-alone"
    )
    # Its first layer of the classes is of the seed that has filled the cache, and read by none.
    [top] = [
        p.parent for p in folder.glob("cache/*/manifest.json") if "of the top" in p.read_text()
    ]
    problem = faults_work.differing(folder, expected, f"cache/{top.name}")
    _count(result, ended, problem, "computing", "filled", "read")
    return result


def read_only(work: Work, of: Undisturbed, scratch: Path) -> Result:
    """A cache that holds what is needed, and one that does not."""
    result = Result("a cache that can only be read")
    for held in ("all is there", "something lacks"):
        folder = scratch / held.replace(" ", "-")
        shutil.copytree(of.folder / "cache", folder / "cache")
        if held == "something lacks":
            shutil.rmtree(max((folder / "cache").glob("[0-9a-f]*"), key=_size))
        with _only_read(folder / "cache"):
            code, said = faults_work.finish(work, folder)
        if held == "all is there":
            problem = faults_work.differing(folder, of) if not code else said[-2000:]
        else:
            clear = code == 2 and "Traceback" not in said and "cannot be written" in said
            left = [p for p in folder.glob("outputs/*") if p.name[0] != "."]
            problem = f"left {left}" if left else None if clear else f"{code}: {said[-2000:]}"
        result.count(held, problem)
    return result


def _size(entry: Path) -> int:
    return (entry / "rows.bin").stat().st_size


@contextlib.contextmanager
def _only_read(folder: Path) -> Iterator[None]:
    """By a mount, for root, whom permissions do not stop; else by permissions."""
    if os.geteuid() == 0:
        for options in (["--bind", str(folder)], ["-o", "remount,bind,ro"]):
            subprocess.run(["mount", *options, str(folder)], check=True)
    else:
        _permit(folder, 0o555)
    try:
        yield
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(folder)], check=True)
        else:
            _permit(folder, 0o755)


def _permit(folder: Path, mode: int) -> None:
    for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        path.chmod(mode)


def changed_bytes(work: Work, of: Undisturbed, scratch: Path, each: int,
                  rng: random.Random) -> Result:  # fmt: skip
    """Any byte of any file of the cache: what is read is right all the same, or it is said."""
    result = Result("a cache of which a byte was changed")
    config.register_resolvers()
    root = scratch / "changed"
    [cfg] = jobs.configurations([a for a in work.arguments[1:] if a != "cache.root=cache"]
                                + [f"cache.root={root}"])  # fmt: skip
    cfg = pipeline.complete(cfg)
    loaded = data.load(cfg)

    def read() -> bytes:
        found = features.prepare(cfg, loaded)
        assert found is not None
        rows = b"".join(np.ascontiguousarray(rows[:]).tobytes() for rows in found.rows.values())
        return rows + bytes(found.network.top_snapshot())

    shutil.copytree(of.folder / "cache", root)
    expected = read()
    for name in sorted(p.relative_to(root) for p in root.glob("[0-9a-f]*/*")):
        for _ in range(each):
            content = bytearray((root / name).read_bytes())
            if content:
                content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
                (root / name).write_bytes(content)
            result.count(name.name, None if read() == expected else "was read wrongly")
            shutil.rmtree(root)
            shutil.copytree(of.folder / "cache", root)
    return result
