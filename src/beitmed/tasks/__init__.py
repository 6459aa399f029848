"""What each task decides, and its numbers with their uncertainty. Knows no model and no file."""

from beitmed.tasks.evaluation import (
    TASKS,
    by_official_name,
    evaluate,
    inferred,
    of,
    taken,
    without_skill,
)
from beitmed.tasks.task import Task, Use

__all__ = [
    "TASKS",
    "Task",
    "Use",
    "by_official_name",
    "evaluate",
    "inferred",
    "of",
    "taken",
    "without_skill",
]  # fmt: skip
