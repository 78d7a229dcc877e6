"""How long a radiograph takes from its bytes to the network's input, on one core: one JSON line each.

    python bench/read.py [FOLDER OF DICOM FILES]

For each DICOM file: the bare decoder (the library called on the coded frame, nothing before or after), the whole
way (``read`` from disk, then ``prepare`` at 448 x 448) and the difference, each the median of several runs taken in
turn. Then a 2,304 x 2,880 grey JPEG made here: smooth structure with noise, 2 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import jpeg_ls
import numpy as np
import openjpeg.utils
import rle.utils

from callus.preprocess import InputSpec, prepare
from callus.radiograph import codecs, dicom, elements, jpeg, read

if TYPE_CHECKING:
    from collections.abc import Callable

DICOM_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom"
RUNS = 25
ON_TOP_LIMIT_MS, JPEG_LIMIT_MS = 25, 120


class Times:
    """Milliseconds of several runs: the median, and the fastest, which a busy machine disturbs least."""

    def __init__(self, taken: list[float]) -> None:
        self.median = round(statistics.median(taken), 1)
        self.fastest = round(min(taken), 1)


def main() -> None:
    """Measure each file of the folder given, then the JPEG."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=DICOM_FOLDER, help="of DICOM files")
    folder = parser.parse_args().folder
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    for path in sorted(folder.glob("*.dcm")):
        measure_dicom(path)
    measure_jpeg()


def measure_dicom(path: Path) -> None:
    """The bare decoder against the whole way."""
    tags = elements.parse(path.read_bytes())
    layout = dicom.stated_layout(tags)
    bare, whole = alternate(bare_decoder(tags, layout), lambda: to_input(path))
    say(
        file=path.name,
        syntax=elements.syntax_name(tags.syntax),
        size=[layout.columns, layout.rows],
        decoder_ms=bare.median,
        total_ms=whole.median,
        on_top_ms=round(whole.median - bare.median, 1),
        on_top_fastest_ms=round(whole.fastest - bare.fastest, 1),
        limit_ms=ON_TOP_LIMIT_MS,
        within=whole.median - bare.median <= ON_TOP_LIMIT_MS,
    )


def bare_decoder(tags: elements.Elements, layout: codecs.Layout) -> Callable[[], object]:
    """The library's own call for the file's kind of coding; GDCM's takes a few lines, which codecs.py has."""
    element = tags.by_tag[elements.PIXEL_DATA]
    if not element.encapsulated:
        return lambda: codecs.native(element.value, layout, 0, little=tags.little)
    coded = dicom.coded_frame(tags, 1, 0)
    if tags.syntax == codecs.RLE:
        size = {"rows": layout.rows, "columns": layout.columns, "bits_allocated": layout.allocated}
        return lambda: rle.utils.decode_pixel_data(coded, version=2, **size)
    if coded.startswith(codecs.J2K_START):
        return lambda: openjpeg.utils.decode_pixel_data(coded, version=2)
    if jpeg.parse(coded).process == jpeg.JPEG_LS:
        return lambda: jpeg_ls.decode_pixel_data(coded)
    return lambda: codecs.coded(coded, layout, tags.syntax)


def measure_jpeg() -> None:
    """A grey JPEG of a film's size, from disk."""
    random = np.random.default_rng(0)
    smooth = cv2.resize(
        random.normal(128, 50, (24, 20)).astype(np.float32), (2304, 2880), interpolation=cv2.INTER_CUBIC
    )
    picture = np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.jpg"
        path.write_bytes(coded)
        bare, whole = alternate(
            lambda: cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_GRAYSCALE), lambda: to_input(path)
        )
    say(
        file="JPEG made here",
        size=[2304, 2880],
        megabytes=round(len(coded) / 1e6, 2),
        opencv_decoder_ms=bare.median,
        total_ms=whole.median,
        total_fastest_ms=whole.fastest,
        limit_ms=JPEG_LIMIT_MS,
        within=whole.median <= JPEG_LIMIT_MS,
    )


def to_input(path: Path) -> None:
    """The way that identification takes."""
    prepare(read(path), InputSpec())


def alternate(first: Callable[[], object], second: Callable[[], object]) -> tuple[Times, Times]:
    """Milliseconds of both, run in turn so that a busy machine slows both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(RUNS + 1):
        for call, taken in zip((first, second), times, strict=True):
            begin = time.perf_counter()
            call()
            if run:  # the first run warms up
                taken.append(1000 * (time.perf_counter() - begin))
    return Times(times[0]), Times(times[1])


def say(**values: object) -> None:
    """One JSON line."""
    print(json.dumps({"bench": "read", **values}), flush=True)


if __name__ == "__main__":
    main()
