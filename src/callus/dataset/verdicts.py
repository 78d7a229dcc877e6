"""Whether two files show one radiograph: what an overlay tells is weighed, coarsely and, where open, closely.

Nothing here knows of other files; how verdicts make components is ``callus.dataset.duplicates``' business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from callus import radiograph
from callus.dataset.drift import drift
from callus.dataset.keypoints import COARSE, FINE, Description, Detail, describe
from callus.dataset.registration import Overlay, contradicted, lay_over
from callus.errors import RadiographError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_FINER: Final = 1.4  # how much larger than the coarse look both pictures have to be for a finer one
# Log odds of "same" for what an overlay tells (registration.Overlay.evidence), by logistic
# regression on changed copies of FracAtlas radiographs against look-alikes: bench/fit_copies.py.
_COARSE_WEIGHTS: Final = np.array([2.346, -2.353, -2.158, -2.535, 19.155, -8.228, 1.2, -1.366])
_COARSE_BIAS: Final = -9.582
# The same from a closer look, which begins with the coarse log odds.
_FINE_WEIGHTS: Final = np.array([0.272, 1.417, -9.488, -2.989, -8.749, 28.309, -14.987, 3.043, -0.475])
_FINE_BIAS: Final = -8.526
COARSE_LEAST: Final = 0.0  # coarse log odds up to here are a no
_YES: Final = 8.0  # and from here a yes; between them a closer look decides, where one can be had
# Log odds from which a pair is the same if another pair between the two components says so too; by itself, where there
# is no other pair.
_AIDED: Final = (0.0, 1.5)  # after a closer look
_UNAIDED: Final = (1.0, 2.5)  # where none can be had
_SQUARED_FROM: Final = 1.3  # longer to shorter side; up to there SIFT finds a squashed copy's places by itself
# Places within half a pixel that a closer look wants: 795 pairs of changed copies had 9 and more, one leg in a cast on
# two plates had 6.
_LEAST_CLOSE: Final = 8
_LEAST_SHARE: Final = 0.5  # of the smaller picture that has to be covered
# Share of an overlay that may show one thing here and another there. Measured on copies of 14 FracAtlas radiographs, as
# they are, in viewers' windows and under watermarks: 66 pairs of copies had 0.003 at most, FracAtlas' own 75 pairs of
# copies, some of them cut off or overwritten, 0.012; 32 pairs of different radiographs in one window or under one
# watermark 0.071 and more.
_MOST_CONTRADICTED: Final = 0.035
# Drift up to which a pair may be the same (drift.drift, thumbnail pixels), by a closer look and by a coarse one that no
# closer one follows. Measured on 70 FracAtlas radiographs' changed copies: 0.3 and 0.15 at most; second exposures that
# everything else takes for copies 0.35 and more of a real pair and its like, simulated ones 0.11 to 0.37 coarsely.
_MOST_DRIFT: Final = (0.32, 0.2)
_SURE: Final = 5.0  # coarse log odds from which it is not asked: those second exposures had 1.8 to 4.0


@dataclass(frozen=True)
class Verdict:
    """Whether a pair is one radiograph.

    Attributes:
        overlay: of the two; None where there is none.
        same: None where the coarse look leaves it open.
        odds: log odds of the coarse look.
        weak: it is nothing without another pair, even where both radiographs have one file.
    """

    overlay: Overlay | None
    same: bool | None
    odds: float = -math.inf
    weak: bool = False


_NOT_SAME: Final = Verdict(None, same=False)


class Look(NamedTuple):
    """A file as it is compared.

    Attributes:
        path: of the file.
        squared: squashed to a square, as copies often are.
        size: the radiograph's height and width.
        sha256: of the bytes that were described; empty: any.
    """

    path: str
    squared: bool
    size: tuple[int, int]
    sha256: str = ""

    def pixels(self) -> Pixels:
        """Read it.

        Raises:
            RadiographError: it cannot be read, or is another file by now.
        """
        seen = radiograph.read(self.path)
        if self.sha256 and seen.sha256 != self.sha256:
            raise RadiographError("has changed since it was described", where=self.path)
        pixels = seen.pixels
        return squared(pixels) if self.squared else pixels


def judge_coarsely(pair: tuple[Description, Description]) -> Verdict:
    """What two descriptions tell; open where a closer look can tell more."""
    a, b = pair
    overlay = lay_over(a, b)
    if overlay is None or overlay.share < _LEAST_SHARE:
        return _NOT_SAME
    odds = float(_COARSE_WEIGHTS @ overlay.evidence() + _COARSE_BIAS)
    if odds <= COARSE_LEAST:
        return _NOT_SAME
    if contradicted(a, b, overlay) > _MOST_CONTRADICTED:
        return Verdict(overlay, same=False, odds=odds)
    if odds >= _YES:
        return Verdict(overlay, same=True, odds=odds)
    if fine_detail(a.size, b.size) is not None:
        return Verdict(overlay, same=None, odds=odds)
    verdict = _weighed(overlay, odds, odds, _UNAIDED)
    apart = verdict.same and odds < _SURE and drift(a, b, overlay, _MOST_DRIFT[1]) > _MOST_DRIFT[1]
    return replace(verdict, same=False) if apart else verdict


def judge_closely(pair: tuple[Look, Look, float]) -> Verdict:
    """What the files themselves tell, compared at the smaller one's size; the third is the coarse look's log odds."""
    a, b, coarse = pair
    detail = fine_detail(a.size, b.size)
    if detail is None:
        return _NOT_SAME
    try:
        first, second = describe(a.pixels(), detail), describe(b.pixels(), detail)
    except RadiographError:
        return _NOT_SAME
    overlay = lay_over(first, second)
    if overlay is None or overlay.share < _LEAST_SHARE:
        return _NOT_SAME
    odds = float(_FINE_WEIGHTS @ np.r_[coarse, overlay.evidence()] + _FINE_BIAS)
    verdict = _weighed(overlay, odds, coarse, _AIDED)
    if verdict.same and drift(first, second, overlay, _MOST_DRIFT[0]) > _MOST_DRIFT[0]:
        return replace(verdict, same=False)
    return verdict if overlay.close >= _LEAST_CLOSE else replace(verdict, weak=True)


def fine_detail(a: tuple[int, int], b: tuple[int, int]) -> Detail | None:
    """How closely two pictures of these sizes (height, width) can be compared; None where no closer than coarsely."""
    side = min(FINE.side, max(a), max(b))
    if side < _FINER * COARSE.side:
        return None
    return Detail(side, FINE.most, round(side * FINE.thumbnail / FINE.side))


def is_oblong(size: tuple[int, int]) -> bool:
    """Whether a copy that was squashed to a square has to be looked for as such."""
    return max(size) > _SQUARED_FROM * min(size)


def squared(pixels: Pixels) -> Pixels:
    """Squashed to a square of the same area."""
    side = round(math.sqrt(pixels.size))
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _weighed(overlay: Overlay, odds: float, coarse: float, needed: tuple[float, float]) -> Verdict:
    weak, alone = needed
    return Verdict(overlay, same=odds >= weak, odds=coarse, weak=odds < alone)
