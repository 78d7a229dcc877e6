"""Which pictures may show the same radiograph: each one's nearest by a vector that tells of all its places at once.

The vector is a VLAD (Jegou et al. 2010, doi 10.1109/CVPR.2010.5540039) over a vocabulary that is learnt from the set at
hand, with intra-normalisation and signed square roots, reduced by principal components. The vocabulary is closed under
the variants of ``callus.dataset.keypoints``: so the vector of a mirrored or inverted picture is a permutation of the
picture's own. An index of hierarchical navigable small worlds (Malkov and Yashunin 2018) finds the nearest in a time
that grows like the logarithm of the set; it is filled by one thread, so that the same set gives the same neighbours.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils.extmath import randomized_svd
from usearch.compiled import MetricKind
from usearch.index import Index

from callus.dataset.keypoints import LENGTH, PERMUTATIONS, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from callus.dataset.keypoints import Description

_WORDS: Final = 16  # times the four variants
_DIMENSIONS: Final = 256
_LEARNT_FROM: Final = 1500  # pictures
_WORDS_FROM: Final = 60_000  # descriptors
_AT_ONCE: Final = 10_000  # pictures that are looked up
_CONNECTIONS: Final = 16
_WHEN_ADDING: Final = 96
_WHEN_SEARCHING: Final = 96


class Vocabulary:
    """From a description to its vectors.

    Args:
        sample: descriptions to learn from.
        seed: of what is drawn.
    """

    def __init__(self, sample: Sequence[Description], seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        described = [picture.unit() for picture in sample if len(picture.points)]
        places = np.concatenate(described) if described else np.zeros((0, LENGTH), np.float32)
        chosen = places[np.sort(generator.permutation(len(places))[:_WORDS_FROM])]
        count = max(1, min(_WORDS, len(chosen)))
        if len(chosen):
            words = MiniBatchKMeans(count, n_init=1, batch_size=4096, max_iter=20, random_state=seed).fit(chosen)
            centres = words.cluster_centers_.astype(np.float32)
        else:
            centres = np.zeros((1, LENGTH), np.float32)
        self._words = np.stack(
            [centres[:, permutation] for permutation in PERMUTATIONS], axis=1
        )  # (words, variants, 128)
        self._flat = self._words.reshape(-1, LENGTH)
        self._half_square = (self._flat**2).sum(axis=1) / 2
        raw = np.concatenate([self._raw(picture) for picture in sample]) if sample else np.zeros((1, self._flat.size))
        self._mean = raw.mean(axis=0).astype(np.float32)
        most = min(_DIMENSIONS, *raw.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a set of equal pictures has no components
            self._axes = randomized_svd(raw - self._mean, most, n_iter=1, random_state=seed)[2].astype(np.float32)

    @property
    def dimensions(self) -> int:
        """Numbers in a vector."""
        return len(self._axes)

    def vectors(self, pictures: Sequence[Description]) -> NDArray[np.float32]:
        """The vectors of some pictures' four variants: float32 (n, 4, dimensions), of length 1.

        Give many at once: the axes, 8 MB, are fetched from memory once a call.
        """
        raw = np.concatenate([self._raw(picture) for picture in pictures]) - self._mean
        vectors: NDArray[np.float32] = (raw @ self._axes.T).reshape(len(pictures), VARIANTS, -1)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-6)
        return vectors

    def _raw(self, picture: Description) -> NDArray[np.float32]:
        """The VLADs of the four variants: float32 (4, words * 4 * 128)."""
        places = picture.unit()
        nearest = (places @ self._flat.T - self._half_square).argmax(axis=1)
        member = np.zeros((len(self._flat), len(places)), np.float32)
        member[nearest, np.arange(len(places))] = 1
        sums = member @ places - member.sum(axis=1, keepdims=True) * self._flat
        sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
        sums = np.sign(sums) * np.sqrt(np.abs(sums))
        own = sums.reshape(self._words.shape)
        # A place of word (k, u) is one of word (k, u xor v) in variant v, and its descriptor is permuted by v.
        raw = np.stack([own[:, np.arange(VARIANTS) ^ v][:, :, PERMUTATIONS[v]].ravel() for v in range(VARIANTS)])
        raw /= np.maximum(np.linalg.norm(raw[:1], axis=1, keepdims=True), 1e-6)
        return raw


def learnt_from(count: int) -> range:
    """Which of ``count`` pictures a vocabulary is learnt from: evenly spaced ones, at most 1,500."""
    return range(0, count, max(1, -(-count // _LEARNT_FROM)))


class Neighbours:
    """Looks neighbours up.

    Args:
        vectors: float32 (n, 4, dimensions), of length 1: the variants of n pictures.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._index = Index(
            ndim=vectors.shape[2],
            metric=MetricKind.IP,
            dtype="f16",  # half the bytes to fetch: twice as fast, and the likenesses that matter are far apart
            connectivity=_CONNECTIONS,
            expansion_add=_WHEN_ADDING,
            expansion_search=_WHEN_SEARCHING,
        )
        self._index.add(np.arange(len(vectors)), np.ascontiguousarray(vectors[:, 0]), threads=1)

    def nearest(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Each picture's nearest others, in whichever variant they are most alike.

        Args:
            count: how many of each.

        Returns:
            int64 (n, count) their numbers, -1 where there are no more; float32 (n, count) the likeness, from -1 to 1,
            falling; -2 where there are no more.
        """
        total = len(self._vectors)
        numbers = np.full((total, count), -1, np.int64)
        values = np.full((total, count), -2, np.float32)
        for start in range(0, total, _AT_ONCE):
            rows = slice(start, min(start + _AT_ONCE, total))
            found, alike = self._nearest(rows, count)
            numbers[rows, : found.shape[1]], values[rows, : found.shape[1]] = found, alike
        return numbers, values

    def _nearest(self, rows: slice, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The variants' neighbours merged, each other picture once; at most ``count`` columns."""
        here = rows.stop - rows.start
        asked = min(count + 1, len(self._vectors))
        found = [
            self._index.search(np.ascontiguousarray(self._vectors[rows, variant]), asked) for variant in range(VARIANTS)
        ]
        keys = np.hstack([one.keys.reshape(here, asked).astype(np.int64) for one in found])
        likeness = np.hstack([1 - one.distances.reshape(here, asked) for one in found]).astype(np.float32)
        order = np.argsort(-likeness, axis=1, kind="stable")
        keys, likeness = np.take_along_axis(keys, order, axis=1), np.take_along_axis(likeness, order, axis=1)
        by_key = np.argsort(keys, axis=1, kind="stable")
        sorted_keys = np.take_along_axis(keys, by_key, axis=1)
        left_out = keys == np.arange(rows.start, rows.stop)[:, np.newaxis]
        again = np.zeros_like(left_out)
        np.put_along_axis(again, by_key[:, 1:], sorted_keys[:, 1:] == sorted_keys[:, :-1], axis=1)
        left_out |= again
        first = np.argsort(left_out, axis=1, kind="stable")[:, :count]
        gone = np.take_along_axis(left_out, first, axis=1)
        return (
            np.where(gone, -1, np.take_along_axis(keys, first, axis=1)),
            np.where(gone, np.float32(-2), np.take_along_axis(likeness, first, axis=1)),
        )
