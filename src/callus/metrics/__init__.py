"""How good a model is, and what is made of its outputs: scores, calibration, operating points, boxes."""

from __future__ import annotations
