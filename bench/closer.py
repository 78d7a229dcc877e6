r"""What a second look from nearer would bring: the network asked again of a part of the radiograph, enlarged.

Two parts are tried, each cut out of the radiograph before it is brought to the network's size: ``content``, the box
around what is not dark, and ``highest``, the surroundings of the map's highest place. Answers are averaged on the log
odds, maps in the radiograph's pixels. Prints one JSON line for each way to look, with ``looks`` runs of the network.

    python bench/closer.py runs/folds/fold1 --split val
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from cross_validate import SPECIFICITY, sensitivity_at
from places import JUDGES, highest

from callus import dataset
from callus.dataset.manifest import group_keys, read_manifest
from callus.identify import Identifier
from callus.metrics.boxes import boxes_from_map
from callus.metrics.localisation import Located, localisation
from callus.metrics.scores import auroc
from callus.progress import track
from callus.radiograph import Radiograph, read
from callus.report.answers import FAINTEST, places

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

ENLARGED = 1.6
"""At most; radiographs that the network learns from are enlarged as much."""
DARK = 0.25
"""Share of the way from a radiograph's 2 % darkest to its 1 % brightest places up to which a place is dark."""
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in the radiograph's pixels."""


@dataclass(frozen=True)
class Look:
    """What the network says of a part of the radiograph, as it is or mirrored.

    Attributes:
        logit: of the part.
        heat: float32 (h, w), turned back.
        to_original: float64 (2, 3), from a cell to the radiograph's pixels.
    """

    logit: float
    heat: NDArray[np.float32]
    to_original: NDArray[np.float64]


def main() -> None:
    """Ask, average and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, whose manifest and bundle are taken")
    parser.add_argument("--split", default="val")
    parser.add_argument("--engine", default="auto")
    choice = parser.parse_args()
    rows = dataset.usable(read_manifest(choice.run / "manifest.parquet"))
    rows = rows[rows["split"] == choice.split].drop_duplicates("path")
    rows = rows.assign(group=group_keys(rows))
    identifier = Identifier(choice.run / "bundle", engine=choice.engine, views=())
    asked = [looks(identifier, read(path)) for path in track(rows["path"], "looking", len(rows))]
    ways = {
        "whole": ("whole",),
        "whole, mirrored": ("whole", "whole mirrored"),
        "content, mirrored": ("content", "content mirrored"),
        "whole and content, mirrored": ("whole", "content mirrored"),
        "whole, content, both mirrored": ("whole", "whole mirrored", "content", "content mirrored"),
        "whole and highest, mirrored": ("whole", "highest mirrored"),
        "whole, highest, both mirrored": ("whole", "whole mirrored", "highest", "highest mirrored"),
    }
    for way, names in ways.items():
        told = [together([one[name] for name in names]) for one in asked]
        print(
            json.dumps({"bench": "closer", "way": way, "looks": len(names), **figures(rows.to_dict("records"), told)})
        )


def looks(identifier: Identifier, radiograph: Radiograph) -> dict[str, Look]:
    """Ask the network of the whole radiograph, of its content and of the surroundings of the highest place."""
    whole = (0, 0, radiograph.width, radiograph.height)
    found = both(identifier, radiograph, "whole", whole)
    first = together([found["whole"], found["whole mirrored"]])
    row, column = np.unravel_index(int(first.heat.argmax()), first.heat.shape)
    x, y = first.to_original @ [float(column), float(row), 1.0]
    found |= both(identifier, radiograph, "content", content(radiograph))
    return found | both(identifier, radiograph, "highest", around(x, y, x, y, radiograph))


def both(identifier: Identifier, radiograph: Radiograph, name: str, box: Box) -> dict[str, Look]:
    """Ask of a part of the radiograph, as it is and mirrored."""
    left, top, right, bottom = box
    part = radiograph.pixels[top:bottom, left:right]
    to_radiograph = np.array([[1.0, 0.0, left], [0.0, 1.0, top]])
    found = {}
    for words, pixels, unturned in (
        (name, part, np.eye(2, 3)),
        (f"{name} mirrored", part[:, ::-1], np.array([[-1.0, 0.0, right - left - 1.0], [0.0, 1.0, 0.0]])),
    ):
        answer = identifier.identify(replace(radiograph, pixels=np.ascontiguousarray(pixels)))
        to_original = to_radiograph @ square(unturned) @ square(answer.map_to_original)
        found[words] = Look(answer.logit, answer.map, to_original)
    return found


def content(radiograph: Radiograph) -> Box:
    """The box around what is not dark, with a little beside it."""
    height, width = radiograph.pixels.shape
    grey = cv2.GaussianBlur(radiograph.pixels.astype(np.float32), (0, 0), max(height, width) / 100)
    low, high = np.percentile(grey, (2, 99))
    count, labels, told, _ = cv2.connectedComponentsWithStats((grey > low + DARK * (high - low)).astype(np.uint8))
    large = np.zeros(count, bool)
    large[1:] = told[1:, cv2.CC_STAT_AREA] >= 0.02 * grey.size  # no letters
    bright = large[labels]
    columns, rows = np.flatnonzero(bright.mean(axis=0) > 0.02), np.flatnonzero(bright.mean(axis=1) > 0.02)
    if not (len(columns) and len(rows)):
        return 0, 0, width, height
    beside = 0.03 * max(height, width)
    return around(columns[0] - beside, rows[0] - beside, columns[-1] + beside, rows[-1] + beside, radiograph)


def around(left: float, top: float, right: float, bottom: float, radiograph: Radiograph) -> Box:
    """The box, made so large that it is enlarged by no more than ENLARGED, within the radiograph."""
    side = max(radiograph.width, radiograph.height) / ENLARGED
    left, right = _grown(left, right, side, radiograph.width)
    top, bottom = _grown(top, bottom, side, radiograph.height)
    return round(left), round(top), round(right), round(bottom)


def _grown(low: float, high: float, least: float, most: int) -> tuple[float, float]:
    length = min(max(high - low, least), most)
    start = min(max((low + high - length) / 2, 0.0), most - length)
    return start, start + length


def together(several: list[Look]) -> Look:
    """The mean of the log odds; and of the maps in the first one's cells, over the looks that saw the cell."""
    first = several[0]
    size = (first.heat.shape[1], first.heat.shape[0])
    heat, seen = np.zeros_like(first.heat), np.zeros_like(first.heat)
    for look in several:
        back = (np.linalg.inv(square(look.to_original)) @ square(first.to_original))[:2]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        sees = cv2.warpAffine(np.ones_like(look.heat), back, size, flags=flags) > 1 - 1e-3  # OpenCV rounds
        heat += cv2.warpAffine(look.heat, back, size, flags=flags) * sees
        seen += sees
    logit = float(np.mean([look.logit for look in several]))
    return Look(logit, (heat / np.maximum(seen, 1)).astype(np.float32), first.to_original)


def figures(rows: list[Mapping[str, Any]], told: list[Look]) -> dict[str, float]:
    """AUROC, sensitivity, and what is found by place."""
    label = np.array([int(row["label"]) for row in rows])
    odds = np.array([look.logit for look in told])
    images = [located(row, look) for row, look in zip(rows, told, strict=True)]
    found = localisation(images, 0.5, draws=100)
    shown = {"auroc": auroc(label, 1 / (1 + np.exp(-odds)))}
    shown[f"sensitivity_at_specificity_{SPECIFICITY}"] = sensitivity_at(label, odds)
    shown |= {name: highest(images, JUDGES[name]) for name in ("in_outline", "within_5", "within_30")}
    shown |= {"froc_0.5": found.froc[0.5].value, "ap50": found.ap50.value}
    return {name: round(float(value), 4) for name, value in shown.items()}


def located(row: Mapping[str, Any], look: Look) -> Located:
    """What the figures are counted on."""
    shape = (int(row["height"]), int(row["width"]))
    boxes, polygons = places(row, shape)
    top, left = np.unravel_index(int(look.heat.argmax()), look.heat.shape)
    x, y = look.to_original @ [float(left), float(top), 1.0]
    return Located(
        group=str(row["group"]),
        label=int(row["label"]),
        boxes=boxes_from_map(look.heat, look.to_original, FAINTEST, shape),
        reference=boxes,
        polygons=polygons,
        peak=(float(x), float(y)),
        heat=look.heat,
        map_to_original=look.to_original,
    )


def square(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3) to (3, 3), so that it can be multiplied and undone."""
    return np.vstack([affine, [0.0, 0.0, 1.0]])


if __name__ == "__main__":
    main()
