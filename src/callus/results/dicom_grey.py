"""The steps from stored values to grey that the reader took, in the form that a presentation state says them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from callus.radiograph import apart, codecs
from callus.radiograph.dicom import coded_frame
from callus.radiograph.elements import BIG_ENDIAN, PIXEL_DATA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.radiograph import Radiograph
    from callus.radiograph.elements import Elements

_MODALITY_LUT, _VOI_LUT, _DESCRIPTOR, _LUT_DATA = 0x00283000, 0x00283010, 0x00283002, 0x00283006
_INTERCEPT, _SLOPE, _RESCALE_TYPE = 0x00281052, 0x00281053, 0x00281054
_CENTER, _WIDTH, _FUNCTION = 0x00281050, 0x00281051, 0x00281056
_PADDING, _PADDING_LIMIT, _SHAPE = 0x00280120, 0x00280121, 0x20500020
_FUNCTIONS: Final = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True, eq=False)
class Lut:
    """A table: ``entries``, uint16, for the values from ``first`` (0 or more) on."""

    first: int
    entries: NDArray[np.uint16]


@dataclass(frozen=True)
class Rescale:
    """``slope * stored + intercept``; ``kind`` is the unit, "US" where it is unspecified."""

    slope: float = 1.0
    intercept: float = 0.0
    kind: str = "US"


@dataclass(frozen=True)
class Window:
    """A window on the values that the first step gives (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, eq=False)
class GreySteps:
    """Modality, values of interest, and whether the least value is white."""

    modality: Lut | Rescale
    view: Lut | Window
    inverted: bool


def grey_steps(tags: Elements, layout: codecs.Layout, radiograph: Radiograph) -> GreySteps:
    """Find the steps that a grey image was read with.

    Args:
        tags: the file's elements; one frame.
        layout: as the file states it.
        radiograph: what was read; its notes tell what of the file was left out.
    """
    modality: Lut | Rescale = _lut(tags, _MODALITY_LUT) or _rescale(tags, radiograph)
    shape = tags.text(_SHAPE).upper()
    inverted = shape == "INVERSE" if shape in ("IDENTITY", "INVERSE") else layout.photometric == "MONOCHROME1"
    return GreySteps(modality, _view(tags, radiograph) or _whole(tags, layout, modality), inverted)


def _rescale(tags: Elements, radiograph: Radiograph) -> Rescale:
    if any(note.startswith("rescale:") for note in radiograph.notes):  # the reader left it out
        return Rescale()
    slope, intercept = (tags.numbers(tag)[:1] for tag in (_SLOPE, _INTERCEPT))
    found = Rescale(slope[0] if slope else 1.0, intercept[0] if intercept else 0.0, tags.text(_RESCALE_TYPE) or "US")
    return found if len(found.kind) <= 16 and "\\" not in found.kind else replace(found, kind="US")  # noqa: PLR2004 - LO


def _view(tags: Elements, radiograph: Radiograph) -> Lut | Window | None:
    """The view that the file names; None where it names none, or one that the reader left out."""
    if any(note.startswith("window:") for note in radiograph.notes):
        return None
    table = _lut(tags, _VOI_LUT)
    if table is not None:
        bits = int((tags.item(_VOI_LUT) or tags).numbers(_DESCRIPTOR)[2])
        # 16 bits mean 16 to every viewer; tables that state 12 are shown by some at a sixteenth of the brightness.
        white = max(2 ** min(max(bits, 1), 16) - 1, int(table.entries.max()))
        return Lut(table.first, np.rint(table.entries * (65535 / white)).astype(np.uint16))
    centers, widths = tags.numbers(_CENTER), tags.numbers(_WIDTH)
    if not centers or not widths:
        return None
    function = tags.text(_FUNCTION).upper()
    return Window(centers[0], widths[0], function if function in _FUNCTIONS else "LINEAR")


def _lut(tags: Elements, tag: int) -> Lut | None:
    """A table of the file; None where there is none, one that is damaged, or one that begins below 0.

    The last is so rare, and its encoding (SS for a length that may not fit) so often misread, that the whole range is
    shown instead.
    """
    item = tags.item(tag)
    data = item.by_tag.get(_LUT_DATA) if item is not None else None
    descriptor = [int(number) for number in item.numbers(_DESCRIPTOR)] if item is not None else []
    if item is None or data is None or len(descriptor) != 3 or not 0 <= descriptor[1] <= 0x7FFF:  # noqa: PLR2004
        return None
    count = descriptor[0] & 0xFFFF or 65536
    kind = np.dtype("<u2" if item.little else ">u2") if len(data.value) >= 2 * count else np.dtype(np.uint8)
    entries = np.frombuffer(data.value, kind, min(count, len(data.value) // kind.itemsize)).astype(np.uint16)
    return Lut(descriptor[1], entries) if len(entries) == count and entries.any() else None


def _whole(tags: Elements, layout: codecs.Layout, modality: Lut | Rescale) -> Window:
    """All values that the picture holds, padding left out: what the reader shows where a file names no view."""
    stored = _stored(tags, layout)
    ends = [int(end) & (2**layout.stored - 1) for end in tags.numbers(_PADDING)[:1] + tags.numbers(_PADDING_LIMIT)[:1]]
    if tags.numbers(_PADDING):
        ends = [int(end) for end in _signed(np.array(ends), layout)]
        kept = stored[(stored < min(ends)) | (stored > max(ends))]
        stored = kept if kept.size else stored
    if isinstance(modality, Lut):
        index = np.clip(np.unique(stored) - modality.first, 0, len(modality.entries) - 1)
        held = modality.entries[index].astype(np.float64)
    else:
        held = np.array([stored.min(), stored.max()]) * modality.slope + modality.intercept
    low, high = float(held.min()), float(held.max())
    # LINEAR draws from center - 0.5 - (width - 1) / 2 to center - 0.5 + (width - 1) / 2.
    return Window((low + high) / 2 + 0.5, max(high - low, 1.0) + 1)


def _stored(tags: Elements, layout: codecs.Layout) -> NDArray[np.int64]:
    """The stored values of a file of one frame, int64 (rows, columns)."""
    element = tags.by_tag[PIXEL_DATA]
    if element.encapsulated:
        syntax = "" if tags.syntax == BIG_ENDIAN or tags.syntax in codecs.NATIVE else tags.syntax
        # A decoder that the file makes crash must not take the results of other files with it.
        frame = apart.coded(coded_frame(tags, 1, 0), layout, syntax)
    else:
        frame = codecs.native(element.value, layout, 0, little=tags.little)
    shift = max(0, frame.layout.high + 1 - frame.layout.stored)
    return _signed(frame.values.astype(np.int64) >> shift & (2**frame.layout.stored - 1), frame.layout)


def _signed(values: NDArray[Any], layout: codecs.Layout) -> NDArray[Any]:
    """Bit patterns of the stored bits to the numbers that they mean."""
    if not layout.signed:
        return values
    return np.where(values >= 2 ** (layout.stored - 1), values - 2**layout.stored, values)
