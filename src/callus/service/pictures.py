"""Pictures for the page: frames as they were sent, decoded here; heat maps, drawn from the answers' maps."""

from __future__ import annotations

import io
import threading
import weakref
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import numpy as np
from anyio.lowlevel import RunVar
from PIL import Image as Picture

from callus.bundle import Bundle
from callus.identify import Finding
from callus.metrics.boxes import after
from callus.preprocess import fit_affine
from callus.radiograph import read
from callus.service.refusals import TooManyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import Response
    from numpy.typing import NDArray

    from callus.radiograph import Radiograph
    from callus.service.models import Models
    from callus.service.objects import ObjectStore
    from callus.service.tables import Answer, Image, Model

LONGEST_HEAT: Final = 1024
"""Pixels of a heat map's longer side: there is nothing finer in it."""
_AT_ONCE: Final = 2  # frames that are decoded together
_WAIT: Final = 20.0
_KEPT_BYTES: Final = 96 << 20
_THREADS: Final = 6  # that make pictures; all else has the server's other threads, and need not wait for pictures
_QUEUED: Final = 64  # who waits for one of them
_SENT_BYTES: Final = 512 << 20  # of pictures that are on their way; a slow network takes minutes for one
_threads: RunVar[anyio.CapacityLimiter] = RunVar("callus.service.pictures")  # of each event loop


class Pictures:
    """Decodes frames, a few at a time, and keeps the last ones. Threads may share it."""

    def __init__(self, objects: ObjectStore, models: Models) -> None:
        """Open it.

        Args:
            objects: where radiographs and maps are.
            models: whose input the maps are of.
        """
        self._objects = objects
        self._models = models
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._kept: OrderedDict[str, NDArray[np.uint8] | NDArray[np.uint16]] = OrderedDict()
        self._bundles: dict[str, Bundle] = {}
        self._sent: weakref.WeakSet[Response] = weakref.WeakSet()
        self._lock = threading.Lock()

    async def answer(self, make: Callable[[], Response]) -> Response:
        """A response with a picture, made in a thread of those that only make pictures.

        Args:
            make: makes it; may take long, and may raise.

        Raises:
            TooManyError: too many wait for pictures, or too much is on its way already.
        """
        limiter = _threads.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(_THREADS)
            _threads.set(limiter)
        if limiter.statistics().tasks_waiting >= _QUEUED:
            raise TooManyError("too many wait for pictures", retry_after=5)
        made = await anyio.to_thread.run_sync(make, limiter=limiter)
        with self._lock:
            sent = sum(len(one.body) for one in self._sent)
            if sent and sent + len(made.body) > _SENT_BYTES:
                raise TooManyError("too many pictures are on their way", retry_after=5)
            self._sent.add(made)  # until it has gone, and nobody holds it any more
        return made

    def frame(self, sha256: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The pixels of a radiograph, as :class:`callus.radiograph.Radiograph` has them.

        Raises:
            RadiographError: it cannot be decoded.
            TooManyError: too many are being decoded.
        """
        with self._lock:
            if (there := self._kept.get(sha256)) is not None:
                self._kept.move_to_end(sha256)
                return there
        pixels = self.radiograph(sha256).pixels
        with self._lock:
            self._kept[sha256] = pixels
            while sum(one.nbytes for one in self._kept.values()) > _KEPT_BYTES and self._kept:
                self._kept.popitem(last=False)
        return pixels

    def radiograph(self, sha256: str) -> Radiograph:
        """A radiograph, decoded where a hostile file harms nobody.

        Raises:
            RadiographError: it cannot be decoded.
            TooManyError: too many are being decoded.
        """
        with self._turn():
            return read(self._objects.get(sha256), isolated=True)

    def narrow(self, png: bytes, width: int) -> bytes:
        """A picture of this service's own, made no wider than ``width`` pixels, as PNG.

        Raises:
            TooManyError: too many are being decoded.
        """
        with self._turn(), Picture.open(io.BytesIO(png)) as whole:
            return _encoded(whole, width)

    def forget(self, hashes: set[str]) -> None:
        """Drop frames of radiographs that were deleted."""
        with self._lock:
            for sha256 in hashes:
                self._kept.pop(sha256, None)

    def heat(self, image: Image, answer: Answer, model: Model) -> bytes:
        """An answer's heat map over the whole image, 8 bits grey, PNG; the image's size or :data:`LONGEST_HEAT`.

        Raises:
            CallusError: the map or the model's bundle is not there any more.
        """
        shape = (image.height or 1, image.width or 1)
        heat = np.load(io.BytesIO(self._objects.get(answer.map)), allow_pickle=False)
        bundle = self._bundle(model)
        finding = Finding(
            path=None,
            probability=answer.probability,
            level="none",
            boxes=(),
            map=heat,
            map_to_original=after(fit_affine(*shape, bundle.spec), bundle.map_to_input),
            cautions=(),
            model=model.name,
            engine=answer.engine,
            logit=0.0,
            features=np.zeros(0, np.float32),
            shape=shape,
        )
        share = min(1.0, LONGEST_HEAT / max(shape))
        drawn = finding.heat((max(1, round(shape[0] * share)), max(1, round(shape[1] * share))))
        return as_png(np.rint(np.clip(drawn, 0, 1) * 255).astype(np.uint8))

    def _bundle(self, model: Model) -> Bundle:
        with self._lock:
            if model.digest not in self._bundles:
                self._bundles[model.digest] = Bundle.load(self._models.folder / model.path)
            return self._bundles[model.digest]

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=_WAIT):
            raise TooManyError("too many pictures are being decoded", retry_after=5)
        try:
            yield
        finally:
            self._turns.release()


def windowed(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], low: float | None, high: float | None
) -> NDArray[np.uint8]:
    """Grey values from ``low``, black, to ``high``, white: uint8 (h, w).

    Args:
        pixels: (h, w).
        low: in the pixels' own values; None for 0.
        high: the same; None for the dtype's largest.
    """
    bottom = 0.0 if low is None else low
    top = float(np.iinfo(pixels.dtype).max) if high is None else high
    if pixels.dtype == np.uint8 and bottom == 0 and top == np.iinfo(np.uint8).max:
        return np.asarray(pixels)
    values = np.arange(int(np.iinfo(pixels.dtype).max) + 1, dtype=np.float64)
    table = np.clip((values - bottom) / max(top - bottom, 1.0), 0, 1) * 255
    return np.asarray(np.rint(table).astype(np.uint8)[pixels])


def as_png(grey: NDArray[np.uint8], width: int | None = None) -> bytes:
    """A grey picture as PNG: quick to write rather than small; no wider than ``width`` where that is given."""
    return _encoded(Picture.fromarray(grey), width)


def _encoded(picture: Picture.Image, width: int | None) -> bytes:
    if width is not None:
        picture.thumbnail((width, picture.height))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
