"""The bundle: one folder or one file that holds a model and what it needs to answer. No torch, no pickle."""

from __future__ import annotations

from callus.bundle.engine import Engine, Outputs
from callus.bundle.format import Bundle, EngineInfo, pack, write_bundle

__all__ = ["Bundle", "Engine", "EngineInfo", "Outputs", "pack", "write_bundle"]
