"""The steps from stored values to grey that the reader took, in the form that a presentation state says them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from callus.radiograph import apart, codecs
from callus.radiograph.dicom import coded_frame
from callus.radiograph.elements import BIG_ENDIAN, PIXEL_DATA
from callus.radiograph.grayscale import GreyScale, padding_ends

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.radiograph import Radiograph
    from callus.radiograph.elements import Elements

_MODALITY_LUT, _VOI_LUT, _DESCRIPTOR, _LUT_DATA = 0x00283000, 0x00283010, 0x00283002, 0x00283006
_INTERCEPT, _SLOPE, _RESCALE_TYPE = 0x00281052, 0x00281053, 0x00281054
_CENTER, _WIDTH, _FUNCTION = 0x00281050, 0x00281051, 0x00281056
_SHAPE: Final = 0x20500020
_FUNCTIONS: Final = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_MOST_FIRST: Final = 0x7FFF
"""The last value at which a table can begin and be read alike by all, whether they take it as signed or not."""
_MOST_ENTRIES: Final = 0x10000


@dataclass(frozen=True, eq=False)
class Lut:
    """A table: ``entries``, uint16, for the values from ``first`` on."""

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

    Raises:
        RadiographError: the pixels, where they are needed again, cannot be decoded again.
        PassingError: not just now.
    """
    tables = (_lut(tags, _MODALITY_LUT), None if _has_note(radiograph, "window:") else _lut(tags, _VOI_LUT))
    if any(table is not None and not 0 <= table.first <= _MOST_FIRST for table in tables):
        return _folded(tags, layout)
    modality: Lut | Rescale = _lut(tags, _MODALITY_LUT) or _rescale(tags, radiograph)
    shape = tags.text(_SHAPE).upper()
    inverted = shape == "INVERSE" if shape in ("IDENTITY", "INVERSE") else layout.photometric == "MONOCHROME1"
    return GreySteps(modality, _view(tags, radiograph) or _whole(tags, layout, modality), inverted)


def _rescale(tags: Elements, radiograph: Radiograph) -> Rescale:
    if _has_note(radiograph, "rescale:"):  # the reader left it out
        return Rescale()
    slope, intercept = (tags.numbers(tag)[:1] for tag in (_SLOPE, _INTERCEPT))
    found = Rescale(slope[0] if slope else 1.0, intercept[0] if intercept else 0.0, tags.text(_RESCALE_TYPE) or "US")
    return found if len(found.kind) <= 16 and "\\" not in found.kind else replace(found, kind="US")  # noqa: PLR2004 - LO


def _view(tags: Elements, radiograph: Radiograph) -> Lut | Window | None:
    """The view that the file names; None where it names none, or one that the reader left out."""
    if _has_note(radiograph, "window:"):
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
    """A table of the file; None where there is none, or one that is damaged."""
    item = tags.item(tag)
    data = item.by_tag.get(_LUT_DATA) if item is not None else None
    descriptor = [int(number) for number in item.numbers(_DESCRIPTOR)] if item is not None else []
    if item is None or data is None or len(descriptor) != 3:  # noqa: PLR2004
        return None
    count = descriptor[0] & 0xFFFF or 65536
    kind = np.dtype("<u2" if item.little else ">u2") if len(data.value) >= 2 * count else np.dtype(np.uint8)
    entries = np.frombuffer(data.value, kind, min(count, len(data.value) // kind.itemsize)).astype(np.uint16)
    return Lut(descriptor[1], entries) if len(entries) == count and entries.any() else None


def _has_note(radiograph: Radiograph, start: str) -> bool:
    return any(note.startswith(start) for note in radiograph.notes)


def _folded(tags: Elements, layout: codecs.Layout) -> GreySteps:
    """All that the reader did to the picture's values as one table that begins at 0.

    For what has a table that begins below 0 or above 0x7FFF: the encoding of that number (SS beside a length that may
    not fit, or US that is taken for SS) is so often misread that no such table is written. The first step moves the
    least value to 0, so that it depends on no sign.
    """
    frame = _frame(tags, layout)
    values, at = np.unique(_stored(frame), return_index=True)
    grey = GreyScale(tags, frame.layout).apply(frame.values)
    low, span = int(values[0]), max(int(values[-1] - values[0]), 1)
    # More values than a table has entries (of more than 16 bits only) share them.
    slope = min(1.0, (_MOST_ENTRIES - 1) / span)
    places = np.arange(min(span + 1, _MOST_ENTRIES))
    entries = np.interp(places, (values - low) * slope, grey.ravel()[at] * (65535 / np.iinfo(grey.dtype).max))
    table = Lut(0, np.rint(entries).astype(np.uint16))
    return GreySteps(Rescale(slope, (0 - low) * slope), table, inverted=False)  # the table has the inversion in it


def _whole(tags: Elements, layout: codecs.Layout, modality: Lut | Rescale) -> Window:
    """All values that the picture holds, padding left out: what the reader shows where a file names no view."""
    stored = _stored(_frame(tags, layout))
    ends = padding_ends(tags, layout)
    if ends is not None:
        kept = stored[(stored < ends[0]) | (stored > ends[1])]
        stored = kept if kept.size else stored
    if isinstance(modality, Lut):
        index = np.clip(np.unique(stored) - modality.first, 0, len(modality.entries) - 1)
        held = modality.entries[index].astype(np.float64)
    else:
        held = np.array([stored.min(), stored.max()]) * modality.slope + modality.intercept
    low, high = float(held.min()), float(held.max())
    if low == high:  # the reader has it black
        return Window(low + 1, 2.0)
    if high - low < 1:  # a LINEAR window is never narrower
        return Window((low + high) / 2, high - low, "LINEAR_EXACT")
    # LINEAR draws from center - 0.5 - (width - 1) / 2 to center - 0.5 + (width - 1) / 2.
    return Window((low + high) / 2 + 0.5, high - low + 1)


def _frame(tags: Elements, layout: codecs.Layout) -> codecs.Frame:
    """The frame of a file of one, decoded again."""
    element = tags.by_tag[PIXEL_DATA]
    if element.encapsulated:
        syntax = "" if tags.syntax == BIG_ENDIAN or tags.syntax in codecs.NATIVE else tags.syntax
        # A decoder that the file makes crash must not take the results of other files with it.
        return apart.coded(coded_frame(tags, 1, 0), layout, syntax)
    return codecs.native(element.value, layout, 0, little=tags.little)


def _stored(frame: codecs.Frame) -> NDArray[np.int64]:
    """The stored values of a frame, int64 (rows, columns)."""
    shift = max(0, frame.layout.high + 1 - frame.layout.stored)
    return _signed(frame.values.astype(np.int64) >> shift & (2**frame.layout.stored - 1), frame.layout)


def _signed(values: NDArray[Any], layout: codecs.Layout) -> NDArray[Any]:
    """Bit patterns of the stored bits to the numbers that they mean."""
    if not layout.signed:
        return values
    return np.where(values >= 2 ** (layout.stored - 1), values - 2**layout.stored, values)
