"""The codes that results use: from SNOMED CT, DICOM and UCUM where one fits, else from callus' own scheme.

docs/results-dicom.md lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydicom.sr.coding import Code

from callus.results.uids import made_uid

if TYPE_CHECKING:
    from callus.labels import Level

SCHEME: Final = "99CALLUS"
"""Schemes that an application makes for itself begin with 99 (PS3.16 8.2)."""
SCHEME_UID: Final = made_uid("callus", "coding scheme", SCHEME)

LEVEL_CODE: Final[dict[Level, Code]] = {
    "fracture": Code("72704001", "SCT", "Fracture"),
    "doubt": Code("doubt", SCHEME, "Doubt"),
    "none": Code("none-seen", SCHEME, "None seen"),
}
"""SNOMED CT's "fracture absent" would say more than a level does: "none seen" is no proof that there is none."""
PROBABILITY: Final = Code("probability", SCHEME, "Probability of fracture")
"""DICOM's own (122157, DCM, "Probability") means that of the group's Finding, which beside "None seen" would be read as
the probability of none."""
MAP_PEAK: Final = Code("map-peak", SCHEME, "Highest value of the heat map in the region")
LEVEL: Final = Code("level", SCHEME, "Level of the finding")
REGION: Final = Code("region", SCHEME, "Region of the finding, in pixels of the image")
EDGES: Final = {
    name: Code(name, SCHEME, meaning)
    for name, meaning in (
        ("x", "Left edge of the region"),
        ("y", "Upper edge of the region"),
        ("width", "Width of the region"),
        ("height", "Height of the region"),
    )
}
COMMENT: Final = Code("121106", "DCM", "Comment")
BOUNDED_BY: Final = Code("75958009", "SCT", "Bounded by")
XR: Final = Code("43468-8", "LN", "XR unspecified body region")
UNITY: Final = Code("1", "UCUM", "no units")
DEVICE: Final = Code("121007", "DCM", "Device")
SOURCE_IMAGE: Final = Code("121322", "DCM", "Source image for image processing operation")
