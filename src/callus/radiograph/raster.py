"""PNG, JPEG, TIFF and WebP to grey pixels.

Each file is taken apart first (:mod:`jpeg`, :mod:`png`, :mod:`tiff`, :mod:`webp`): the size is checked before any
pixel is decoded, and what Pillow gets is the picture alone. So no metadata can inflate, warn or turn the picture
twice, and a file that ends early is noticed here and not left to a switch that all threads of a process share
(Pillow's ``LOAD_TRUNCATED_IMAGES``). Pillow's plugins are opened directly, which keeps its own size warning away.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from callus.errors import RadiographError
from callus.radiograph import grey, jpeg, limits, png, tiff, webp
from callus.radiograph.picture import Decoded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8] | NDArray[np.uint16]

Image.init()  # Pillow's plugins register themselves on first use, which two threads should not do at once
_DEEP = 16


class _TiffFile(TiffImagePlugin.TiffImageFile):
    """Pillow's, but without its warning of size, which comes when pixels are loaded: sizes were looked at before."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)  # type: ignore[attr-defined]  # as Pillow's own does
        super().load_prepare()


def decode(data: bytes, kind: Literal["PNG", "JPEG", "TIFF", "WEBP"], frame: int | None) -> Decoded:
    """Decode a picture file.

    Raises:
        RadiographError: damaged, too large, or of a kind that is not read.
    """
    if kind == "JPEG":
        limits.check_frame(1, frame)
        return _jpeg(data)
    if kind == "PNG":
        return _png(data, frame)
    return _tiff(data, frame) if kind == "TIFF" else _webp(data, frame)


def jpeg_pixels(parsed: jpeg.Jpeg) -> NDArray[np.uint8]:
    """Decode an 8 bit JPEG stream.

    Args:
        parsed: of :func:`jpeg.parse`.

    Returns:
        uint8 (height, width) for grey; (height, width, 3) for colour, as it is coded: RGB or YCbCr; RGB for CMYK.
    """
    limits.check_size(parsed.width, parsed.height)
    if parsed.precision != 8:  # noqa: PLR2004
        raise RadiographError(
            f"is a JPEG of {parsed.precision} bits a sample, which is read inside DICOM only", hint="export 8 bits"
        )
    image = JpegImagePlugin.JpegImageFile(BytesIO(parsed.stream))
    if image.mode == "RGB" and parsed.colours != "RGB":
        image.draft("YCbCr", image.size)  # no conversion: what the components are
    elif image.mode == "CMYK":
        return np.asarray(image.convert("RGB"))
    return np.asarray(image)


def _jpeg(data: bytes) -> Decoded:
    parsed = jpeg.parse(data)
    stored = jpeg_pixels(parsed)
    if stored.ndim == 2:  # noqa: PLR2004
        pixels, is_grey = stored, True
    elif parsed.components == 4 or parsed.colours == "RGB":  # noqa: PLR2004 - CMYK
        pixels, is_grey = grey.from_rgb(stored)  # type: ignore[assignment]
    else:
        pixels, is_grey = grey.from_ycbcr(stored)
    notes: tuple[str, ...] = ()
    if not parsed.complete:
        pixels, note = missing_rows(pixels, sequential=parsed.process in (jpeg.BASELINE, jpeg.EXTENDED))
        notes = (note,)
    return Decoded(grey.upright(pixels, parsed.orientation), is_grey, notes)


def missing_rows(pixels: NDArray[np.uint8], *, sequential: bool) -> tuple[NDArray[np.uint8], str]:
    """Make black what a decoder filled in after the end of a JPEG's data, and say how much it was.

    After the data's end, libjpeg goes on with the last block's mean, so that the missing rows are one single value.

    Args:
        pixels: (height, width).
        sequential: the rows are coded from top to bottom; a progressive picture only lacks detail.

    Raises:
        RadiographError: nothing of the picture is there.
    """
    if not sequential:
        return pixels, "truncated: the JPEG ends early; it is progressive, so all of it is there in less detail"
    differs = (pixels != pixels[-1, -1]).any(axis=1)
    missing = int(np.argmax(differs[::-1])) if differs.any() else len(pixels)
    if missing == len(pixels):
        raise RadiographError("is truncated: the JPEG ends before any of its picture", hint="copy the file again")
    if not missing:
        return pixels, "truncated: the JPEG's end is missing, but its last row is there"
    pixels = pixels.copy()
    pixels[-missing:] = 0
    return pixels, f"truncated: about {missing} of {len(pixels)} rows are missing at the end"


def _png(data: bytes, frame: int | None) -> Decoded:
    parsed = png.parse(data)
    # Of an animation only the first picture, the one that every viewer shows, is read.
    limits.check_frame(parsed.frames if frame is None else 1, frame)
    if parsed.depth == _DEEP and parsed.colour:
        # Pillow takes 16 bit colour down to 8; OpenCV keeps it.
        pixels, is_grey = _from_opencv(parsed.stream)
    else:
        pixels, is_grey = _from_pillow(PngImagePlugin.PngImageFile(BytesIO(parsed.stream)))
    short = parsed.notes
    if not short and (pixels[-1] == pixels[-1, 0]).all():  # as where there is no row
        short = png.shortage(parsed)
    pixels, notes = grey.full_range(pixels)
    return Decoded(grey.upright(pixels, parsed.orientation), is_grey, (*short, *notes))


def _tiff(data: bytes, frame: int | None) -> Decoded:
    places = tiff.directories(data)
    parsed = tiff.parse(data, places[limits.check_frame(len(places), frame)])
    if parsed.bits[0] == _DEEP and parsed.samples > 1:
        if parsed.planar:
            raise _not_read(parsed, "in planes of their own")
        pixels, is_grey = _from_opencv(parsed.stream)
        pixels, notes = grey.full_range(pixels)
    else:
        try:
            image = _TiffFile(BytesIO(parsed.stream))
        except SyntaxError as error:
            raise _not_read(parsed) from error
        deep = image.mode.startswith(("I", "F"))
        pixels, is_grey = _from_pillow(image)
        if parsed.sample_format == tiff.SIGNED and pixels.dtype == np.uint8:
            pixels = grey.stretch(pixels.view(np.int8))  # Pillow does not look
        pixels, notes = grey.full_range(pixels)
        if parsed.photometric == 0 and deep:
            # Pillow inverts white-is-zero up to 8 bits only.
            pixels = np.iinfo(pixels.dtype).max - pixels
    return Decoded(grey.upright(pixels, parsed.orientation), is_grey, (*parsed.notes, *notes))


def _not_read(parsed: tiff.Tiff, how: str = "") -> RadiographError:
    """A TIFF of a kind that no decoder here knows."""
    kind = {tiff.SIGNED: "signed ", tiff.FLOAT: "float "}.get(parsed.sample_format, "")
    return RadiographError(
        f"is a TIFF of {parsed.samples} samples of {max(parsed.bits)} {kind}bits, photometric interpretation"
        f" {parsed.photometric}{how and ', '}{how}, which is not read",
        hint="export it with 8 or 16 bits, or floats of 32",
    )


def _webp(data: bytes, frame: int | None) -> Decoded:
    parsed = webp.parse(data)
    index = limits.check_frame(parsed.frames, frame)
    image = WebPImagePlugin.WebPImageFile(BytesIO(data))
    image.seek(index)
    pixels, is_grey = _from_pillow(image)
    return Decoded(grey.upright(pixels, parsed.orientation), is_grey)


def _from_pillow(image: Image.Image) -> tuple[Pixels, bool]:  # noqa: PLR0911 - one mode after another
    """Any of Pillow's modes to grey."""
    mode, transparent = image.mode, "transparency" in image.info
    if mode == "1":
        return np.asarray(image).astype(np.uint8) * np.uint8(255), True
    if mode == "L" and not transparent:
        return np.asarray(image), True
    if mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        if transparent:
            values[values == image.info["transparency"]] = 0
        return values, True
    if mode in ("I", "F"):
        return grey.stretch(np.asarray(image)), True
    if mode in ("L", "LA", "La"):
        both = np.asarray(image if mode == "LA" else image.convert("LA"))
        return grey.over_black(np.ascontiguousarray(both[..., 0]), both[..., 1]), True
    if transparent or mode in ("RGBA", "RGBa", "PA"):
        return grey.from_rgba(np.asarray(image if mode == "RGBA" else image.convert("RGBA")))
    return grey.from_rgb(np.asarray(image.convert("RGB")))


def _from_opencv(stream: bytes) -> tuple[Pixels, bool]:
    """16 bit colour, with or without alpha, to grey."""
    try:
        pixels: Any = cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise RadiographError(f"cannot be decoded: {limits.one_line(error)}", hint="export it again") from error
    if pixels is None:
        raise RadiographError("cannot be decoded: 16 bit colour that is damaged or unusual", hint="export it again")
    if pixels.ndim == 2:  # noqa: PLR2004
        return pixels, True
    if pixels.shape[2] == 2:  # noqa: PLR2004 - grey and alpha
        return grey.over_black(np.ascontiguousarray(pixels[..., 0]), pixels[..., 1]), True
    if pixels.shape[2] == 4:  # noqa: PLR2004
        return grey.from_rgba(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA, dst=pixels))
    return grey.from_rgb(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels))
