"""The page of a comparison: what differs between two models, in words first, then in tables and two plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sklearn import metrics

from callus.dataset.clean import counted
from callus.labels import FRACTURED, LABEL_NAMES, LEVEL_TEXT, NOT_FRACTURED
from callus.report.figures import COLOURS, INK, svg_of
from callus.report.names import CALIBRATION_NAMES, POINT_NAMES, RANKING_NAMES, call_names, figure_names
from callus.report.pages import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from callus.report.pairing import Pairs

LESS_IS_BETTER: Final = ("brier", "lr_negative")
_LEAST_P: Final = 0.001
_LEAST_SHOWN: Final = 0.0005
_LARGE: Final = 10
_LINES: Final = {"A": (COLOURS[1], "-"), "B": (COLOURS[0], (0, (5, 2)))}
"""Colour and line of each model: also told apart on paper without colours."""


@dataclass(frozen=True)
class Row:
    """A figure of both models, as text.

    Attributes:
        name: of the figure.
        a: of A; a dash where it is undefined.
        b: of B.
        difference: A less B, with its sign.
        ends: its interval; empty where there is none.
        p: its p value, "p = 0.012"; empty where there is none.
        reason: why something is missing.
        better: "A" or "B" where the interval leaves 0 out; else empty.
    """

    name: str
    a: str
    b: str
    difference: str
    ends: str
    p: str
    reason: str
    better: str


def comparison_page(numbers: dict[str, Any], pairs: Pairs) -> str:
    """Make ``comparison.html``.

    Args:
        numbers: what ``comparison.json`` holds.
        pairs: that they were counted on.
    """
    template = environment().get_template("compare.html")
    units = numbers["radiographs"]
    return template.render(
        title=f"A and B side by side: {numbers['a']['model']['name']} and {numbers['b']['model']['name']}",
        numbers=numbers,
        summary=summary(numbers),
        head=row("auroc", numbers["figures"]["at_0.5"]["auroc"]),
        tables=tables(numbers["figures"]),
        unit_tables=tables(units["figures"]) if units["figures"] else [],
        plots=plots(numbers, pairs),
        point_names=POINT_NAMES,
        label_names=LABEL_NAMES,
        level_text=LEVEL_TEXT,
        calibration_names=CALIBRATION_NAMES,
        p_values=sum(one["p"] is not None for _, one in _every(numbers)),
        methods=methods(numbers),
    )


def summary(numbers: dict[str, Any]) -> list[str]:
    """What was compared and what came out, in plain words, a sentence or two each."""
    data, figures = numbers["data"], numbers["figures"]
    told = [
        f"{name} is {one['model']['name']}, evaluated in {one['folder']}."
        for name, one in (("A", numbers["a"]), ("B", numbers["b"]))
    ]
    on = f"On {counted(data['radiographs'], 'radiograph')}"
    if data["judged"] != data["radiographs"]:
        on += f" ({counted(data['judged'], 'file')})"
    told = [" ".join(told), _auroc(f"{on} in {counted(data['groups'], 'group')}", figures["at_0.5"]["auroc"])]
    units = numbers["radiographs"]
    if units["figures"]:
        together = "mean" if units["aggregate"] == "mean" else "largest probability"
        put = f"With the files of each radiograph put together ({together})"
        told.append(_auroc(put, units["figures"]["at_0.5"]["auroc"]))
    told += [
        _calls("At a probability of 0.5", numbers["agreement"]["at_0.5"]),
        _calls("Each at its own high-sensitivity threshold", numbers["agreement"]["high_sensitivity"]),
        _calls("Each at its own high-specificity threshold", numbers["agreement"]["high_specificity"]),
    ]
    return told


def _auroc(on: str, told: dict[str, Any]) -> str:
    """The sentence about AUROC."""
    if told["difference"] is None:
        return f"{on}, AUROC cannot be compared: {told['reason']}."
    sign = 1 if told["difference"] >= 0 else -1
    said = f"{on}, A's AUROC was {told['a']:.3f} and B's {told['b']:.3f}: {_apart(told['difference'])}"
    if told["low"] is None or told["high"] is None:
        return f"{said} ({told['reason']})."
    low, high = sorted((sign * told["low"], sign * told["high"]))
    word, other = ("more", "less") if sign > 0 else ("less", "more")
    ends = f"{low:.3f} to {high:.3f}" if low >= 0 else f"{-low:.3f} {other} to {high:.3f} {word}"
    said += f" (95 % interval {ends}, {p_text(told['p'])})."
    return said if low > 0 else f"{said} That does not settle which of the two ranks radiographs better."


def _apart(difference: float) -> str:
    if abs(difference) < _LEAST_SHOWN:
        return "no difference to three digits"
    return f"{abs(difference):.3f} {'more' if difference > 0 else 'less'}"


def _calls(at: str, agreement: dict[str, dict[str, int]]) -> str:
    """The sentence about what each model found and falsely called."""
    fractured, others = (agreement[LABEL_NAMES[value]] for value in (FRACTURED, NOT_FRACTURED))
    found_a, found_b = (fractured["both_right"] + fractured[f"only_{name}_right"] for name in "ab")
    false_a, false_b = (others["both_wrong"] + others[f"only_{name}_right"] for name in "ba")
    return (
        f"{at}, A found {found_a:,} of {counted(sum(fractured.values()), 'fractured file')} and B {found_b:,}; "
        f"of {counted(sum(others.values()), 'other')} A called {false_a:,} fractured and B {false_b:,}."
    )


def tables(figures: dict[str, dict[str, Any]]) -> list[tuple[str, list[Row]]]:
    """Title and rows of each table: what needs no threshold, then each threshold."""
    first = figures["at_0.5"]
    made = [("at any threshold", [row(name, first[name]) for name in RANKING_NAMES])]
    for point, of in figures.items():
        at = "" if point == "at_0.5" else f" (A: {of['threshold_a']:.3f}, B: {of['threshold_b']:.3f})"
        names = [name for name in call_names() if name in of]
        made.append((f"{POINT_NAMES[point]}{at}", [row(name, of[name]) for name in names]))
    return made


def row(name: str, told: dict[str, Any]) -> Row:
    """A figure as text."""
    low, high = told["low"], told["high"]
    less = name in LESS_IS_BETTER
    better = ""
    if low is not None and low > 0:
        better = "B" if less else "A"
    elif high is not None and high < 0:
        better = "A" if less else "B"
    return Row(
        figure_names()[name],
        _number(told["a"]),
        _number(told["b"]),
        signed(told["difference"]),
        "" if low is None and high is None else f"{_end(low)} to {_end(high)}",
        p_text(told["p"]),
        told.get("reason", ""),
        better,
    )


def signed(value: float | None) -> str:
    """A difference with its sign; a dash where it is undefined."""
    return f"+{_number(value)}" if value is not None and value >= _LEAST_SHOWN else _number(value)


def p_text(p: float | None) -> str:
    """A p value for people, "p = 0.012"; empty where there is none."""
    if p is None:
        return ""
    return f"p < {_LEAST_P}" if p < _LEAST_P else f"p = {p:.3f}"


def methods(numbers: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Each way in which intervals were made, with the figures it was taken for."""
    by_method: dict[str, list[str]] = {}
    for name, one in _every(numbers):
        if one["method"]:
            by_method.setdefault(one["method"], []).append(name)
    return list(by_method.items())


def _every(numbers: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every difference that the page shows, with its name; those that need no threshold once."""
    levels = [("", numbers["figures"]), (" by radiograph", numbers["radiographs"]["figures"] or {})]
    for level, figures in levels:
        for point, of in figures.items():
            for name in figure_names():
                if name in of and (point == "at_0.5" or name not in RANKING_NAMES):
                    at = "" if name in RANKING_NAMES else f" {POINT_NAMES[point]}"
                    yield f"{figure_names()[name]}{at}{level}", of[name]


def plots(numbers: dict[str, Any], pairs: Pairs) -> list[tuple[str, str]]:
    """Title and SVG of each plot that the labels allow."""
    made = [("Calibration", calibration_figure(numbers["calibration"]))]
    if 0 < pairs.label.sum() < len(pairs.label):
        both = {"A": pairs.a, "B": pairs.b}
        points = {POINT_NAMES[name]: (of["threshold_a"], of["threshold_b"]) for name, of in numbers["figures"].items()}
        made.insert(0, ("ROC", roc_figure(pairs.label, both, points)))
    return made


def roc_figure(
    label: NDArray[np.int64],
    probabilities: dict[str, NDArray[np.float64]],
    points: dict[str, tuple[float, float]],
) -> str:
    """The receiver operating characteristics of both models in one plot, as SVG.

    Args:
        label: (n,) 0 and 1, both present.
        probabilities: (n,) of "A" and of "B".
        points: A's and B's threshold by name.
    """

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8, linestyle=":")
        for place, (name, probability) in enumerate(probabilities.items()):
            colour, line = _LINES[name]
            false, true, _ = metrics.roc_curve(label, probability)
            axes.plot(false, true, color=colour, linestyle=line, linewidth=2, label=name)
            for thresholds, marker in zip(points.values(), "os^", strict=False):
                called = probability >= thresholds[place]
                at = called[label == NOT_FRACTURED].mean(), called[label == FRACTURED].mean()
                axes.plot(*at, marker, color=colour, markersize=6, fillstyle="none", markeredgewidth=1.4)
        for name, marker in zip(points, "os^", strict=False):
            axes.plot([], [], marker, color=INK, markersize=6, fillstyle="none", markeredgewidth=1.4, label=name)
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.legend(loc="lower right", frameon=False, fontsize=9)

    return svg_of(draw, "Receiver operating characteristics of A and B", (4.4, 4.2))


def calibration_figure(calibration: dict[str, dict[str, Any]]) -> str:
    """The reliability curves of both models in one plot, as SVG; a bar is the interval of a share.

    Args:
        calibration: by "a" and "b", as :meth:`callus.metrics.reliability.Reliability.as_dict` gives it.
    """

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=INK, alpha=0.35, linewidth=0.8, linestyle=":")
        for name, of in calibration.items():
            colour, line = _LINES[name.upper()]
            said = [one["probability"] for one in of["curve"]]
            shares = [one["fractured"] for one in of["curve"]]
            seen = [one["value"] for one in shares]
            for at, share in zip(said, shares, strict=True):
                if share["low"] is not None:
                    axes.plot([at, at], [share["low"], share["high"]], color=colour, alpha=0.4, linewidth=1.2)
            axes.plot(said, seen, marker="o", color=colour, linestyle=line, markersize=4, label=name.upper())
        axes.set(xlabel="mean probability", ylabel="share that is fractured", aspect="equal")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.legend(loc="upper left", frameon=False, fontsize=9)

    return svg_of(draw, "Reliability curves of A and B", (4.4, 4.2))


def _number(value: float | None) -> str:
    """A figure for people; likelihood ratios of ten and more need no third digit."""
    if value is None:
        return "\u2013"
    if abs(value) < _LEAST_SHOWN:
        return "0.000"
    return f"{value:.{1 if abs(value) >= _LARGE else 3}f}".replace("-", "\u2212")


def _end(value: float | None) -> str:
    return "no bound" if value is None else _number(value)
