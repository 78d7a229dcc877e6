r"""How a model holds on pictures of another look: one split with its grey scale, sharpness, scale or frame changed.

Stands in for radiographs of another source while a recipe is chosen, because those that there are of one are the last
test, and no choice may be made on them. Prints one JSON line a change: AUROC, and the share of the fractured pictures
whose highest place lies inside an outline. Changes that move the picture move its outlines.

    python bench/shifted.py runs/folds/fold1
    python bench/shifted.py runs/folds/fold1 --model radiograph --split test --engine openvino-int8
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from callus.dataset.manifest import read_manifest, usable
from callus.identify import Finding, Identifier
from callus.metrics.scores import auroc
from callus.progress import track
from callus.radiograph import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from numpy.typing import NDArray

    Unit = NDArray[np.float32]
    Moved = tuple[Unit, NDArray[np.float64]]

STAYS = np.eye(2, 3)


def main() -> None:
    """Answer the split once for each change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, whose manifest and bundle are taken")
    parser.add_argument("--model", help="a bundle to ask in place of the run's own")
    parser.add_argument("--split", default="val")
    parser.add_argument("--engine", default="openvino-float32")
    choice = parser.parse_args()
    identifier = Identifier(choice.model or choice.run / "bundle", engine=choice.engine, hint="throughput")
    rows = usable(read_manifest(choice.run / "manifest.parquet"))
    rows = rows[rows["split"] == choice.split]
    for kind, change in CHANGES.items():
        told = figures(identifier, rows, change, kind)
        print(
            json.dumps({"bench": "shifted", "model": str(choice.model or choice.run), "kind": kind, **told}), flush=True
        )


def figures(
    identifier: Identifier, rows: pd.DataFrame, change: Callable[[Unit], Moved], kind: str
) -> dict[str, float | None]:
    """AUROC and pointing of the changed pictures."""
    moved: list[NDArray[np.float64]] = []

    def changed() -> Iterator[bytes]:
        for path in track(list(rows["path"]), kind):
            pixels = read(path).pixels
            made, affine = change(pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max))
            moved.append(affine)
            yield cv2.imencode(".png", np.round(made.clip(0, 1) * 255).astype(np.uint8))[1].tobytes()

    label = rows["label"].to_numpy(np.int64)
    logit, hits = np.zeros(len(rows)), []
    for number, (_, _, answer) in enumerate(identifier.identify_many(changed())):
        if not isinstance(answer, Finding):
            raise answer
        logit[number] = answer.logit
        if len(polygons := rows["polygons"].iloc[number] or []):
            outlines = [np.asarray(flat, np.float64).reshape(-1, 2) for flat in polygons]
            hits.append(any(inside(highest(answer), one, moved[number]) for one in outlines))
    return {"files": len(rows), "auroc": auroc(label, logit), "pointing": float(np.mean(hits))}


def highest(answer: Finding) -> tuple[float, float]:
    """The centre of the map's highest cell, x and y in the picture that was answered."""
    row, column = np.unravel_index(int(answer.map.argmax()), answer.map.shape)
    x, y = answer.map_to_original @ np.array([column, row, 1])
    return float(x), float(y)


def inside(point: tuple[float, float], outline: NDArray[np.float64], affine: NDArray[np.float64]) -> bool:
    """Whether a point lies inside an outline (n, 2) that an affine map (2, 3) has moved."""
    corners = (outline @ affine[:, :2].T + affine[:, 2]).astype(np.float32)
    return cv2.pointPolygonTest(corners, point, measureDist=False) >= 0


def toned(change: Callable[[Unit], Unit]) -> Callable[[Unit], Moved]:
    """A change of grey values that moves nothing."""
    return lambda unit: (np.asarray(change(unit), np.float32), STAYS)


def about_centre(angle: float, scale: float, canvas: float = 1.0) -> Callable[[Unit], Moved]:
    """Turned by ``angle`` degrees and enlarged about its centre, on a canvas so many times as large; black beside."""

    def change(unit: Unit) -> Moved:
        height, width = unit.shape
        size = round(width * canvas), round(height * canvas)
        affine = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
        affine[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
        return np.asarray(cv2.warpAffine(unit, affine, size, flags=cv2.INTER_AREA), np.float32), np.asarray(affine)

    return change


def framed(unit: Unit) -> Unit:
    """The outer eighth of each side black, as a collimator leaves it."""
    height, width = unit.shape
    made = np.zeros_like(unit)
    rows, columns = slice(height // 8, height - height // 8), slice(width // 8, width - width // 8)
    made[rows, columns] = unit[rows, columns]
    return made


def grainy(unit: Unit) -> Unit:
    """White noise of a twentieth of the scale, the same for every picture of a size."""
    return unit + np.random.default_rng(0).normal(0, 0.05, unit.shape).astype(np.float32)


CHANGES: dict[str, Callable[[Unit], Moved]] = {
    "as it is": toned(lambda unit: unit),
    "half of the contrast": toned(lambda unit: unit * 0.5 + 0.25),
    "darker (gamma 2)": toned(lambda unit: unit**2),
    "brighter (gamma 0.5)": toned(np.sqrt),
    "a film's steep curve": toned(lambda unit: 1 / (1 + np.exp(-8 * (unit - 0.5)))),
    "blurred by 1.5 pixels": toned(lambda unit: np.asarray(cv2.GaussianBlur(unit, (0, 0), 1.5))),
    "noise of 5 %": toned(grainy),
    "black outer eighths": toned(framed),
    "turned by 20 degrees": about_centre(20, 1.0),
    "upside down": about_centre(180, 1.0),
    "two thirds of the size": about_centre(0, 1.0, 1.5),
    "1.5 times the size, cut": about_centre(0, 1.5),
}


if __name__ == "__main__":
    main()
