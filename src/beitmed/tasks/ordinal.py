"""Several exclusive classes that are grades in rising order: as `multiclass`, and distances count.

A network is trained as for classes without an order; only the metrics know it.
"""

from __future__ import annotations

from beitmed.tasks import confusion_tables, multiclass
from beitmed.tasks.metric import Metric
from beitmed.tasks.multiclass import Multiclass

GRADES: dict[str, Metric] = {
    "kappa_quadratic": Metric(
        confusion_tables.kappa_quadratic, "table", "Quadratic-weighted kappa", "higher",
        "Cohen's kappa, a disagreement of d grades counted d squared times, at most 1",
    ),
    "mean_absolute_error": Metric(
        confusion_tables.mean_absolute_error, "table", "Mean absolute error (grades)", "lower",
        "mean distance of the predicted grade from the actual one, in grades",
    ),
}  # fmt: skip


class Ordinal(Multiclass):
    """Grades."""

    name = "ordinal"
    official_name = "ordinal-regression"
    ordered = True
    metrics = multiclass.DECISIONS | GRADES | multiclass.PROBABILITIES
    headlines = ("auc", "accuracy", "kappa_quadratic", "mean_absolute_error")
    compared = ("auc", "accuracy", "kappa_quadratic", "mean_absolute_error")
    tested = compared

    def title_of(self, class_name: str) -> str:
        return f"grade {class_name}"  # RetinaMNIST's are named 0 to 4


TASK = Ordinal()
