"""Radiographs as a page shows them: with the heat map, the model's boxes, and the reference standard's."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import pandas as pd

from callus.errors import CallusError
from callus.labels import FRACTURED, LABEL_NAMES, LEVEL_TEXT, NOT_FRACTURED
from callus.radiograph import Radiograph, read
from callus.report.answers import places
from callus.results.overlay import colours, opacity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from callus.identify import Finding
    from callus.report.answers import Answers

PICTURE_SIDE: Final = 360
"""Longer side of a picture in a page, pixels: enough to see a fracture, small enough for 48 of them in 2 MB."""
WRONG_SHARE: Final = 0.75
"""At most so much of a page's pictures are wrong calls, so that right ones are seen too."""
REFERENCE: Final = (120, 220, 90)
"""Colour of a reference box, RGB; no heat map and no box of a model has it."""
BOX: Final = (86, 220, 255)
"""Of a model's box: blue-green, which neither bone nor the heat map has."""
CALL: Final = 0.5
"""From this probability on a picture's title says "fractured"."""


@dataclass(frozen=True)
class Shown:
    """One picture of a page.

    Attributes:
        title: "actual: … / predicted: … (0.93)".
        name: the file's name.
        picture: a data URI of the radiograph with heat map and boxes.
        plain: a data URI of the radiograph alone.
        right: whether the call is right; None where there is no label.
        level: in words.
        cautions: one line each.
    """

    title: str
    name: str
    picture: str
    plain: str
    right: bool | None
    level: str
    cautions: tuple[str, ...]


@dataclass(frozen=True)
class Chosen:
    """Paths of what a page shows.

    Attributes:
        misses: fractured ones that were not called so, the lowest probability first.
        false_alarms: others that were called fractured, the highest first.
        right: right calls, and those of files without a label, from the highest probability to the lowest.
    """

    misses: list[str] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.misses) + len(self.false_alarms) + len(self.right)


def choose_pictures(predictions: pd.DataFrame, count: int) -> Chosen:
    """Choose what a page shows: the worst misses, the worst false alarms, and right calls over the whole range.

    Of wrong calls each group's worst comes before any group's second, so that copies of one radiograph do not fill the
    page. The choice depends on the predictions only, so it is the same every time.

    Args:
        predictions: of an evaluation.
        count: at most how many in all.
    """
    rows = predictions[predictions["probability"].notna()].sort_values(["probability", "path"])
    known = rows["label"].notna()
    called, fractured = rows["probability"].to_numpy(dtype=float) >= CALL, (rows["label"] == FRACTURED).fillna(False)
    misses, alarms = rows[known & fractured & ~called], rows[known & ~fractured & called][::-1]
    others = rows.drop([*misses.index, *alarms.index])
    room = min(len(misses) + len(alarms), max(count - len(others), round(WRONG_SHARE * count)))
    first = min(len(misses), max(room - room // 2, room - len(alarms)))
    left = min(count - room, len(others))
    spread = np.unique(np.linspace(0, len(others) - 1, max(left, 0)).round().astype(int))[::-1]
    return Chosen(
        _each_group_first(misses, first), _each_group_first(alarms, room - first), others["path"].iloc[spread].tolist()
    )


def _each_group_first(rows: pd.DataFrame, count: int) -> list[str]:
    """The first ``count`` paths of rows from the worst on, a group's second after every group's first."""
    turn = rows.groupby("group", sort=False).cumcount()
    chosen = rows.iloc[np.argsort(turn.to_numpy(), kind="stable")[:count]]
    return rows.loc[rows.index.isin(chosen.index), "path"].tolist()


def title_of(label: int | None, probability: float) -> str:
    """How a picture is titled: "actual: fractured / predicted: not fractured (0.31)"."""
    actual = "unknown" if label is None else LABEL_NAMES[label]
    predicted = LABEL_NAMES[FRACTURED if probability >= CALL else NOT_FRACTURED]
    return f"actual: {actual} / predicted: {predicted} ({probability:.2f})"


def show_all(answers: Answers, paths: Sequence[str]) -> list[Shown]:
    """Prepare pictures with the reference standard's boxes; a file that has gone since it was answered is left out."""
    rows = answers.rows.drop_duplicates("path").set_index("path")
    made = []
    for path in paths:
        row = rows.loc[path].to_dict()
        label: int | None = None if pd.isna(row["label"]) else int(row["label"])
        reference: Sequence[Sequence[float]] = []
        if label == FRACTURED:
            boxes, polygons = places(row, answers.findings[path].shape)
            reference = boxes or polygons
        try:
            radiograph = read(path)
        except CallusError:
            continue
        made.append(shown(radiograph, answers.findings[path], label, reference))
    return made


def shown(
    radiograph: Radiograph, finding: Finding, label: int | None, reference: Sequence[Sequence[float]] = ()
) -> Shown:
    """Prepare a radiograph and its finding for a page.

    Args:
        radiograph: what was identified.
        finding: the answer to it.
        label: 1 fractured, 0 not, None unknown.
        reference: boxes [x, y, width, height] and polygons [x0, y0, x1, y1, x2, y2, ...], in the radiograph's pixels.
    """
    called = FRACTURED if finding.probability >= CALL else NOT_FRACTURED
    return Shown(
        title_of(label, finding.probability),
        Path(finding.path or "").name,
        jpeg_uri(heat_picture(radiograph, finding, reference)),
        jpeg_uri(plain_picture(radiograph)),
        None if label is None else called == label,
        LEVEL_TEXT[finding.level],
        finding.cautions,
    )


def plain_picture(radiograph: Radiograph, side: int = PICTURE_SIDE) -> NDArray[np.uint8]:
    """The radiograph for a page: uint8 (h, w), longer side ``side`` or its own where that is less."""
    pixels = radiograph.pixels
    scale = min(1.0, side / max(pixels.shape))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if small.dtype == np.uint16:  # often 10 or 12 bits in 16, which would be black on a screen
        low, high = np.percentile(small, (0.1, 99.9))
        small = np.clip((small - low) * (255 / max(high - low, 1.0)), 0, 255)
    return np.asarray(small, dtype=np.uint8)


def heat_picture(
    radiograph: Radiograph,
    finding: Finding,
    reference: Sequence[Sequence[float]] = (),
    side: int = PICTURE_SIDE,
) -> NDArray[np.uint8]:
    """The radiograph with the heat map laid over, the boxes, and the reference standard's: uint8 (h, w, 3), RGB."""
    grey = plain_picture(radiograph, side)
    heat = finding.heat((grey.shape[0], grey.shape[1]))
    cover = opacity(heat)[..., np.newaxis]
    picture = np.rint(grey[..., np.newaxis] * (1 - cover) + colours(heat) * cover).astype(np.uint8)
    scale = np.array([grey.shape[1] / radiograph.width, grey.shape[0] / radiograph.height])
    for place in reference:
        _outline(picture, np.array(_corners(place)).reshape(-1, 2) * scale, REFERENCE)
    for box in finding.boxes:
        corners = np.array(_corners((box.x, box.y, box.width, box.height))).reshape(-1, 2) * scale
        _outline(picture, corners, BOX, dotted=finding.level == "doubt")
    return picture


def _corners(place: Sequence[float]) -> list[float]:
    """A box [x, y, width, height] as a polygon; a polygon as it is."""
    if len(place) != 4:  # noqa: PLR2004
        return list(place)
    x, y, width, height = place
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _outline(
    picture: NDArray[np.uint8], corners: NDArray[np.float64], colour: tuple[int, int, int], *, dotted: bool = False
) -> None:
    """A line around a place, drawn into ``picture``."""
    drawn = np.zeros(picture.shape[:2], np.uint8)
    cv2.polylines(drawn, [np.rint(corners).astype(np.int32)], isClosed=True, color=1)
    line = drawn.astype(bool)
    if dotted:
        rows, columns = np.indices(line.shape)
        line &= (rows + columns) % 6 < 3  # noqa: PLR2004
    picture[line] = colour


def jpeg_uri(picture: NDArray[np.uint8]) -> str:
    """A picture, uint8 (h, w) or RGB (h, w, 3), as a data URI."""
    stored = picture if picture.shape[2:] == () else picture[..., ::-1]  # OpenCV takes BGR
    _, encoded = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def png_uri(path: Path) -> str | None:
    """A PNG file as a data URI; None where it cannot be read."""
    try:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError:
        return None
