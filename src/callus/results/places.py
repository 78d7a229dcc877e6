"""Where the results for many files go: no two to one place, and none over a file that was given."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from callus.archive.listing import Input

_LONGEST_NAME: Final = 180


def picture_names(inputs: list[Input], out: Path) -> list[Path]:
    """Where each picture goes: ``<stem>.png`` in the folders' own tree, and never over an input or another picture.

    Where stems collide the file's ending is kept (``hand.jpg.png``), and after that a number is added.
    """
    return [stem.with_name(stem.name + ".png") for stem in result_stems(inputs, out, (".png",))]


def result_stems(inputs: list[Input], folder: Path, endings: Iterable[str]) -> list[Path]:
    """Where each input's results go, without their endings: no two the same, and none over an input."""
    wanted = Counter(_key(folder / item.name.with_suffix("")) for item in inputs)
    taken = {_key(item.path) for item in inputs}
    stems = []
    for item in inputs:
        # A file system takes names of 255 bytes; room is left for an ending and for a temporary file's.
        long = len(os.fsencode(item.name.name)) > _LONGEST_NAME
        name = item.name.with_name(_shortened(item.name.name)) if long else item.name
        candidates = (
            [] if long or wanted[_key(folder / name.with_suffix(""))] > 1 else [name.with_suffix("")],
            [name],
            (name.with_name(f"{name.name}-{count}") for count in itertools.count(2)),
        )
        for stem in itertools.chain.from_iterable(candidates):
            keys = {_key(folder / stem.with_name(stem.name + ending)) for ending in endings}
            if not keys & taken:
                break
        taken |= keys
        stems.append(folder / stem)
    return stems


def _shortened(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:_LONGEST_NAME]).rstrip(".")


def _key(path: Path) -> str:
    """The same for two paths that some file system takes for one."""
    return os.path.abspath(path).casefold()  # noqa: PTH100 - pathlib has no way that leaves links alone
