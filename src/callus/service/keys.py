"""Secrets that the service gives out: made at random, shown once, and only their hash is kept."""

from __future__ import annotations

import hashlib
import secrets


def new_key() -> str:
    """A secret of 256 bits, as text that fits into a URL."""
    return secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """What is kept of a secret: SHA-256, hex. No salt and no work is needed for 256 random bits."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
