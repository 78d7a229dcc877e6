"""The model card of an evaluation, in Markdown, made only from the numbers of ``metrics.json`` and ``bundle.json``.

Its sections are those of Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, doi 10.1145/3287560.3287596.
What neither file tells is said to be not known. Figures are rounded as on the page.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from callus.labels import RESEARCH_ONLY
from callus.report.claim import value_at
from callus.report.names import CALIBRATION_NAMES, PLACE_NAMES, POINT_NAMES, RANKING_NAMES, call_names, figure_names
from callus.report.pages import ends_text, figure_text, without_controls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NOT_KNOWN: Final = "not known"
_CONFUSION: Final = {"tp": "found", "fn": "missed", "fp": "false alarms", "tn": "rightly not called"}
_DATA: Final = {
    "split": "split",
    "manifest_sha256": "manifest, SHA-256",
    "files": "files",
    "judged": "with a label and an answer",
    "radiographs": "radiographs",
    "studies": "studies",
    "groups": "groups (patients, copies of a picture)",
    "fractured": "fractured",
    "not_fractured": "not fractured",
    "unlabelled": "without a label",
    "failed": "without an answer",
    "sources": "sources",
    "reference_standard": "reference standard",
}
_INTENDED_USE: Final = (
    "Research and education on how radiographs that show a fracture are told from others. Out of scope: every decision "
    "on a person's care, and radiographs of another kind than those of the evaluation below. Fitness for clinical use "
    "was not examined and is not claimed."
)
_LEAKS: Final = {
    "groups_across_splits": "groups across the splits",
    "files_across_splits": "their files here",
    "groups_trained_on": "groups trained on",
    "files_trained_on": "files trained on",
}


def model_card(metrics: Mapping[str, Any], bundle_info: Mapping[str, Any]) -> str:
    """Write the model card.

    Args:
        metrics: what ``metrics.json`` holds (``docs/evaluate.md``); any key may be missing.
        bundle_info: what ``bundle.json`` holds (``docs/bundle.md``); any key may be missing.

    Returns:
        Markdown with tables. Text that comes from data is escaped.
    """
    name = value_at(metrics, "model", "name") or value_at(bundle_info, "name")
    parts = [
        f"# Model card: {_text(name)}",
        f"**For {RESEARCH_ONLY}.** It must not be used to decide on a person's care.",
        *_alarms(metrics, bundle_info),
        "## Model details",
        _details(metrics, bundle_info),
        "## Intended use",
        _INTENDED_USE,
        "## Factors",
        _factors(metrics),
        "## Metrics",
        _measures(metrics),
        "## Evaluation data",
        _data(metrics.get("data")),
        "## Training data",
        _training(metrics, bundle_info),
        "## Quantitative analyses",
        *_analyses(metrics),
        "## Ethical considerations",
        _ethics(metrics),
        "## Caveats and recommendations",
        _caveats(metrics),
    ]
    return without_controls("\n\n".join(parts) + "\n")


def _alarms(metrics: Mapping[str, Any], bundle_info: Mapping[str, Any]) -> list[str]:
    """Leaks and warnings, in bold."""
    lines = [_leak_line(metrics.get("leaks"), "")]
    warnings = [str(one) for one in metrics.get("warnings") or []]
    in_training = value_at(bundle_info, "training", "leaks") or value_at(metrics, "leaks", "in_training")
    sentence = value_at(in_training, "sentence")
    if sentence and not any(sentence in one for one in warnings):
        warnings.append(f"when the model was trained, {sentence}")
    lines += [f"**Warning: {_text(one)}.**" for one in warnings]
    for name, part in (metrics.get("external") or {}).items():
        lines.append(_leak_line(value_at(part, "leaks"), f" in the external test {_text(name)}"))
        lines += [
            f"**Warning, external test {_text(name)}: {_text(one)}.**" for one in value_at(part, "warnings") or []
        ]
    return [line for line in lines if line]


def _leak_line(leaks: Any, where: str) -> str:
    if leaks is None:
        return f"**Leaks{where}: {NOT_KNOWN}.**"
    found = [f"{text} {_count(leaks[key])}" for key, text in _LEAKS.items() if value_at(leaks, key)]
    return f"**Leaks{where}: {', '.join(found)}. The figures are too good.**" if found else ""


def _details(metrics: Mapping[str, Any], bundle_info: Mapping[str, Any]) -> str:
    engine = value_at(metrics, "model", "engine")
    shipped = value_at(bundle_info, "engines", engine) or {}
    points = value_at(metrics, "model", "operating_points") or shipped.get("operating_points")
    size = [value_at(bundle_info, "input", key) for key in ("width", "height", "fit")]
    rows: dict[str, Any] = {
        "answers": "whether a radiograph shows a fracture: calibrated probability, level, heat map",
        "made by": None,
        "made on": bundle_info.get("created"),
        "made with, callus": bundle_info.get("callus"),
        "evaluated with, callus": metrics.get("callus"),
        "bundle, SHA-256": value_at(metrics, "model", "bundle_sha256"),
        "engine": engine,
        "network": value_at(bundle_info, "training", "trunk"),
        "began from": value_at(bundle_info, "training", "weights"),
        "input": None if None in size else "{} x {} pixels, {}".format(*size),
        "heat map": value_at(bundle_info, "outputs", "map", "kind"),
        "calibration": value_at(shipped, "calibration", "method"),
        "licence": bundle_info.get("licence"),
    }
    for point in ("high_sensitivity", "high_specificity"):
        rows[f"threshold of {POINT_NAMES[point]}"] = figure_text(value_at(points, point))
    return _table(("", ""), [(name, _text(value)) for name, value in rows.items()])


def _factors(metrics: Mapping[str, Any]) -> str:
    named = ", ".join(_text(category) for category, some in (metrics.get("subgroups") or {}).items() if some)
    kinds = list(dict.fromkeys(str(step.get("kind")) for step in value_at(metrics, "robustness", "steps") or []))
    lines = [
        f"Subgroups that were measured: {named or 'none; how the figures differ by subgroup is not known'}.",
        f"Disturbances that were measured: {', '.join(map(_text, kinds)) or 'none; their effect is not known'}.",
        f"Age, sex and origin of the people: {NOT_KNOWN}; no figure is told by them.",
    ]
    return _list(lines)


def _measures(metrics: Mapping[str, Any]) -> str:
    rows = [
        (name, _text(value_at(metrics, "intervals", "at_0.5", key, "method")))
        for key, name in figure_names().items()
        if value_at(metrics, "intervals", "at_0.5", key)
    ]
    told = (
        "A file is called fractured where its probability is at or above the threshold. The two operating points were "
        "fixed where the model was trained, not on these files. Intervals hold 95 % and are by group: files of one "
        "group are not independent. "
    )
    prevalence = value_at(metrics, "figures", "at_0.5", "prevalence")
    if prevalence is not None:
        told += f"PPV and NPV are also told at a prevalence of {prevalence:g}. "
    if not rows:
        return f"{told}How they were made is {NOT_KNOWN}."
    return f"{told}How they were made, at 0.5:\n\n{_table(('interval of', 'method'), rows)}"


def _data(data: Any) -> str:
    """What a data set is, in counts and names."""
    rows = []
    for key, name in _DATA.items():
        value = value_at(data, key)
        told = ", ".join(map(str, value)) if isinstance(value, list) else value
        rows.append((name, _count(told) if isinstance(told, int) else _text(told)))
    return _table(("", ""), rows)


def _training(metrics: Mapping[str, Any], bundle_info: Mapping[str, Any]) -> str:
    training = bundle_info.get("training") or {}
    rows = [(name, _count(training.get(name))) for name in ("files", "radiographs", "groups")]
    splits = [f"{_text(name)} {_count(value)}" for name, value in (training.get("splits") or {}).items()]
    rows.append(("files by split", ", ".join(splits) or NOT_KNOWN))
    trained, tested = training.get("manifest_sha256"), value_at(metrics, "data", "manifest_sha256")
    same = NOT_KNOWN if not trained or not tested else ("yes" if trained == tested else "no")
    rows += [("manifest, SHA-256", _text(trained)), ("the manifest of the evaluation is the same", same)]
    return _table(("", ""), rows)


def _analyses(metrics: Mapping[str, Any]) -> list[str]:
    parts = ["### All files", *_figures(metrics)]
    parts += ["### Calibration", _interval_table(metrics.get("calibration"), CALIBRATION_NAMES)]
    parts += ["### Where it looked", _places(metrics.get("localisation"))]
    parts += ["### Subgroups", *(_subgroups(metrics.get("subgroups") or {}) or [f"{NOT_KNOWN.capitalize()}."])]
    parts.append("### External tests")
    external = metrics.get("external") or {}
    if not external:
        parts.append("None in this evaluation: how good the model is on radiographs from elsewhere is not known.")
    for name, part in external.items():
        parts += [f"#### {_text(name)}", _data(value_at(part, "data")), *_figures(part)]
        if value_at(part, "calibration"):
            parts.append(_interval_table(part["calibration"], CALIBRATION_NAMES))
    return [*parts, "### Robustness", _robustness(metrics.get("robustness"))]


def _figures(part: Any) -> list[str]:
    """The figures of a data set at each threshold, and its confusion."""
    figures, intervals = value_at(part, "figures") or {}, value_at(part, "intervals") or {}
    if not figures and not intervals:
        return [f"{NOT_KNOWN.capitalize()}."]
    return [_ranking(figures, intervals), _at_thresholds(figures, intervals)]


def _places(told: Any) -> str:
    if not told:
        return "Not known: the map was not held against boxes or polygons."
    froc = {f"froc {key}": (key, figure) for key, figure in (value_at(told, "froc") or {}).items()}
    figures = dict(told) | {name: figure for name, (_, figure) in froc.items()}
    at_rates = {name: f"fractures found at {_text(key)} false boxes an image" for name, (key, _) in froc.items()}
    names = PLACE_NAMES | at_rates
    counted = "; ".join(
        f"{key}: {_count(value_at(told, key))}" for key in ("images", "fractured", "unplaced", "fractures")
    )
    return f"{counted}.\n\n{_interval_table(figures, names)}"


def _ethics(metrics: Mapping[str, Any]) -> str:
    missed = [
        f"{_count(value_at(figure, 'confusion', 'fn'))} {POINT_NAMES.get(point, _text(point))}"
        for point, figure in (metrics.get("figures") or {}).items()
    ]
    lines = [
        f"A missed fracture harms who is sent home with it; missed here: {', '.join(missed) or NOT_KNOWN}.",
        f"Whether it is worse for some people than for others: {NOT_KNOWN}, for neither age nor sex is told.",
        f"How the radiographs were de-identified, and whether the people agreed: {NOT_KNOWN}.",
    ]
    return _list(lines)


def _caveats(metrics: Mapping[str, Any]) -> str:
    entries = [one for some in (metrics.get("subgroups") or {}).values() for one in some or []]
    small = sum(bool(value_at(one, "small")) for one in entries)
    share = ", ".join(
        f"{_DATA[key]} {_count(value_at(metrics, 'data', key))}" for key in ("fractured", "not_fractured")
    )
    lines = [
        f"Accuracy, PPV and NPV hold only where the share of fractured files is the same as here: {share}.",
        "An interval tells what chance does to these radiographs, not what another hospital's would give.",
        "The labels are taken as they are: what is wrong with the reference standard is wrong with the figures.",
    ]
    lines += [f"Subgroups that are small, whose figures say little: {_count(small)}."] if small else []
    lines.append("The numbers are those of `metrics.json`, which has more digits and every interval's method.")
    return _list(lines)


def _ranking(figures: Any, intervals: Any) -> str:
    """The figures that need no threshold; they are the same at each."""
    first = next(iter(figures or intervals))
    rows = [(name, _figure(figures, intervals, first, key)) for key, name in RANKING_NAMES.items()]
    return _table(("figure", "value (95 % interval)"), rows)


def _at_thresholds(figures: Any, intervals: Any) -> str:
    """The other figures and the confusion: a row each, a column for each threshold."""
    points = list(dict.fromkeys([*figures, *intervals]))
    told = [value_at(some, at) or {} for some in (figures, intervals) for at in points]
    rows = [("threshold", *(figure_text(value_at(figures, at, "threshold")) for at in points))]
    rows += [
        (name, *(_figure(figures, intervals, at, key) for at in points))
        for key, name in call_names(value_at(figures, "at_0.5", "prevalence")).items()
        if any(key in one for one in told)
    ]
    for key, name in _CONFUSION.items():
        rows.append((name, *(_count(value_at(figures, at, "confusion", key)) for at in points)))
    return _table(("figure", *(POINT_NAMES.get(at, _text(at)) for at in points)), rows)


def _figure(figures: Any, intervals: Any, point: str, key: str) -> str:
    """A figure with its interval, which an older ``metrics.json`` may lack."""
    value, around = value_at(figures, point, key), value_at(intervals, point, key)
    if around is None:
        return NOT_KNOWN if value is None else f"{figure_text(value)} (interval {NOT_KNOWN})"
    return _interval({**around, "value": around.get("value") if value is None else value})


def _interval(told: Any) -> str:
    """As on the page: "0.873 (0.81 to 0.92)"; or why something is missing."""
    if told is None:
        return NOT_KNOWN
    value, reason = told.get("value"), _text(told.get("reason") or "the reason is not known")
    if value is None:
        return f"{figure_text(None)} ({reason})"
    ends = ends_text({"low": told.get("low"), "high": told.get("high")})
    return f"{figure_text(value)} ({ends or f'no interval: {reason}'})"


def _interval_table(told: Any, names: Mapping[str, str]) -> str:
    if not told:
        return f"{NOT_KNOWN.capitalize()}."
    rows = [(name, _interval(value_at(told, key))) for key, name in names.items()]
    return _table(("figure", "value (95 % interval)"), rows)


def _subgroups(subgroups: Mapping[str, Any]) -> list[str]:
    """A heading and a table for each category that has subgroups."""
    parts = []
    for category, entries in subgroups.items():
        if not entries:
            continue
        keys = list(dict.fromkeys(key for one in entries for key in value_at(one, "figures") or {}))
        rows = [
            (
                _text(value_at(one, "text") or value_at(one, "name")),
                *(_count(value_at(one, key)) for key in ("files", "groups", "fractured")),
                *(_interval((value_at(one, "figures") or {}).get(key)) for key in keys),
                f"small: {_text(value_at(one, 'why_small'))}" if value_at(one, "small") else "",
            )
            for one in entries
        ]
        head = ("", "files", "groups", "fractured", *map(_named, keys), "")
        parts += [f"#### By {_text(category)}", _table(head, rows)]
    return parts


def _named(key: str) -> str:
    """How "high_sensitivity.specificity" is written: "specificity at high sensitivity"."""
    point, _, figure = key.rpartition(".")
    name = figure_names().get(figure, _text(figure))
    return f"{name} at {POINT_NAMES.get(point, _text(point))}" if point else name


def _robustness(told: Any) -> str:
    """The step of each kind that costs most AUROC, a line each."""
    if not told:
        return "Not measured: how the figures move on disturbed radiographs is not known."
    kinds: dict[str, list[Any]] = {}
    for step in told.get("steps") or []:
        kinds.setdefault(str(step.get("kind")), []).append(step)
    lines = [f"undisturbed: {_step(told.get('undisturbed'))}"]
    lines += [_moved(min(steps, key=_auroc_left)) for steps in kinds.values()]
    lines += [f"{_text(step.get('text'))}: {_step(step)}" for step in told.get("hardware") or []]
    return _list(f"{line}." for line in [*lines, *map(_text, told.get("notes") or [])])


def _auroc_left(step: Any) -> float:
    """What to choose the worst step by: less is worse; what is not defined comes last."""
    moved = value_at(step, "differences", "auroc", "difference")
    return float("inf") if moved is None else float(moved)


def _moved(step: Any) -> str:
    moved = value_at(step, "differences", "auroc") or {}
    value, ends = moved.get("difference"), ends_text({"low": moved.get("low"), "high": moved.get("high")})
    told = NOT_KNOWN if value is None else f"{value:+.3f} ({ends or 'no interval'})"
    return f"{_text(step.get('text'))}: {_step(step)}, less undisturbed {told}"


def _step(step: Any) -> str:
    counts = f"{_count(value_at(step, 'files'))} files of {_count(value_at(step, 'groups'))} groups"
    return f"AUROC {_interval(value_at(step, 'figures', 'auroc'))} on {counts}"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: object) -> str:
    """Text that comes from data, on one line and without Markdown or HTML; what is empty is not known."""
    line = " ".join(str(value if value is not None else "").split())
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", line) or NOT_KNOWN


def _count(value: Any) -> str:
    return NOT_KNOWN if value is None else f"{value:,}"
