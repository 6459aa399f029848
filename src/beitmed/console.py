"""What `beitmed` says while it works: lines on standard output, whichever process says them."""

from __future__ import annotations

import logging


def install(prefix: str = "") -> None:
    """Print what the package logs, each message behind `prefix`; calling it again replaces that."""
    logger = logging.getLogger("beitmed")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in [h for h in logger.handlers if isinstance(h, _Console)]:
        logger.removeHandler(handler)
    logger.addHandler(_Console(prefix))


class _Console(logging.Handler):
    """Messages as they are, on whatever standard output is at the time."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def emit(self, record: logging.LogRecord) -> None:
        print(self.prefix + self.format(record), flush=True)
