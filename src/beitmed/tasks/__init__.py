"""Numbers with their uncertainty, from logits and labels alone. Knows no model and no file."""

from beitmed.tasks.evaluation import HEADLINES, evaluate, score, taken

__all__ = ["HEADLINES", "evaluate", "score", "taken"]
