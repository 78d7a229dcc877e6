"""The pages that people read: one file each, pictures and plots inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import jinja2
import numpy as np
import pandas as pd

import callus
from callus.errors import CallusError
from callus.labels import FRACTURED, LABEL_NAMES, LEVEL_TEXT, NOT_FRACTURED, RESEARCH_ONLY
from callus.radiograph import Radiograph, read
from callus.report import figures
from callus.results.overlay import colours, opacity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from callus.identify import Finding
    from callus.report.evaluation import Evaluation

PICTURE_SIDE: Final = 360
"""Longer side of a picture in a page, pixels: enough to see a fracture, small enough for 48 of them in 2 MB."""
WRONG_SHARE: Final = 0.75
"""At most so much of a page's pictures are wrong calls, so that right ones are seen too."""
POINT_NAMES: Final = {
    "at_0.5": "at 0.5",
    "high_sensitivity": "high sensitivity",
    "high_specificity": "high specificity",
}


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


def report_page(result: Evaluation, *, pictures: int) -> str:
    """Make ``report.html``.

    Args:
        result: what came out.
        pictures: at most how many pictures.
    """
    numbers = result.metrics
    chosen = choose_pictures(result.predictions, pictures)
    shown = [_shown(row, result.findings[row["path"]]) for row in chosen]
    return (
        environment()
        .get_template("report.html")
        .render(
            title=f"{numbers['model']['name']} on {_split_text(numbers['data']['split'])}",
            metrics=numbers,
            summary=summary(numbers),
            plots=plots(result),
            curves=None if result.curves is None else png_uri(result.curves),
            shown=[one for one in shown if one is not None],
            point_names=POINT_NAMES,
            label_names=LABEL_NAMES,
            level_text=LEVEL_TEXT,
        )
    )


def summary(numbers: dict[str, Any]) -> str:
    """What was tested and what came out, in plain words."""
    data, figure = numbers["data"], numbers["figures"]["at_0.5"]
    counts = figure["confusion"]
    answered = f"{numbers['model']['name']} answered {data['judged']:,} labelled files of {_split_text(data['split'])}"
    parts = [f"{answered} ({data['radiographs']:,} radiographs in {data['groups']:,} groups)."]
    if data["fractured"]:
        parts.append(f"Of {data['fractured']:,} fractured ones it found {counts['tp']:,} and missed {counts['fn']:,}.")
    if data["not_fractured"]:
        parts.append(f"Of {data['not_fractured']:,} others it called {counts['fp']:,} fractured.")
    if data["failed"]:
        parts.append(f"{data['failed']:,} files could not be read.")
    if data["unlabelled"]:
        parts.append(f"{data['unlabelled']:,} have no label.")
    return " ".join(parts)


def plots(result: Evaluation) -> list[tuple[str, str]]:
    """Title and SVG of each plot that the labels allow."""
    rows = result.predictions
    rows = rows[rows["label"].notna() & rows["probability"].notna()]
    label, probability = rows["label"].to_numpy(dtype=int), rows["probability"].to_numpy(dtype=float)
    points = {POINT_NAMES[name]: figure["threshold"] for name, figure in result.metrics["figures"].items()}
    if not len(label):
        return []
    made = [("Probability of a fracture, by class", figures.histogram_figure(label, probability, points))]
    if 0 < label.sum() < len(label):
        made.insert(0, ("ROC", figures.roc_figure(label, probability, points)))
        made.insert(1, ("Precision and sensitivity", figures.precision_recall_figure(label, probability)))
    return made


def choose_pictures(predictions: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """Choose what a page shows: wrong calls first, the surest of them first, then right ones over the whole range.

    The choice depends on the predictions only, so it is the same every time.

    Args:
        predictions: of an evaluation.
        count: at most how many.

    Returns:
        path, label (None where unknown) and probability of each.
    """
    rows = predictions[predictions["probability"].notna()].sort_values(["probability", "path"])
    probability = rows["probability"].to_numpy(dtype=float)
    known = rows["label"].notna().to_numpy()
    label = rows["label"].fillna(NOT_FRACTURED).to_numpy(dtype=int)
    wrong = np.flatnonzero(known & ((probability >= 0.5) != (label == FRACTURED)))  # noqa: PLR2004 - as the figures
    wrong = wrong[np.argsort(-np.abs(probability[wrong] - 0.5), kind="stable")]
    others = np.setdiff1d(np.arange(len(rows)), wrong)
    most_wrong = max(count - len(others), round(WRONG_SHARE * count))
    wrong = wrong[:most_wrong]
    room = min(count - len(wrong), len(others))
    spread = others[np.unique(np.linspace(0, len(others) - 1, room).round().astype(int))] if room > 0 else others[:0]
    chosen = rows.iloc[[*wrong, *spread[::-1]]]
    return [
        {
            "path": str(path),
            "label": None if pd.isna(label) else int(label),
            "probability": float(probability),
        }
        for path, label, probability in zip(chosen["path"], chosen["label"], chosen["probability"], strict=True)
    ]


def title_of(label: int | None, probability: float) -> str:
    """How a picture is titled: "actual: fractured / predicted: not fractured (0.31)"."""
    actual = "unknown" if label is None else LABEL_NAMES[label]
    predicted = LABEL_NAMES[FRACTURED if probability >= 0.5 else NOT_FRACTURED]  # noqa: PLR2004
    return f"actual: {actual} / predicted: {predicted} ({probability:.2f})"


def _shown(row: dict[str, Any], finding: Finding) -> Shown | None:
    """A picture of the page; None where the file has gone since it was answered."""
    try:
        radiograph = read(row["path"])
    except CallusError:
        return None
    return shown(radiograph, finding, row["label"])


def shown(radiograph: Radiograph, finding: Finding, label: int | None) -> Shown:
    """Prepare a radiograph and its finding for a page."""
    called = FRACTURED if finding.probability >= 0.5 else NOT_FRACTURED  # noqa: PLR2004
    return Shown(
        title_of(label, finding.probability),
        Path(finding.path or "").name,
        jpeg_uri(heat_picture(radiograph, finding)),
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


def heat_picture(radiograph: Radiograph, finding: Finding, side: int = PICTURE_SIDE) -> NDArray[np.uint8]:
    """The radiograph with the heat map laid over and the boxes: uint8 (h, w, 3), RGB."""
    grey = plain_picture(radiograph, side)
    heat = finding.heat((grey.shape[0], grey.shape[1]))
    cover = opacity(heat)[..., np.newaxis]
    picture = np.rint(grey[..., np.newaxis] * (1 - cover) + colours(heat) * cover).astype(np.uint8)
    scale = grey.shape[1] / radiograph.width, grey.shape[0] / radiograph.height
    for box in finding.boxes:
        corner = round(box.x * scale[0]), round(box.y * scale[1])
        opposite = round((box.x + box.width) * scale[0]), round((box.y + box.height) * scale[1])
        _frame(picture, corner, opposite, dotted=finding.level == "doubt")
    return picture


def _frame(picture: NDArray[np.uint8], corner: tuple[int, int], opposite: tuple[int, int], *, dotted: bool) -> None:
    """A box's line, in blue-green, which neither bone nor the heat map has; drawn into ``picture``."""
    drawn = np.zeros(picture.shape[:2], np.uint8)
    cv2.rectangle(drawn, corner, opposite, 1, 1)
    line = drawn.astype(bool)
    if dotted:
        rows, columns = np.indices(line.shape)
        line &= (rows + columns) % 6 < 3  # noqa: PLR2004
    picture[line] = (86, 220, 255)


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


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """The templates; whatever comes from data is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["figure"] = figure_text
    made.filters["ends"] = ends_text
    made.filters["count"] = lambda value: f"{value:,}"
    made.globals.update(research_only=RESEARCH_ONLY, version=callus.__version__)
    return made


def figure_text(value: float | None, digits: int = 3) -> str:
    """A figure for people; a dash where it is undefined."""
    return "–" if value is None else f"{value:.{digits}f}"  # noqa: RUF001 - a dash is meant


def ends_text(interval: dict[str, Any], digits: int = 2) -> str:
    """An interval for people: "0.81 to 0.92"; empty where there is none."""
    if interval["low"] is None or interval["high"] is None:
        return ""
    return f"{interval['low']:.{digits}f} to {interval['high']:.{digits}f}"


def _split_text(split: str) -> str:
    return "all splits" if split == "all" else f'the split "{split}"'
