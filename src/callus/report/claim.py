"""The CLAIM checklist, filled in from what an evaluation and its bundle really hold.

Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update", Radiology: Artificial
Intelligence 2024, 6(4):e240300, doi 10.1148/ryai.240300. Number, section and meaning of all 44 items were checked
against the table on RSNA's own site of the checklist (https://rsna.github.io/claim/checklist.html, which goes with
Akinci D'Antonoli et al., Radiology: Artificial Intelligence 2026, 8:e260835), not against the paper's page. They are
told here in other words: where these leave a doubt, the paper's own count. What only the author of a study can tell
is said to be not answered.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SOURCE: Final = "CLAIM 2024 (Tejani et al., Radiology: Artificial Intelligence 2024, doi 10.1148/ryai.240300)"
"""What to cite beside the list."""
_OPEN: Final = "not answered: "


@dataclass(frozen=True)
class ClaimItem:
    """One item of the checklist.

    Attributes:
        number: 1 to 44.
        section: of a paper, as CLAIM groups its items.
        title: what it asks for, in a few words.
        where: where it is answered; or that it is not, and who has to.
        answered: whether it is.
    """

    number: int
    section: str
    title: str
    where: str
    answered: bool

    def as_dict(self) -> dict[str, Any]:
        """Give all five, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Held:
    """What there is to answer from."""

    metrics: Mapping[str, Any]
    bundle: Mapping[str, Any]
    robustness: bool
    external: bool
    pictures: bool

    def metric(self, *path: str) -> Any:
        return value_at(self.metrics, *path)

    def model(self, *path: str) -> Any:
        return value_at(self.bundle, *path)

    @property
    def measured(self) -> bool:
        """Whether a figure is a number: files without labels give none."""
        return _is_number(self.metric("figures", "at_0.5", "auroc")) or _is_number(
            self.metric("figures", "at_0.5", "accuracy")
        )

    @property
    def intervals(self) -> bool:
        return _has_interval(self.metric("intervals")) or _has_interval(self.metric("figures"))


def checklist(
    metrics: Mapping[str, Any],
    bundle_info: Mapping[str, Any],
    *,
    has_robustness: bool | None = None,
    has_external: bool | None = None,
    has_pictures: bool = False,
) -> list[ClaimItem]:
    """Say of each item of CLAIM where it is answered, or that it is not.

    Nothing is taken for granted: an item is answered only where its numbers or its text stand in what is given here.

    Args:
        metrics: what ``metrics.json`` holds; any key may be missing.
        bundle_info: what ``bundle.json`` holds; any key may be missing.
        has_robustness: whether the report tells robustness; None: whether ``metrics`` holds it.
        has_external: whether it tells an external test; None: whether ``metrics`` holds one.
        has_pictures: whether the report shows wrong calls as pictures.

    Returns:
        44 items, in CLAIM's order.
    """
    held = _Held(
        metrics,
        bundle_info,
        bool(metrics.get("robustness")) if has_robustness is None else has_robustness,
        bool(metrics.get("external")) if has_external is None else has_external,
        has_pictures,
    )
    items = []
    for number, (section, title, open_to, answer) in enumerate(_ITEMS, start=1):
        where = answer(held) if answer is not None else ""
        items.append(ClaimItem(number, section, title, where or f"{_OPEN}{open_to}", bool(where)))
    return items


def _sources(held: _Held) -> str:
    sources = held.metric("data", "sources")
    if sources:
        return f"metrics.json, data.sources: {', '.join(map(str, sources))}"
    return f"{_page('Subgroups')} by source; metrics.json, subgroups" if held.metric("subgroups", "source") else ""


def _preprocessing(held: _Held) -> str:
    size = [held.model("input", key) for key in ("width", "height", "fit", "low", "high")]
    if None in size:
        return ""
    return "bundle.json, input: {} x {} pixels, {}, grey values from {:g} to {:g}".format(*size)


def _missing(held: _Held) -> str:
    unlabelled, failed = held.metric("data", "unlabelled"), held.metric("data", "failed")
    if unlabelled is None or failed is None:
        return ""
    return (
        f"metrics.json, data: {unlabelled} without a label and {failed} without an answer are left out, nothing is put "
        "in their place; predictions.parquet lists them"
    )


def _reference_standard(held: _Held) -> str:
    for name, told in (
        ("metrics.json, data", held.metric("data", "reference_standard")),
        ("bundle.json, training", held.model("training", "reference_standard")),
    ):
        if told:
            return f"{name}.reference_standard: {told}"
    return ""


def _assignment(held: _Held) -> str:
    splits = held.model("training", "splits")
    if not splits or not held.model("training", "recipe"):
        return ""
    counts = ", ".join(f"{name} {count}" for name, count in splits.items())
    return f"bundle.json, training.splits ({counts} files) and the seed and [splitting] of training.recipe"


def _disjoint(held: _Held) -> str:
    crossing = held.metric("leaks", "groups_across_splits")
    if crossing is None or held.metric("data", "split") == "all":  # then nothing is held apart
        return ""
    told = "none crosses" if not crossing else f"{crossing} cross"
    return f"metrics.json, leaks: by group (patient, study, copies of a radiograph), and of them {told} the splits"


def _network(held: _Held) -> str:
    trunk = held.model("training", "trunk")
    if not trunk or not all((held.model("training", "recipe"), held.model("input"), held.model("outputs"))):
        return ""
    parts = f"training.trunk ({trunk}), [head] of training.recipe, input, outputs"
    return f"bundle.json, {parts}; model.onnx is the network; model_card.md sums up"


def _software(held: _Held) -> str:
    version = held.model("callus")
    engines = held.model("engines") or {}
    against = [name for engine in engines.values() if (name := value_at(engine, "parity", "against"))]
    if not version or not against:
        return ""
    return f"bundle.json: callus {version}, {against[0]}; the rest in the run folder's environment.json"


def _initialisation(held: _Held) -> str:
    weights = held.model("training", "weights")
    return f"bundle.json, training.weights: {weights}" if weights else ""


def _training(held: _Held) -> str:
    recipe = held.model("training", "recipe")
    return "bundle.json, training.recipe: every setting, augmentation and seed" if recipe else ""


def _selection(held: _Held) -> str:
    recipe = held.model("training", "recipe")
    keeps = isinstance(recipe, str) and any(line.startswith("keep =") for line in recipe.splitlines())
    return "bundle.json, training.recipe: keep and patience of [optimisation]" if keeps else ""


def _ensemble(held: _Held) -> str:
    return "no ensemble: bundle.json, engines, names one network" if len(held.model("engines") or {}) == 1 else ""


def _figures(held: _Held) -> str:
    if not held.measured:
        return ""
    page = _page("Figures at each threshold", *_where(held, calibration="Calibration", decision_curve="Decision curve"))
    return f"{page}; a comparison with published models is the author's"


def _uncertainty(held: _Held) -> str:
    page = _page("Summary", "Figures at each threshold")
    return f"{page}; metrics.json, intervals: by group, each with its method" if held.intervals else ""


def _robustness(held: _Held) -> str:
    return f"{_page('Robustness')}; metrics.json, robustness" if held.robustness else ""


def _explanation(held: _Held) -> str:
    kind = held.model("outputs", "map", "kind")
    if not kind:
        return ""
    shown = f"; shown in {_page('Worst misses', 'Worst false alarms')}" if held.pictures else ""
    located = f"held against boxes in {_page('Where it looked')}; metrics.json, localisation"
    judged = located if held.metric("localisation") else "not held against boxes here"
    return f"bundle.json, outputs.map: a map ({kind}){shown}; {judged}"


def _internal(held: _Held) -> str:
    split, tested = held.metric("data", "split"), held.metric("data", "manifest_sha256")
    if not held.measured or not tested or tested != held.model("training", "manifest_sha256"):
        return ""
    if split in {"train", "all", None}:
        return ""
    page = _page("Summary", "Figures at each threshold")
    return f"{page}: the split {split!r} of the manifest that was trained on; the training part is not measured here"


def _external(held: _Held) -> str:
    parts = (held.metric("external") or {}).values()
    if parts and all(_not_external(part) for part in parts):
        return ""
    return f"{_page('External test')}; metrics.json, external" if held.external else ""


def _not_external(part: Any) -> bool:
    """Whether an external test is none: the model saw its files, or they are those of the evaluation."""
    return bool(value_at(part, "leaks", "files_trained_on")) or any(
        "no external test" in str(one) for one in value_at(part, "warnings") or []
    )


def _flow(held: _Held) -> str:
    counts = [held.metric("data", key) for key in ("files", "unlabelled", "failed", "judged")]
    if None in counts:
        return ""
    told = "metrics.json, data: {} files, {} without a label, {} without an answer, {} judged".format(*counts)
    return f"{_page('Summary')}; {told}"


def _performance(held: _Held) -> str:
    if not held.measured or not held.intervals:
        return ""
    more = _where(held, aggregated="By radiograph and study", calibration="Calibration", subgroups="Subgroups")
    page = _page("Summary", "Figures at each threshold", *more, *(["External test"] if held.external else []))
    return f"{page}; metrics.json, figures and intervals; model_card.md"


def _diagnostic(held: _Held) -> str:
    points = ("high_sensitivity", "high_specificity")
    shares = [held.metric("figures", point, name) for point in points for name in ("sensitivity", "specificity")]
    if not held.intervals or not all(map(_is_number, shares)):
        return ""
    page = _page("Figures at each threshold")
    return f"{page}: sensitivity and specificity at both operating points, with intervals, and ROC"


def _wrong_calls(held: _Held) -> str:
    if not held.pictures or not held.metric("figures", "at_0.5", "confusion"):
        return ""
    return f"{_page('Figures at each threshold', 'Worst misses', 'Worst false alarms')}: confusion, and pictures"


def _details(held: _Held) -> str:
    digest = held.metric("model", "bundle_sha256")
    if not digest or not held.model("training", "recipe"):
        return ""
    return f"bundle.json with its recipe, SHA-256 {str(digest)[:12]}; a study's protocol is its author's to name"


def _page(*sections: str) -> str:
    """Sections of the report."""
    return "report.html, " + ", ".join(f'"{name}"' for name in sections)


def _where(held: _Held, **sections: str) -> list[str]:
    """Those sections of the report whose key in ``metrics.json`` holds something."""
    return [section for key, section in sections.items() if held.metric(key)]


def value_at(values: Any, *path: str) -> Any:
    """What stands at a path of keys; None where something is missing."""
    for key in path:
        values = values.get(key) if hasattr(values, "get") else None
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has_interval(values: Any) -> bool:
    """Whether an interval with both ends stands anywhere in it."""
    if isinstance(values, dict):
        if _is_number(values.get("low")) and _is_number(values.get("high")):
            return True
        values = list(values.values())
    return isinstance(values, list) and any(map(_has_interval, values))


_INTRODUCTION, _DISCUSSION, _OTHER = "Introduction", "Discussion", "Other information"
_DESIGN, _DATA, _REFERENCE = "Methods: study design", "Methods: data", "Methods: reference standard"
_PARTITIONS, _TEST, _MODEL = "Methods: data partitions", "Methods: testing data", "Methods: model"
_TRAINING, _EVALUATION = "Methods: training", "Methods: evaluation"
_CASES, _RESULTS = "Results: data", "Results: model performance"
_AUTHORS, _KEEPERS = "the study's author has to", "who made the data set has to"
_EITHER = f"{_AUTHORS}, or {_KEEPERS}"

_ITEMS: Final[tuple[tuple[str, str, str, Callable[[_Held], str] | None], ...]] = (
    ("Title / abstract", "says that it is a study of AI, and of which kind", _AUTHORS, None),
    ("Abstract", "sums up design, methods, results, conclusions", f"{_AUTHORS}; the report sums up the results", None),
    (_INTRODUCTION, "scientific or clinical background, and what the AI is to be used for", _AUTHORS, None),
    (_INTRODUCTION, "aims, objectives and hypotheses", _AUTHORS, None),
    (_DESIGN, "prospective or retrospective", _AUTHORS, None),
    (_DESIGN, "goal of the study", _AUTHORS, None),
    (_DATA, "where the data come from", f"{_AUTHORS}; the manifest's column source has names", _sources),
    (_DATA, "by which criteria data were included and excluded", _AUTHORS, None),
    (_DATA, "preprocessing", "the bundle's input is not known", _preprocessing),
    (_DATA, "how subsets of the data were selected", _AUTHORS, None),
    (_DATA, "how the data were de-identified", _EITHER, None),
    (_DATA, "how missing data were handled", "counts of what has no label or no answer are missing", _missing),
    (_DATA, "protocol by which the images were acquired", _EITHER, None),
    (_REFERENCE, "by which method it was obtained, defined", _EITHER, _reference_standard),
    (_REFERENCE, "why this one was chosen", _AUTHORS, None),
    (_REFERENCE, "where its annotations come from: who made them, how qualified", _EITHER, None),
    (_REFERENCE, "how the test set was annotated", _EITHER, None),
    (_REFERENCE, "variability between and within annotators", _EITHER, None),
    (_PARTITIONS, "how files were assigned to them", "the bundle does not tell its splits and recipe", _assignment),
    (_PARTITIONS, "at which level they are disjoint", "groups were not compared across splits", _disjoint),
    (_TEST, "intended sample size", f"{_AUTHORS}; the intervals tell what the size at hand gives", None),
    (_MODEL, "description of the model in detail", "the bundle does not tell trunk, recipe, input, outputs", _network),
    (_MODEL, "software libraries, frameworks and packages", "the bundle does not tell its tools", _software),
    (_MODEL, "how its parameters were initialised", "the bundle does not tell it", _initialisation),
    (_TRAINING, "how it was trained, in detail", "the bundle has no recipe", _training),
    (_TRAINING, "how the final model was selected", "the bundle has no recipe that tells it", _selection),
    (_TRAINING, "techniques of ensembling", "the bundle does not name one network", _ensemble),
    (_EVALUATION, "which figures of performance", "no file has both a label and an answer", _figures),
    (_EVALUATION, "statistical measures of significance and uncertainty", "there are no intervals", _uncertainty),
    (_EVALUATION, "analysis of robustness or sensitivity", "not measured: callus evaluate --robustness", _robustness),
    (_EVALUATION, "methods of explaining or interpreting answers", "the bundle gives no map", _explanation),
    (_EVALUATION, "evaluation on internal data", f"{_AUTHORS}: these were not held out of its training", _internal),
    (_EVALUATION, "test on external data", "there was none: callus evaluate --external NAME=MANIFEST", _external),
    (_EVALUATION, "registration of a clinical trial", f"{_AUTHORS}, where it is one", None),
    (_CASES, "how many patients or examinations were included and excluded", "counts are missing", _flow),
    (_CASES, "demographic and clinical features, by partition", f"{_AUTHORS}: no manifest has age or sex", None),
    (_RESULTS, "figures, with their statistical uncertainty", "there are no figures with intervals", _performance),
    (_RESULTS, "diagnostic performance and its precision", "it has no intervals or lacks a class", _diagnostic),
    (_RESULTS, "analysis of failures: wrong calls", "the report shows no picture of one", _wrong_calls),
    (_DISCUSSION, "limitations of the study", f"{_AUTHORS}; the report's warnings belong there", None),
    (_DISCUSSION, "implications for practice, such as intended use", f"{_AUTHORS}; callus is for research only", None),
    (_OTHER, "where full protocol or technical details are", "the bundle has no recipe or no hash", _details),
    (_OTHER, "whether software, model and data can be had", _AUTHORS, None),
    (_OTHER, "funding and other support, and the funders' part", _AUTHORS, None),
)  # fmt: skip
