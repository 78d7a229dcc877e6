"""What is made of findings: ``overlay`` draws pictures, ``tables`` writes JSON and CSV."""

from __future__ import annotations
