r"""Where a trained run's map is highest, and how far its boxes should reach, on the split that choices are made on.

Prints one JSON line: how often the map's highest cell touches an outline, its centre lies in a fracture's box, inside
an outline or within 5 or 30 pixels of one; how often the cell that fractures cover most has its centre inside, which is
the most that cells of this size allow; ``by_size``, for each fifth of the images from those of the smallest fractures
on: up to which size it goes (the root of the outline's area, in pixels of the network's input), inside an outline, and
within 5 pixels of one; and for each shoulder (``metrics/boxes.py``) the share of fractures found at rates of false
boxes an image, and average precision.

    python bench/places.py runs/folds/fold1 --split val
    python bench/places.py runs/folds/fold1 --split test --model radiograph
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from callus import dataset
from callus.dataset.manifest import read_manifest
from callus.identify import Identifier
from callus.metrics.boxes import boxes_from_map
from callus.metrics.localisation import Located, localisation
from callus.metrics.outlines import box_around, coverage, inside
from callus.report.answers import FAINTEST, answer, located

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SHOULDERS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def main() -> None:
    """Answer the split's files, and try the shoulders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, whose manifest and bundle are taken")
    parser.add_argument("--model", help="a bundle to ask in place of the run's own")
    parser.add_argument("--split", default="val")
    parser.add_argument("--engine", default="openvino-float32")
    choice = parser.parse_args()
    rows = dataset.usable(read_manifest(choice.run / "manifest.parquet"))
    rows = rows[rows["split"] == choice.split]
    identifier = Identifier(choice.model or choice.run / "bundle", engine=choice.engine)
    answers = answer(identifier, rows, f"split {choice.split!r}")
    images = located(identifier, answers)
    shapes = [answers.findings[path].shape for path in answers.judged["path"]]
    told: dict[str, object] = {"split": choice.split, "images": len(images), "engine": identifier.engine.ran}
    told |= {name: highest(images, judge) for name, judge in JUDGES.items()}
    told["by_size"] = by_size(images, identifier.bundle.map_stride)
    for shoulder in SHOULDERS:
        tried = [
            replace(image, boxes=boxes_from_map(image.heat, image.map_to_original, FAINTEST, shape, shoulder=shoulder))
            for image, shape in zip(images, shapes, strict=True)
            if image.heat is not None
        ]
        found = localisation(tried, identifier.info.map_threshold, draws=100)
        figures = {f"froc_{rate:g}": figure.value for rate, figure in found.froc.items()}
        told[f"shoulder_{shoulder:g}"] = figures | {
            "ap50": found.ap50.value,
            "top_box_iou": found.top_box_iou.value,
            "fractures_hit": found.fractures_hit.value,
            "boxes_an_image": found.boxes / found.images,
        }
    print(json.dumps(told, default=float))


def highest(images: list[Located], judge: Callable[[Located, NDArray[np.float64]], bool]) -> float:
    """The share of fractured images with an outline whose map's highest cell passes."""
    return float(np.mean([judge(image, np.array(image.peak)) for image in images if image.outlines]))


def by_size(images: list[Located], stride: int) -> list[tuple[float, float, float]]:
    """For each fifth by the fracture's size: up to which size, inside an outline, and within 5 pixels of one."""
    fractured = [image for image in images if image.outlines]
    sizes = np.array([largest(image) * stride / image.map_to_original[0, 0] for image in fractured])
    fifths = np.array_split(np.argsort(sizes), 5)
    return [
        (
            sizes[fifth].max(),
            highest([fractured[i] for i in fifth], in_outline),
            highest([fractured[i] for i in fifth], within_5),
        )
        for fifth in fifths
        if fifth.size
    ]


def largest(image: Located) -> float:
    """The root of its largest outline's area, in the radiograph's pixels."""
    return max(cv2.contourArea(np.array(one, np.float32).reshape(-1, 1, 2)) for one in image.outlines) ** 0.5


def touches(image: Located, _: NDArray[np.float64]) -> bool:
    """Whether the highest cell has any area in common with an outline."""
    heat = np.asarray(image.heat)
    covered = coverage(image.outlines, (heat.shape[0], heat.shape[1]), image.map_to_original)
    return bool(covered.flat[int(heat.argmax())] > 0)


def in_box(image: Located, peak: NDArray[np.float64]) -> bool:
    """Whether the highest cell's centre lies in the box around an outline."""
    boxes = np.array([box_around(polygon) for polygon in image.outlines])
    return bool(((peak + 0.5 >= boxes[:, :2]) & (peak + 0.5 <= boxes[:, :2] + boxes[:, 2:])).all(axis=1).any())


def in_outline(image: Located, peak: NDArray[np.float64]) -> bool:
    """Whether it lies inside an outline: the pointing game."""
    return any(inside(peak[:1] + 0.5, peak[1:] + 0.5, polygon).any() for polygon in image.outlines)


def away(image: Located, peak: NDArray[np.float64]) -> float:
    """The radiograph's pixels from a place to the nearest outline; 0 inside."""
    corners = [np.array(polygon, np.float32).reshape(-1, 1, 2) for polygon in image.outlines]
    return max(0.0, -max(cv2.pointPolygonTest(one, (peak + 0.5).tolist(), measureDist=True) for one in corners))


def within_5(image: Located, peak: NDArray[np.float64]) -> bool:
    """Whether the highest cell's centre misses by no more."""
    return away(image, peak) <= 5


def within_30(image: Located, peak: NDArray[np.float64]) -> bool:
    """Whether the highest cell's centre misses by no more."""
    return away(image, peak) <= 30


def best_cell(image: Located, _: NDArray[np.float64]) -> bool:
    """Whether the cell that fractures cover most has its centre inside an outline."""
    heat = np.asarray(image.heat)
    covered = coverage(image.outlines, (heat.shape[0], heat.shape[1]), image.map_to_original)
    row, column = np.unravel_index(int(covered.argmax()), covered.shape)
    return in_outline(image, image.map_to_original @ np.array([column, row, 1.0]))


JUDGES = {
    "touches": touches,
    "in_box": in_box,
    "in_outline": in_outline,
    "within_5": within_5,
    "within_30": within_30,
    "best_cell": best_cell,
}

if __name__ == "__main__":
    main()
