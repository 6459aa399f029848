"""Report finished runs: `python -m beitmed.report outputs`.

    python -m beitmed.report outputs              every finished run under outputs, into ./report
    python -m beitmed.report A B to=FOLDER        these runs (or folders of runs), into FOLDER

Writes FOLDER/report.html (one file, no network), report.md, tables as CSV and LaTeX, and figures.
Data files are looked for where the runs found them; `data.root=FOLDER` names another place, and
`images=false` does without: no example images, no check for test images that training had seen.
`attention=false` does without attention maps, for which a network is loaded (some seconds).

Exit codes: 0 done; 1 done, but some folders could not be read (the report names them); 2 bad input.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from beitmed.commands import cli
from beitmed.errors import UserError

log = logging.getLogger("beitmed.report")


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    paths: tuple[Path, ...]
    to: Path = Path("report")
    data_root: str | None = None
    images: bool = True
    attention: bool = True


def options(arguments: list[str]) -> Options:
    """Read the command line. Raises UserError for an unknown key or value, or without a folder."""
    paths: list[Path] = []
    given: dict[str, str] = {}
    known = ("to", "data.root", "images", "attention")
    for argument in arguments:
        key, equals, value = argument.partition("=")
        path = Path(argument).expanduser()
        if equals and key in known:
            if key in given:
                raise UserError(f"{key}: given twice, {given[key]!r} and {value!r}; give it once.")
            if not value:
                raise UserError(f"{key}: found nothing after the =; give a value, or leave it out.")
            given[key] = value
        elif equals and not path.exists():  # a folder's name may hold a =
            raise UserError(f"{key}: no such key. Allowed: folders of runs, {', '.join(known)}.")
        elif argument.startswith("--") and not path.exists():
            raise UserError(f"{argument}: no such option. Allowed: {'=..., '.join(known)}=...")
        else:
            paths.append(path)
    if not paths:
        raise UserError("no folder given: name the folder of the runs, for example outputs.")
    switches = {key: given.get(key, "true") for key in ("images", "attention")}
    for key, value in switches.items():
        if value not in ("true", "false"):
            raise UserError(f"{key}: found {value!r}; allowed: true, false")
    return Options(
        tuple(paths),
        Path(given.get("to", "report")).expanduser(),
        given.get("data.root"),
        images=switches["images"] == "true",
        attention=switches["attention"] == "true" == switches["images"],
    )


def _report() -> int:
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    chosen = options(arguments)
    # matplotlib: a second, after the checks
    from beitmed.report.content import contents
    from beitmed.report.render import folder as report_folder
    from beitmed.runs import finished

    runs, problems = finished.find(chosen.paths)
    for problem in problems:
        log.warning("Not reported: %s", problem)
    if not runs:
        raise UserError(
            "no finished run to report. A run is finished when its folder has a metrics.json; "
            "`python -m beitmed.train ...` makes one."
        )
    with report_folder.replacing(chosen.to) as folder:
        document = contents.build(
            runs, problems, folder, chosen.data_root, chosen.images, chosen.attention
        )
        report_folder.write(document, folder)
    for sentence in document.summary:
        log.info("%s", sentence)
    log.info("report: %s", chosen.to / "report.html")
    return 1 if problems else 0


def main() -> None:
    """Write the report that the command line asks for."""
    sys.exit(cli.guarded(_report))


if __name__ == "__main__":
    main()
