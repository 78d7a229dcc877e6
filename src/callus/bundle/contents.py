"""What a bundle's files may be: no pickle, nothing else that runs code when it is read, and nothing endless."""

from __future__ import annotations

from typing import Final

from callus.errors import BundleError

ENDINGS: Final = (".onnx", ".xml", ".bin", ".json", ".md", ".txt", ".csv", ".toml", ".png", ".svg")
"""All that may stand in a bundle. Formats that run code when they are read (.pkl, .pt, .h5, .npy…) are not here."""

INFO: Final = "bundle.json"
CARD: Final = "MODEL_CARD.md"
PICTURES: Final = "pictures.csv"
LARGEST_FILE: Final = 384 << 20
"""Bytes of any file. ResNet152V2's graph has 230 MB; a runtime takes up to five times as much memory."""
LARGEST_TEXT: Final = 8 << 20
LARGEST_PICTURES: Final = 32 << 20
"""Room for 1.4 million pictures of 23 bytes; as Python's own objects they take twelve times as much."""
_LARGEST: Final = {INFO: LARGEST_TEXT, CARD: LARGEST_TEXT, PICTURES: LARGEST_PICTURES}


def check_length(name: str, size: int, where: object) -> None:
    """Refuse a file that is longer than any of its kind, before it is read.

    Args:
        name: the file's name in the bundle.
        size: bytes.
        where: the bundle, for the error.

    Raises:
        BundleError: it is longer.
    """
    most = _LARGEST.get(name, LARGEST_FILE)
    if size > most:
        raise BundleError(f"{name} is longer than {most:,} bytes", where=where, hint="this is no ordinary bundle")


def check_contents(name: str, first: bytes, last: bytes, where: object) -> None:
    """Refuse a file that could run code when it is read.

    Args:
        name: the file's name in the bundle.
        first: its first bytes, at least 4 where it has them.
        last: its last byte.
        where: the bundle, for the error.

    Raises:
        BundleError: the ending is not one of :data:`ENDINGS`, or the bytes are a pickle's or a zip's.
    """
    hint = "do not trust this bundle"
    if not name.lower().endswith(ENDINGS):
        raise BundleError(f"{name} may not stand in a bundle; expected {', '.join(ENDINGS)}", where=where, hint=hint)
    # Protocol 2 to 5 begin with 0x80 and their number, and every pickle ends with a full stop (STOP).
    if len(first) > 1 and first[0] == 0x80 and 2 <= first[1] <= 5 and last == b".":  # noqa: PLR2004
        raise BundleError(f"{name} is a pickle, which can run code when it is read", where=where, hint=hint)
    if first.startswith(b"PK\x03\x04"):
        raise BundleError(f"{name} is a zip, which is how torch keeps pickles", where=where, hint=hint)
