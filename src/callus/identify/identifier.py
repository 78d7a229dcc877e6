"""What a model is asked through: radiographs in, findings out."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from callus.bundle import DEFAULT_MODEL, Bundle, Engine
from callus.bundle.engine import AUTO, usable_cores
from callus.bundle.views import answered, checked
from callus.errors import BundleError, CallusError, PassingError, RadiographError
from callus.identify.cautions import cautions, unlike
from callus.identify.finding import Finding
from callus.metrics.boxes import after, boxes_from_map
from callus.preprocess import CHANNELS, fit_affine, fit_pixels, scale_values
from callus.radiograph import Radiograph, read
from callus.workers import batched

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from callus.bundle import EngineInfo, Outputs
    from callus.bundle.runtime import Hint
    from callus.preprocess import InputSpec

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Prepared:
    """What is left of a radiograph when the network is to be asked: small, so that processes can pass it on.

    Attributes:
        path: the radiograph's file; None where it came as bytes.
        shape: height and width of the radiograph.
        cautions: what its pixels say against trusting an answer.
        pixels: uint8 or uint16 (height, width), at the network's size, grey values untouched.
        to_original: float64 (2, 3); (x, y, 1) of a pixel's centre to (x, y) of the radiograph's pixels.
    """

    path: str | None
    shape: tuple[int, int]
    cautions: tuple[str, ...]
    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    to_original: NDArray[np.float64]


def prepare_one(radiograph: Radiograph, spec: InputSpec) -> Prepared:
    """Reduce a radiograph to what an answer needs of it.

    Args:
        radiograph: as read.
        spec: what the network takes.
    """
    shape = (radiograph.height, radiograph.width)
    return Prepared(
        radiograph.path, shape, cautions(radiograph, spec), fit_pixels(radiograph, spec), fit_affine(*shape, spec)
    )


class Identifier:
    """A model, ready to answer. Threads may share it.

    Attributes:
        bundle: what was loaded.
        engine: what runs it.
        views: what every answer is averaged with.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        engine: str = AUTO,
        threads: int | None = None,
        hint: Hint = "latency",
        views: Sequence[str] | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: a bundle's folder, a ``.callus`` file, a run folder, or the name of a model that comes with callus.
            engine: "openvino-int8", "openvino-float32" or "onnx-float32"; "auto" takes the fastest that the bundle
                holds and this machine can run.
            threads: cores for the network; None for all that this process may use.
            hint: whether one answer is wanted soon ("latency") or many in all ("throughput").
            views: to average each answer with: "mirror" (takes twice the time), "rotate" (both ways; three times the
                time); () for none. None takes what the bundle names, which its calibration and operating points were
                fitted with.

        Raises:
            BundleError: the model cannot be loaded, or does not hold the engine.
            CallusError: the engine's runtime is not installed, or an argument is out of its range.
        """
        self.bundle = Bundle.load(model)
        self.engine = Engine(self.bundle, threads, engine, hint)
        self._spec = self.bundle.spec
        self.views = checked(self.bundle.views if views is None else views)
        self._map_to_input = self.bundle.map_to_input
        self._likeness = self.bundle.likeness()

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
        radiograph = source if isinstance(source, Radiograph) else read(source)
        (answer,) = self.answer([prepare_one(radiograph, self._spec)])
        if isinstance(answer, CallusError):
            raise answer
        return answer

    def answer(self, prepared: Sequence[Prepared]) -> list[Finding | CallusError]:
        """Answer some radiographs at once; where the network fails on one, the others get their answers.

        Args:
            prepared: by :func:`prepare_one` with the bundle's ``spec``.

        Returns:
            Each one's finding, or what went wrong, in their order.
        """
        if not prepared:
            return []
        try:
            batch = np.empty((len(prepared), CHANNELS, self._spec.height, self._spec.width), np.float32)
            for one, place in zip(prepared, batch, strict=True):
                scale_values(one.pixels, self._spec, place)
            outputs = self._run(batch)
        except CallusError as error:
            if len(prepared) == 1:
                return [error]
            return [answer for one in prepared for answer in self.answer([one])]
        distances = self._distances(outputs.features)
        return [self._finding(one, outputs, index, distances[index]) for index, one in enumerate(prepared)]

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

        def one(source: T) -> tuple[T, Radiograph | None, Prepared | CallusError]:
            try:
                known = isinstance(source, Radiograph)
                radiograph: Any = source if known else read(source, strict=strict, isolated=True)  # type: ignore[arg-type]
                return source, radiograph, prepare_one(radiograph, self._spec)
            except CallusError as error:
                return source, None, error
            except MemoryError:
                return source, None, PassingError("does not fit into memory", where=_named(source), hint="reduce it")
            except Exception as error:  # noqa: BLE001 - a decoder's bug costs one file, not the batch
                return source, None, RadiographError(f"cannot be read: {error!r}"[:300], where=_named(source))

        with (
            _ahead(one, sources, readers, batch + readers) as prepared,
            # While the caller works on the answers to one batch, the network works on the next.
            _ahead(self._answers, batched(prepared, batch), 1, 2) as answered,
        ):
            for answers in answered:
                yield from answers

    def _answers(
        self, group: list[tuple[T, Radiograph | None, Prepared | CallusError]]
    ) -> list[tuple[T, Radiograph | None, Finding | CallusError]]:
        answers = iter(self.answer([item for _, _, item in group if isinstance(item, Prepared)]))
        return [
            (source, radiograph, item if isinstance(item, CallusError) else next(answers))
            for source, radiograph, item in group
        ]

    def _run(self, batch: NDArray[np.float32]) -> Outputs:
        """The network's answer to a batch, averaged over the views."""
        outputs = answered(self.engine.run, batch, self.views, self._spec.low, self._map_to_input)
        channels = outputs.features.shape[1]
        if self._likeness is not None and channels != (said := self.bundle.info["outputs"]["features"]["channels"]):
            raise BundleError(
                f"the network gives {channels} features, its bundle says {said}",
                where=self.bundle.where,
            )
        return outputs

    def _distances(self, features: NDArray[np.float32]) -> Sequence[float | None]:
        """Of each picture from the training data, in units of what is usual."""
        if self._likeness is None or self.info.farthest is None:
            return [None] * len(features)
        distances = self._likeness.distance(features[:, : len(self._likeness.mean)])
        return [float(distance) for distance in distances / self.info.farthest]

    def _finding(self, prepared: Prepared, outputs: Outputs, index: int, distance: float | None) -> Finding:
        logit = float(outputs.logit[index])
        heat = outputs.map[index].copy()
        probability = self.info.calibration.probability(logit)
        level = self.info.operating_points.level(probability)
        to_original = after(prepared.to_original, self._map_to_input)
        none = level == "none"
        return Finding(
            path=prepared.path,
            probability=probability,
            level=level,
            boxes=() if none else boxes_from_map(heat, to_original, self.info.map_threshold, prepared.shape),
            map=heat,
            map_to_original=to_original,
            cautions=(*unlike(distance), *prepared.cautions),  # the gravest first: some places show only a few
            model=self.bundle.name,
            engine=self.engine.ran,
            logit=logit,
            features=outputs.features[index].copy(),
            shape=prepared.shape,
            distance=distance,
            views=self.views,
        )


@contextmanager
def _ahead(work: Callable[[T], R], items: Iterable[T], workers: int, most: int) -> Iterator[Iterator[R]]:
    """Do ``work`` on items in threads, at most ``most`` of them not yet taken; the results come in order."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="callus-read")
    waiting: deque[Future[R]] = deque()
    source = iter(items)

    def results() -> Iterator[R]:
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
