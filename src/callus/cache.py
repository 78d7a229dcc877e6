"""The one folder for what can be fetched or computed again: weights, downloads, trunk features."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """``$CALLUS_CACHE``, or the system's place for caches. It is not made here."""
    if chosen := os.environ.get("CALLUS_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "callus"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "callus"
