"""Plots as SVG that stand in a page: text in the page's font and colour, so that they suit dark and light.

matplotlib's objects are used without pyplot: no window system, no global state.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from sklearn import metrics

from callus.labels import LABEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

INK: Final = "#010203"
"""A colour that nothing else has; it becomes the page's own."""
COLOURS: Final = {1: "#d9722e", 0: "#4a90d2"}
"""Fractured and not, after Okabe and Ito: the colour-blind can tell them apart, on black and on white."""
_STYLE: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "callus",
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
}


def roc_figure(label: NDArray[np.int64], probability: NDArray[np.float64], points: dict[str, float]) -> str:
    """The receiver operating characteristic with the operating points marked, as SVG.

    Args:
        label: (n,) 0 and 1, both present.
        probability: (n,).
        points: thresholds by name.
    """

    def draw(axes: Any) -> None:
        false, true, _ = metrics.roc_curve(label, probability)
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8, linestyle=":")
        axes.plot(false, true, color=COLOURS[1], linewidth=2)
        for (name, threshold), marker in zip(points.items(), "os^", strict=False):
            called = probability >= threshold
            at = called[label == 0].mean(), called[label == 1].mean()
            axes.plot(*at, marker, color=INK, markersize=6, fillstyle="none", markeredgewidth=1.4, label=name)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.legend(loc="lower right", frameon=False, fontsize=9)

    return _svg(draw, "Receiver operating characteristic", (4.4, 4.2))


def precision_recall_figure(label: NDArray[np.int64], probability: NDArray[np.float64]) -> str:
    """Precision against sensitivity, as SVG; the dotted line is what guessing gives."""

    def draw(axes: Any) -> None:
        precision, recall, _ = metrics.precision_recall_curve(label, probability)
        share = float(label.mean())
        axes.axhline(share, color=INK, alpha=0.35, linewidth=0.8, linestyle=":")
        axes.step(recall, precision, where="post", color=COLOURS[1], linewidth=2)
        axes.text(0.02, share + 0.02, f"prevalence {share:.2f}", fontsize=9)
        axes.set(xlabel="sensitivity", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")

    return _svg(draw, "Precision and sensitivity", (4.4, 4.2))


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
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.11), ncols=2, frameon=False, fontsize=9)

    return _svg(draw, "Probabilities by class", (4.4, 4.2))


def _svg(draw: Callable[[Any], None], title: str, size: tuple[float, float]) -> str:
    """Draw and give an ``<svg>`` element with a title for who cannot see it."""
    with rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        axes.grid(visible=True, color=INK, alpha=0.1, linewidth=0.6)
        axes.set_axisbelow(True)
        draw(axes)
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
