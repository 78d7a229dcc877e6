"""How AUROC moves when radiographs are disturbed, as one plot: a dot and its interval for each disturbance."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from callus.report.figures import COLOURS, INK, svg_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callus.report.robustness import Robustness, Step

WIDTH: Final = 4.4
"""Inches, as the other plots: on a phone of 390 pixels the letters are about 10 pixels high."""
_ROW: Final = 0.2
_AROUND: Final = 1.1
_GUESSING: Final = 0.5
_LEAST_SPAN: Final = 0.1
"""Of the axis: where nothing moves, noise must not fill the plot."""


def robustness_figure(measured: Robustness) -> str:
    """Draw AUROC with its interval for each step, from the top to the bottom in the steps' order.

    The line and the band behind the dots are the undisturbed radiographs' AUROC and its interval. A dot is filled where
    the interval of the paired difference leaves 0 out, and hollow where it does not; a row without a dot has no AUROC.

    Returns:
        An ``<svg>`` element with text in the page's font and colour.
    """
    steps = measured.steps

    def draw(axes: Any) -> None:
        left, right = _span((measured.undisturbed, *steps))
        _undisturbed(axes, measured.undisturbed)
        if left < _GUESSING:
            axes.axvline(_GUESSING, color=INK, alpha=0.35, linewidth=0.8, linestyle=":")
        for row, step in enumerate(steps):
            _dot(axes, row, step, left)
        _stripes(axes, steps)
        axes.set_yticks(range(len(steps)), [step.text for step in steps], fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel="AUROC", xlim=(left, right), ylim=(len(steps) - 0.4, -0.6))
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_title("line and band: undisturbed\nfilled: differs from it, hollow: may not", fontsize=8, loc="right")

    return svg_of(draw, "AUROC of disturbed radiographs", (WIDTH, _AROUND + _ROW * max(1, len(steps))))


def _undisturbed(axes: Any, step: Step) -> None:
    auroc = step.figures["auroc"]
    if auroc.value is not None:
        axes.axvline(auroc.value, color=COLOURS[0], linewidth=1.4)
    if auroc.low is not None and auroc.high is not None:
        axes.axvspan(auroc.low, auroc.high, color=COLOURS[0], alpha=0.15, linewidth=0)


def _dot(axes: Any, row: int, step: Step, left: float) -> None:
    auroc = step.figures["auroc"]
    if auroc.value is None:
        axes.annotate("not defined", (left, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        return
    if auroc.low is not None and auroc.high is not None:
        axes.plot([auroc.low, auroc.high], [row, row], color=COLOURS[1], linewidth=1.4)
    differs = step.moved("auroc")
    axes.plot(
        auroc.value,
        row,
        "o",
        color=COLOURS[1],
        markersize=5,
        markeredgewidth=1.4,
        fillstyle="full" if differs else "none",
    )


def _stripes(axes: Any, steps: Sequence[Step]) -> None:
    """A tint behind every second kind of disturbance."""
    first = 0
    for number, (_, same) in enumerate(groupby(steps, key=lambda step: step.kind)):
        last = first + len(list(same))
        if number % 2:
            axes.axhspan(first - 0.5, last - 0.5, color=INK, alpha=0.05, linewidth=0)
        first = last


def _span(steps: Sequence[Step]) -> tuple[float, float]:
    """From a little below the lowest end to a little above the highest, within 0 and 1."""
    aurocs = [step.figures["auroc"] for step in steps]
    ends = [end for one in aurocs for end in (one.value, one.low, one.high) if end is not None]
    if not ends:
        return 0.0, 1.0
    low, high = min(ends), max(ends)
    missing = max(0.0, _LEAST_SPAN - (high - low)) / 2 + 0.01
    return max(0.0, low - missing), min(1.0, high + missing)
