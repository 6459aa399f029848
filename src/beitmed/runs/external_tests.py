"""Where the external tests of runs lie: folders that `beitmed validate` made."""

from __future__ import annotations

from pathlib import Path

FILE = "external.json"  # an external test's folder has it, written last
BETWEEN = "_on_"  # a run's name and the data's, in such a folder's name


def folders_in(folder: Path) -> list[Path]:
    """The folder itself and those right in it that are external tests, by name.

    Only names are looked at, so a folder of ten thousand runs is one listing.
    """
    if (folder / FILE).is_file():
        return [folder]
    try:
        names = sorted(entry for entry in folder.iterdir() if BETWEEN in entry.name)
    except OSError:
        return []
    return [path for path in names if (path / FILE).is_file()]
