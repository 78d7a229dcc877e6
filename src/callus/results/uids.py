"""DICOM's unique identifiers: whether a text is one, and new ones that follow from what they are for."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Final

_UID: Final = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_LONGEST: Final = 64


def is_uid(value: str) -> bool:
    """Whether a text is a UID (PS3.5 9.1)."""
    return len(value) <= _LONGEST and _UID.fullmatch(value) is not None


def made_uid(*parts: str) -> str:
    """A UID below 2.25, which anyone may make from a UUID (PS3.5 B.2): the same parts give the same UID.

    So an answer that is given again has the UIDs that it had, and an archive that gets it twice keeps it once.
    """
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"
