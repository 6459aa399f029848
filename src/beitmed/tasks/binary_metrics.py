"""The table of a binary classifier's metrics; see `scored` for the kinds."""

from __future__ import annotations

from functools import partial

from beitmed.tasks import measures
from beitmed.tasks.metric import Metric

_THERE = "of the test set there, which reaches that level only roughly"
#: All that `evaluate` returns, in this order. A rule "val ..." has its threshold from the
#: validation set, so the test set reaches the named level only roughly: hence both rates of each.
METRICS: dict[str, Metric] = {
    "auc": Metric(
        lambda s: s.ranked, "auc", "AUC", "higher",
        "area under the ROC curve, 0 to 1; 0.5 is chance"
    ),
    "accuracy": Metric(
        measures.hits, "proportion", "Accuracy", "higher",
        "share of images whose more likely class is right",
    ),
    "balanced_accuracy": Metric(
        lambda s: s.y == s.predicted, "two proportions", "Balanced accuracy", "higher",
        "mean of sensitivity and specificity",
    ),
    "sensitivity": Metric(
        measures.sensitivity, "proportion", "Sensitivity", "higher",
        "share of the positive images that are called positive",
    ),
    "specificity": Metric(
        measures.specificity, "proportion", "Specificity", "higher",
        "share of the negative images that are called negative",
    ),
    "ppv": Metric(
        measures.ppv, "proportion", "PPV", "higher",
        "share of the images called positive that are; depends on how many are",
    ),
    "npv": Metric(
        measures.npv, "proportion", "NPV", "higher",
        "share of the images called negative that are; depends on how many are",
    ),
    "f1": Metric(
        measures.f1, "bootstrap", "F1", "higher", "harmonic mean of sensitivity and PPV"
    ),
    "mcc": Metric(
        measures.mcc, "bootstrap", "MCC", "higher",
        "Matthews correlation of prediction and class, -1 to 1",
    ),
    "average_precision": Metric(
        measures.average_precision, "jackknife", "Average precision", "higher",
        "mean PPV over the thresholds, each weighted by its gain in sensitivity",
    ),
    "brier": Metric(
        measures.brier, "bootstrap", "Brier", "lower",
        "mean squared error of the positive class's probability, 0 to 1",
    ),
    "calibration_error": Metric(
        measures.calibration_error, "estimate", "Calibration error", "lower",
        "root mean squared gap of the positive class's probability and its share in bins of "
        "equally many images, its sampling error taken away",
    ),
    "calibration_slope": Metric(
        partial(measures.recalibrated, what="slope"), "estimate", "Calibration slope", None,
        "1 is calibrated; below 1 the probabilities are too extreme",
    ),
    "calibration_in_the_large": Metric(
        partial(measures.recalibrated, what="large"), "estimate", "Calibration in the large", None,
        "intercept at slope 1: 0 is calibrated; above 0 positive images are more frequent than "
        "predicted",
    ),
    "ppv_at_prevalence": Metric(
        partial(measures.at_prevalence, which=0), "estimate", "PPV at the stated prevalence",
        "higher", "PPV where as many are positive as evaluate.prevalence says", "prevalence",
    ),
    "npv_at_prevalence": Metric(
        partial(measures.at_prevalence, which=1), "estimate", "NPV at the stated prevalence",
        "higher", "NPV where as many are positive as evaluate.prevalence says", "prevalence",
    ),
    "temperature": Metric(
        measures.fitted, "fitted", "Temperature from val", None,
        "what the log odds are divided by", "temperature",
    ),
    "brier_temperature": Metric(
        measures.brier, "bootstrap", "Brier, with temperature", "lower",
        "Brier score of the scaled log odds", "temperature",
    ),
    "calibration_error_temperature": Metric(
        measures.calibration_error, "estimate", "Calibration error, with temperature", "lower",
        "calibration error of the scaled log odds", "temperature",
    ),
    "val_threshold": Metric(
        measures.fitted, "fitted", "Threshold from val (log odds)", None,
        "threshold of the highest validation accuracy", "val accuracy",
    ),
    "accuracy_val_threshold": Metric(
        measures.hits, "proportion", "Accuracy, threshold from val", "higher",
        "share of right images at that threshold", "val accuracy",
    ),
    "threshold_at_val_specificity_95": Metric(
        measures.fitted, "fitted", "Threshold, 95 % specificity on val (log odds)", None,
        "threshold of 95 % validation specificity", "val specificity",
    ),
    "sensitivity_at_val_specificity_95": Metric(
        measures.sensitivity, "proportion", "Sensitivity, 95 % specificity on val", "higher",
        f"sensitivity {_THERE}", "val specificity",
    ),
    "specificity_at_val_specificity_95": Metric(
        measures.specificity, "proportion", "Specificity, 95 % specificity on val", "higher",
        f"specificity {_THERE}", "val specificity",
    ),
    "threshold_at_val_sensitivity_95": Metric(
        measures.fitted, "fitted", "Threshold, 95 % sensitivity on val (log odds)", None,
        "threshold of 95 % validation sensitivity", "val sensitivity",
    ),
    "sensitivity_at_val_sensitivity_95": Metric(
        measures.sensitivity, "proportion", "Sensitivity, 95 % sensitivity on val", "higher",
        f"sensitivity {_THERE}", "val sensitivity",
    ),
    "specificity_at_val_sensitivity_95": Metric(
        measures.specificity, "proportion", "Specificity, 95 % sensitivity on val", "higher",
        f"specificity {_THERE}", "val sensitivity",
    ),
    "operating_threshold": Metric(
        lambda s: s.fitted.threshold, "fitted", "Operating threshold (log odds)", None,
        "threshold that reaches evaluate.operating_point on the validation set", "operating point",
    ),
    "sensitivity_at_operating_point": Metric(
        partial(measures.at_operating_point, what="sensitivity"), "estimate",
        "Sensitivity at the operating point", "higher",
        "sensitivity on the test set; the interval counts that another validation set would have "
        "given another threshold", "operating point",
    ),
    "specificity_at_operating_point": Metric(
        partial(measures.at_operating_point, what="specificity"), "estimate",
        "Specificity at the operating point", "higher",
        "specificity on the test set; the interval counts that another validation set would have "
        "given another threshold", "operating point",
    ),
    "estimated_prior": Metric(
        measures.prior, "estimate", "Prior estimated on test", None,
        "share of positive images, estimated from the test scores without their labels",
        "prior corrected",
    ),
    "prior_shift_p": Metric(
        measures.p_of_shift, "estimate", "p of no prior shift", None,
        "p of the hypothesis that as many images are positive as in the validation set, from "
        "scores without test labels", "prior corrected",
    ),
    "accuracy_prior_corrected": Metric(
        measures.hits, "proportion", "Accuracy, prior corrected", "higher",
        "share of right images, corrected for a shift of the prior as far as that is beyond "
        "noise; without one (p of 0.05 or more) it is the accuracy", "prior corrected",
    ),
}  # fmt: skip
