"""From a frame's coded bytes to its stored values: one decoder for each kind of coding.

Where pydicom would try all the plugins that it finds and take the first that does not raise, each kind has the one
here that was measured to be right and quick; a decoder that fails is an error, never a reason to ask another one that
is less particular. The stream says what it is: its size and process are read before a decoder sees it.
"""

from __future__ import annotations

import importlib
import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from callus.errors import RadiographError
from callus.radiograph import jpeg, jpeg2000, limits, raster
from callus.radiograph.elements import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, syntax_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Stored = NDArray[Any]

SHARED_CHROMA: Final = "YBR_FULL_422"
RLE: Final = "1.2.840.10008.1.2.5"
NATIVE: Final = frozenset((IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, ""))
_CODED: Final = (50, 51, 53, 55, 57, 70, 80, 81, 90, 91, 201, 202, 203)
"""The last part of the UIDs of JPEG's kinds; 53 and 55 (spectral selection and progression) are retired."""
_JPEG: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in _CODED)
READ: Final = NATIVE | _JPEG | {RLE}
J2K_START: Final = jpeg2000.START
_RLE_HEAD: Final = 64
_PIECE: Final = 1 << 22
_PACKAGES: Final = {
    "rle.utils": "pylibjpeg-rle",
    "jpeg_ls": "pyjpegls",
    "gdcm": "python-gdcm",
    "openjpeg.utils": "pylibjpeg-openjpeg",
}
"""Decoders, by module, as pip calls them. All come with callus; a system may still lack a library that one needs."""
_JP2_START: Final = b"\0\0\0\x0cjP  "


@dataclass(frozen=True)
class Layout:
    """How stored values stand in a frame (DICOM's Image Pixel module).

    Attributes:
        rows: of the picture.
        columns: of the picture.
        samples: 1 grey or palette, 3 colour.
        allocated: bits that a sample takes.
        stored: bits of these that mean something.
        high: the number of the highest of these.
        signed: two's complement.
        planar: one colour after the other and not pixel by pixel.
        photometric: MONOCHROME1, MONOCHROME2, RGB, ...
        swapped: 8 bit values stand in big-endian words.
        overlaid: the bits above hold an overlay.
    """

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: bool
    photometric: str
    swapped: bool = False
    overlaid: bool = False

    @property
    def frame_bits(self) -> int:
        """Bits that an uncompressed frame takes."""
        shared = 2 if self.photometric == SHARED_CHROMA else self.samples
        return self.rows * self.columns * shared * self.allocated


@dataclass(frozen=True, eq=False)
class Frame:
    """A decoded frame.

    Attributes:
        values: (rows, columns) or (rows, columns, 3), unsigned: the bits as stored.
        layout: of the values; a decoder may have changed bits and colour.
        missing: the part, 0 to 1, that the file lacks at its end; None where that is not known but some is missing.
    """

    values: Stored
    layout: Layout
    missing: float | None = 0.0


def native(raw: memoryview, layout: Layout, index: int, *, little: bool) -> Frame:
    """Take one frame of uncompressed pixel data; what is missing at the end becomes zeros.

    Raises:
        RadiographError: none of the frame is there, or its bits are of a kind that is not read.
    """
    if layout.allocated not in (1, 8, 16, 32):
        raise RadiographError(f"has {layout.allocated} bits allocated; expected 1, 8, 16 or 32")
    first_bit = index * layout.frame_bits
    begin, length = first_bit // 8, (first_bit % 8 + layout.frame_bits + 7) // 8
    length += length % 2 if layout.swapped else 0
    part = raw[begin : begin + length]
    if not len(part):
        raise RadiographError("is truncated: the file ends before its pixel data", hint="copy the file again")
    missing = 1 - len(part) / length
    data: bytes | memoryview = bytes(part) + bytes(length - len(part)) if missing else part
    if layout.allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[first_bit % 8 :]
        values = bits[: layout.frame_bits]
    else:
        values = np.frombuffer(data, np.dtype(f"{'<' if little else '>'}u{layout.allocated // 8}"))
        if layout.swapped:
            values = values.view(np.uint16).byteswap().view(np.uint8)[: layout.frame_bits // 8]
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if layout.photometric == SHARED_CHROMA:
        quads = values.reshape(-1, 4)  # Y1 Y2 Cb Cr
        values = quads[:, [0, 2, 3, 1, 2, 3]].reshape(-1)
        layout = replace(layout, planar=False)
    return Frame(_shape(values, layout), layout, missing)


def coded(data: bytes, layout: Layout, syntax: str) -> Frame:
    """Decode one compressed frame.

    Args:
        data: the frame's fragments, joined.
        layout: as the data set states it.
        syntax: the transfer syntax; "" where unknown.

    Raises:
        RadiographError: an unknown syntax, another size than stated, a decoder that is not installed, or one that
            fails; it names the syntax.
    """
    name = syntax_name(syntax)
    if syntax not in READ:
        raise RadiographError(f"has the transfer syntax {name}, which is not read", hint="export it uncompressed")
    try:
        if syntax == RLE:
            return _rle(data, layout)
        if data.startswith((J2K_START, _JP2_START)):
            return _jpeg2000(data, layout)
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data, layout)
    except RadiographError as error:
        raise RadiographError(f"{error.what} [{name}]", hint=error.hint) from error.__cause__
    except MemoryError:  # it is not the file's; whoever asks knows what to say of it
        raise
    except Exception as error:  # each decoder raises its own kinds
        raise RadiographError(
            f"has pixel data that its decoder refuses: {limits.one_line(error)} [{name}]",
            hint="the file is damaged; export it again",
        ) from error
    raise RadiographError(
        f"has pixel data that begin with {data[:8].hex()}, which is not {name}", hint="the file is damaged"
    )


def start_of_frame(fragment: memoryview) -> bool:
    """Whether a fragment begins a new picture."""
    return bytes(fragment[:4]) == J2K_START or bytes(fragment[:3]) == b"\xff\xd8\xff"


def _decoder(module: str) -> Any:
    """A decoder's module, loaded when it is first needed.

    Raises:
        RadiographError: it cannot be imported; the file is not to blame.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RadiographError(
            f"needs a decoder that cannot be imported here: {limits.one_line(error)}",
            hint=f"pip install {_PACKAGES[module]}",
        ) from error


def _rle(data: bytes, layout: Layout) -> Frame:
    """One byte plane at a time: given several, the decoder's own check lets a hostile one end the process's thread."""
    decode_pixel_data = _decoder("rle.utils").decode_pixel_data
    width, pixels = layout.allocated // 8, layout.rows * layout.columns
    (count,) = struct.unpack_from("<I", data)
    offsets = (*struct.unpack_from("<15I", data, 4)[:count], len(data))
    if count != layout.samples * width:
        raise RadiographError(f"has {count} RLE segments; expected {layout.samples * width}")
    # A run takes 2 bytes for up to 128, a literal one more byte for as many: beyond that it is filler or hostile.
    if (
        any(not 0 < after - before <= 2 * pixels + 1024 for before, after in pairwise(offsets))
        or offsets[0] < _RLE_HEAD
    ):
        raise RadiographError("has RLE segments that lie outside of its pixel data or are far too long")
    head = struct.pack("<2I", 1, _RLE_HEAD).ljust(_RLE_HEAD, b"\0")

    def plane(segment: int) -> Stored:
        coded = head + data[offsets[segment] : offsets[segment + 1]]
        raw = decode_pixel_data(coded, version=2, rows=layout.rows, columns=layout.columns, bits_allocated=8)
        return np.frombuffer(raw, np.uint8).reshape(layout.rows, layout.columns)

    values = np.empty((layout.samples, pixels), f"<u{width}")
    for sample, one in enumerate(values):
        # A sample's most significant byte comes first; merged, the least does, as in this machine's words.
        planes = [plane(sample * width + byte) for byte in range(width)]
        one[:] = np.asarray(cv2.merge(planes[::-1])).reshape(-1).view(values.dtype)
    layout = replace(layout, planar=True, swapped=False)
    return Frame(_shape(values, layout), layout)


def _jpeg(data: bytes, layout: Layout) -> Frame:
    parsed = jpeg.parse(data)
    _same_size(parsed.width, parsed.height, parsed.components, layout)
    if parsed.process == jpeg.JPEG_LS:
        return _jpeg_ls(data, layout, parsed)
    if parsed.precision == 8 and parsed.process in (jpeg.BASELINE, jpeg.EXTENDED, jpeg.PROGRESSIVE):  # noqa: PLR2004
        values = raster.jpeg_pixels(parsed)
        photometric = layout.photometric
        if layout.samples == 3:  # noqa: PLR2004 - the stream says what its colours are; else the data set does
            is_rgb = parsed.colours == "RGB" or (not parsed.colours and photometric == "RGB")
            photometric = "RGB" if is_rgb else "YBR_FULL"
        layout = _bits(replace(layout, planar=False, photometric=photometric), 8, values)
        return Frame(values, layout, 0.0 if parsed.complete else None)
    if not parsed.complete:
        raise RadiographError("is truncated: its JPEG stream has no end", hint="copy the file again")
    _check_gdcm(layout, parsed)
    fragment = _fragment(jpeg.bare(parsed))
    parsed = replace(parsed, stream=b"")  # a copy of the file that nobody needs from here on
    return _gdcm(layout, parsed, fragment)


def _jpeg_ls(data: bytes, layout: Layout, parsed: jpeg.Jpeg) -> Frame:
    if not parsed.complete:
        raise RadiographError("is truncated: its JPEG-LS stream has no end", hint="copy the file again")
    raw, info = _decoder("jpeg_ls").decode_pixel_data(data)
    values = np.frombuffer(raw, _container(parsed.precision))
    layout = _bits(replace(layout, planar=info["interleave_mode"] == 0), parsed.precision, values)
    return Frame(_shape(values, layout), layout)


def _check_gdcm(layout: Layout, parsed: jpeg.Jpeg) -> None:
    """Refuse what GDCM does not decode rightly, or with too much memory."""
    lossless = parsed.process == jpeg.LOSSLESS and 2 <= parsed.precision <= 16  # noqa: PLR2004 - JPEG's own bounds
    extended = parsed.process in (jpeg.EXTENDED, jpeg.PROGRESSIVE) and parsed.precision == 12  # noqa: PLR2004
    if not lossless and not extended:
        raise RadiographError(
            f"is coded by JPEG process {parsed.process - 0xC0} with {parsed.precision} bits, which is not read",
            hint="export it uncompressed",
        )
    if layout.rows * layout.columns * layout.samples > limits.MAX_PIXELS:  # GDCM copies each sample several times
        raise RadiographError(
            f"is too large: {layout.columns:,} x {layout.rows:,} pixels of {layout.samples} samples in JPEG of"
            f" {parsed.precision} bits; at most {limits.MAX_PIXELS // 1_000_000} million samples are read",
            hint="export it uncompressed",
        )


def _fragment(stream: bytes) -> Any:
    """A coded stream as GDCM takes it, which copies it."""
    fragment = _decoder("gdcm").Fragment()
    fragment.SetByteStringValue(stream)
    return fragment


def _gdcm(layout: Layout, parsed: jpeg.Jpeg, fragment: Any) -> Frame:
    """12 bit and lossless JPEG: GDCM carries a libjpeg for each precision.

    It ends the process where a header makes its libjpeg so much as warn: it gets the bare stream, without gaps.
    """
    gdcm = _decoder("gdcm")
    types = gdcm.TransferSyntax
    syntax = types.JPEGLosslessProcess14 if parsed.process == jpeg.LOSSLESS else types.JPEGExtendedProcess2_4
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetDataElement(element)
    kind = "RGB" if layout.samples == 3 else "MONOCHROME2"  # noqa: PLR2004
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType(kind)))
    if layout.samples > 1:
        image.SetPlanarConfiguration(0)
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    bits = parsed.precision
    # The whole container counts as stored: GDCM ends the process where it would have to clear bits of 8.
    container = 8 * _container(bits).itemsize
    image.SetPixelFormat(gdcm.PixelFormat(layout.samples, container, container, container - 1, 0))
    text = image.GetBuffer()
    if text is None:
        raise RadiographError("has a JPEG stream that is damaged", hint="export it again")
    values = np.frombuffer(_bytes_of(text), _container(bits))
    layout = _bits(replace(layout, planar=False), bits, values)
    return Frame(_shape(values, layout), layout)


def _bytes_of(text: str) -> bytearray:
    """GDCM's binding gives bytes as text, by surrogateescape; encoding it sets three bytes aside for each letter."""
    found = bytearray()
    for start in range(0, len(text), _PIECE):
        found += text[start : start + _PIECE].encode("utf-8", "surrogateescape")
    return found


def _jpeg2000(data: bytes, layout: Layout) -> Frame:
    parsed = jpeg2000.parse(data)
    _same_size(parsed.width, parsed.height, parsed.components, layout)
    raw = _decoder("openjpeg.utils").decode_pixel_data(data, version=2)
    changed = "RGB" if layout.photometric in ("YBR_RCT", "YBR_ICT") else layout.photometric
    values = np.frombuffer(raw, _container(parsed.precision))
    layout = _bits(replace(layout, planar=False, photometric=changed), parsed.precision, values)
    return Frame(_shape(values, layout), layout, 0.0 if parsed.complete else None)


def _same_size(width: int, height: int, components: int, layout: Layout) -> None:
    """A stream of another size than the data set states would be read wrongly, or be a bomb."""
    limits.check_size(width, height)
    if (width, height, components) != (layout.columns, layout.rows, layout.samples):
        raise RadiographError(
            f"states {layout.columns} x {layout.rows} pixels of {layout.samples} samples, but its pixel data are"
            f" {width} x {height} of {components}",
            hint="the file is damaged",
        )


def _container(precision: int) -> np.dtype[Any]:
    return np.dtype(np.uint8 if precision <= 8 else "<u2" if precision <= 16 else "<u4")  # noqa: PLR2004


def _bits(layout: Layout, precision: int, values: Stored) -> Layout:
    """The layout of what a decoder gave: its samples are as wide as the stream says, with nothing above them.

    A stream may be wider than what it holds: many coders take all the bits that are allocated. Then the data set says
    how many mean something, unless a value says otherwise.
    """
    narrow = layout.signed or layout.overlaid or not (int(values.max(initial=0)) >> layout.stored)
    stored = layout.stored if narrow and layout.stored <= precision else precision
    return replace(layout, allocated=8 * _container(precision).itemsize, stored=stored, high=stored - 1, swapped=False)


def _shape(values: Stored, layout: Layout) -> Stored:
    if layout.samples == 1:
        return values.reshape(layout.rows, layout.columns)
    if layout.planar:
        planes = values.reshape(layout.samples, layout.rows, layout.columns)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))
    return values.reshape(layout.rows, layout.columns, layout.samples)
