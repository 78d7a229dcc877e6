"""Which pictures may show the same radiograph: each one's nearest by a vector that tells of all its places at once.

The vector is a VLAD (Jegou et al. 2010, doi 10.1109/CVPR.2010.5540039) over a vocabulary that is learnt from the set at
hand, with intra-normalisation and signed square roots, reduced by principal components. The vocabulary is closed under
the variants of ``callus.dataset.keypoints``: so the vector of a mirrored or inverted picture is a permutation of the
picture's own. Small sets are searched whole; in large ones a vector is compared with those of the cells that are
nearest to it, by product codes (Andre et al. 2017, doi 10.1145/3078971.3078992), and the best of them exactly.
"""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import faiss
import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils.extmath import randomized_svd

from callus.dataset.keypoints import LENGTH, PERMUTATIONS, VARIANTS
from callus.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from callus.dataset.keypoints import Description

_WORDS: Final = 16  # times the four variants
_DIMENSIONS: Final = 256
_LEARNT_FROM: Final = 1500  # pictures
_WORDS_FROM: Final = 60_000  # descriptors
_AT_ONCE: Final = 10_000  # pictures that are looked up
_SEARCHED_WHOLE: Final = 10_000  # vectors, at most: 4 s of two cores
_PROBED: Final = 64  # cells that a vector is compared with, of about the square root of the set's size
_BITS: Final = 4  # for two numbers of a vector: codes of 64 bytes, compared 32 at a time in registers
_EXACTLY: Final = 2  # times as many as are asked for are compared exactly


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
        workers: threads to use; the answer is the same whatever their number.
        among: int64, the pictures that can be found, rising; None: all.
    """

    def __init__(self, vectors: NDArray[np.float32], workers: int = 1, among: NDArray[np.int64] | None = None) -> None:
        self._vectors = vectors
        self._workers = workers
        self._among = np.arange(len(vectors)) if among is None else among
        own = np.ascontiguousarray(vectors[self._among, 0])
        with _threads(1):  # cells and codes are learnt in the same order of sums everywhere
            self._index = _index(len(own), own.shape[1])
            self._index.train(own)
        with _threads(workers):
            self._index.add(own)

    def nearest(self, count: int, of: NDArray[np.int64] | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Pictures' nearest others, in whichever variant they are most alike.

        Args:
            count: how many of each.
            of: int64 (n,), the pictures that are asked about; None: all.

        Returns:
            int64 (n, count) their numbers, -1 where there are no more; float32 (n, count) the likeness, from -1 to 1,
            falling; -2 where there are no more.
        """
        of = np.arange(len(self._vectors)) if of is None else of
        total = len(of)
        numbers = np.full((total, count), -1, np.int64)
        values = np.full((total, count), -2, np.float32)
        with progress("looking neighbours up", total) as advance, _threads(self._workers):
            for start in range(0, total, _AT_ONCE):
                rows = slice(start, min(start + _AT_ONCE, total))
                found, alike = self._nearest(of[rows], count)
                numbers[rows, : found.shape[1]], values[rows, : found.shape[1]] = found, alike
                advance(rows.stop - rows.start)
        return numbers, values

    def _nearest(self, of: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The variants' neighbours merged, each other picture once; at most ``count`` columns."""
        here = len(of)
        asked = min(count + 1, len(self._among))
        likeness, keys = self._index.search(self._vectors[of].reshape(here * VARIANTS, -1), asked)
        keys = np.where(keys < 0, -1, self._among[keys])
        likeness, keys = likeness.reshape(here, -1), keys.reshape(here, -1)  # a picture's variants side by side
        order = np.argsort(-likeness, axis=1, kind="stable")
        keys, likeness = np.take_along_axis(keys, order, axis=1), np.take_along_axis(likeness, order, axis=1)
        by_key = np.argsort(keys, axis=1, kind="stable")
        sorted_keys = np.take_along_axis(keys, by_key, axis=1)
        left_out = (keys == of[:, np.newaxis]) | (keys < 0)
        again = np.zeros_like(left_out)
        np.put_along_axis(again, by_key[:, 1:], sorted_keys[:, 1:] == sorted_keys[:, :-1], axis=1)
        left_out |= again
        first = np.argsort(left_out, axis=1, kind="stable")[:, :count]
        gone = np.take_along_axis(left_out, first, axis=1)
        return (
            np.where(gone, -1, np.take_along_axis(keys, first, axis=1)),
            np.where(gone, np.float32(-2), np.take_along_axis(likeness, first, axis=1)),
        )


def _index(count: int, dimensions: int) -> faiss.Index:
    flat = faiss.IndexFlatIP(dimensions)
    if count <= _SEARCHED_WHOLE:
        return flat
    cells = faiss.IndexIVFPQFastScan(
        flat, dimensions, round(math.sqrt(count)), dimensions // 2, _BITS, faiss.METRIC_INNER_PRODUCT
    )
    cells.nprobe = _PROBED
    index = faiss.IndexRefineFlat(cells)
    index.k_factor = _EXACTLY
    return index


@contextmanager
def _threads(workers: int) -> Iterator[None]:
    """The library's threads, for a while."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(workers)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
