"""How good a model is on a data set: the figures, the predictions and a page of pictures."""

from __future__ import annotations

from callus.report.evaluation import evaluate

__all__ = ["evaluate"]
