"""The label, its names, the three levels and the body regions."""

from __future__ import annotations

from typing import Final, Literal

RESEARCH_ONLY: Final = "research and education, not a medical device"
"""The sentence that every output carries."""

FRACTURED: Final = 1
NOT_FRACTURED: Final = 0
LABEL_NAMES: Final[dict[int, str]] = {NOT_FRACTURED: "not fractured", FRACTURED: "fractured"}

Level = Literal["fracture", "doubt", "none"]
LEVELS: Final[tuple[Level, ...]] = ("fracture", "doubt", "none")
LEVEL_TEXT: Final[dict[Level, str]] = {"fracture": "fracture", "doubt": "doubt", "none": "none seen"}
"""How a level is written for people: nobody is told "no fracture", only that none was seen."""

REGIONS: Final = (
    "hand",
    "finger",
    "wrist",
    "forearm",
    "elbow",
    "humerus",
    "shoulder",
    "hip",
    "leg",
    "knee",
    "ankle",
    "foot",
    "mixed",
)
"""Body regions that a manifest's ``region`` takes; empty where the source does not tell."""
