"""What a run learns from: splits of images and labels, from MedMNIST's files or one's own."""

from beitmed.data.splits import (
    Data,
    Split,
    check_unchanged,
    complete,
    counts,
    joined,
    load,
    load_all,
)

__all__ = ["Data", "Split", "check_unchanged", "complete", "counts", "joined", "load", "load_all"]
