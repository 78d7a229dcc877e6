"""What a frozen trunk says of each view of each picture, computed once and kept on disk as float16.

A stated departure from fresh augmentation in every epoch: with ``cache_views = K`` an epoch takes one of K views of
each picture, and the trunk, which is nearly all of the work, runs K times a picture instead of once an epoch.

A record is found by the picture's SHA-256 and the view's number, inside a folder that is named by everything else
the record depends on: the trunk's weights, the network's input, the augmentation and the seed. So a stopped pass goes
on, another fold of the same pictures finds its records, and another recipe does not. Each process appends to files
of its own; whoever opens the folder sees them all.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import numpy as np
import torch

from callus.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from io import BufferedWriter
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from callus.training.recipe import Recipe

Key = tuple[str, int]
"""A picture's SHA-256 (hex) and the view's number."""


def cache_key(trunk: nn.Module, recipe: Recipe) -> str:
    """What records depend on beside the picture and the view, as a short name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    choices = {
        "layout": 1,
        "head": recipe.head.kind,
        "input": dataclasses.asdict(recipe.input),
        "augmentation": dataclasses.asdict(recipe.augmentation),
        "seed": recipe.seed,
    }
    digest.update(json.dumps(choices, sort_keys=True).encode())
    return digest.hexdigest()[:24]


class TrunkCache:
    """Records of float16 for (picture, view), in files that only grow."""

    def __init__(self, root: Path, key: str, shapes: Sequence[tuple[int, ...]]) -> None:
        """Open the folder of ``key``, made if missing.

        Args:
            root: where the folders of all keys lie.
            key: from :func:`cache_key`.
            shapes: of the tensors of one record, without the batch.

        Raises:
            TrainingError: the folder cannot be written.
        """
        self.folder = root / key
        self.shapes = [tuple(shape) for shape in shapes]
        self.values = sum(int(np.prod(shape)) for shape in self.shapes)
        self._maps: dict[str, NDArray[np.float16]] = {}
        self._places: dict[Key, tuple[str, int]] = {}
        self._data: BufferedWriter | None = None
        self._index: TextIO | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)
            # Held as long as this object lives: a folder that is in use is not cleared away by another training.
            self._lock = (self.folder / "in-use").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        except OSError as error:
            raise TrainingError(
                f"the trunk cache cannot be written: {error.strerror}", where=self.folder, hint="choose another --cache"
            ) from error
        self.refresh()

    @property
    def record_bytes(self) -> int:
        """How much of the disk one record takes."""
        return self.values * 2

    def refresh(self) -> None:
        """See what this and other processes have appended."""
        for index in sorted(self.folder.glob("*.index")):
            name = index.stem
            data = self.folder / f"{name}.f16"
            lines = index.read_text(encoding="ascii").split("\n")[:-1] if data.exists() else []
            # A process that was killed may have left half a record or half a line behind: neither counts.
            whole = min(len(lines), data.stat().st_size // self.record_bytes) if lines else 0
            if not whole:
                continue
            self._maps[name] = np.memmap(data, dtype=np.float16, mode="r", shape=(whole, self.values))
            for row, line in enumerate(lines[:whole]):
                sha256, view = line.split(" ")
                self._places[sha256, int(view)] = (name, row)

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Those of ``keys`` that have no record yet, each once, in order."""
        return [key for key in dict.fromkeys(keys) if key not in self._places]

    def append(self, keys: Sequence[Key], tensors: Sequence[Tensor]) -> None:
        """Keep records; :meth:`refresh` makes them readable.

        Raises:
            TrainingError: the disk is full.
        """
        flat = torch.cat([tensor.detach().flatten(1).float() for tensor in tensors], dim=1)
        # Raw maps of a pre-activation trunk may be large; float16 ends at 65504.
        records = flat.clamp(-65504, 65504).half().cpu().contiguous().numpy()
        try:
            if self._data is None or self._index is None:
                name = uuid.uuid4().hex
                self._data = (self.folder / f"{name}.f16").open("ab")
                self._index = (self.folder / f"{name}.index").open("a", encoding="ascii")
            # The data first: a line without its record would be read as one.
            self._data.write(records.tobytes())
            self._data.flush()
            self._index.write("".join(f"{sha256} {view}\n" for sha256, view in keys))
            self._index.flush()
        except OSError as error:
            raise TrainingError(
                f"the trunk cache cannot be written: {error.strerror}",
                where=self.folder,
                hint="make room, choose another --cache, or lower --cache-limit; --resume goes on from here",
            ) from error

    def read(self, keys: Sequence[Key]) -> tuple[Tensor, ...]:
        """The records of ``keys``: float16, one tensor a shape, (B, …) each."""
        records = np.empty((len(keys), self.values), dtype=np.float16)
        for row, key in enumerate(keys):
            name, place = self._places[key]
            records[row] = self._maps[name][place]
        flat = torch.from_numpy(records)
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = torch.split(flat, sizes, dim=1)
        return tuple(part.reshape(len(keys), *shape) for part, shape in zip(parts, self.shapes, strict=True))

    def close(self) -> None:
        """Close the files; what was appended stays."""
        for file in (self._data, self._index, self._lock):
            if file is not None:
                file.close()
        self._data = self._index = None
        self._maps.clear()


def affordable_views(wanted: int, pictures: int, validation: int, record_bytes: int, limit: int) -> int:
    """How many views fit: K for each training picture and one for each of validation.

    Raises:
        TrainingError: not even one fits.
    """
    room = limit // record_bytes - validation
    views = min(wanted, room // max(pictures, 1))
    if views < 1:
        need = (pictures + validation) * record_bytes
        raise TrainingError(
            f"one view of each picture takes {need / 1e9:.1f} GB of trunk features, and the limit is {limit / 1e9:.1f}",
            hint="raise --cache-limit, or set frozen.cache_views = 0 to run the trunk in every epoch",
        )
    return views


def clear_others(root: Path, key: str, need: int, limit: int) -> None:
    """Remove the features of other recipes, the longest unused first, until ``need`` more bytes keep to ``limit``.

    Folders that a running training holds stay.
    """
    others = sorted((path for path in root.glob("*") if path.is_dir() and path.name != key), key=_last_used)
    total = need + sum(_size(path) for path in others)
    for path in others:
        if total <= limit:
            return
        with suppress(OSError), (path / "in-use").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            total -= _size(path)
            shutil.rmtree(path)


def _last_used(path: Path) -> float:
    return path.stat().st_mtime


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
