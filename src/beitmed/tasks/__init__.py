"""What each task decides, and its numbers with their uncertainty. Knows no model and no file."""

from beitmed.tasks.evaluation import TASKS, by_official_name, evaluate, inferred, of, taken
from beitmed.tasks.task import Task

__all__ = ["TASKS", "Task", "by_official_name", "evaluate", "inferred", "of", "taken"]
