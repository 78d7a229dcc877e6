"""Which files show the same radiograph: equal to the byte, or changed in any of the ways in which copies are made.

Re-encoded, resized, squashed, cropped a little, relit, inverted, mirrored, turned by any angle, and chains of these.

Two stages. Each file is described once (``keypoints``), and an index of the descriptions gives each its nearest
(``neighbours``): no loop over all pairs. Then candidates are laid over each other (``registration``) and what is left
over decides. A pair that the coarse look leaves open is read again and compared in finer detail. Verified pairs make
components; where a pair would join what is already larger, weak evidence has to be confirmed by other pairs between the
two, so that a chain of look-alikes does not grow.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import cv2
import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from threadpoolctl import threadpool_limits

from callus import radiograph
from callus.dataset.keypoints import COARSE, FINE, MIRRORED, Detail, describe
from callus.dataset.neighbours import Neighbours, Vocabulary, learnt_from
from callus.dataset.registration import Overlay, lay_over
from callus.errors import RadiographError
from callus.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from callus.dataset.keypoints import Description
    from callus.dataset.shelf import Shelf
    from callus.radiograph import Radiograph

T = TypeVar("T")
R = TypeVar("R")
Kind = Literal["byte_equal", "near", "rotated"]

_NEAREST: Final = 24  # that are looked up
_FIRST: Final = 8  # of them that are verified in the first round
_LATER: Final = 4  # of those outside a picture's component, in later rounds
_ROUNDS: Final = 3
_BATCH: Final = 64  # pairs that are decided before their components are joined; a constant, whatever the cores
_CONFIRM: Final = 3  # other pairs that are asked where evidence is weak
_FINER: Final = 1.4  # how much larger than the coarse look both pictures have to be for a finer one
_ROTATED: Final = 3.0  # degrees from a quarter turn

# Log odds of "same" for what an overlay tells (registration.Overlay.evidence), by logistic
# regression on changed copies of FracAtlas radiographs against look-alikes: bench/fit_copies.py.
_COARSE_WEIGHTS: Final = np.array([2.346, -2.353, -2.158, -2.535, 19.155, -8.228, 1.2, -1.366])
_COARSE_BIAS: Final = -9.582
# The same from a closer look, which begins with the coarse log odds.
_FINE_WEIGHTS: Final = np.array([0.272, 1.417, -9.488, -2.989, -8.749, 28.309, -14.987, 3.043, -0.475])
_FINE_BIAS: Final = -8.526
COARSE_LEAST: Final = 0.0  # coarse log odds up to here are a no
_YES: Final = 8.0  # and from here a yes; between them a closer look decides, where one can be had
# Log odds from which a pair is the same if another pair between the two components says so too; by itself where there
# is no other pair; whatever other pairs say.
_AIDED: Final = (0.0, 1.5, 4.0)  # after a closer look
_UNAIDED: Final = (1.0, 2.5, 5.0)  # where none can be had
_SQUARED_FROM: Final = 1.3  # longer to shorter side; up to there SIFT finds a squashed copy's places by itself
_SQUARED: Final = " squared"  # behind the SHA-256 of what is kept of a squashed picture
_LEAST_SHARE: Final = 0.5  # of the smaller picture that has to be covered


@dataclass(frozen=True)
class Link:
    """Two files that were found to show the same radiograph.

    Attributes:
        first: number of the one file.
        second: number of the other.
        kind: "byte_equal"; "rotated": turned by more than 3 degrees from a quarter turn; "near": anything else.
        degrees: by how much the one is turned against the other, from 0 to 180.
    """

    first: int
    second: int
    kind: Kind
    degrees: float = 0.0


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        component: int64 (n,), equal for files that show the same radiograph.
        links: the pairs that join them; a tree for each component, not all of its pairs.
        described: how many files were compared; the others could not be read.
    """

    component: NDArray[np.int64]
    links: tuple[Link, ...]
    described: int


def find_duplicates(
    paths: Sequence[str], sha256: Sequence[str], shelf: Shelf, workers: int | None = None
) -> Duplicates:
    """Find the files that show the same radiograph.

    Args:
        paths: of the files.
        sha256: of their bytes, hex; empty for a file that is not to be compared.
        shelf: where descriptions are kept, so that a stopped search goes on.
        workers: threads; None: one a core.
    """
    search = _Search(paths, sha256, shelf, workers or os.cpu_count() or 1)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # files and pairs are spread over the cores already
    try:
        with threadpool_limits(1):  # products this small take 20 times as long where several threads share them
            search.join_equal_bytes()
            search.describe_all()
            search.compare()
    finally:
        cv2.setNumThreads(threads)
    return search.result()


def keep_description(seen: Radiograph, shelf: Shelf) -> None:
    """Describe a radiograph, where that is not done yet; an oblong one also squashed to a square, as copies often are.

    Args:
        seen: the radiograph.
        shelf: gets the descriptions.
    """
    if seen.sha256 in shelf:
        return
    if _is_oblong(seen.shape):
        shelf.put(seen.sha256 + _SQUARED, describe(_squared(seen.pixels), COARSE))
    shelf.put(seen.sha256, describe(seen.pixels, COARSE))  # last: whoever finds it finds the other


def fine_detail(a: tuple[int, int], b: tuple[int, int]) -> Detail | None:
    """How closely two pictures of these sizes (height, width) can be compared; None where no closer than coarsely."""
    side = min(FINE.side, max(a), max(b))
    if side < _FINER * COARSE.side:
        return None
    return Detail(side, FINE.most, round(side * FINE.thumbnail / FINE.side))


@dataclass(frozen=True)
class _Verdict:
    """Whether a pair is one radiograph, and whether that needs no other pair to say the same."""

    overlay: Overlay | None
    same: bool | None  # None: open
    sure: bool = False  # needs no other pair
    weak: bool = False  # is nothing without another pair


_NOT_SAME: Final = _Verdict(None, same=False)


@dataclass(frozen=True)
class _Look:
    """A file as it is compared: as it is, or squashed to a square."""

    number: int
    squared: bool = False


class _Search:
    def __init__(self, paths: Sequence[str], sha256: Sequence[str], shelf: Shelf, workers: int) -> None:
        self._paths = paths
        self._sha256 = sha256
        self._shelf = shelf
        self._workers = workers
        self._components = DisjointSet(range(len(paths)))
        self._links: list[Link] = []
        self._looks: list[_Look] = []  # a file's of each content, and what it would be if it were squashed
        self._places: dict[int, list[int]] = {}
        self._vectors: NDArray[np.float32] = np.zeros((0, 0, 0), np.float32)
        self._asked: set[tuple[int, int]] = set()
        self._odds: dict[tuple[int, int], float] = {}  # coarse, of the pairs that are looked at closely
        self._weak: dict[tuple[int, int], _Verdict] = {}  # that nothing has confirmed so far

    def result(self) -> Duplicates:
        component = np.array([self._components[number] for number in range(len(self._paths))], np.int64)
        return Duplicates(component, tuple(self._links), sum(not look.squared for look in self._looks))

    def join_equal_bytes(self) -> None:
        """Files of equal bytes are one; only the first of them is looked at."""
        first: dict[str, int] = {}
        for number, sha in enumerate(self._sha256):
            if not sha:
                continue
            if sha in first:
                self._components.merge(first[sha], number)
                self._links.append(Link(first[sha], number, "byte_equal"))
            else:
                first[sha] = number
        self._looks = [_Look(number) for number in first.values()]

    def describe_all(self) -> None:
        """Describe what is not on the shelf yet."""
        missing = [look.number for look in self._looks if self._sha256[look.number] not in self._shelf]
        failed: set[int] = set()

        def one(number: int) -> None:
            try:
                seen = radiograph.read(self._paths[number])
            except RadiographError:
                failed.add(number)
                return
            if seen.sha256 != self._sha256[number]:  # changed since it was listed
                failed.add(number)
                return
            keep_description(seen, self._shelf)

        with progress("describing radiographs", len(missing)) as advance:
            for _ in self._spread(one, missing):
                advance()
        plain = [look for look in self._looks if look.number not in failed]
        self._looks = plain + [
            _Look(look.number, squared=True) for look in plain if _is_oblong(self._description_of(look).size)
        ]

    def compare(self) -> None:
        """Look neighbours up and verify them, in rounds, until nothing more is joined."""
        if len(self._looks) < 2:  # noqa: PLR2004
            return
        for place, look in enumerate(self._looks):
            self._places.setdefault(look.number, []).append(place)
        vocabulary = Vocabulary([self._description(place) for place in learnt_from(len(self._looks))])
        vectors = np.stack(
            list(self._spread(lambda place: vocabulary.vectors(self._description(place)), range(len(self._looks))))
        )
        places, likeness = Neighbours(vectors).nearest(_NEAREST)
        self._vectors = vectors
        for turn in range(_ROUNDS):
            before = len(self._links)
            pairs = self._candidates(places, likeness, turn)
            open_pairs = self._judge(f"comparing, round {turn + 1}", pairs, self._coarse)
            # What better evidence has joined meanwhile needs no closer look.
            self._judge(f"looking closely, round {turn + 1}", open_pairs, self._close)
            for pair, verdict in list(self._weak.items()):
                self._take(pair, verdict)
            if len(self._links) == before:
                break

    def _judge(
        self, what: str, pairs: list[tuple[int, int]], judge: Callable[[tuple[int, int]], _Verdict]
    ) -> list[tuple[int, int]]:
        """Join what is the same; give the pairs that stay open."""
        still_open: list[tuple[int, int]] = []
        with progress(what, len(pairs)) as advance:
            for start in range(0, len(pairs), _BATCH):
                batch = pairs[start : start + _BATCH]
                asked = [pair for pair in batch if not self._joined(*pair)]
                for pair, verdict in zip(asked, self._spread(judge, asked), strict=True):
                    if verdict.same is None:
                        still_open.append(pair)
                    elif verdict.same:
                        self._take(pair, verdict)
                advance(len(batch))
        return still_open

    def _candidates(self, places: NDArray[np.int64], likeness: NDArray[np.float32], turn: int) -> list[tuple[int, int]]:
        """Pairs of places, the likeliest first, each once."""
        best: dict[tuple[int, int], float] = {}
        for place, (others, values) in enumerate(zip(places.tolist(), likeness.tolist(), strict=True)):
            found = [(other, value) for other, value in zip(others, values, strict=True) if other >= 0]
            if turn:
                found = [(other, value) for other, value in found if not self._joined(place, other)]
            for other, value in found[: _LATER if turn else _FIRST]:
                pair = (place, other) if place < other else (other, place)
                best[pair] = max(value, best.get(pair, -2))
        new = best.keys() - self._asked
        self._asked |= new
        return sorted(new, key=lambda pair: (-best[pair], pair))

    def _joined(self, a: int, b: int) -> bool:
        return bool(self._components.connected(self._looks[a].number, self._looks[b].number))

    def _take(self, pair: tuple[int, int], verdict: _Verdict) -> None:
        """Join a pair's components, where that holds."""
        if verdict.overlay is None or self._joined(*pair):
            return
        if not verdict.sure and not self._confirmed(pair, alone=not verdict.weak):
            if verdict.weak:
                self._weak[pair] = verdict
            return
        first, second = (self._looks[place].number for place in pair)
        self._components.merge(first, second)
        self._links.append(_link(first, second, verdict.overlay))

    def _confirmed(self, pair: tuple[int, int], *, alone: bool) -> bool:
        """Whether one in three of the likeliest other pairs between two components says the same.

        Args:
            pair: two places.
            alone: the answer where there is no other pair.
        """
        sides = [
            [
                place
                for number in sorted(self._components.subset(self._looks[one].number))
                for place in self._places.get(number, [])
            ]
            for one in pair
        ]
        files = {self._looks[one].number for one in pair}
        crossing = [
            (a, b) for a in sides[0] for b in sides[1] if {self._looks[a].number, self._looks[b].number} != files
        ]
        if not crossing:
            return alone
        alike = [float((self._vectors[a] @ self._vectors[b, 0]).max()) for a, b in crossing]
        asked = [crossing[i] for i in np.argsort(-np.array(alike), kind="stable")[:_CONFIRM]]
        yes = sum(bool(self._verdict(other).same) for other in asked)
        return _CONFIRM * yes >= len(asked)

    def _verdict(self, pair: tuple[int, int]) -> _Verdict:
        verdict = self._coarse(pair)
        return self._close(pair) if verdict.same is None else verdict

    def _coarse(self, pair: tuple[int, int]) -> _Verdict:
        """What the descriptions tell; open where a closer look can tell more."""
        a, b = (self._description(place) for place in pair)
        overlay = lay_over(a, b)
        if overlay is None or overlay.share < _LEAST_SHARE:
            return _NOT_SAME
        odds = float(_COARSE_WEIGHTS @ overlay.evidence() + _COARSE_BIAS)
        if odds <= COARSE_LEAST:
            return _NOT_SAME
        if odds >= _YES:
            return _Verdict(overlay, same=True, sure=True)
        if fine_detail(a.size, b.size) is not None:
            self._odds[pair] = odds
            return _Verdict(overlay, same=None)
        return _weighed(overlay, odds, _UNAIDED)

    def _close(self, pair: tuple[int, int]) -> _Verdict:
        """What the files themselves tell, compared at the smaller one's size."""
        detail = fine_detail(*(self._description(place).size for place in pair))
        if detail is None:
            return _NOT_SAME
        try:
            a, b = (describe(self._pixels(self._looks[place]), detail) for place in pair)
        except RadiographError:
            return _NOT_SAME
        overlay = lay_over(a, b)
        if overlay is None or overlay.share < _LEAST_SHARE:
            return _NOT_SAME
        odds = float(_FINE_WEIGHTS @ np.r_[self._odds[pair], overlay.evidence()] + _FINE_BIAS)
        return _weighed(overlay, odds, _AIDED)

    def _pixels(self, look: _Look) -> NDArray[np.uint8] | NDArray[np.uint16]:
        pixels = radiograph.read(self._paths[look.number]).pixels
        return _squared(pixels) if look.squared else pixels

    def _description(self, place: int) -> Description:
        return self._description_of(self._looks[place])

    def _description_of(self, look: _Look) -> Description:
        return self._shelf.get(self._sha256[look.number] + (_SQUARED if look.squared else ""))

    def _spread(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Do the work in threads; results in the items' order, with few ahead, so that Ctrl-C is quick."""
        with ThreadPoolExecutor(self._workers) as pool:
            waiting = []
            try:
                for item in items:
                    waiting.append(pool.submit(work, item))
                    if len(waiting) >= 4 * self._workers:
                        yield waiting.pop(0).result()
                for future in waiting:
                    yield future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _link(first: int, second: int, overlay: Overlay) -> Link:
    linear = overlay.matrix[:, :2] @ np.diag([-1.0 if overlay.variant & MIRRORED else 1.0, 1.0])
    u, _, v = np.linalg.svd(linear)
    turn = u @ v  # the rotation that is nearest to the map
    degrees = abs(math.degrees(math.atan2(turn[1, 0], turn[0, 0])))
    off = abs(degrees - 90 * round(degrees / 90))
    return Link(first, second, "rotated" if off > _ROTATED else "near", round(degrees, 1))


def _is_oblong(size: tuple[int, int]) -> bool:
    return max(size) > _SQUARED_FROM * min(size)


def _squared(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Squashed to a square of the same area."""
    side = round(math.sqrt(pixels.size))
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _weighed(overlay: Overlay, odds: float, needed: tuple[float, float, float]) -> _Verdict:
    weak, alone, sure = needed
    return _Verdict(overlay, same=odds >= weak, sure=odds >= sure, weak=odds < alone)
