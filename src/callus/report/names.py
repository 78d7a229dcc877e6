"""What figures, thresholds and subgroups are called for people: on pages, in cards and in comparisons alike."""

from __future__ import annotations

from typing import Final

POINT_NAMES: Final = {
    "at_0.5": "at 0.5",
    "high_sensitivity": "high sensitivity",
    "high_specificity": "high specificity",
}
RANKING_NAMES: Final = {"auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier score"}
"""Those that need no threshold."""
PLACE_NAMES: Final = {
    "pointing_game": "highest point of the map on a fracture (pointing game)",
    "images_hit": "radiographs whose top box has its centre on a fracture",
    "images_overlapped": "radiographs whose top box overlaps a fracture (IoU 0.3)",
    "fractures_hit": "fractures hit by the top box",
    "fractures_overlapped": "fractures overlapped by the top box (IoU 0.3)",
    "top_box_iou": "mean IoU of the top box",
    "map_iou": "mean IoU of the map at its threshold",
    "ap50": "AP50",
}
CALIBRATION_NAMES: Final = {
    "slope": "slope (1 is right)",
    "intercept": "intercept (0 is right)",
    "ece": "expected calibration error",
    "brier": "Brier score",
}
CATEGORIES: Final = {
    "region": "region",
    "view": "view",
    "hardware": "metal",
    "source": "source",
    "size": "size of the picture",
    "fractures": "number of fractures (fractured files only)",
    "fracture_size": "largest fracture (fractured files only)",
}


def call_names(prevalence: float | None = None) -> dict[str, str]:
    """Names of the figures at a threshold, in the order in which they are told.

    Args:
        prevalence: that PPV and NPV were asked for at; None where nobody did, or where it is not known.
    """
    at = "the prevalence asked for" if prevalence is None else f"a prevalence of {prevalence:g}"
    return {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "ppv": "PPV",
        "npv": "NPV",
        "ppv_at_prevalence": f"PPV at {at}",
        "npv_at_prevalence": f"NPV at {at}",
        "f1": "F1",
        "kappa": "Cohen's kappa",
        "lr_positive": "likelihood ratio +",
        "lr_negative": "likelihood ratio \N{MINUS SIGN}",
    }


def figure_names(prevalence: float | None = None) -> dict[str, str]:
    """All names: :data:`RANKING_NAMES`, then :func:`call_names`."""
    return RANKING_NAMES | call_names(prevalence)
