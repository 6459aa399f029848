"""What methods that train in epochs say of each: one row of the history, one sentence."""

from __future__ import annotations

import logging

import numpy as np

from beitmed.model import Row

log = logging.getLogger(__name__)


def tell(row: Row, epochs: int) -> None:
    """Say how an epoch of `epochs` went; row: as `Fit.history` has it."""
    auc = "undefined" if np.isnan(row["val_auc"]) else f"{row['val_auc']:.3f}"
    log.info(
        "epoch %g of %d: train loss %.4f; validation loss %.4f, AUC %s, accuracy %.3f",
        row["epoch"], epochs, row["train_loss"], row["val_loss"], auc, row["val_accuracy"],
    )  # fmt: skip


def best(history: list[Row]) -> int:
    """The epoch of the highest validation AUC, the first of equals; the last if none is defined."""
    defined = [row for row in history if not np.isnan(row["val_auc"])]
    if not defined:
        return int(history[-1]["epoch"])
    return int(max(defined, key=lambda row: row["val_auc"])["epoch"])
