"""A compact copy of a data set: small grey pictures with their manifest, so that training data travel.

Pictures become 8-bit WebP of at most a given side; boxes and polygons shrink with them. WebP's quality is the highest
at which the whole copy stays under the size that is asked for.
"""

from __future__ import annotations

import hashlib
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
import pandas as pd

from callus.atomic import whole_folder
from callus.dataset.manifest import few, usable, write_manifest
from callus.errors import CallusError, DatasetError
from callus.progress import track
from callus.radiograph import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

QUALITIES: Final = (95, 90, 85, 80, 70, 60, 50, 40, 30, 20)
_SAMPLE: Final = 128
"""Pictures whose size at each quality tells that of all."""
_SPARE: Final = 0.9
"""Share of the size that the estimate may fill."""
_LEAST_SIDE: Final = 64


@dataclass(frozen=True)
class Compacted:
    """What :func:`compact` wrote.

    Attributes:
        manifest: the copy's, at ``manifest.parquet`` in its folder.
        quality: WebP's.
        size: of all pictures, bytes.
        left_out: files that cannot be read or have no label, by their old paths.
    """

    manifest: pd.DataFrame
    quality: int
    size: int
    left_out: list[str]


def compact(frame: pd.DataFrame, out: Path, *, side: int = 512, most: int = 50_000_000) -> Compacted:
    """Write a compact copy: ``out/images`` and ``out/manifest.parquet``.

    The column ``radiograph`` and all others stay, so that copies, groups and splits are those of the original files;
    ``sha256``, ``width`` and ``height`` are the small files'. Nothing of the original files is changed.

    Args:
        frame: a manifest.
        out: a folder that does not exist yet, or is empty.
        side: the longest side of a small picture, pixels; smaller pictures keep their size.
        most: bytes that all pictures together may have.

    Raises:
        DatasetError: nothing can be copied, ``out`` holds something, or the copy cannot be made that small.
        CallusError: it cannot be written.
    """
    if side < _LEAST_SIDE:
        raise DatasetError(f"a side of {side} pixels shows no fracture", hint=f"give {_LEAST_SIDE} or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError("is not empty", where=out, hint="name a new folder")
    rows = usable(frame)
    if rows.empty:
        raise DatasetError("no file can be read and has a label", hint="there is nothing to copy")
    paths = [str(path) for path in rows["path"]]
    quality = _quality(paths, side, most)
    with whole_folder(out) as folder:
        (folder / "images").mkdir()
        jobs = list(zip(paths, _names(rows), strict=True))
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            written = pool.map(lambda job: _write(job[0], folder / job[1], side, quality), jobs)
            made = list(track(written, "copying", len(jobs)))
        kept = [one is not None for one in made]
        copied = rows[kept].copy()
        entries = [one for one in made if one is not None]
        if not entries:
            raise DatasetError("no file can be read", where=paths[0], hint="there is nothing to copy")
        size = sum(entry.size for entry in entries)
        if size > most:
            raise _too_large(size, most)
        scale = [
            (entry.width / width, entry.height / height)
            for entry, width, height in zip(entries, copied["width"], copied["height"], strict=True)
        ]
        copied["path"] = [str(folder / name) for (_, name), good in zip(jobs, kept, strict=True) if good]
        copied["sha256"] = [entry.sha256 for entry in entries]
        copied["width"] = [entry.width for entry in entries]
        copied["height"] = [entry.height for entry in entries]
        for column in ("boxes", "polygons"):
            copied[column] = [_scaled(value, by) for value, by in zip(copied[column], scale, strict=True)]
        copied = copied.astype(frame.dtypes.to_dict()).reset_index(drop=True)
        write_manifest(copied, folder / "manifest.parquet")
    copied["path"] = [str(out / Path(path).relative_to(folder)) for path in copied["path"]]
    missing = set(frame["path"]) - {path for path, good in zip(paths, kept, strict=True) if good}
    return Compacted(copied, quality, size, sorted(map(str, missing)))


@dataclass(frozen=True)
class _Written:
    sha256: str
    width: int
    height: int
    size: int


def _names(rows: pd.DataFrame) -> list[str]:
    """A name for each small file: the old one's stem, with the file's hash where two would have one name."""
    stems = [Path(str(path)).stem for path in rows["path"]]
    lower = pd.Series([stem.lower() for stem in stems])
    twice = lower.duplicated(keep=False).to_numpy()
    return [
        f"images/{stem}{f'-{digest[:12]}-{number}' if doubled else ''}.webp"
        for number, (stem, digest, doubled) in enumerate(zip(stems, rows["sha256"], twice, strict=True))
    ]


def _quality(paths: Sequence[str], side: int, most: int) -> int:
    """The highest quality at which an evenly spread sample says that all pictures stay under ``most``."""
    sample = paths[:: math.ceil(len(paths) / _SAMPLE)]
    pictures = [
        picture for path in track(sample, "choosing the quality") if (picture := _small(path, side)) is not None
    ]
    if not pictures:
        raise DatasetError("no file can be read", where=few(paths, 3), hint="there is nothing to copy")
    size = 0.0
    for quality in QUALITIES:
        size = sum(len(_encoded(picture, quality)) for picture in pictures) / len(pictures) * len(paths)
        if size <= most * _SPARE:
            return quality
    raise _too_large(round(size), most)


def _too_large(size: int, most: int) -> DatasetError:
    return DatasetError(
        f"the copy would have some {size / 1e6:.0f} MB, more than {most / 1e6:.0f}",
        hint="give a smaller side, or more MB",
    )


def _small(path: str, side: int) -> NDArray[np.uint8] | None:
    """The picture in 8 bits, its longer side at most ``side``; None where it cannot be read."""
    try:
        pixels: Any = read(path).pixels
    except CallusError:
        return None
    by = min(1.0, side / max(pixels.shape))
    if by < 1:
        height, width = (max(1, round(length * by)) for length in pixels.shape)
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(np.round(pixels * (255 / np.iinfo(pixels.dtype).max)), dtype=np.uint8)


def _encoded(picture: NDArray[np.uint8], quality: int) -> bytes:
    return cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def _write(path: str, target: Path, side: int, quality: int) -> _Written | None:
    picture = _small(path, side)
    if picture is None:
        return None
    data = _encoded(picture, quality)
    target.write_bytes(data)
    return _Written(hashlib.sha256(data).hexdigest(), picture.shape[1], picture.shape[0], len(data))


def _scaled(shapes: Any, by: tuple[float, float]) -> Any:
    """Boxes or polygons, lists of x and y in turn, scaled by (x, y)."""
    if shapes is None or isinstance(shapes, float):
        return shapes
    return [[float(value) * by[place % 2] for place, value in enumerate(shape)] for shape in shapes]
