"""From a file to a radiograph: grey pixels that mean the same whatever format they came in."""

from __future__ import annotations

from callus.radiograph.reading import Identity, Radiograph, read

__all__ = ["Identity", "Radiograph", "read"]
