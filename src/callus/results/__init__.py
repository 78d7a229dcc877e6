"""What is made of findings: pictures and tables."""

from __future__ import annotations

from callus.results.overlay import overlay
from callus.results.tables import COLUMNS, as_row, write_csv, write_json

__all__ = ["COLUMNS", "as_row", "overlay", "write_csv", "write_json"]
