"""What a radiograph is once it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Format = Literal["PNG", "JPEG", "TIFF", "WEBP", "DICOM"]


@dataclass(frozen=True)
class Identity:
    """Whose radiograph it is and of what: the DICOM attributes that a result needs to point back at the exam.

    Each is text as the file gives it, decoded by its character set, without padding; "" where the file does not
    tell. Several values of one attribute stay joined by a backslash, as DICOM writes them.
    """

    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    patient_age: str = ""
    study_uid: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    accession_number: str = ""
    referring_physician: str = ""
    series_uid: str = ""
    series_number: str = ""
    series_description: str = ""
    sop_instance_uid: str = ""
    sop_class_uid: str = ""
    instance_number: str = ""
    frame_of_reference_uid: str = ""
    acquisition_date: str = ""
    acquisition_time: str = ""
    timezone_offset: str = ""
    modality: str = ""
    body_part: str = ""
    laterality: str = ""
    image_laterality: str = ""
    view_position: str = ""
    patient_orientation: str = ""
    presentation_intent: str = ""
    burned_in_annotation: str = ""
    manufacturer: str = ""
    manufacturer_model: str = ""
    station: str = ""
    institution: str = ""
    character_set: str = ""


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One radiograph, upright as its file says, grey, with black as 0.

    Attributes:
        pixels: (height, width), uint8 or uint16, C-contiguous; 0 is black (air), the dtype's maximum is white (bone
            is bright).
        path: the file's name as it was given; None where bytes were given.
        format: "PNG", "JPEG", "TIFF", "WEBP" or "DICOM", by the content.
        sha256: of the file's bytes, 64 hexadecimal digits.
        grey: False where the file had colour: channels that differ by more than a JPEG's chroma noise.
        spacing_mm: distance between rows and between columns, in millimetres; None where the file does not tell.
        identity: whose it is; DICOM only, else None.
        notes: what was wrong but read all the same, one line each ("truncated: ...").
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    path: str | None
    format: Format
    sha256: str
    grey: bool = True
    spacing_mm: tuple[float, float] | None = None
    identity: Identity | None = None
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def unit(self) -> NDArray[np.float32]:
        """The pixels as float32 (height, width) from 0, black, to 1, white."""
        return self.pixels.astype(np.float32) * np.float32(1 / np.iinfo(self.pixels.dtype).max)


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a format's reader hands to :func:`callus.radiograph.read`.

    Attributes:
        pixels: as in :class:`Radiograph`.
        grey: as in :class:`Radiograph`.
        notes: as in :class:`Radiograph`.
        spacing_mm: as in :class:`Radiograph`.
        identity: as in :class:`Radiograph`.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    grey: bool = True
    notes: tuple[str, ...] = ()
    spacing_mm: tuple[float, float] | None = None
    identity: Identity | None = None
