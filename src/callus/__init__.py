"""callus: identify bone fractures in radiographs. Research and education, not a medical device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callus.identify import Finding, Identifier
    from callus.radiograph import Radiograph, read

# ONNX Runtime 1.32 and later, as published for Linux and macOS, gives the machine a lasting identifier when it is
# imported and sends usage events to its maker. Nothing may leave a machine that holds radiographs.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["Finding", "Identifier", "Radiograph", "__version__", "read"]

_HOMES = {
    "Finding": "callus.identify",
    "Identifier": "callus.identify",
    "Radiograph": "callus.radiograph",
    "read": "callus.radiograph",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import callus`` and ``callus --help`` stay instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'callus' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_HOMES[name]), name)
