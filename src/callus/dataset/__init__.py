"""Data sets: from a folder to a manifest, split so that nothing leaks."""

from __future__ import annotations

from callus.dataset.build import UNSEEN_COPIES, build_manifest, load
from callus.dataset.manifest import (
    COLUMNS,
    check_trainable,
    digest,
    group_keys,
    read_manifest,
    readable,
    usable,
    write_manifest,
)

__all__ = [
    "COLUMNS",
    "UNSEEN_COPIES",
    "build_manifest",
    "check_trainable",
    "digest",
    "group_keys",
    "load",
    "read_manifest",
    "readable",
    "usable",
    "write_manifest",
]
