"""DICOM's text in whatever character sets a file names (PS3.5 6.1)."""

from __future__ import annotations

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding


def decoded(raw: bytes, names: list[str]) -> str:
    """Text by its character sets; what they cannot read becomes a replacement character, never an error.

    Args:
        raw: the value.
        names: of Specific Character Set (0008,0005), one at least.
    """
    codecs = [_codec(name) for name in names]
    parts = raw.split(b"\x1b")
    text = parts[0].decode(codecs[0], "replace")
    for part in parts[1:]:
        coded = b"\x1b" + part
        for escape, codec in CODES_TO_ENCODINGS.items():
            if coded.startswith(escape):
                # Python's ISO 2022 codecs want the escape; for the others it is no character.
                body = coded if codec.startswith("iso2022") else coded[len(escape) :]
                text += body.decode(codec, "replace")
                break
        else:
            text += part.decode(codecs[0], "replace")
    return text


def _codec(name: str) -> str:
    wanted = name.strip().upper().replace("ISO-IR", "ISO_IR").replace("ISO IR", "ISO_IR")
    return python_encoding.get(wanted, "latin-1")
