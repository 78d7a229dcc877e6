"""AUROC and average precision of many draws at once: files are sorted once, and each draw only weighs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from callus.metrics.resampling import Resampling


class Ranking:
    """Files from the highest score to the lowest."""

    def __init__(self, label: NDArray[np.int64], score: NDArray[np.float64], index: NDArray[np.int64]) -> None:
        """Sort files with labels (n,), scores (n,) and numbers of groups (n,)."""
        order = np.argsort(-score, kind="stable")
        self._index = index[order]
        self._fractured = label[order].astype(np.uint8)
        # The last file of each run of equal scores: a threshold cannot part them.
        self._ends = np.flatnonzero(np.r_[np.diff(score[order]) < 0, True][: len(order)])

    def auroc(self, times: NDArray[np.uint8]) -> NDArray[np.float64]:
        """AUROC (d,) where groups stand in the data so many times, (d, groups); NaN where a class is missing."""
        positive, every = self._reached(times)
        negative = every - positive
        found = np.diff(positive, axis=1, prepend=0)
        # Each fractured file is above the others that come after it, and half above those of its own score.
        after = negative[:, -1:] - negative + np.diff(negative, axis=1, prepend=0) / 2
        return _quotient(np.einsum("ij,ij->i", found, after), positive[:, -1] * negative[:, -1])

    def auprc(self, times: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Average precision (d,), the same way; NaN where a class is missing."""
        positive, every = self._reached(times)
        precision = positive / np.maximum(every, 1)
        total = positive[:, -1]
        summed = np.einsum("ij,ij->i", np.diff(positive, axis=1, prepend=0), precision)
        return _quotient(summed, np.where(total < every[:, -1], total, 0))

    def drawn(
        self, figure: Callable[[NDArray[np.uint8]], NDArray[np.float64]], resampling: Resampling
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give a figure of all draws (draws,) and with each group left out (groups,)."""
        width = len(self._index)
        drawn = np.concatenate([figure(times) for times in resampling.blocks(width)])
        return drawn, np.concatenate([figure(times) for times in resampling.blocks_without(width)])

    def _reached(self, times: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How many fractured files, and how many of all, have at least each score: (d, scores)."""
        weights = times[:, self._index]
        every = np.cumsum(weights, axis=1, dtype=np.int32)[:, self._ends]
        positive = np.cumsum(weights * self._fractured, axis=1, dtype=np.int32)[:, self._ends]
        return positive.astype(np.float64), every.astype(np.float64)


def _quotient(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(part / np.where(whole > 0, whole, np.nan))
