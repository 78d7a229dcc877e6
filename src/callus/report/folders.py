"""Folders that a report is written to: one is replaced only where nothing but a former report lies in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callus.errors import CallusError

if TYPE_CHECKING:
    import re
    from collections.abc import Collection
    from pathlib import Path


def check_ours(out: Path, files: Collection[str], what: str, also: re.Pattern[str] | None = None) -> None:
    """Refuse a folder that holds what no former report wrote.

    Args:
        out: the folder; may be missing or empty.
        files: names that such a report writes; the one that ends in ``.json`` is in every report.
        what: the report is called, such as "evaluation".
        also: names that it may write too.

    Raises:
        CallusError: something else is there.
    """
    if not out.exists():
        return
    if not out.is_dir():
        article = "an" if what[0] in "aeiou" else "a"
        raise CallusError(f"is a file; {article} {what} is written to a folder", where=out, hint="name another --out")
    names = {child.name for child in out.iterdir()}
    strange = sorted(name for name in names - set(files) if also is None or not also.fullmatch(name))
    marked = any(name in names for name in files if name.endswith(".json"))
    if strange or (names and not marked):
        raise CallusError(
            f"holds {(strange or sorted(names))[0]!r}, which no {what} wrote",
            where=out,
            hint="name an empty or a new folder",
        )
