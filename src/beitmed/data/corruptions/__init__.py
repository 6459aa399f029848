"""Images made worse: MedMNIST-C's corruptions, shifts that a hospital sees, and a user's own."""

from beitmed.data.corruptions.catalogue import SETS, Corruption, own, published, set_of
from beitmed.data.corruptions.corrupt import AT, WORKING_SIDE, corrupt

__all__ = [
    "AT",
    "SETS",
    "WORKING_SIDE",
    "Corruption",
    "corrupt",
    "own",
    "published",
    "set_of",
]
