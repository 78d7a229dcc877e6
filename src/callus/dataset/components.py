"""Which files are joined so far, and a few of each component that stand for it.

However many copies of one radiograph there are, only those few are asked whether another file belongs to it, and looked
up among those of other components: so a component's size costs nothing. They are as unlike each other as can be, for
near-equal copies would all say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Pair = tuple[int, int]
"""Two places, the lesser first: pictures that are compared, each a file as it is or squashed to a square."""

_STANDING: Final = 12  # places that stand for a component


class Components:
    """Files that show the same radiograph, as far as is known.

    Args:
        files: how many.
    """

    def __init__(self, files: int) -> None:
        self._sets = DisjointSet(range(files))
        self._files: NDArray[np.int64] = np.zeros(0, np.int64)
        self._vectors: NDArray[np.float32] = np.zeros((0, 0, 0), np.float32)
        self._standing: dict[int, list[int]] = {}  # places, by the file that stands for the component in the set

    def place(self, files: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Tell which places there are: of which file each is, and the vectors of its variants."""
        self._files, self._vectors = np.array(files, np.int64), vectors
        for place, file in enumerate(files):
            self._standing.setdefault(self._sets[file], []).append(place)

    def of_files(self) -> NDArray[np.int64]:
        """Each file's component."""
        return np.array([self._sets[file] for file in range(len(self._sets))], np.int64)

    def of_places(self) -> NDArray[np.int64]:
        """Each place's component."""
        return self.of_files()[self._files]

    def of(self, file: int) -> int:
        """A file's component."""
        return int(self._sets[file])

    def joined(self, first: int, second: int) -> bool:
        """Whether two files are known to show the same radiograph."""
        return bool(self._sets.connected(first, second))

    def join(self, first: int, second: int) -> None:
        """Two files show the same radiograph, and so all do that are joined with either."""
        standing = [place for file in (first, second) for place in self._standing.pop(self._sets[file], [])]
        self._sets.merge(first, second)
        self._standing[self._sets[first]] = self._apart(sorted(standing), _STANDING)

    def standing(self, each: int) -> NDArray[np.int64]:
        """The places that stand for the components, at most ``each`` for one."""
        return np.array(sorted(place for all_of in self._standing.values() for place in self._apart(all_of, each)))

    def between(self, pair: Pair) -> list[Pair]:
        """Other pairs of places between the components of a pair, the likeliest first, however large these are.

        They share no file with the pair on a side that has other files, for what is wrong with one picture (it shows
        two radiographs, say) would speak for itself. None where neither side has another file.
        """
        sides = [self._standing[self._sets[int(self._files[place])]] for place in pair]
        others = [
            [place for place in side if self._files[place] != self._files[one]]
            for side, one in zip(sides, pair, strict=True)
        ]
        if not any(others):
            return []
        first, second = (other or side for other, side in zip(others, sides, strict=True))
        order = np.argsort(-self._likeness(first, second), axis=None, kind="stable")
        found = ((first[i // len(second)], second[i % len(second)]) for i in order.tolist())
        return [(a, b) if a < b else (b, a) for a, b in found]

    def _apart(self, places: list[int], most: int) -> list[int]:
        """At most so many of some places, as unlike each other as can be; first the one that is most like all."""
        if len(places) <= most:
            return places
        likeness = self._likeness(places, places)
        chosen = [int(likeness.sum(axis=0).argmax())]
        nearest = likeness[chosen[0]]
        while len(chosen) < most:
            nearest[chosen[-1]] = np.inf
            chosen.append(int(nearest.argmin()))
            nearest = np.maximum(nearest, likeness[chosen[-1]])
        return [places[i] for i in chosen]

    def _likeness(self, first: list[int], second: list[int]) -> NDArray[np.float32]:
        """How alike places are in the variants in which they are most alike: (first, second)."""
        variants = self._vectors[first]
        each = variants.reshape(-1, variants.shape[2]) @ self._vectors[second, 0].T
        likeness: NDArray[np.float32] = each.reshape(len(first), -1, len(second)).max(axis=1)
        return likeness
