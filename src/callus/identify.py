"""From a radiograph to an answer: the one path that the command line, the evaluation and the service all take."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from callus.bundle import Bundle, Engine, Outputs
from callus.bundle.engine import AUTO, usable_cores
from callus.errors import CallusError, RadiographError
from callus.metrics.boxes import Box, after, boxes_from_map, map_to_input
from callus.preprocess import NetworkInput, prepare
from callus.radiograph import Radiograph, read

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable, Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from callus.bundle import EngineInfo
    from callus.bundle.runtime import Hint
    from callus.labels import Level
    from callus.preprocess import InputSpec

T = TypeVar("T")

SMALLEST_SIDE: Final = 128
"""Pixels of the shorter side below which a fracture line is hardly left; FracAtlas' and BoneData's smallest has 224."""
MOST_WHITE: Final = 0.02
"""Share of the exposed field at full white; in 400 radiographs drawn from FracAtlas and BoneData at most 0.001."""
MOST_BLACK: Final = 0.6
"""Share of the exposed field at black; in the same 400 at most 0.18 of the whole picture was black."""
LARGEST_ASPECT: Final = 4.0
"""Longer side to shorter; in the same 400 at most 2.7."""
FLAT: Final = 0.02
"""Share of the grey range between the 1st and the 99th percentile below which there is nothing to see."""


@dataclass(frozen=True, eq=False)
class Finding:
    """The answer to one radiograph.

    Attributes:
        path: the radiograph's file; None where it came as bytes.
        probability: of a fracture, calibrated, in [0, 1].
        level: "fracture", "doubt" or "none", by the bundle's operating points.
        boxes: in the radiograph's pixels, by score; none at level "none".
        map: float32 (h, w) in [0, 1], at the network's resolution.
        map_to_original: float64 (2, 3); (x, y, 1) of a map cell's centre to (x, y) of the radiograph's pixels.
        cautions: what speaks against trusting the answer, a line each, beginning with a word and a colon.
        model: the bundle's name.
        engine: what ran it: "openvino-int8", "openvino-float32", "onnx-float32" or "onnx-float32 on GPU".
        logit: what the network returned, not calibrated.
        features: float32 (C,), the pooled features.
        shape: height and width of the radiograph.
    """

    path: str | None
    probability: float
    level: Level
    boxes: tuple[Box, ...]
    map: NDArray[np.float32]
    map_to_original: NDArray[np.float64]
    cautions: tuple[str, ...]
    model: str
    engine: str
    logit: float
    features: NDArray[np.float32]
    shape: tuple[int, int]

    def heat(self, shape: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """Draw the map at the radiograph's size, linear between the centres of its cells.

        Args:
            shape: height and width to draw it at instead, over the same field.

        Returns:
            float32 (height, width) in [0, 1].
        """
        height, width = shape or self.shape
        rows = _interpolation(height, self.shape[0], self.map.shape[0], *self.map_to_original[1, 1:])
        columns = _interpolation(width, self.shape[1], self.map.shape[1], *self.map_to_original[0, ::2])
        return np.asarray(rows @ self.map @ columns.T)


class Identifier:
    """A model, ready to answer. Threads may share it.

    Attributes:
        bundle: what was loaded.
        engine: what runs it.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        engine: str = AUTO,
        threads: int | None = None,
        hint: Hint = "latency",
    ) -> None:
        """Load a model.

        Args:
            model: a bundle's folder, a ``.callus`` file, or a run folder.
            engine: "openvino-int8", "openvino-float32" or "onnx-float32"; "auto" takes the fastest that the bundle
                holds and this machine can run.
            threads: cores for the network; None for all that this process may use.
            hint: whether one answer is wanted soon ("latency") or many in all ("throughput").

        Raises:
            BundleError: the model cannot be loaded, or does not hold the engine.
            CallusError: the engine's runtime is not installed, or an argument is out of its range.
        """
        self.bundle = Bundle.load(model)
        self.engine = Engine(self.bundle, threads, engine, hint)
        self._spec = self.bundle.spec
        self._map_to_input = map_to_input(self.bundle.map_stride)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.bundle.name

    @property
    def info(self) -> EngineInfo:
        """What the bundle says of the engine that runs: calibration, operating points, map threshold, parity."""
        return self.engine.info

    def identify(self, source: Radiograph | str | os.PathLike[str] | bytes) -> Finding:
        """Answer one radiograph.

        Args:
            source: a file, a file's bytes, or a radiograph that was read.

        Raises:
            RadiographError: it cannot be read as a radiograph.
            BundleError: the network fails on it.
        """
        radiograph, network_input = self._prepared(source, strict=False)
        return self._answer(radiograph, network_input, self.engine.run(network_input.array[np.newaxis]), 0)

    def identify_many(
        self, sources: Iterable[T], *, batch: int | None = None, strict: bool = False
    ) -> Generator[tuple[T, Radiograph | None, Finding | CallusError], None, None]:
        """Answer many radiographs in order, reading ahead in threads; one that fails stops none of the others.

        No more than ``batch`` and a few radiographs are in memory at once, however many there are.

        Args:
            sources: files, bytes or radiographs; taken only as far as is read ahead.
            batch: how many the network is given at once; None for what suits the engine and its hint.
            strict: refuse files that are damaged but could be read in part.

        Yields:
            The source, the radiograph (None where it could not be read), and the answer or what went wrong.
        """
        batch = self.engine.batch if batch is None else batch
        if batch < 1:
            raise CallusError(f"batch is {batch}; expected 1 or more")
        readers = min(4, usable_cores())

        def one(source: T) -> tuple[T, Radiograph | None, NetworkInput | CallusError]:
            try:
                return source, *self._prepared(source, strict=strict, isolated=True)
            except CallusError as error:
                return source, None, error
            except Exception as error:  # noqa: BLE001 - a decoder's bug costs one file, not the batch
                return source, None, RadiographError(f"cannot be read: {error!r}"[:300], where=_named(source))

        with _ahead(one, sources, readers, batch + readers) as prepared:
            while group := list(islice(prepared, batch)):
                yield from self._answers(group)

    def _prepared(self, source: Any, *, strict: bool, isolated: bool = False) -> tuple[Radiograph, NetworkInput]:
        radiograph = source if isinstance(source, Radiograph) else read(source, strict=strict, isolated=isolated)
        return radiograph, prepare(radiograph, self._spec)

    def _answers(
        self, group: list[tuple[T, Radiograph | None, NetworkInput | CallusError]]
    ) -> Iterator[tuple[T, Radiograph | None, Finding | CallusError]]:
        inputs = [item for _, _, item in group if isinstance(item, NetworkInput)]
        outputs: Outputs | CallusError | None = None
        try:
            outputs = self.engine.run(np.stack([item.array for item in inputs])) if inputs else None
        except CallusError as error:
            outputs = error
        if isinstance(outputs, CallusError) and len(inputs) > 1:
            for single in group:  # one of them spoils the batch: the others get their answers
                yield from self._answers([single])
            return
        index = 0
        for source, radiograph, item in group:
            if radiograph is None or isinstance(item, CallusError):
                yield source, radiograph, item  # type: ignore[misc]
            elif isinstance(outputs, Outputs):
                yield source, radiograph, self._answer(radiograph, item, outputs, index)
                index += 1
            elif outputs is not None:
                yield source, radiograph, outputs

    def _answer(self, radiograph: Radiograph, network_input: NetworkInput, outputs: Outputs, index: int) -> Finding:
        logit = float(outputs.logit[index])
        heat = outputs.map[index].copy()
        probability = self.info.calibration.probability(logit)
        level = self.info.operating_points.level(probability)
        shape = (radiograph.height, radiograph.width)
        to_original = after(network_input.to_original, self._map_to_input)
        boxes = () if level == "none" else boxes_from_map(heat, to_original, self.info.map_threshold, shape)
        return Finding(
            path=radiograph.path,
            probability=probability,
            level=level,
            boxes=boxes,
            map=heat,
            map_to_original=to_original,
            cautions=cautions(radiograph, self._spec),  # "unlike the training data" joins here, from the features
            model=self.bundle.name,
            engine=self.engine.ran,
            logit=logit,
            features=outputs.features[index].copy(),
            shape=shape,
        )


def cautions(radiograph: Radiograph, spec: InputSpec) -> tuple[str, ...]:
    """What in a radiograph speaks against trusting an answer, a line each.

    Args:
        radiograph: as read; its notes (a truncated file) are carried over.
        spec: what the network takes.
    """
    found = list(radiograph.notes)
    height, width = radiograph.height, radiograph.width
    if min(height, width) < SMALLEST_SIDE:
        found.append(f"too small: {width} x {height} pixels, a shorter side of at least {SMALLEST_SIDE} is expected")
    elif height < spec.height and width < spec.width:
        found.append(f"too small: {width} x {height} pixels are enlarged to the network's {spec.width} x {spec.height}")
    if max(height, width) > LARGEST_ASPECT * min(height, width):
        found.append(f"long: {width} x {height} pixels, a shape that radiographs of bones seldom have")
    if not radiograph.grey:
        found.append("not grey: the picture has colours, a radiograph has none")
    found += _grey_value_cautions(radiograph.pixels)
    return tuple(found)


def _grey_value_cautions(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> list[str]:
    white = np.iinfo(pixels.dtype).max
    # A grid of about 1,000 x 1,000 pixels tells shares well enough, and costs the same for the largest picture.
    pixels = pixels[:: max(1, pixels.shape[0] // 1000), :: max(1, pixels.shape[1] // 1000)]
    low, high = np.percentile(pixels, (1, 99))
    if high - low < FLAT * white:
        return ["flat: the grey values hardly differ, there is nothing to see"]
    exposed = _exposed(pixels, white)
    found = []
    for value, name, most in ((white, "white", MOST_WHITE), (0, "black", MOST_BLACK)):
        share = np.count_nonzero(exposed == value) / max(1, exposed.size)
        if share > most:
            found.append(f"clipped: {share:.0%} of the exposed field is full {name}, detail may be lost")
    return found


def _exposed(pixels: NDArray[np.uint8] | NDArray[np.uint16], white: int) -> NDArray[Any]:
    """The picture without the black or white frame that collimation leaves."""
    inside = (pixels > 0) & (pixels < white)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return pixels
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _interpolation(size: int, original: int, cells: int, scale: float, offset: float) -> NDArray[np.float32]:
    """Weights that draw one axis of a map at ``size`` pixels: float32 (size, cells), each row sums to 1.

    Args:
        size: pixels to draw.
        original: pixels that the radiograph has along this axis.
        cells: cells of the map.
        scale: radiograph pixels for a cell.
        offset: the first cell's centre, in the radiograph's pixels.
    """
    centre = (np.arange(size) + 0.5) * (original / size) - 0.5
    position = np.clip((centre - offset) / scale, 0, cells - 1)
    lower = np.floor(position).astype(np.intp)
    upper = np.minimum(lower + 1, cells - 1)
    weights = np.zeros((size, cells), dtype=np.float32)
    share = (position - lower).astype(np.float32)
    np.add.at(weights, (np.arange(size), lower), 1 - share)
    np.add.at(weights, (np.arange(size), upper), share)
    return weights


@contextmanager
def _ahead(work: Any, items: Iterable[Any], workers: int, most: int) -> Iterator[Iterator[Any]]:
    """Do ``work`` on items in threads, at most ``most`` of them not yet taken; the results come in order."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="callus-read")
    waiting: deque[Future[Any]] = deque()
    source = iter(items)

    def results() -> Iterator[Any]:
        waiting.extend(pool.submit(work, item) for item in islice(source, most))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(source, 1))
            yield result

    try:
        yield results()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _named(source: object) -> str:
    return "bytes" if isinstance(source, bytes) else str(source)
