"""Plots as SVG that stand in a page: text in the page's font and colour, so that they suit dark and light.

The curves are drawn from the dictionaries that ``metrics.json`` holds, so that a page shows the numbers of the file.
What is None there is left out. matplotlib's objects are used without pyplot: no window system, no global state.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from itertools import cycle
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final
from warnings import catch_warnings, filterwarnings

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from callus.labels import LABEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

INK: Final = "#010203"
"""A colour that nothing else has; it becomes the page's own."""
COLOURS: Final = {1: "#d9722e", 0: "#4a90d2"}
"""Fractured and not, after Okabe and Ito: the colour-blind can tell them apart, on black and on white."""
SIZE: Final = (4.4, 4.2)
"""Inches: on a phone of 390 pixels a letter of 10 points is about 10 pixels high."""
_STYLE: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "callus",
    "text.parse_math": False,  # a region may well be called "$"
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
}
_FAINT: Final = {"color": INK, "alpha": 0.55, "linewidth": 1, "linestyle": ":"}
_BAND: Final = {"color": COLOURS[1], "alpha": 0.2, "linewidth": 0}
_UNIT: Final = (-0.02, 1.02)
_FALSE_BOXES: Final = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_SMALL: Final = 9  # letters, points
_SMALL_PREVALENCE: Final = 0.1  # below it there is no room for letters under the line
# Of the forest plot: heights in inches, places in parts of the width, lengths of lines in letters.
_LINE, _NOTE, _GAP, _HEADING, _TOP, _BOTTOM = 0.17, 0.15, 0.08, 0.28, 0.05, 0.55
_LEFT, _WIDE = 0.39, 0.26
_LETTERS, _NOTE_LETTERS, _HEADING_LETTERS = 20, 24, 60
_LEAST_SPAN: Final = 0.1


@dataclass(frozen=True)
class ForestRow:
    """One row of a forest plot.

    Attributes:
        heading: rows in a row that share it stand under it; may be empty.
        text: the row's name.
        value: the figure; None where it is not defined.
        low: of its interval; None where there is none.
        high: the same.
        small: whether it stands on few cases, and is drawn fainter.
        note: on how many it stands, or why there is no value; may be empty.
    """

    heading: str
    text: str
    value: float | None
    low: float | None
    high: float | None
    small: bool = False
    note: str = ""


def roc_figure(curve: Mapping[str, Any], points: Mapping[str, tuple[float | None, float | None]]) -> str:
    """The receiver operating characteristic with its band and the operating points, as SVG.

    Args:
        curve: of :meth:`callus.metrics.curves.Curve.as_dict`.
        points: by name (1 - specificity, sensitivity).
    """

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], **_FAINT)
        if curve["x"]:
            axes.fill_between(curve["x"], _numbers(curve["low"]), _numbers(curve["high"]), **_BAND)
            # From nothing called up to the most that is found without a false alarm.
            axes.plot([0, *curve["x"]], [0, *_numbers(curve["y"])], color=COLOURS[1], linewidth=2)
        else:
            _say(axes, curve.get("reason", ""))
        for (name, (x, y)), marker in zip(points.items(), cycle("os^D")):
            if x is not None and y is not None:
                style = {"color": INK, "markersize": 6, "fillstyle": "none", "markeredgewidth": 1.4}
                axes.plot(x, y, marker, label=name, **style)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=_UNIT, ylim=_UNIT, aspect="equal")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", frameon=False, fontsize=_SMALL)

    return svg_of(draw, "Receiver operating characteristic", SIZE)


def precision_recall_figure(curve: Mapping[str, Any], prevalence: float | None) -> str:
    """Precision against sensitivity with its band, as SVG; the dotted line is what guessing gives.

    Args:
        curve: of :meth:`callus.metrics.curves.Curve.as_dict`.
        prevalence: the share of fractured cases; None for no line.
    """

    def draw(axes: Any) -> None:
        if curve["x"]:
            # A precision holds for all recalls down to the one before.
            x, (y, low, high) = [0, *curve["x"]], (_numbers(curve[name]) for name in ("y", "low", "high"))
            axes.fill_between(x, np.append(low[0], low), np.append(high[0], high), step="pre", **_BAND)
            axes.step(x, np.append(y[0], y), where="pre", color=COLOURS[1], linewidth=2)
        else:
            _say(axes, curve.get("reason", ""))
        if prevalence is not None:
            axes.axhline(prevalence, **_FAINT)
            side, away = ("top", -3) if prevalence > _SMALL_PREVALENCE else ("bottom", 3)
            where = {"xytext": (0, away), "textcoords": "offset points", "va": side}
            axes.annotate(f"prevalence {prevalence:.2f}", (0.01, prevalence), fontsize=_SMALL, **where)
        axes.set(xlabel="sensitivity", ylabel="precision", xlim=_UNIT, ylim=_UNIT, aspect="equal")

    return svg_of(draw, "Precision and sensitivity", SIZE)


def reliability_figure(calibration: Mapping[str, Any]) -> str:
    """Predicted probability against the share of fractures, as SVG; the dotted line is where both agree.

    Args:
        calibration: of :meth:`callus.metrics.reliability.Reliability.as_dict`. The bars below show how many cases each
            bin has, and so do the points' sizes.
    """
    curve = calibration["curve"]

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], **_FAINT)
        most = max((one["count"] for one in curve), default=1)
        for one in curve:
            share = one["count"] / most
            axes.bar(one["probability"], 0.08 * share, bottom=-0.12, width=0.014, color=INK, alpha=0.45)
            fractured = one["fractured"]
            if fractured["value"] is None:
                continue
            if fractured["low"] is not None and fractured["high"] is not None:
                ends = [fractured["low"], fractured["high"]]
                axes.plot([one["probability"]] * 2, ends, color=COLOURS[1], linewidth=1.4, alpha=0.7)
            size = 3 + 4 * share**0.5
            axes.plot(one["probability"], fractured["value"], "o", color=COLOURS[1], markersize=size)
        if not curve:
            _say(axes, calibration["slope"].get("reason", ""))
        axes.axhline(-0.02, color=INK, alpha=0.35, linewidth=0.6)
        axes.set(ylabel="share that is fractured", xlim=_UNIT, ylim=(-0.14, 1.02), yticks=np.linspace(0, 1, 6))
        axes.set_xlabel("probability of a fracture" + _counts_text([one["count"] for one in curve]))
        lines = [f"{name} {_interval_text(calibration[name])}" for name in ("slope", "intercept")]
        axes.set_title("\n".join(lines), fontsize=_SMALL, loc="right")

    return svg_of(draw, "Calibration", SIZE)


def decision_figure(curve: Mapping[str, Any]) -> str:
    """Net benefit by threshold of the model, of treating all and of treating none, as SVG.

    Args:
        curve: of :meth:`callus.metrics.decision_curve.DecisionCurve.as_dict`.
    """
    thresholds = curve["thresholds"]
    (model, low, high), (everyone, *_) = (
        [_numbers([one[end] for one in curve[name]]) for end in ("value", "low", "high")]
        for name in ("model", "treat_all")
    )
    # Above the prevalence nothing can be; treating all at a threshold near 0 comes close to it.
    top = np.nanmax([0.05, *model, *everyone])

    def draw(axes: Any) -> None:
        axes.axhline(0, color=INK, linewidth=1, alpha=0.6, label="treat none")
        axes.plot(thresholds, everyone, color=COLOURS[0], linewidth=1.6, linestyle="--", label="treat all")
        axes.fill_between(thresholds, low, high, **_BAND)
        axes.plot(thresholds, model, color=COLOURS[1], linewidth=2, label="model")
        if np.isnan(model).all():
            _say(axes, next((one.get("reason", "") for one in curve["model"]), ""))
        axes.set(xlabel="threshold probability", ylabel="net benefit", xlim=_UNIT, ylim=(-0.2 * top, 1.15 * top))
        handles, labels = axes.get_legend_handles_labels()
        above = {"loc": "upper center", "bbox_to_anchor": (0.5, 1.11), "ncols": 3}
        axes.legend(handles[::-1], labels[::-1], frameon=False, fontsize=_SMALL, **above)

    return svg_of(draw, "Decision curve", SIZE)


def froc_figure(localisation: Mapping[str, Any]) -> str:
    """The share of fractures found by false boxes an image, with intervals at the named rates, as SVG.

    Args:
        localisation: of :meth:`callus.metrics.localisation.Localisation.as_dict`.
    """
    curve, rates = localisation["froc_curve"], localisation["froc"]
    end = max([2.0, *(x for x, _ in curve), *map(float, rates)])

    def draw(axes: Any) -> None:
        if curve:
            x, y = np.array(curve, dtype=np.float64).T
            # Steps: what a threshold finds holds until the next false box, and beyond the last one.
            axes.step([*x, end], [*y, y[-1]], where="post", color=COLOURS[1], linewidth=2)
        else:
            _say(axes, next((one.get("reason", "") for one in rates.values()), ""))
        for rate, found in rates.items():
            if found["value"] is None:
                continue
            if found["low"] is not None and found["high"] is not None:
                axes.plot([float(rate)] * 2, [found["low"], found["high"]], color=INK, linewidth=1.2, alpha=0.8)
            axes.plot(float(rate), found["value"], "o", color=INK, markersize=5)
        axes.set_xscale("symlog", linthresh=0.1, linscale=0.5)
        ticks = [rate for rate in _FALSE_BOXES if rate <= end]
        axes.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="false boxes an image", ylabel="fractures found", xlim=(0, end), ylim=_UNIT)

    return svg_of(draw, "Fractures found by false boxes an image", SIZE)


def forest_figure(rows: Sequence[ForestRow], *, overall: float | None, xlabel: str) -> str:
    """A figure by subgroup, as SVG: a dot and its interval in each row, hollow and fainter where a subgroup is small.

    Args:
        rows: from the top to the bottom.
        overall: the figure of all cases, as a line; None for no line.
        xlabel: what the figure is.
    """
    places, height = _forest_places(rows)
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    ends += [] if overall is None else [overall]

    def draw(axes: Any) -> None:
        whole = _TOP + height + _BOTTOM
        axes.set_position((_LEFT, _BOTTOM / whole, _WIDE, height / whole))
        axes.set(ylim=(height, 0), xlim=_span(ends))  # one unit is an inch
        if overall is not None:
            axes.axvline(overall, color=COLOURS[0], linewidth=1.4)
        for row, (heading, at) in zip(rows, places, strict=True):
            _forest_row(axes, row, heading, at)
        if not rows:
            _say(axes, "no subgroup")
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(axis="x", labelsize=_SMALL)
        key = [] if overall is None else ["line: all cases"]
        key += ["hollow: small subgroup"] if any(row.small for row in rows) else []
        axes.set_xlabel(f"{xlabel}\n{', '.join(key)}".rstrip(), fontsize=_SMALL)

    return svg_of(draw, f"{xlabel} by subgroup", (SIZE[0], _TOP + height + _BOTTOM))


def histogram_figure(label: NDArray[np.int64], probability: NDArray[np.float64], points: dict[str, float]) -> str:
    """How the probabilities of each class are spread, with the thresholds, as SVG."""

    def draw(axes: Any) -> None:
        bins = np.linspace(0, 1, 21)
        for value, name in LABEL_NAMES.items():
            counts = np.histogram(probability[label == value], bins)[0]
            shift = -0.011 if value == 0 else 0.011
            axes.bar(bins[:-1] + 0.025 + shift, counts, width=0.021, color=COLOURS[value], label=name)
        for name, threshold in points.items():
            axes.axvline(threshold, color=INK, linewidth=0.8, linestyle="--", alpha=0.6)
            axes.annotate(
                name,
                (threshold, 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -4),
                textcoords="offset points",
                rotation=90,
                va="top",
                fontsize=8,
            )
        axes.set(xlabel="probability of a fracture", ylabel="files", xlim=(-0.02, 1.02))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.11), ncols=2, frameon=False, fontsize=_SMALL)

    return svg_of(draw, "Probabilities by class", SIZE)


def svg_of(draw: Callable[[Any], None], title: str, size: tuple[float, float]) -> str:
    """Draw and give an ``<svg>`` element with a title for who cannot see it.

    Args:
        draw: draws into matplotlib's axes.
        title: what the plot shows, without characters that HTML knows.
        size: width and height, inches.
    """
    with rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        axes.grid(visible=True, color=INK, alpha=0.1, linewidth=0.6)
        axes.set_axisbelow(True)
        draw(axes)
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with catch_warnings():
            # What matplotlib's own font lacks, the page's has: the text is not drawn here.
            filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # Every plot of matplotlib calls its parts by the same names; on a page a name stands for one thing.
    own = hashlib.sha256((title + text).encode()).hexdigest()[:8]
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{own}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _forest_places(rows: Sequence[ForestRow]) -> tuple[list[tuple[str, float]], float]:
    """Where the rows stand.

    Returns:
        For each row the heading above it (empty where it goes on under the last one) and the middle of its first line,
        inches from the top; and the height of them all.
    """
    places, at, last = [], 0.0, ""
    for row in rows:
        heading = row.heading if row.heading != last else ""
        at += _HEADING if heading else 0.0
        places.append((heading, at + _LINE / 2))
        at += _LINE * max(1, len(_lines(row.text, _LETTERS))) + _NOTE * len(_lines(row.note, _NOTE_LETTERS)) + _GAP
        last = row.heading
    return places, max(at, 3 * _LINE)


def _forest_row(axes: Any, row: ForestRow, heading: str, at: float) -> None:
    """One row, and the heading above it."""
    across = blended_transform_factory(axes.figure.transFigure, axes.transData)
    style = {"transform": across, "fontsize": _SMALL, "va": "center"}
    if heading:
        above = at - _LINE / 2 - _HEADING * 0.55
        axes.text(0.01, above, "".join(_lines(heading, _HEADING_LETTERS)[:1]), **style, fontweight="bold")
    lines = _lines(row.text, _LETTERS)
    for number, line in enumerate(lines):
        axes.text(0.03, at + number * _LINE, line, **style)
    below = at + max(0, len(lines) - 1) * _LINE + (_LINE + _NOTE) / 2
    for number, line in enumerate(_lines(row.note, _NOTE_LETTERS)):
        axes.text(0.03, below + number * _NOTE, line, **style | {"fontsize": _SMALL - 1}, alpha=0.7)
    axes.text(0.99, at, _interval_text(vars(row)), **style, ha="right")
    colour = {"color": INK, "alpha": 0.55} if row.small else {"color": COLOURS[1]}
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [at, at], linewidth=1.4, clip_on=False, **colour)
    if row.value is not None:
        fill = "none" if row.small else "full"
        axes.plot(row.value, at, "o", markersize=5, markeredgewidth=1.3, fillstyle=fill, clip_on=False, **colour)


def _span(ends: list[float]) -> tuple[float, float]:
    """From a little below the lowest to a little above the highest; noise must not fill the plot."""
    if not ends:
        return 0.0, 1.0
    low, high = min(ends), max(ends)
    more = max(0.04 * (high - low), (_LEAST_SPAN - (high - low)) / 2)
    return low - more, high + more


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    """As float64, NaN for None: matplotlib leaves a gap there."""
    return np.array(values, dtype=np.float64)


def _interval_text(interval: Mapping[str, Any]) -> str:
    """A figure for people: "0.91 (0.85 to 0.95)"."""
    value, low, high = (interval[name] for name in ("value", "low", "high"))
    if value is None:
        return "not defined"
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def _lines(text: str, letters: int) -> list[str]:
    """Lines of at most so many letters, without control characters, which an SVG must not have."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return wrap(" ".join(printable.split()), letters)


def _counts_text(counts: list[int]) -> str:
    if not counts:
        return ""
    few, many = min(counts), max(counts)
    return f"\nbars: cases, {many:,} each" if few == many else f"\nbars: cases, {few:,} to {many:,}"


def _say(axes: Any, reason: str) -> None:
    """Why there is nothing to see."""
    text = "\n".join(wrap(reason or "not defined", 40))
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=_SMALL)
