"""The pages that people read: one file each, pictures and plots inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import re
import textwrap
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2

import callus
from callus.dataset.clean import counted
from callus.labels import FRACTURED, LABEL_NAMES, LEVEL_TEXT, RESEARCH_ONLY
from callus.report import figures
from callus.report.claim import SOURCE, checklist
from callus.report.names import CATEGORIES, PLACE_NAMES, POINT_NAMES, figure_names
from callus.report.pictures import choose_pictures, show_all
from callus.report.robustness_figure import robustness_figure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from callus.report.answers import Answers
    from callus.report.evaluation import Evaluation

_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def report_page(result: Evaluation, *, pictures: int) -> str:
    """Make ``report.html``.

    Args:
        result: what came out.
        pictures: at most how many pictures.
    """
    numbers = result.metrics
    chosen = choose_pictures(result.answers.predictions, pictures)
    claim = checklist(numbers, result.bundle, has_pictures=bool(chosen.misses or chosen.false_alarms))
    return without_controls(
        environment()
        .get_template("report.html")
        .render(
            title=f"{numbers['model']['name']} on {_split_text(numbers['data']['split'])}",
            metrics=numbers,
            summary=summary(numbers),
            plots=plots(numbers, result.answers),
            external={
                name: (part, part_summary(part), plots(part, result.external[name]))
                for name, part in numbers["external"].items()
            },
            robustness=None if result.robustness is None else robustness_figure(result.robustness),
            curves=None if result.curves is None else png_uri(result.curves),
            misses=show_all(result.answers, chosen.misses),
            false_alarms=show_all(result.answers, chosen.false_alarms),
            right=show_all(result.answers, chosen.right),
            claim=claim,
            claim_source=SOURCE,
            point_names=POINT_NAMES,
            figure_names=figure_names(numbers["figures"]["at_0.5"].get("prevalence")),
            methods_of=methods_of,
            place_names=PLACE_NAMES,
            categories=CATEGORIES,
            label_names=LABEL_NAMES,
            level_text=LEVEL_TEXT,
        )
    )


def methods_of(intervals: Mapping[str, Any], names: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Each way in which intervals were made, or why there is none, with the figures that it holds for.

    Args:
        intervals: of each operating point, as in ``metrics.json``. A figure's points are named where its ways differ.
        names: of the figures.
    """
    found: dict[str, list[str]] = {}
    for key, name in names.items():
        by_way: dict[str, list[str]] = {}
        for point, table in intervals.items():
            if key in table:
                way = "; ".join(filter(None, (table[key]["method"], table[key].get("reason"))))
                by_way.setdefault(way, []).append(POINT_NAMES[point])
        for way, points in by_way.items():
            found.setdefault(way, []).append(name if len(by_way) == 1 else f"{name} ({', '.join(points)})")
    return list(found.items())


def without_controls(text: str) -> str:
    """Text without control characters, which HTML has no place for and terminals obey."""
    return _UNPRINTABLE.sub("", text)


def summary(numbers: Mapping[str, Any]) -> list[str]:
    """What was tested and what came out, in plain words, a paragraph each."""
    data = numbers["data"]
    answered = f"{numbers['model']['name']} answered {counted(data['judged'], 'labelled file')}"
    counts = f"{counted(data['radiographs'], 'radiograph')} in {counted(data['groups'], 'group')}"
    first = f"{answered} of {_split_text(data['split'])}: {counts}, {data['fractured']:,} of the files fractured."
    if data["failed"]:
        first += f" {counted(data['failed'], 'file')} had no answer."
    if data["unlabelled"]:
        first += f" {counted(data['unlabelled'], 'file')} had no label."
    by_radiograph = numbers["aggregated"]["radiograph"]
    if "figures" not in by_radiograph:
        return [first, *part_summary(numbers)]
    how = {"mean": "mean", "max": "largest"}[numbers["aggregated"]["how"]]
    told = part_summary({**numbers, **by_radiograph, "localisation": None})
    lead = f"By radiograph, the {how} probability of its files taken for all ({by_radiograph['units']:,}):"
    return [first, f"{lead} {' '.join(told)}", f"By file: {' '.join(part_summary(numbers))}"]


def part_summary(numbers: Mapping[str, Any]) -> list[str]:
    """What came out on one data set, in plain words, a paragraph each."""
    told = []
    auroc = numbers["intervals"]["at_0.5"]["auroc"]
    if auroc["value"] is not None:
        told.append(
            f"Of a fractured file and one that is not, it gives the fractured one the higher probability in "
            f"{percent(auroc['value'])} % of all pairs, ties counted by half: AUROC {_with_ends(auroc)}."
        )
    for name in ("high_sensitivity", "high_specificity"):
        told += _point_summary(numbers["figures"][name], numbers["intervals"][name], POINT_NAMES[name])
    places = numbers["localisation"]
    if places and places["pointing_game"]["value"] is not None:
        known = f"{places['fractured']:,} fractured ones whose place is known"
        told.append(f"Its map is highest on a fracture in {_share(places['pointing_game'])} of the {known}.")
    return told


def _point_summary(figure: Mapping[str, Any], around: Mapping[str, Any], wish: str) -> list[str]:
    """What an operating point gives."""
    counts, parts = figure["confusion"], []
    if around["sensitivity"]["value"] is not None:
        found = f"{counts['tp']:,} of {counts['tp'] + counts['fn']:,} fractured ones"
        parts.append(f"it finds {found}: sensitivity {_share(around['sensitivity'])}")
    if around["specificity"]["value"] is not None:
        calls = f"{counts['fp']:,} of {counts['fp'] + counts['tn']:,} others"
        parts.append(f"it calls {calls} fractured: specificity {_share(around['specificity'])}")
    if not parts:
        return []
    return [f"From the operating point for {wish} on ({threshold_text(figure['threshold'])}), {'; '.join(parts)}."]


def plots(numbers: Mapping[str, Any], answers: Answers) -> dict[str, str]:
    """SVG by name of each plot that the labels allow: roc, precision_recall, histogram, reliability, and so on."""
    rows = answers.judged
    if not len(rows):
        return {}
    label, probability = rows["label"].to_numpy(dtype=int), rows["probability"].to_numpy(dtype=float)
    thresholds = {POINT_NAMES[name]: figure["threshold"] for name, figure in numbers["figures"].items()}
    made = {
        "histogram": figures.histogram_figure(label, probability, thresholds),
        "reliability": figures.reliability_figure(numbers["calibration"]),
        "decision": figures.decision_figure(numbers["decision_curve"]),
    }
    if 0 < label.sum() < len(label):
        points = {
            POINT_NAMES[name]: (1 - figure["specificity"], figure["sensitivity"])
            for name, figure in numbers["figures"].items()
        }
        made["roc"] = figures.roc_figure(numbers["curves"]["roc"], points)
        made["precision_recall"] = figures.precision_recall_figure(
            numbers["curves"]["precision_recall"], float((label == FRACTURED).mean())
        )
    if numbers["localisation"] and numbers["localisation"]["froc_curve"]:
        made["froc"] = figures.froc_figure(numbers["localisation"])
    if forest := _forest(numbers):
        made["forest"] = figures.forest_figure(
            forest, overall=numbers["figures"]["at_0.5"]["auroc"], xlabel="AUROC with its 95 % interval by group"
        )
    return made


def _forest(numbers: Mapping[str, Any]) -> list[figures.ForestRow]:
    """A row a subgroup that has an AUROC."""
    rows = []
    for category, members in numbers["subgroups"].items():
        for one in members:
            auroc = one["figures"]["auroc"]
            if auroc["value"] is not None:
                rows.append(
                    figures.ForestRow(
                        CATEGORIES[category],
                        textwrap.shorten(one["text"], 60, placeholder="…"),
                        auroc["value"],
                        auroc["low"],
                        auroc["high"],
                        one["small"],
                        counted(one["files"], "file"),
                    )
                )
    return rows


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
    made.filters["threshold"] = threshold_text
    made.globals.update(research_only=RESEARCH_ONLY, version=callus.__version__)
    return made


def figure_text(value: float | None, digits: int = 3) -> str:
    """A figure for people; a dash where it is undefined."""
    return "–" if value is None else f"{value:.{digits}f}"  # noqa: RUF001 - a dash is meant


def ends_text(interval: Mapping[str, Any], digits: int = 3) -> str:
    """An interval for people: "0.812 to 0.921"; empty where there is none."""
    if interval["low"] is None or interval["high"] is None:
        return ""
    return f"{interval['low']:.{digits}f} to {interval['high']:.{digits}f}"


def _split_text(split: str) -> str:
    return "all splits" if split == "all" else f'the split "{split}"'


def _share(interval: Mapping[str, Any]) -> str:
    """A share for people: "91 % (86 to 95 %)"."""
    if interval["value"] is None:
        return "–"  # noqa: RUF001 - a dash is meant
    told = f"{percent(interval['value'])} %"
    if interval["low"] is None or interval["high"] is None:
        return told
    return f"{told} ({percent(interval['low'])} to {percent(interval['high'])} %)"


def percent(share: float) -> str:
    """A share in percent; 0 and 100 only where it is that."""
    for digits in range(4):
        told = f"{100 * share:.{digits}f}"
        if float(told) not in {0.0, 100.0} or share in {0.0, 1.0}:
            return told
    return "less than 0.001" if share < 0.5 else "more than 99.999"  # noqa: PLR2004


def threshold_text(value: float) -> str:
    """A threshold for people: two digits, more where they would be 0."""
    return f"{value:.2f}" if value >= 0.01 else f"{value:.2g}"  # noqa: PLR2004


def _with_ends(interval: Mapping[str, Any]) -> str:
    """A figure for people: "0.912 (95 % interval by group 0.863 to 0.951)"."""
    ends = ends_text(interval)
    return f"{interval['value']:.3f} (95 % interval by group {ends})" if ends else f"{interval['value']:.3f}"
