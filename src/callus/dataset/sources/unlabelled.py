"""Any folder, taken without labels: to look for copies, or to identify later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callus.dataset.sources.rows import Found, join_copies, row_from_path

if TYPE_CHECKING:
    from callus.dataset.files import Listing
    from callus.dataset.sources.rows import Options


def recognises(listing: Listing) -> bool:  # noqa: ARG001 - a source's signature
    """Never by itself: a person asks for it."""
    return False


def rows(listing: Listing, options: Options) -> Found:  # noqa: ARG001 - a source's signature
    """Give one row a picture, none with a label."""
    found = Found([row_from_path(name) for name in listing.pictures])
    join_copies(found.rows)
    return found
