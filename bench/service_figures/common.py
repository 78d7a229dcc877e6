"""What the figures share: radiographs to send, a service to send them to, how memory and times are told."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from served import Served  # of tests/support, which service.py puts on the path

STORESCU = "/usr/bin/storescu"  # pynetdicom puts a program of the same name into the environment
_IMAGE, _STUDY = "1.2.276.0.9.1000000000", "1.2.276.0.8.1000000000"
_PATCH = 4096  # bytes of the pixels in which one radiograph differs from another


@dataclass(frozen=True)
class Film:
    """A DICOM radiograph of which as many others are made as are wanted, at once."""

    data: bytes
    at: int

    @classmethod
    def of(cls, size: str) -> Film:
        """Simulate it.

        Args:
            size: rows x columns of 12 bits in 16, such as "480x400".
        """
        from simulated_dicom import simulated, stored_values  # noqa: PLC0415 - of tests/support

        rows, columns = (int(part) for part in size.split("x"))
        pixels = stored_values((rows, columns))
        buffer = io.BytesIO()
        film = simulated(pixels=pixels, SOPInstanceUID=_IMAGE, StudyInstanceUID=_STUDY)
        film.save_as(buffer, enforce_file_format=True)
        data = buffer.getvalue()
        return cls(data, data.index(pixels.tobytes()[:_PATCH]))

    def copy(self, number: int, study: int | None = None) -> bytes:
        """One with UIDs and some pixels of its own.

        Args:
            number: in [0, 10 ** 9).
            study: the same, of its study; None for a study of its own.
        """
        patch = np.random.default_rng(number).integers(300, 3500, _PATCH // 2).astype(np.uint16).tobytes()
        data = self.data[: self.at] + patch + self.data[self.at + _PATCH :]
        data = data.replace(_IMAGE.encode(), uid(number).encode())
        return data.replace(
            _STUDY.encode(), f"1.2.276.0.8.{1_000_000_000 + (number if study is None else study)}".encode()
        )


def uid(number: int) -> str:
    """The SOP Instance UID of a film's copy."""
    return f"1.2.276.0.9.{1_000_000_000 + number}"


@contextmanager
def scratch(given: argparse.Namespace) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="callus-service-", dir=given.folder) as folder:
        yield Path(folder)


def model_of(given: argparse.Namespace, folder: Path) -> str:
    """The bundle that was asked for, or one that answers at once."""
    from tiny_bundle import write_tiny_bundle  # noqa: PLC0415 - of tests/support

    return given.model or str(write_tiny_bundle(folder / "tiny"))


@contextmanager
def running(folder: Path, model: str | None, *words: str) -> Iterator[Served]:
    """A service with an administrator that this process is logged in as."""
    from served import serving  # noqa: PLC0415 - of tests/support

    with serving(folder, Path(model) if model else None, *words) as served:
        served.join()
        yield served


def summed(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, 95th percentile and the largest, in milliseconds, of seconds."""
    ms = 1000 * np.asarray(values)
    return {
        "p50": round(float(np.median(ms)), digits),
        "p95": round(float(np.percentile(ms, 95)), digits),
        "max": round(float(ms.max()), digits),
    }


def descendants(root: int) -> list[int]:
    """A process and all that it started and that they started, by their numbers."""
    found, waiting = list[int](), [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        try:
            for task in Path(f"/proc/{process}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # it has ended meanwhile
            continue
    return found


def memory_mb(root: int) -> float:
    """What a process and its descendants take of the memory together (proportional set sizes)."""
    total = 0
    for process in descendants(root):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def noise(rows: int, columns: int) -> NDArray[np.uint16]:
    """Pixels of 12 bits."""
    return np.random.default_rng(5).integers(0, 4095, (rows, columns)).astype(np.uint16)


def say(figure: str, sentence: str, **values: Any) -> None:
    """Print a figure with what the machine was at, as a line for programs; and a sentence for people, to stderr."""
    told = {"figure": figure, **values, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps(told), flush=True)
    print(sentence, file=sys.stderr)


def verdict(values: dict[str, bool]) -> str:
    """How a sentence ends."""
    missed = [name for name, reached in values.items() if not reached]
    return f"MISSED: {', '.join(missed)}." if missed else "Every target is reached."
