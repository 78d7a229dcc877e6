"""Which files show the same radiograph: equal to the byte, or changed in any of the ways in which copies are made.

Re-encoded, resized, squashed, cropped a little, relit, inverted, mirrored, turned by any angle, and chains of these.

Two stages. Each file is described once (``keypoints``), and an index of the descriptions gives each its nearest
(``neighbours``): no loop over all pairs. Then candidates are laid over each other (``registration``) and what is left
over decides. A pair that the coarse look leaves open is read again and compared in finer detail. Verified pairs make
components (``components``). Where there are so many copies that each one's nearest are all of its own radiograph, a few
of each component are looked up among those of the others. And no pair by itself joins what is larger than two files: a
second pair between the two has to say the same, so that a chain of look-alikes does not grow.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import cv2
import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from threadpoolctl import threadpool_limits

from callus import radiograph
from callus.dataset.components import Components
from callus.dataset.keypoints import COARSE, MIRRORED, describe
from callus.dataset.neighbours import Neighbours, Vocabulary, learnt_from
from callus.dataset.registration import turn
from callus.dataset.verdicts import (
    COARSE_LEAST,
    Look,
    Verdict,
    is_oblong,
    judge_closely,
    judge_coarsely,
    squared,
)
from callus.errors import RadiographError
from callus.progress import progress
from callus.workers import WORTH_PROCESSES, batched, spread_over_processes, spread_over_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from callus.dataset.components import Pair
    from callus.dataset.keypoints import Description
    from callus.dataset.registration import Overlay
    from callus.dataset.shelf import Shelf
    from callus.radiograph import Radiograph

T = TypeVar("T")
R = TypeVar("R")

_NEAREST: Final = 24  # that are looked up
_FIRST: Final = 8  # of them that are verified in the first round
_LATER: Final = 4  # of those outside a picture's component, in later rounds
_ROUNDS: Final = 6  # at most; where nothing is left to be asked the last was before
_STAND_IN: Final = 4  # places of each component, where components are looked up
_BATCH: Final = 64  # pairs that are decided before their components are joined; a constant, whatever the cores
_CONFIRM: Final = 3  # other pairs that are asked for a second opinion
_SQUARED: Final = " squared"  # behind the SHA-256 of what is kept of a squashed picture


@dataclass(frozen=True)
class Link:
    """Two files that were found to show the same radiograph.

    Attributes:
        first: number of the one file.
        second: number of the other.
        turn: degrees by which the second is turned against the first, from -180 to 180.
        mirrored: whether the first was mirrored left to right before it was turned.
    """

    first: int
    second: int
    turn: float = 0.0
    mirrored: bool = False


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

    def turned_against(self, others: NDArray[np.int64]) -> NDArray[np.float64]:
        """Tell by how many degrees each file is turned against another of its component, along the links.

        Args:
            others: (n,), numbers of files.

        Returns:
            (n,), from 0 to 180. A mirrored one is turned against the nearer of the mirror images, left to right and
            top to bottom: 90 at most.
        """
        reached: dict[int, list[tuple[int, Link]]] = {}
        for link in self.links:
            reached.setdefault(link.first, []).append((link.second, link))
            reached.setdefault(link.second, []).append((link.first, link))
        turn, mirrored = np.zeros(len(self.component)), np.zeros(len(self.component), dtype=bool)
        known = np.zeros(len(self.component), dtype=bool)
        for start in reached:
            if known[start]:
                continue
            known[start] = True
            waiting = [start]
            while waiting:
                here = waiting.pop()
                for there, link in reached[here]:
                    if not known[there]:
                        known[there] = True
                        # A mirror image turned by an angle is turned back by the same map.
                        by = link.turn if link.first == here or link.mirrored else -link.turn
                        turn[there] = by + (-turn[here] if link.mirrored else turn[here])
                        mirrored[there] = mirrored[here] ^ link.mirrored
                        waiting.append(there)
        other_way = mirrored != mirrored[others]
        degrees = np.abs((np.where(other_way, turn + turn[others], turn - turn[others]) + 180) % 360 - 180)
        return np.asarray(np.where(other_way, np.minimum(degrees, 180 - degrees), degrees), dtype=np.float64)


def find_duplicates(
    paths: Sequence[str], sha256: Sequence[str], shelf: Shelf, workers: int | None = None
) -> Duplicates:
    """Find the files that show the same radiograph.

    Args:
        paths: of the files.
        sha256: of their bytes, hex; empty for a file that is not to be compared.
        shelf: where descriptions are kept, so that a stopped search goes on.
        workers: threads, or processes where there is much to do; None: one a core.
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


def describe_all_ways(seen: Radiograph) -> dict[str, Description]:
    """Describe a radiograph, an oblong one also squashed to a square, as copies often are: by what it is kept under."""
    ways = {}
    if is_oblong(seen.shape):
        ways[seen.sha256 + _SQUARED] = describe(squared(seen.pixels), COARSE)
    ways[seen.sha256] = describe(seen.pixels, COARSE)  # last: whoever finds it finds the other
    return ways


@dataclass(frozen=True)
class _Place:
    """A file among those that are compared, as it is or squashed to a square."""

    number: int
    squared: bool = False


class _Search:
    def __init__(self, paths: Sequence[str], sha256: Sequence[str], shelf: Shelf, workers: int) -> None:
        self._paths = paths
        self._sha256 = sha256
        self._shelf = shelf
        self._workers = workers
        self._in_processes = workers > 1 and len(paths) >= WORTH_PROCESSES
        self._components = Components(len(paths))
        self._links: list[Link] = []
        self._looks: list[_Place] = []  # a file's of each content, and what it would be if it were squashed
        self._told: dict[Pair, bool | None] = {}  # whether a pair is the same; None: open, it wants a closer look
        self._odds: dict[Pair, float] = {}  # coarse, of the open pairs
        self._alone: dict[Pair, Verdict] = {}  # what no second pair has confirmed so far
        self._misled: set[int] = set()  # places that are much like others, and not the same

    def result(self) -> Duplicates:
        return Duplicates(
            self._components.of_files(), tuple(self._links), sum(not look.squared for look in self._looks)
        )

    def join_equal_bytes(self) -> None:
        """Files of equal bytes are one; only the first of them is looked at."""
        first: dict[str, int] = {}
        for number, sha in enumerate(self._sha256):
            if not sha:
                continue
            if sha in first:
                self._components.join(first[sha], number)
                self._links.append(Link(first[sha], number))
            else:
                first[sha] = number
        self._looks = [_Place(number) for number in first.values()]

    def describe_all(self) -> None:
        """Describe what is not on the shelf yet."""
        missing = [look.number for look in self._looks if self._sha256[look.number] not in self._shelf]
        failed: set[int] = set()
        asked = [(self._paths[number], self._sha256[number]) for number in missing]
        with progress("describing radiographs", len(missing)) as advance:
            for number, ways in zip(missing, self._spread(_describe_file, asked), strict=True):
                if not ways:
                    failed.add(number)
                for key, description in ways.items():
                    self._shelf.put(key, description)
                advance()
        plain = [look for look in self._looks if look.number not in failed]
        self._looks = plain + [_Place(look.number, squared=True) for look in plain if is_oblong(self._size(look))]

    def compare(self) -> None:
        """Look neighbours up and verify them, in rounds, until nothing more is joined."""
        if len(self._looks) < 2:  # noqa: PLR2004
            return
        vocabulary = Vocabulary([self._description(place) for place in learnt_from(len(self._looks))])
        everything = range(len(self._looks))
        some = ([self._description(place) for place in places] for places in batched(everything, _BATCH))
        vectors = np.concatenate(list(spread_over_threads(vocabulary.vectors, some, self._workers)))
        self._components.place([look.number for look in self._looks], vectors)
        nearest = Neighbours(vectors, self._workers).nearest(_NEAREST)
        found = _likeliest(np.arange(len(vectors)), *nearest, _FIRST)
        for number in range(_ROUNDS):
            if not found:
                break
            before = len(self._links)
            pairs = sorted(found, key=lambda pair: (-found[pair], pair))
            open_pairs = self._judge(f"comparing, round {number + 1}", pairs, judge_coarsely, self._coarsely)
            # What better evidence has joined meanwhile needs no closer look.
            self._judge(f"looking closely, round {number + 1}", open_pairs, judge_closely, self._closely)
            self._take_alone()
            found = self._apart(*nearest)
            if len(self._links) > before:
                found |= self._among_components(nearest[0], vectors)

    def _judge(
        self, what: str, pairs: list[Pair], judge: Callable[[T], Verdict], material: Callable[[Pair], T]
    ) -> list[Pair]:
        """Join what is the same; give the pairs that stay open."""
        still_open: list[Pair] = []
        done = 0
        with progress(what, len(pairs)) as advance:
            while done < len(pairs):
                asked, passed = self._next_apart(pairs, done)
                verdicts = self._spread(judge, [material(pair) for pair in asked])
                judged = list(zip(asked, verdicts, strict=True))
                for pair, verdict in judged:
                    self._note(pair, verdict)
                self._ask_others([pair for pair, verdict in judged if verdict.same])
                for pair, verdict in judged:
                    if verdict.same is None:
                        still_open.append(pair)
                    elif verdict.same:
                        self._take(pair, verdict)
                done += passed
                advance(passed)
        return still_open

    def _next_apart(self, pairs: list[Pair], start: int) -> tuple[list[Pair], int]:
        """The next _BATCH pairs from ``start`` on that are not joined yet, and how many were passed to find them."""
        asked: list[Pair] = []
        for place in range(start, len(pairs)):
            if not self._joined(*pairs[place]):
                asked.append(pairs[place])
                if len(asked) == _BATCH:
                    return asked, place + 1 - start
        return asked, len(pairs) - start

    def _apart(self, others: NDArray[np.int64], likeness: NDArray[np.float32]) -> dict[Pair, float]:
        """The nearest that are of other components, as long as they were not asked: of each place the likeliest four.

        For a place that was misled, in a viewer's window that others share for example, these are the next four.
        """
        component = self._components.of_places()
        apart = np.where(component[others] != component[:, np.newaxis], others, -1)
        for place in self._misled:
            apart[place] = [-1 if _pair(place, other) in self._told else other for other in apart[place].tolist()]
        found = _likeliest(np.arange(len(apart)), apart, likeness, _LATER)
        return {pair: value for pair, value in found.items() if pair not in self._told}

    def _among_components(self, others: NDArray[np.int64], vectors: NDArray[np.float32]) -> dict[Pair, float]:
        """Where a place's nearest are of hardly any component but its own: who is alike among a few of each component.

        Of each other component the likeliest place that was not asked before.
        """
        component = self._components.of_places()
        theirs = np.where(others < 0, -1, component[others])
        rows = np.sort(np.where(theirs == component[:, np.newaxis], -1, theirs), axis=1)
        known = (np.diff(rows, axis=1, prepend=-1) > 0).sum(axis=1)  # other components among the nearest
        crowded = np.unique(component[(known < _LATER) & (others[:, -1] >= 0)])
        if not len(crowded):
            return {}
        standing = self._components.standing(_STAND_IN)
        asked = standing[np.isin(component[standing], crowded)]
        others, likeness = Neighbours(vectors, self._workers, standing).nearest(_NEAREST, asked)
        for place, row in zip(asked.tolist(), others, strict=True):
            seen = {int(component[place])}
            for column, other in enumerate(row.tolist()):
                if other < 0 or component[other] in seen or _pair(place, other) in self._told:
                    row[column] = -1
                else:
                    seen.add(int(component[other]))
        return _likeliest(asked, others, likeness, _LATER)

    def _joined(self, a: int, b: int) -> bool:
        return self._components.joined(self._looks[a].number, self._looks[b].number)

    def _take(self, pair: Pair, verdict: Verdict) -> None:
        """Join a pair's components, where that holds."""
        if verdict.overlay is None or self._joined(*pair):
            return
        others = self._components.between(pair)
        if not (self._confirmed(others) if others else not verdict.weak):
            self._alone[pair] = verdict
            return
        first, second = (self._looks[place].number for place in pair)
        self._components.join(first, second)
        self._links.append(_link(first, second, verdict.overlay))

    def _take_alone(self) -> None:
        """Ask again for pairs that stood alone, until none of them joins what speaks for another."""
        before = -1
        while len(self._links) != before:
            before = len(self._links)
            alone, self._alone = self._alone, {}
            for pair, verdict in alone.items():
                self._take(pair, verdict)

    def _ask_others(self, pairs: list[Pair]) -> None:
        """Ask for the second opinions that some pairs will want, all at once: one by one they would take one core."""
        asked: dict[Pair, None] = {}
        soon = DisjointSet()  # components, as these pairs will join them
        for pair in pairs:
            sides = [self._components.of(self._looks[place].number) for place in pair]
            for side in sides:
                soon.add(side)
            if not soon.merge(*sides):
                continue
            others = self._components.between(pair)
            if not any(self._told.get(other) for other in others):
                asked.update(dict.fromkeys([other for other in others[:_CONFIRM] if other not in self._told][:1]))
        for other, verdict in zip(asked, self._spread(judge_coarsely, list(map(self._coarsely, asked))), strict=True):
            self._note(other, verdict)

    def _confirmed(self, others: list[Pair]) -> bool:
        """Whether one of a pair's others says the same: one that is known, or one of the likeliest three."""
        if any(self._told.get(other) for other in others):
            return True
        asked = others[:_CONFIRM]
        for other in asked:
            if other not in self._told:
                self._note(other, judge_coarsely(self._coarsely(other)))
                if self._told[other]:
                    return True
        for other in asked:
            if self._told[other] is None:
                self._note(other, judge_closely(self._closely(other)))
                if self._told[other]:
                    return True
        return False

    def _note(self, pair: Pair, verdict: Verdict) -> None:
        self._told[pair] = verdict.same
        if verdict.same is None:
            self._odds[pair] = verdict.odds
        elif not verdict.same and verdict.odds > COARSE_LEAST:
            self._misled.update(pair)

    def _coarsely(self, pair: Pair) -> tuple[Description, Description]:
        """What a coarse verdict is made of."""
        return self._description(pair[0]), self._description(pair[1])

    def _closely(self, pair: Pair) -> tuple[Look, Look, float]:
        """What a close one is made of."""
        looks = (
            Look(self._paths[place.number], place.squared, self._size(place), self._sha256[place.number])
            for place in self._both(pair)
        )
        return next(looks), next(looks), self._odds[pair]

    def _both(self, pair: Pair) -> tuple[_Place, _Place]:
        return self._looks[pair[0]], self._looks[pair[1]]

    def _size(self, place: _Place) -> tuple[int, int]:
        return self._description_of(place).size

    def _spread(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        spread = spread_over_processes if self._in_processes else spread_over_threads
        return spread(work, items, self._workers)

    def _description(self, place: int) -> Description:
        return self._description_of(self._looks[place])

    def _description_of(self, look: _Place) -> Description:
        return self._shelf.get(self._sha256[look.number] + (_SQUARED if look.squared else ""))


def _describe_file(file: tuple[str, str]) -> dict[str, Description]:
    """Describe a file (path, SHA-256); nothing where it cannot be read or has changed since it was listed."""
    path, sha256 = file
    try:
        seen = radiograph.read(path)
    except RadiographError:
        return {}
    return describe_all_ways(seen) if seen.sha256 == sha256 else {}


def _pair(a: int, b: int) -> Pair:
    return (a, b) if a < b else (b, a)


def _likeliest(
    places: NDArray[np.int64], others: NDArray[np.int64], likeness: NDArray[np.float32], most: int
) -> dict[Pair, float]:
    """Pairs of places and the likeliest of their others (n, nearest; -1: none), each pair once, with the likeness."""
    best: dict[Pair, float] = {}
    for place, row, values in zip(places.tolist(), others.tolist(), likeness.tolist(), strict=True):
        found = [(other, value) for other, value in zip(row, values, strict=True) if other >= 0]
        for other, value in found[:most]:
            pair = _pair(place, other)
            best[pair] = max(value, best.get(pair, -2.0))
    return best


def _link(first: int, second: int, overlay: Overlay) -> Link:
    mirrored = bool(overlay.variant & MIRRORED)
    return Link(first, second, turn(overlay.matrix[:, :2], mirrored=mirrored), mirrored)
