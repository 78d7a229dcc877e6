"""Whether a model looks where the fracture is: pointing game, top box, FROC, average precision, overlap of the map.

A fracture is a reference box, or the box around a polygon where there are only polygons. Radiographs that are labelled
fractured but show no place are left out; those that are not fractured count where false boxes are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from callus.errors import CallusError
from callus.metrics.detection import NO_BOX, Detections, average_precision, froc, froc_curve
from callus.metrics.outlines import box_around, centres_inside, corners_of, coverage, inside, overlaps
from callus.metrics.resampling import DRAWS, LEVEL, Interval, Resampling, ratio_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from callus.metrics.boxes import Box

RATES: Final = (0.1, 0.25, 0.5, 1.0)
"""False boxes an image at which the sensitivity is given."""
MATCH: Final = 0.5
"""Intersection over union from which a box takes a fracture to itself, for average precision."""
TOUCH: Final = 0.3
"""Intersection over union from which the top box is said to overlap a fracture."""
_CORNERS: Final = 6  # numbers that the smallest polygon has
_SIDES: Final = 4


@dataclass(frozen=True, eq=False)
class Located:
    """One radiograph: where the fractures are, and where the model looked.

    Attributes:
        group: whatever names its group.
        label: 1 fractured, 0 not; the references of one that is not are not looked at.
        boxes: predicted ones, in the radiograph's pixels, in any order. For FROC and average precision all that the
            map gives, whatever the image's level: boxes that are held back cannot be counted.
        reference: boxes [x, y, width, height] of the fractures, in pixels with edges at whole numbers.
        polygons: [x0, y0, x1, y1, ...] around the fractures, the same; may be empty.
        peak: (x, y) of the centre of the map's highest cell as ``map_to_original`` gives it: in pixels whose centres
            are whole numbers. None where there is no map.
        heat: float32 (h, w) in [0, 1], the map; None where it is not to be measured.
        map_to_original: float64 (2, 3), from a cell's centre to the radiograph's pixels, centres at whole numbers.
    """

    group: str
    label: int
    boxes: tuple[Box, ...] = ()
    reference: Sequence[Sequence[float]] = ()
    polygons: Sequence[Sequence[float]] = ()
    peak: tuple[float, float] | None = None
    heat: NDArray[np.float32] | None = None
    map_to_original: NDArray[np.float64] = field(default_factory=lambda: np.eye(2, 3))

    @property
    def fractures(self) -> list[list[float]]:
        """The boxes of its fractures; none where it is not fractured."""
        if not self.label:
            return []
        return [list(box) for box in self.reference] or [box_around(polygon) for polygon in self.polygons]

    @property
    def outlines(self) -> list[list[float]]:
        """The polygons around its fractures, or their boxes as such where it has none."""
        if not self.label:
            return []
        return [list(polygon) for polygon in self.polygons] or [corners_of(box) for box in self.reference]


@dataclass(frozen=True)
class Localisation:
    """Where the model looked, each figure with its interval by group.

    Attributes:
        images: that count: those not fractured, and those whose fractures have a place.
        fractured: of them.
        unplaced: fractured ones without a place, which do not count.
        fractures: in all.
        boxes: predicted, in all.
        pointing_game: share of fractured images whose map is highest inside a fracture's polygon, or its box where the
            image has no polygon (Zhang et al., IJCV 2018, 126:1084; here without a margin around it).
        fractures_hit: share of fractures in whose box the centre of their image's top box lies.
        fractures_overlapped: share of fractures that the top box overlaps by ``TOUCH``.
        images_hit: share of fractured images in whose fractures' boxes the centre of the top box lies.
        images_overlapped: share of fractured images with a fracture that the top box overlaps by ``TOUCH``.
        top_box_iou: mean over fractured images of the largest intersection over union of the top box with a fracture;
            0 where no box was predicted.
        map_iou: mean over fractured images of the intersection over union of the map's cells at or above the threshold,
            as areas, with the union of the polygons (or boxes).
        froc: by false boxes an image, the share of fractures found; a box hits where its centre lies in the fracture's.
        froc_curve: (false boxes an image, sensitivity) from the highest threshold to the lowest.
        ap50: average precision; a box and a fracture match from an overlap of ``MATCH``, each once, the boxes by score.
    """

    images: int
    fractured: int
    unplaced: int
    fractures: int
    boxes: int
    pointing_game: Interval
    fractures_hit: Interval
    fractures_overlapped: Interval
    images_hit: Interval
    images_overlapped: Interval
    top_box_iou: Interval
    map_iou: Interval
    froc: dict[float, Interval]
    froc_curve: tuple[tuple[float, float], ...]
    ap50: Interval

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; ``froc`` by the rate as text."""
        counts = ("images", "fractured", "unplaced", "fractures", "boxes")
        told: dict[str, Any] = {name: getattr(self, name) for name in counts}
        for name, value in vars(self).items():
            if isinstance(value, Interval):
                told[name] = value.as_dict()
        told["froc"] = {f"{rate:g}": figure.as_dict() for rate, figure in self.froc.items()}
        return told | {"froc_curve": [list(point) for point in self.froc_curve]}


def localisation(
    images: Sequence[Located],
    map_threshold: float,
    *,
    rates: tuple[float, ...] = RATES,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = LEVEL,
) -> Localisation:
    """Measure where the model looked.

    Args:
        images: radiographs with a label and an answer.
        map_threshold: as the bundle has it, in [0, 1]; cells of the map with at least this value count, those of value
            0 never do.
        rates: false boxes an image at which the sensitivity is given, each 0 or more.
        draws: of the bootstrap; groups are drawn within what classes they hold.
        seed: of the draws.
        level: of the intervals, in (0, 1).

    Returns:
        The figures; None with a reason where there is no fracture, no place, no map, or no predicted box at all.

    Raises:
        CallusError: a label is neither 0 nor 1, a box, a polygon, a score or a peak is no such, a group is missing, the
            map's threshold or a rate is out of range.
    """
    _check(images, map_threshold, rates)
    counted = [image for image in images if not image.label or image.fractures]
    unplaced = len(images) - len(counted)
    group = [image.group for image in counted]
    resampling = Resampling(np.array(group, dtype=object), [image.label for image in counted], draws, seed)
    fractured = np.array([bool(image.label) for image in counted], dtype=np.bool_)
    found = detections(counted)
    missing = _missing(images, fractured)

    def mean(values: NDArray[np.float64], weights: NDArray[Any], reason: str) -> Interval:
        if reason:
            return Interval(None, None, None, "", reason)
        return ratio_interval(values, weights, group, resampling=resampling, level=level)

    without_box = missing or ("" if found.box_image.size else NO_BOX)
    top = np.array([_top_box(image) for image in counted], dtype=np.float64).reshape(-1, 5)
    fractures = np.bincount(found.fracture_image, minlength=len(counted))
    pointed, has_peak = _pointed(counted)
    shared, has_map = _map_overlap(counted, map_threshold)
    without_map = missing or "no fractured image has a map"
    x, y = froc_curve(found)
    return Localisation(
        images=len(counted),
        fractured=int(fractured.sum()),
        unplaced=unplaced,
        fractures=found.fracture_image.size,
        boxes=found.box_image.size,
        pointing_game=mean(pointed, has_peak, "" if has_peak.any() else without_map),
        fractures_hit=mean(top[:, 0], fractures, without_box),
        fractures_overlapped=mean(top[:, 1], fractures, without_box),
        images_hit=mean(top[:, 2], fractured, without_box),
        images_overlapped=mean(top[:, 3], fractured, without_box),
        top_box_iou=mean(top[:, 4], fractured, without_box),
        map_iou=mean(shared, has_map, "" if has_map.any() else without_map),
        froc={rate: _told(figure, missing) for rate, figure in froc(found, rates, resampling, level).items()},
        froc_curve=tuple(zip(x.tolist(), y.tolist(), strict=True)),
        ap50=_told(average_precision(found, resampling, level), missing),
    )


def detections(images: Sequence[Located]) -> Detections:
    """Decide for each box and each fracture: hit by the box's centre, matched by an overlap of ``MATCH``.

    Matches are made by falling score, each with the fracture of the largest overlap that is left, as COCO's evaluation
    makes them (Lin et al., ECCV 2014).
    """
    scores, hits, matched, best = [], [], [], []
    for image in images:
        boxes = _by_score(image)
        fractures = np.array(image.fractures, dtype=np.float64).reshape(-1, 4)
        places = _places(boxes)
        score = np.array([box.score for box in boxes], dtype=np.float64)
        centred = centres_inside(places, fractures)
        scores.append(score)
        hits.append(centred.any(axis=1))
        matched.append(_matched(overlaps(places, fractures)))
        best.append(np.where(centred, score[:, None], -np.inf).max(axis=0, initial=-np.inf))
    return Detections(
        images=len(images),
        box_image=np.repeat(np.arange(len(images)), [len(one) for one in scores]),
        box_score=np.concatenate([np.empty(0), *scores]),
        box_hits=np.concatenate([np.empty(0, np.bool_), *hits]),
        box_matched=np.concatenate([np.empty(0, np.bool_), *matched]),
        fracture_image=np.repeat(np.arange(len(images)), [len(one) for one in best]),
        fracture_score=np.concatenate([np.empty(0), *best]),
    )


def _matched(overlap: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes, by falling score, take one of the fractures: (b, f) to (b,)."""
    left = overlap.copy()
    taken = np.zeros(len(left), np.bool_)
    for row in range(len(left) if left.shape[1] else 0):
        column = int(left[row].argmax())
        if left[row, column] >= MATCH:
            taken[row] = True
            left[:, column] = -1.0
    return taken


def _top_box(image: Located) -> tuple[float, float, float, float, float]:
    """Of the top box: fractures hit, fractures overlapped, 1 where one is hit, where one is overlapped, largest IoU."""
    fractures, boxes = np.array(image.fractures, dtype=np.float64).reshape(-1, 4), _by_score(image)[:1]
    if not fractures.size or not boxes:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    place = _places(boxes)
    overlap, centred = overlaps(place, fractures)[0], centres_inside(place, fractures)[0]
    touched = overlap >= TOUCH
    counts = float(centred.sum()), float(touched.sum())
    return (*counts, float(centred.any()), float(touched.any()), float(overlap.max()))


def _pointed(images: Sequence[Located]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """For each image whether its peak lies in a fracture, and whether that is asked at all."""
    hit, asked = np.zeros(len(images)), np.zeros(len(images), np.bool_)
    for place, image in enumerate(images):
        asked[place] = bool(image.label) and image.peak is not None
        if asked[place] and image.peak is not None:
            x, y = (np.array([value + 0.5]) for value in image.peak)
            hit[place] = any(inside(x, y, outline).any() for outline in image.outlines)
    return hit, asked


def _map_overlap(images: Sequence[Located], threshold: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """For each image the overlap of its map with its fractures, and whether that is asked at all."""
    overlap, asked = np.zeros(len(images)), np.zeros(len(images), np.bool_)
    for place, image in enumerate(images):
        asked[place] = bool(image.label) and image.heat is not None
        if asked[place] and image.heat is not None:
            covered = coverage(image.outlines, (image.heat.shape[0], image.heat.shape[1]), image.map_to_original)
            called = (image.heat >= threshold) & (image.heat > 0)
            union = called.sum() + covered[~called].sum()
            overlap[place] = covered[called].sum() / union if union else 0.0
    return overlap, asked


def _missing(images: Sequence[Located], fractured: NDArray[np.bool_]) -> str:
    if fractured.any():
        return ""
    if any(image.label for image in images):
        return "no fractured image has a reference box or polygon"
    return "no image is fractured"


def _told(figure: Interval, missing: str) -> Interval:
    return Interval(None, None, None, "", missing) if missing else figure


def _by_score(image: Located) -> list[Box]:
    return sorted(image.boxes, key=lambda box: -box.score)


def _places(boxes: Sequence[Box]) -> NDArray[np.float64]:
    return np.array([(box.x, box.y, box.width, box.height) for box in boxes], dtype=np.float64).reshape(-1, 4)


def _check(images: Sequence[Located], map_threshold: float, rates: tuple[float, ...]) -> None:
    if not 0 <= map_threshold <= 1:
        raise CallusError(f"the map's threshold is {map_threshold}; expected 0 to 1")
    if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
        raise CallusError(f"the rates of false boxes are {rates}; expected numbers of 0 or more")
    for number, image in enumerate(images, start=1):
        if problem := _wrong_answer(image) or _wrong_reference(image):
            raise CallusError(f"image {number}: {problem}")


def _wrong_answer(image: Located) -> str:
    """What is wrong with the model's side; empty where nothing is."""
    for box in image.boxes:
        if not _is_box((box.x, box.y, box.width, box.height)) or not math.isfinite(box.score):
            return f"a predicted box is {box}, expected numbers and a size"
    if image.peak is not None and not all(map(math.isfinite, image.peak)):
        return f"the map's peak is {image.peak}, expected x and y"
    if not abs(np.linalg.det(image.map_to_original[:, :2])) > 0:
        return "the map's affine is flat; expected one that can be undone"
    return ""


def _wrong_reference(image: Located) -> str:
    """What is wrong with the reference's side; empty where nothing is."""
    if image.label not in (0, 1):
        return f"the label is {image.label!r}, expected 0 or 1"
    for box in image.reference:
        if not _is_box(box):
            return f"a reference box is {list(box)}, expected x, y, width, height with a size"
    for polygon in image.polygons:
        if len(polygon) < _CORNERS or len(polygon) % 2 or not all(map(math.isfinite, polygon)):
            return f"a polygon is {list(polygon)[:8]}, expected x0, y0, x1, y1, x2, y2..."
    return ""


def _is_box(box: Sequence[float]) -> bool:
    return len(box) == _SIDES and all(map(math.isfinite, box)) and min(box[2:]) > 0
