"""The certificate that a caller shows by TLS: which one it is, and whom it names."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket


@dataclass(frozen=True)
class Certificate:
    """A certificate that an authority of ours has given to whoever shows it, who has its key.

    Attributes:
        sha256: of the certificate (DER), 64 hexadecimal digits in small letters.
        name: its subject's common name; "" where it has none, or more than one.
    """

    sha256: str
    name: str

    def __str__(self) -> str:
        """As it stands in the audit log, where a long name is cut and the hash is not."""
        return f"certificate SHA-256 {self.sha256} ({self.name})"


def shown_by(connection: socket.socket) -> Certificate | None:
    """The certificate that a peer has shown and that was checked; None where there was no such thing."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    whole = connection.getpeercert(binary_form=True)
    try:
        parts: dict[str, Any] = connection.getpeercert() or {}  # empty where it was not checked
    except ValueError:  # text that is none; the hash still tells which one it is
        parts = {"subject": ()}
    if whole is None or not parts:
        return None
    names = [value for step in parts.get("subject", ()) for key, value in step if key == "commonName"]
    return Certificate(hashlib.sha256(whole).hexdigest(), names[0] if len(names) == 1 else "")


def plain_sha256(text: str) -> str:
    """A fingerprint as :attr:`Certificate.sha256` has it; openssl writes capitals, with a colon between bytes."""
    return text.replace(":", "").strip().lower()
