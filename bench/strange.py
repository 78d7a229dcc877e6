r"""Which pictures of other kinds a model calls unlike its training data, by all maps of its trunk and by the last.

Prints one JSON line an engine: of each made or found picture the distance that its bundle's likeness gives (above 1 is
told); and, of a Gaussian fitted here on some training pictures, its limit from validation, the same distances and the
share of test pictures that it calls strange, with the means of all three maps, without those of the coarsest and with
these alone. The slices come with pydicom, the photographs with scikit-learn.

    python bench/strange.py radiograph --data runs/folds/fold1/manifest.parquet
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from sklearn.datasets import load_sample_image

from callus.dataset.manifest import read_manifest, usable
from callus.identify import Finding, Identifier
from callus.model.trunks import build_trunk
from callus.training.likeness import farthest, fit

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

SLICES = ("CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "MR_small.dcm", "examples_overlay.dcm")
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
CROPS = 6
"""Of each photograph."""
FITTED, TESTED = 500, 300
"""Pictures of the training and of the test split."""


def main() -> None:
    """Ask each engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model's name, a bundle or a run folder's bundle")
    parser.add_argument("--data", type=Path, required=True, help="the manifest that it was trained from")
    choice = parser.parse_args()
    rows = usable(read_manifest(choice.data))
    for engine in ("onnx-float32", "openvino-int8"):
        identifier = Identifier(choice.model, engine=engine)
        strange = {name: identifier.identify(encoded(pixels)) for name, pixels in pictures().items()}
        told = {name: finding.distance for name, finding in strange.items()}
        splits = {split: most for split, most in SPLITS.items() if (rows["split"] == split).any()}
        known = {split: features(identifier, rows, split, most) for split, most in splits.items()}
        coarsest = build_trunk(identifier.bundle.info["training"]["trunk"]).channels[-1]
        kinds = {name: finding.features for name, finding in strange.items()}
        figures = {
            "all maps": fitted(known, kinds, slice(None)),
            "all but the coarsest": fitted(known, kinds, slice(-coarsest)),
            "coarsest": fitted(known, kinds, slice(-coarsest, None)),
        }
        said: dict[str, Any] = {"model": choice.model, "engine": engine, "by_bundle": told, **figures}
        print(json.dumps({"bench": "strange", **said}, default=float), flush=True)


SPLITS = {"train": FITTED, "val": 10**6, "test": TESTED}


def features(identifier: Identifier, rows: pd.DataFrame, split: str, most: int) -> NDArray[np.float32]:
    """What the network says of at most so many of a split's pictures, evenly spread."""
    paths = list(rows.loc[rows["split"] == split, "path"])
    chosen = np.unique(np.linspace(0, len(paths) - 1, most).astype(np.int64))
    answers = [answer for _, _, answer in identifier.identify_many([paths[i] for i in chosen])]
    return np.stack([answer.features for answer in answers if isinstance(answer, Finding)])


def fitted(
    known: dict[str, NDArray[np.float32]], kinds: dict[str, NDArray[np.float32]], taken: slice
) -> dict[str, Any]:
    """What a Gaussian of some of the features says."""
    likeness = fit(known["train"][:, taken])
    limit = farthest(likeness.distance(known["val"][:, taken]))
    distances = {name: float(likeness.distance(one[None, taken])[0]) / limit for name, one in kinds.items()}
    test = known.get("test")
    return {
        "test_called_strange": None if test is None else float((likeness.distance(test[:, taken]) > limit).mean()),
        "strange_called_strange": [sum(away > 1 for away in distances.values()), len(distances)],
        "nearest": round(min(distances.values()), 2),
        "missed": {name: round(away, 2) for name, away in distances.items() if away <= 1},
    }


def pictures() -> dict[str, NDArray[np.uint8]]:
    """Pictures that are no radiographs, uint8 (height, width) each."""
    generator = np.random.default_rng(0)
    made: dict[str, Any] = {
        f"slice {name}": as_shown(pydicom.dcmread(str(get_testdata_file(name))).pixel_array) for name in SLICES
    }
    for name in PHOTOGRAPHS:
        made[name] = photograph = cv2.cvtColor(load_sample_image(name), cv2.COLOR_RGB2GRAY)
        for number in range(CROPS):
            side = int(generator.integers(150, 400))
            top, left = (int(generator.integers(0, room - side)) for room in photograph.shape)
            made[f"{name}, part {number}"] = photograph[top : top + side, left : left + side]
    across = np.arange(600)
    drawing, page = np.full((600, 500), 255, np.uint8), np.full((700, 500), 255, np.uint8)
    for _ in range(40):
        (x, y), radius = generator.integers(0, 500, 2).tolist(), int(generator.integers(10, 80))
        cv2.circle(drawing, (x, y), radius, (0,), 2)
    for y in range(30, 690, 22):
        line = "".join(generator.choice(list("abcdefghij klmnop"), 40))
        cv2.putText(page, line, (20, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0,), 1, cv2.LINE_AA)
    made |= {"a drawing": drawing, "a drawing in white": 255 - drawing, "a page of text": page}
    made |= {f"a frame of {grey}": np.full((600, 500), grey) for grey in (0, 128, 255)}
    made |= {
        "noise": generator.integers(0, 256, (600, 500)),
        "a checkerboard": np.add.outer(across // 40, across[:500] // 40) % 2 * 255,
        "a ramp": np.broadcast_to(np.linspace(0, 255, 500), (600, 500)),
    }
    return {name: np.ascontiguousarray(pixels.astype(np.uint8)) for name, pixels in made.items()}


def as_shown(values: NDArray[Any]) -> NDArray[np.float64]:
    """A slice's values as a viewer shows them, all but the outermost hundredth between black and white."""
    low, high = np.percentile(values, [0.5, 99.5])
    return np.clip((values - low) / (high - low) * 255, 0, 255)


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG."""
    return cv2.imencode(".png", pixels)[1].tobytes()


if __name__ == "__main__":
    main()
