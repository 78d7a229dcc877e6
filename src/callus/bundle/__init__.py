"""The bundle: one folder or one file that holds a model and what it needs to answer. No torch, no pickle."""

from __future__ import annotations

from callus.bundle.contents import PICTURES
from callus.bundle.engine import Engine, Outputs
from callus.bundle.format import PICTURE_DIGITS, Bundle, EngineInfo, pack, write_bundle
from callus.bundle.shipped import DEFAULT_MODEL, shipped_models

__all__ = [
    "DEFAULT_MODEL",
    "PICTURES",
    "PICTURE_DIGITS",
    "Bundle",
    "Engine",
    "EngineInfo",
    "Outputs",
    "pack",
    "shipped_models",
    "write_bundle",
]
