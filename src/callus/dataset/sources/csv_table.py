"""CSV files as their lines: every cell text, columns by name."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from callus.dataset.files import read_text
from callus.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path


def read_csv(path: Path, columns: tuple[str, ...] = (), header: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Read a table separated by comma, semicolon or tab.

    Args:
        path: the file.
        columns: what must be there.
        header: the columns' names where the file has no header of its own.

    Returns:
        One dict a line, cells stripped; short lines are filled with empty cells.

    Raises:
        DatasetError: it cannot be read, has no lines, lacks a column, or a line has more cells than the header.
    """
    text = read_text(path)
    separator = max(",;\t", key=text.split("\n", 1)[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        lines = [line for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise DatasetError(f"is not a table: line {reader.line_num}: {error}", where=path) from error
    if header:
        lines.insert(0, list(header))
    if len(lines) < 2:  # noqa: PLR2004 - a header and one line
        raise DatasetError("has no lines below its header", where=path, hint="give a table with one line a file")
    names = [name.strip() for name in lines[0]]
    if missing := [name for name in columns if name not in names]:
        raise DatasetError(f"lacks the columns {', '.join(missing)}; it has {', '.join(names)}", where=path)
    if long := [number for number, line in enumerate(lines[1:], start=1) if len(line) > len(names)]:
        raise DatasetError(
            f"row {long[0]} has {len(lines[long[0]])} cells, the header has {len(names)}",
            where=path,
            hint="put cells with a separator in quotes",
        )
    return [
        dict(zip(names, [cell.strip() for cell in line] + [""] * (len(names) - len(line)), strict=True))
        for line in lines[1:]
    ]
