"""The front door: `beitmed COMMAND ...`."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "train": "train a model and evaluate it, or a sweep of them",
    "pretrain": "learn from images without labels, for a training to start from",
    "evaluate": "compute a run's metrics anew from its predictions",
    "folds": "join the folds of a cross-validation into one result",
    "power": "how many test images and seeds a difference needs",
    "report": "compare runs: one page, tables and figures",
    "audit": "look for duplicates and label conflicts in a dataset",
    "predict": "ask a finished run, or several, about new images",
    "explain": "show what a prediction rests on, and test that",
    "validate": "test a finished run on other data",
    "robustness": "how runs hold on worse images",
    "export": "write a run's network for other programs",
    "prepare": "fetch and verify data and weights beforehand",
    "cache": "list and prune the cache",
}


def main() -> None:
    """Run the command that the first word names; `--help` lists them."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(_help())
        sys.exit(0)
    if name not in COMMANDS:
        print(
            f"beitmed: found the command {name!r}; allowed: {', '.join(COMMANDS)}. "
            "`beitmed --help` says what each does.",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.argv = [f"beitmed {name}", *sys.argv[2:]]
    importlib.import_module(f"beitmed.commands.{name}").main()


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "beitmed: transfer learning for medical image classification, with its uncertainty.",
            "",
            "  beitmed COMMAND [key=value ...]",
            "",
            *lines,
            "",
            "`beitmed COMMAND --help` says more. A first run, without a network:",
            "  beitmed train experiment=quickstart",
        ]
    )
