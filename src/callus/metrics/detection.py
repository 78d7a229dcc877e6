"""How many fractures boxes find, and at what price: FROC and average precision, with intervals by group.

These take what was decided for each box and each fracture already; ``localisation`` decides it from radiographs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from callus.metrics.bands import SAME, drawn_intervals
from callus.metrics.resampling import LEVEL, Interval, Resampling, ratio_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_FRACTURE: Final = "no fracture to find"
NO_BOX: Final = "no box was predicted"


@dataclass(frozen=True, eq=False)
class Detections:
    """What was predicted and what was there, over some images.

    Attributes:
        images: how many.
        box_image: int64 (b,), the image of each predicted box, from 0.
        box_score: float64 (b,), finite.
        box_hits: bool (b,), whether it hits a fracture, by the rule of FROC; any number of boxes may hit one.
        box_matched: bool (b,), whether it takes a fracture to itself, by the rule of average precision.
        fracture_image: int64 (f,), the image of each fracture.
        fracture_score: float64 (f,), the highest score of a box that hits it; -inf where none does.
    """

    images: int
    box_image: NDArray[np.int64]
    box_score: NDArray[np.float64]
    box_hits: NDArray[np.bool_]
    box_matched: NDArray[np.bool_]
    fracture_image: NDArray[np.int64]
    fracture_score: NDArray[np.float64]

    @property
    def missing(self) -> str:
        """Why there is nothing to measure; empty where there is."""
        if not self.fracture_image.size:
            return NO_FRACTURE
        return "" if self.box_image.size else NO_BOX


def froc_curve(found: Detections) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the free-response curve, from the highest threshold to the lowest.

    Returns:
        False boxes an image and sensitivity over fractures, float64 (t,) each: a point before the first box, and one
        for each distinct score. Empty where there is no fracture or no box.
    """
    if found.missing:
        return np.empty(0), np.empty(0)
    thresholds = np.append(np.inf, np.unique(found.box_score)[::-1])
    false, hit = np.sort(found.box_score[~found.box_hits]), np.sort(found.fracture_score)
    return (
        (false.size - np.searchsorted(false, thresholds)) / found.images,
        (hit.size - np.searchsorted(hit, thresholds)) / hit.size,
    )


def froc(
    found: Detections, rates: tuple[float, ...], resampling: Resampling, level: float = LEVEL
) -> dict[float, Interval]:
    """Give the sensitivity over fractures at rates of false boxes an image, with intervals by group.

    A fracture is found where a box at or above the threshold hits it; a box that hits none is false; further boxes on
    a found fracture count as neither (Chakraborty, Med Phys 1989, 16:561). The curve is taken as steps: at a rate
    stands the sensitivity of the lowest threshold that has no more false boxes than that, and beyond the last box that
    of all boxes.

    Args:
        found: boxes and fractures.
        rates: false boxes an image, each 0 or more.
        resampling: of the images, in their order.
        level: of the intervals, in (0, 1).

    Returns:
        By rate; None with a reason where there is no fracture or no box.
    """
    if found.missing:
        return dict.fromkeys(rates, Interval(None, None, None, "", found.missing))
    false_order = np.argsort(-found.box_score, kind="stable")
    false_order = false_order[~found.box_hits[false_order]]
    false_score, false_group = found.box_score[false_order], resampling.index[found.box_image[false_order]]
    hit_order = np.argsort(-found.fracture_score, kind="stable")
    hit_group = resampling.index[found.fracture_image[hit_order]]
    # How many of the fractures, by falling score, are found while the false box k is just not let in; last, all boxes.
    ascending = np.sort(found.fracture_score)
    above = ascending.size - np.searchsorted(ascending, np.append(false_score, -np.inf), side="right")
    images = np.bincount(resampling.index, minlength=resampling.groups)

    def sensitivity(times: NDArray[np.uint8]) -> NDArray[np.float64]:
        false = np.cumsum(times[:, false_group], axis=1, dtype=np.int64)  # (d, false boxes)
        hit = np.cumsum(times[:, hit_group], axis=1, dtype=np.int64)  # (d, fractures)
        hit = np.concatenate([np.zeros((len(times), 1), np.int64), hit], axis=1)
        # Counts are whole; the margin keeps 0.1 of 30 images at 3 boxes whatever 0.1 is in binary.
        most = np.outer(times @ images.astype(np.float64), rates) + 1e-6
        # Counts never fall, so those that are let in are the first ones: (d, rates)
        let_in = np.stack([(false <= column[:, None]).sum(axis=1) for column in most.T], axis=1)
        whole = hit[:, -1:].astype(np.float64)
        return np.asarray(np.take_along_axis(hit, above[let_in], axis=1) / np.where(whole > 0, whole, np.nan))

    width = found.box_image.size + found.fracture_image.size
    counts = np.ones(resampling.groups, np.bool_)
    figures = drawn_intervals(resampling, sensitivity, counts, width=width, undefined=NO_FRACTURE, level=level)
    return {
        rate: _share_found(found, figure, resampling, level) if figure.reason == SAME else figure
        for rate, figure in zip(rates, figures, strict=True)
    }


def average_precision(found: Detections, resampling: Resampling, level: float = LEVEL) -> Interval:
    """Give the area under precision by recall, with its interval by group.

    Precision is raised to its highest value at that recall or beyond, and summed over every step of the recall (the
    Pascal VOC 2010 devkit's; COCO samples the same curve at 101 recalls). Boxes of equal score enter together.

    Args:
        found: boxes and fractures.
        resampling: of the images, in their order.
        level: of the interval, in (0, 1).

    Returns:
        In [0, 1]; None with a reason where there is no fracture or no box.
    """
    if found.missing:
        return Interval(None, None, None, "", found.missing)
    order = np.argsort(-found.box_score, kind="stable")
    group, matched = resampling.index[found.box_image[order]], found.box_matched[order]
    last = np.flatnonzero(np.append(np.diff(found.box_score[order]) != 0, True))
    fractures = np.bincount(resampling.index[found.fracture_image], minlength=resampling.groups).astype(np.float64)

    def area(times: NDArray[np.uint8]) -> NDArray[np.float64]:
        drawn = times[:, group]
        boxes = np.cumsum(drawn, axis=1, dtype=np.int64)[:, last]  # (d, distinct scores)
        true = np.cumsum(drawn * matched, axis=1, dtype=np.int64)[:, last]
        precision = true / np.maximum(boxes, 1)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        steps = np.diff(true, axis=1, prepend=0)
        whole = times @ fractures
        return np.asarray((steps * precision).sum(axis=1) / np.where(whole > 0, whole, np.nan))[:, None]

    counts = np.ones(resampling.groups, np.bool_)
    width = 2 * found.box_image.size
    return drawn_intervals(resampling, area, counts, width=width, undefined=NO_FRACTURE, level=level)[0]


def _share_found(found: Detections, figure: Interval, resampling: Resampling, level: float) -> Interval:
    """The interval where no draw differs: that of a plain share, at the threshold that all of them lead to."""
    ascending = np.sort(found.fracture_score)
    kept = round((figure.value or 0.0) * ascending.size)
    hit = found.fracture_score >= ascending[-kept] if kept else np.zeros(ascending.size, np.bool_)
    per_image = np.bincount(found.fracture_image, minlength=found.images)
    numerator = np.bincount(found.fracture_image, hit, minlength=found.images)
    return ratio_interval(numerator, per_image, resampling.index, resampling=resampling, level=level)
