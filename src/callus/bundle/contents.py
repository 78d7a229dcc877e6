"""What a bundle's files may be: no pickle, and nothing else that runs code when it is read."""

from __future__ import annotations

from typing import Final

from callus.errors import BundleError

ENDINGS: Final = (".onnx", ".xml", ".bin", ".json", ".md", ".txt", ".csv", ".toml", ".png", ".svg")
"""All that may stand in a bundle. Formats that run code when they are read (.pkl, .pt, .h5, .npy…) are not here."""


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
