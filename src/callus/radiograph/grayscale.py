"""DICOM's grey scale: from stored values to what a reader sees, as one lookup table.

The steps (PS3.4 N.2): modality LUT or rescale, VOI LUT or window, presentation LUT shape. Up to 16 bits they are done
once for each value that can be stored, not for each pixel, so a radiograph costs one lookup a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from callus.radiograph.codecs import Layout
    from callus.radiograph.elements import Elements

    Values = NDArray[np.float64]

_MODALITY_LUT, _VOI_LUT, _DESCRIPTOR, _LUT_DATA = 0x00283000, 0x00283010, 0x00283002, 0x00283006
_INTERCEPT, _SLOPE = 0x00281052, 0x00281053
_CENTER, _WIDTH, _FUNCTION = 0x00281050, 0x00281051, 0x00281056
_PADDING, _PADDING_LIMIT, _SHAPE = 0x00280120, 0x00280121, 0x20500020
_TABLE_BITS: Final = 16
_MOST: Final = 1e30
"""Beyond that numbers make no sense, and calculating with them overflows."""


@dataclass(frozen=True, eq=False)
class _Lut:
    """A lookup table of the file: ``entries`` for the values from ``first`` on; ``bits`` wide as it states."""

    first: int
    bits: int
    entries: Values

    def __call__(self, values: Values) -> Values:
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[index.astype(np.int64)])


@dataclass
class GreyScale:
    """The steps for one data set.

    Attributes:
        tags: the data set.
        layout: of the stored values.
        notes: what the file says that cannot be done, one line each.
    """

    tags: Elements
    layout: Layout
    notes: list[str] = field(default_factory=list)

    def apply(self, stored: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Stored bits to grey values.

        Args:
            stored: (rows, columns), unsigned, the bits as they stand.

        Returns:
            (rows, columns) uint8 where 8 bits or fewer are stored, else uint16; 0 is black.
        """
        kind = np.uint8 if self.layout.stored <= 8 else np.uint16  # noqa: PLR2004
        bits = 8 * stored.dtype.itemsize
        if bits > _TABLE_BITS:
            return self._shown(self._meaning(stored), lambda real: real, kind)
        patterns = np.arange(2**bits, dtype=np.uint32)

        def present(real: Values) -> Values:
            there = np.zeros(len(patterns), dtype=np.bool_)
            there[stored] = True
            return real[there]

        table = self._shown(self._meaning(patterns), present, kind)
        seen = look_up(stored, table)
        if int(seen.min()) == int(seen.max()):
            for note, without in self._left_out():
                whole = look_up(stored, self._shown(self._meaning(patterns), present, kind, **without))
                if int(whole.min()) != int(whole.max()):
                    self.notes.append(note)
                    return whole
        return seen

    def _meaning(self, patterns: NDArray[Any]) -> NDArray[np.int64]:
        """Bit patterns to stored values: dirty bits beyond the stored ones dropped, sign extended."""
        layout = self.layout
        values = patterns.astype(np.int64) >> max(0, layout.high + 1 - layout.stored)
        values &= 2**layout.stored - 1
        if layout.signed:
            values = np.where(values >= 2 ** (layout.stored - 1), values - 2**layout.stored, values)
        return values

    def _shown(
        self,
        stored: NDArray[np.int64],
        present: Callable[[Values], Values],
        kind: type[np.uint8 | np.uint16],
        *,
        view: bool = True,
        padded: bool = True,
    ) -> NDArray[Any]:
        """Stored values to grey values, step by step; ``present`` picks those that the picture holds."""
        padding = self._padding(stored) if padded else np.zeros(stored.shape, dtype=np.bool_)
        real = self._modality(stored.astype(np.float64))
        part = self._voi(real) if view else None
        if part is None:
            held = present(np.where(padding, np.nan, real))
            held = held[np.isfinite(held)]
            low, high = (float(held.min()), float(held.max())) if held.size else (0.0, 1.0)
            part = (real - low) / (high - low) if high > low else np.zeros_like(real)
        part = np.clip(np.nan_to_num(part), 0, 1)
        if self._inverted():
            part = 1 - part
        part[padding] = 0
        return np.rint(part * np.iinfo(kind).max).astype(kind)

    def _padding(self, stored: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which stored values fill what is no picture; they become black, and do not count for the full range."""
        ends = padding_ends(self.tags, self.layout)
        if ends is None:
            return np.zeros(stored.shape, dtype=np.bool_)
        return np.asarray((stored >= ends[0]) & (stored <= ends[1]))

    def _modality(self, stored: Values) -> Values:
        table = self._table(_MODALITY_LUT, stored)
        if table is not None:
            return table(stored)
        slope, intercept = self.tags.numbers(_SLOPE)[:1], self.tags.numbers(_INTERCEPT)[:1]
        if not slope and not intercept:
            return stored
        scale, shift = slope[0] if slope else 1.0, intercept[0] if intercept else 0.0
        if not (_sensible(scale) and _sensible(shift) and scale):
            self._note(f"rescale: slope {scale:g} and intercept {shift:g} make no sense and are left out")
            return stored
        return stored * scale + shift

    def _voi(self, real: Values) -> Values | None:
        """The part of white, 0 to 1; None where the file names no view."""
        table = self._table(_VOI_LUT, real)
        if table is not None:
            # A table that goes beyond the bits that it states is believed.
            return table(real) / max(2.0**table.bits - 1, float(table.entries.max()))
        centers, widths = self.tags.numbers(_CENTER), self.tags.numbers(_WIDTH)
        if not centers or not widths:
            return None
        center, width = centers[0], widths[0]
        function = self.tags.text(_FUNCTION).upper() or "LINEAR"
        if not (_sensible(center) and _sensible(width)) or width < (1 if function == "LINEAR" else 1e-9):
            self._note(f"window: center {center:g} and width {width:g} make no sense and are left out")
            return None
        return _window(real, center, width, function)

    def _left_out(self) -> Iterator[tuple[str, dict[str, bool]]]:
        """What may keep all of a picture from being seen: a note, and how it is shown without."""
        if _VOI_LUT in self.tags.by_tag or self.tags.numbers(_CENTER):
            yield "window: it shows nothing of this picture; the full range is shown instead", {"view": False}
        if self.tags.numbers(_PADDING):
            yield "padding: it covers all of this picture, and is left out", {"padded": False}

    def _inverted(self) -> bool:
        """Whether the least value is white.

        The presentation LUT shape is the last step and says it where it is there; MONOCHROME1 says the same in
        images without one. A DX image has both (INVERSE with MONOCHROME1), which is one inversion, not two.
        """
        shape, photometric = self.tags.text(_SHAPE).upper(), self.layout.photometric
        if shape not in ("IDENTITY", "INVERSE"):
            return photometric == "MONOCHROME1"
        if (shape == "INVERSE") != (photometric == "MONOCHROME1"):
            self._note(f"presentation LUT shape: {shape} contradicts {photometric}; the shape is followed")
        return shape == "INVERSE"

    def _table(self, tag: int, values: Values) -> _Lut | None:
        """A lookup table of the file; None where there is none, or one that makes no sense."""
        item = self.tags.item(tag)
        if item is None:
            if self.tags.is_garbled(tag):
                self._note(f"LUT {tag >> 16:04X},{tag & 0xFFFF:04X}: it is damaged and left out")
            return None
        descriptor, data = [int(number) for number in item.numbers(_DESCRIPTOR)], item.by_tag.get(_LUT_DATA)
        entries = np.zeros(0)
        if len(descriptor) == 3 and data is not None:  # noqa: PLR2004
            count = descriptor[0] & 0xFFFF or 65536
            wide = len(data.value) >= 2 * count
            order = np.dtype("<u2" if item.little else ">u2") if wide else np.dtype(np.uint8)
            entries = np.frombuffer(data.value, order, min(count, len(data.value) // order.itemsize)).astype(np.float64)
            short = len(entries) < count
        if not len(entries) or short or not entries.max() > 0:
            self._note(f"LUT {tag >> 16:04X},{tag & 0xFFFF:04X}: it is damaged and left out")
            return None
        first = descriptor[1]
        if first > 0x7FFF and (self.layout.signed or values.min() < 0):  # noqa: PLR2004 - written without its sign
            first -= 0x10000
        return _Lut(first, min(max(descriptor[2], 1), 16), entries)

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def padding_ends(tags: Elements, layout: Layout) -> tuple[int, int] | None:
    """The least and the greatest stored value that fill what is no picture; None where the file names none."""
    if not tags.numbers(_PADDING):
        return None
    values = [int(end) for end in tags.numbers(_PADDING)[:1] + tags.numbers(_PADDING_LIMIT)[:1]]
    if layout.signed:
        # Written with or without its sign, in as many bits as are allocated: brought to what a stored value is.
        values = [value & (2**layout.stored - 1) for value in values]
        values = [value - 2**layout.stored if value >= 2 ** (layout.stored - 1) else value for value in values]
    # Unsigned ones stay: what no pixel can hold fills nothing. Cut to the stored bits it would be white, and take all
    # white away.
    return min(values), max(values)


def look_up(stored: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    """``table[stored]``, quickly.

    Args:
        stored: (rows, columns) uint8 or uint16.
        table: an entry for each value that the dtype can hold.
    """
    try:
        # OpenCV 5 looks 16 bit values up, three times as fast as NumPy.
        return np.asarray(cv2.LUT(stored, table.reshape(1, -1)))
    except cv2.error:
        return np.asarray(table.take(stored))


def _sensible(number: float) -> bool:
    return bool(np.isfinite(number)) and abs(number) <= _MOST


def _window(real: Values, center: float, width: float, function: str) -> Values:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, with an output from 0 to 1; an unknown function counts as LINEAR."""
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (real - center) / width, -700, 700))))
    if function != "LINEAR_EXACT":
        center, width = center - 0.5, width - 1
    if not width:
        return (real > center).astype(np.float64)
    return np.clip((real - center) / width + 0.5, 0, 1)
