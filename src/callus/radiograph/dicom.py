"""DICOM radiographs: which are read, whose they are, and their frames."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from callus.errors import RadiographError
from callus.radiograph import apart, codecs, grey, limits
from callus.radiograph.elements import (
    BIG_ENDIAN,
    FRAMES_GROUPS,
    GROUPS,
    PIXEL_DATA,
    SHARED_GROUPS,
    Element,
    Elements,
    parse,
    syntax_name,
)
from callus.radiograph.grayscale import GreyScale, look_up
from callus.radiograph.picture import Decoded, Identity
from callus.radiograph.raster import missing_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Coded = Callable[[bytes, codecs.Layout, str], codecs.Frame]

__all__ = ["MODALITIES", "decode"]

MODALITIES: Final = frozenset(("CR", "DX", "DR", "RG", "RF", "XA", "MG", "IO", "PX", "OT", "SC", "HC", "FD", ""))
"""What can hold a radiograph: computed, digital and film radiography, fluoroscopy's and angiography's single shots,
mammography's and dental apparatus, and what secondary captures call themselves. "" is a file that does not tell."""
_NOT_RADIOGRAPHS: Final = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.6": "ultrasound",
    "1.2.840.10008.5.1.4.1.1.3": "ultrasound",
    "1.2.840.10008.5.1.4.1.1.20": "nuclear medicine",
    "1.2.840.10008.5.1.4.1.1.128": "PET",
    "1.2.840.10008.5.1.4.1.1.13": "3D X-ray",
    "1.2.840.10008.5.1.4.1.1.66": "segmentation or registration",
    "1.2.840.10008.5.1.4.1.1.77": "visible light",
    "1.2.840.10008.5.1.4.1.1.481": "radiotherapy",
}
_SPACINGS: Final = (0x00280030, 0x00181164, 0x00182010)
"""Pixel Spacing (calibrated to the patient where it can be), Imager Pixel Spacing (at the detector, which enlarges),
Nominal Scanned Pixel Spacing (of a film). The first that the file has."""
_IDENTITY: Final = {
    "patient_id": 0x00100020,
    "issuer_of_patient_id": 0x00100021,
    "patient_name": 0x00100010,
    "patient_birth_date": 0x00100030,
    "patient_sex": 0x00100040,
    "patient_age": 0x00101010,
    "study_uid": 0x0020000D,
    "study_id": 0x00200010,
    "study_date": 0x00080020,
    "study_time": 0x00080030,
    "study_description": 0x00081030,
    "accession_number": 0x00080050,
    "referring_physician": 0x00080090,
    "series_uid": 0x0020000E,
    "series_number": 0x00200011,
    "series_description": 0x0008103E,
    "sop_instance_uid": 0x00080018,
    "sop_class_uid": 0x00080016,
    "instance_number": 0x00200013,
    "frame_of_reference_uid": 0x00200052,
    "acquisition_date": 0x00080022,
    "acquisition_time": 0x00080032,
    "timezone_offset": 0x00080201,
    "modality": 0x00080060,
    "body_part": 0x00180015,
    "laterality": 0x00200060,
    "image_laterality": 0x00200062,
    "view_position": 0x00185101,
    "patient_orientation": 0x00200020,
    "presentation_intent": 0x00080068,
    "burned_in_annotation": 0x00280301,
    "manufacturer": 0x00080070,
    "manufacturer_model": 0x00081090,
    "station": 0x00081010,
    "institution": 0x00080080,
    "character_set": 0x00080005,
}


def decode(data: bytes, frame: int | None, *, isolated: bool = False) -> Decoded:
    """Decode a DICOM radiograph.

    Args:
        data: the file's bytes.
        frame: as in :func:`callus.radiograph.read`.
        isolated: as there.

    Raises:
        RadiographError: no radiograph, no pixels, several frames and none named, damaged, or a syntax that is not read.
    """
    tags = parse(data)
    identity = stated_identity(tags)
    check_kind(tags, identity)
    layout = stated_layout(tags)
    count = max(1, tags.number(0x00280008, 1))
    index = limits.check_frame(count, frame)
    decoded = stored_frame(tags, layout, count, index, apart.coded if isolated else codecs.coded)
    tags = of_frame(tags, index)
    notes: list[str] = []
    if decoded.layout.samples == 1 and decoded.layout.photometric != "PALETTE COLOR":
        scale = GreyScale(tags, decoded.layout)
        pixels, is_grey = scale.apply(decoded.values), True
        notes += scale.notes
    else:
        pixels, is_grey = _colour(decoded, tags)
    pixels, cut = _missing(pixels, decoded)
    if tags.cut and not cut and tags.by_tag[PIXEL_DATA].encapsulated:
        cut = ("truncated: the file ends early, but this coded picture has its end",)
    return Decoded(pixels, is_grey, (*cut, *notes), _spacing(tags), identity)


def stated_identity(tags: Elements) -> Identity:
    """Whose image it is and of what, as the file says."""
    return Identity(**{name: tags.text(tag) for name, tag in _IDENTITY.items()})


def of_frame(tags: Elements, index: int) -> Elements:
    """The data set with what functional groups say of one frame: of this one, else of all."""
    told: dict[int, Element] = {}
    for groups in (tags.item(SHARED_GROUPS), tags.item(FRAMES_GROUPS, index)):
        for group in GROUPS if groups is not None else ():
            said = groups.item(group) if groups is not None else None
            told |= said.by_tag if said is not None else {}
    told.pop(PIXEL_DATA, None)  # a hostile one: pixels are the data set's own
    return replace(tags, by_tag=tags.by_tag | told)


def check_kind(tags: Elements, identity: Identity) -> None:
    """Refuse what is no radiograph, in the order in which a person would want to be told.

    Raises:
        RadiographError: another modality, or no pixel data.
    """
    modality, uid = identity.modality.upper(), identity.sop_class_uid
    other = next((name for root, name in _NOT_RADIOGRAPHS.items() if uid == root or uid.startswith(root + ".")), "")
    if other or modality not in MODALITIES:
        raise RadiographError(
            f"is no radiograph: its modality is {limits.one_line(modality or other, 40)};"
            " expected CR, DX or another radiograph",
            hint="leave it out",
        )
    if PIXEL_DATA not in tags.by_tag:
        check_syntax(tags)  # those that keep the pixels elsewhere
        reason = "ends before its pixel data" if tags.cut else "has no pixel data"
        raise RadiographError(f"is a DICOM file that {reason}", hint="give the radiograph itself, or copy it again")


def check_syntax(tags: Elements) -> None:
    """Refuse a transfer syntax that is not read.

    Raises:
        RadiographError: which names it.
    """
    if tags.syntax not in codecs.READ:
        raise RadiographError(
            f"has the transfer syntax {syntax_name(tags.syntax)}, which is not read", hint="export it uncompressed"
        )


def stated_layout(tags: Elements) -> codecs.Layout:
    rows, columns = tags.number(0x00280010, 0), tags.number(0x00280011, 0)
    limits.check_size(columns, rows)
    samples, allocated = tags.number(0x00280002, 1), tags.number(0x00280100, 16)
    stored = tags.number(0x00280101, allocated)
    high = tags.number(0x00280102, stored - 1)
    photometric = tags.text(0x00280004).upper() or "MONOCHROME2"
    if samples not in (1, 3) or not 1 <= allocated <= 32 or not 1 <= stored <= allocated:  # noqa: PLR2004
        raise RadiographError(
            f"has {samples} samples of {stored} bits in {allocated}; expected 1 or 3 of up to 32 bits",
            hint="the file is damaged",
        )
    if allocated > 16 and rows * columns > limits.MAX_WIDE_PIXELS:  # noqa: PLR2004 - no table of values: computed each
        raise RadiographError(
            f"is too large: {columns:,} x {rows:,} pixels of {allocated} bits;"
            f" at most {limits.MAX_WIDE_PIXELS // 1_000_000} million of more than 16 bits are read",
            hint="export it with 16 bits",
        )
    if not stored - 1 <= high < allocated:
        high = stored - 1
    return codecs.Layout(
        rows=rows,
        columns=columns,
        samples=samples,
        allocated=allocated,
        stored=stored,
        high=high,
        signed=tags.number(0x00280103, 0) == 1,
        planar=tags.number(0x00280006, 0) == 1,
        photometric=photometric,
        swapped=tags.syntax == BIG_ENDIAN and allocated == 8 and tags.by_tag[PIXEL_DATA].vr == "OW",  # noqa: PLR2004
        # Overlay Bit Position: 0 is an overlay of its own, the others are bits of the pixels (retired).
        overlaid=any(tags.number(0x60000102 | group << 17, 0) > 0 for group in range(16)),
    )


def stored_frame(tags: Elements, layout: codecs.Layout, count: int, index: int, coded: Coded) -> codecs.Frame:
    """One of several frames' stored values, decoded by ``coded`` where they are compressed.

    Raises:
        RadiographError: they cannot be decoded.
    """
    element, syntax = tags.by_tag[PIXEL_DATA], tags.syntax
    check_syntax(tags)
    if not element.encapsulated:
        expected = (count * layout.frame_bits + 7) // 8
        if syntax not in codecs.NATIVE and not expected <= len(element.value) <= expected + 1:
            raise RadiographError(
                f"says that it is coded as {syntax_name(syntax)}, but holds {len(element.value):,} plain bytes",
                hint="the file is damaged",
            )
        if layout.photometric == codecs.SHARED_CHROMA:
            each = replace(layout, photometric="YBR_FULL")
            if (count * each.frame_bits + 7) // 8 <= len(element.value):  # as some write it: with all of the chroma
                layout = each
        return codecs.native(element.value, layout, index, little=tags.little)
    if syntax == BIG_ENDIAN or (syntax in codecs.NATIVE and syntax):
        # Coded all the same: the stream itself says what it is.
        syntax = ""
    return coded(coded_frame(tags, count, index), layout, syntax)


def coded_frame(tags: Elements, count: int, index: int) -> bytes:
    """The coded bytes of one frame out of the fragments of all."""
    parts = [part for part in tags.by_tag[PIXEL_DATA].items if isinstance(part, memoryview)]
    table, parts = (parts[0], parts[1:]) if parts else (memoryview(b""), [])
    if not parts:
        raise RadiographError("has pixel data without any fragment", hint="copy the file again")
    if count == 1:
        chosen = parts
    elif len(parts) == count:
        chosen = parts[index : index + 1]
    else:
        starts = _starts(table, parts, count)
        if len(starts) != count:
            raise RadiographError(
                f"holds {len(parts)} fragments for {count} frames, and nothing says which belong together",
                hint="export one frame a file",
            )
        chosen = parts[starts[index] : (*starts, len(parts))[index + 1]]
    return bytes(chosen[0]) if len(chosen) == 1 else b"".join(chosen)


def _starts(table: memoryview, parts: list[memoryview], count: int) -> list[int]:
    """The number of each frame's first fragment: by the offset table, else by what begins a stream."""
    if len(table) == 4 * count:
        places, offset = {}, 0
        for number, part in enumerate(parts):
            places[offset] = number
            offset += 8 + len(part)
        offsets = np.frombuffer(table, "<u4").tolist()
        if all(place in places for place in offsets) and offsets == sorted(set(offsets)):
            return [places[place] for place in offsets]
    return [number for number, part in enumerate(parts) if codecs.start_of_frame(part)]


def _missing(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], frame: codecs.Frame
) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[str, ...]]:
    """Make black what the file lacks, and say how much it is."""
    if frame.missing is None:
        if frame.values.dtype == np.uint8 and frame.values.ndim == 2:  # noqa: PLR2004 - JPEG's fill is one value
            _, note = missing_rows(frame.values, sequential=True)
            return pixels, (note,)
        return pixels, ("truncated: the coded picture ends early; what was there is shown",)
    rows = int(np.ceil(frame.missing * len(pixels)))
    if not rows:
        return pixels, ()
    pixels = pixels.copy()
    # From the first missing pixel on: the row that is cut in two keeps its beginning.
    there = round((1 - frame.missing) * pixels.size)
    pixels.reshape(-1)[there:] = 0
    return pixels, (f"truncated: the last {rows} of {len(pixels)} rows are missing, in whole or in part",)


def _colour(frame: codecs.Frame, tags: Elements) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], bool]:
    """Colour to grey; windows are for grey pictures only."""
    values, layout = frame.values, frame.layout
    if layout.photometric == "PALETTE COLOR":
        return grey.from_rgb(_palette(values, tags, layout))
    if layout.allocated > 16:  # noqa: PLR2004
        raise RadiographError(f"has colour of {layout.allocated} bits; expected 8 or 16")
    if layout.stored < layout.allocated:
        values = values << (layout.allocated - 1 - layout.high)
        # The bits below are filled, so that white is white.
        values = values | values >> layout.stored
    values = np.ascontiguousarray(values)
    if layout.photometric.startswith("YBR") and "PARTIAL" not in layout.photometric and values.dtype == np.uint8:
        return grey.from_ycbcr(values)
    if layout.photometric != "RGB":
        raise RadiographError(f"has the photometric interpretation {layout.photometric}, which is not read")
    return grey.from_rgb(values)


def _palette(values: NDArray[Any], tags: Elements, layout: codecs.Layout) -> NDArray[Any]:
    """Stored values through the file's palette: (rows, columns, 3)."""
    descriptor = [int(number) for number in tags.numbers(0x00281101)]
    if len(descriptor) != 3 or layout.allocated > 16:  # noqa: PLR2004
        raise RadiographError("has PALETTE COLOR pixels but no palette", hint="the file is damaged")
    count, first = descriptor[0] & 0xFFFF or 65536, descriptor[1]
    indexes = np.clip((np.arange(2**layout.allocated) & (2**layout.stored - 1)) - first, 0, count - 1)
    channels = []
    for tag in (0x00281201, 0x00281202, 0x00281203):
        element = tags.by_tag.get(tag)
        raw = element.value if element is not None else memoryview(b"")
        wide = len(raw) >= 2 * count
        entries = np.frombuffer(raw, ("<u2" if tags.little else ">u2") if wide else "u1")
        if len(entries) < count:
            raise RadiographError("has PALETTE COLOR pixels but a palette that is too short", hint="export it again")
        entries = entries.astype(np.uint16)
        # 8 bit entries in 16 bit words, or 16 bit entries that all are one byte twice: both mean part of white.
        full = entries if wide and descriptor[2] > 8 else entries * np.uint16(257)  # noqa: PLR2004
        channels.append(look_up(values, full[indexes]))
    return np.dstack(channels)


def _spacing(tags: Elements) -> tuple[float, float] | None:
    for tag in _SPACINGS:
        found = tags.numbers(tag)
        if len(found) == 2 and all(0 < value < 1000 for value in found):  # noqa: PLR2004 - millimetres of one pixel
            return found[0], found[1]
    return None
