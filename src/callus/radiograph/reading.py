"""The one way from a file to a :class:`Radiograph`."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from callus.errors import PassingError, RadiographError
from callus.radiograph import limits, raster
from callus.radiograph.picture import Identity, Radiograph

if TYPE_CHECKING:
    from callus.radiograph.picture import Decoded, Format

__all__ = ["Identity", "Radiograph", "read"]

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read(
    source: str | os.PathLike[str] | bytes, *, frame: int | None = None, strict: bool = False, isolated: bool = False
) -> Radiograph:
    """Read a radiograph from a PNG, JPEG, TIFF, WebP or DICOM file; its content says which, not its name.

    Safe to call from several threads at once.

    Args:
        source: the file's path, or its bytes.
        frame: which frame of a file that holds several, counted from 0; None takes the only one.
        strict: refuse a file that ends early, which is otherwise read as far as it goes, with a note.
        isolated: decode compressed DICOM in another process, so that a decoder that crashes on a hostile file costs
            this file and not the batch that it is in.

    Returns:
        The radiograph: upright, grey, 0 is black.

    Raises:
        RadiographError: one line that says which file, what is wrong with it and what to do.
        PassingError: the same, where the file may not be to blame.
    """
    path = None if isinstance(source, bytes | bytearray | memoryview) else _name(source)
    where = "the given bytes" if path is None else path
    try:
        data = limits.load(source)
        kind, decoded = _decode(data, frame, strict=strict, isolated=isolated)
    except RadiographError as error:
        kind_of = PassingError if isinstance(error, PassingError) else RadiographError
        raise kind_of(limits.one_line(error.what, 400), where=where, hint=error.hint) from error.__cause__
    except MemoryError as error:
        raise PassingError("does not fit into memory", where=where, hint="reduce it") from error
    except ImportError as error:
        raise PassingError(
            f"needs a library that cannot be imported here: {limits.one_line(error)}",
            where=where,
            hint="install callus again with all that it needs; the file is not to blame",
        ) from error
    except Exception as error:  # hostile bytes can make a decoder raise anything at all
        raise RadiographError(
            f"cannot be read: {limits.one_line(error) or type(error).__name__}",
            where=where,
            hint="the file is damaged; export it again",
        ) from error
    pixels: Any = np.ascontiguousarray(decoded.pixels)
    return Radiograph(
        pixels=pixels,
        path=path,
        format=kind,
        sha256=hashlib.sha256(data).hexdigest(),
        grey=decoded.grey,
        spacing_mm=decoded.spacing_mm,
        identity=decoded.identity,
        notes=decoded.notes,
    )


def detect(data: bytes) -> Format | None:
    """Tell a file's format by its first bytes; None where it is none that is read."""
    if data[128:132] == b"DICM":  # before TIFF: a whole-slide DICOM may carry a TIFF header in its preamble
        return "DICOM"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(_TIFF_STARTS):
        return "TIFF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    from callus.radiograph.elements import looks_like_dicom  # noqa: PLC0415 - as below

    return "DICOM" if looks_like_dicom(data) else None


def _decode(data: bytes, frame: int | None, *, strict: bool, isolated: bool) -> tuple[Format, Decoded]:
    kind = detect(data)
    if kind is None:
        raise RadiographError(
            f"is not an image: it begins with {limits.one_line(repr(data[:12]))}",
            hint="expected PNG, JPEG, TIFF, WebP or DICOM content, whatever the file's ending",
        )
    if kind == "DICOM":
        from callus.radiograph import dicom  # noqa: PLC0415 - pydicom takes 0.3 s to import; other formats do without

        decoded = dicom.decode(data, frame, isolated=isolated)
    else:
        decoded = raster.decode(data, kind, frame)
    if strict:
        for note in decoded.notes:
            if note.startswith("truncated"):
                raise RadiographError(f"is {note}", hint="copy the file again, or read it without strict")
    return kind, decoded


def _name(source: str | os.PathLike[str]) -> str:
    try:
        return os.fspath(source)
    except TypeError as error:
        raise RadiographError(f"cannot read {type(source).__name__}; expected a path or bytes") from error
