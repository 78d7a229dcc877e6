"""Run a model over a split of a manifest and write what came out: predictions, figures, a page, a model card.

The figures are those of the bundle that ships: it is run through :class:`callus.identify.Identifier`, as every other
user of it does. Probabilities are calibrated and thresholds fixed where the model was trained; nothing is chosen here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import callus
from callus.atomic import whole_file, whole_folder
from callus.bundle.engine import AUTO
from callus.dataset.clean import counted
from callus.dataset.groups import join_groups
from callus.dataset.manifest import digest
from callus.errors import CallusError, DatasetError
from callus.identify import Identifier
from callus.labels import LABEL_NAMES, RESEARCH_ONLY
from callus.metrics.scores import check_prevalence
from callus.progress import progress
from callus.report import robustness
from callus.report.answers import Answers, answer, located, misplaced
from callus.report.folders import check_ours
from callus.report.leaks import Leaks, find_leaks
from callus.report.measures import Measuring, counts, measure, measure_places, measure_subgroups

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    import pandas as pd

    from callus.metrics.scores import How

FILES: Final = ("metrics.json", "model_card.md", "predictions.parquet", "report.html")
"""What an evaluation's folder holds, beside the predictions of external tests; one with anything else is kept."""
ALL: Final = "all"
EXTERNAL: Final = "external"
"""The split that every file of an external test is in, so that one which was trained on is a leak."""
PICTURES: Final = 48
SCHEMA_VERSION: Final = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_EXTERNAL_FILE = re.compile(rf"predictions-{_NAME.pattern}\.parquet")


@dataclass(frozen=True)
class Evaluation:
    """What came out, before it is written.

    Attributes:
        metrics: what ``metrics.json`` holds.
        answers: to the split's files.
        external: to those of each external test, by name.
        robustness: how the figures move; None where nobody asked.
        bundle: what ``bundle.json`` holds.
        curves: the training's ``curves.png``; None where the model is no run folder.
    """

    metrics: dict[str, Any]
    answers: Answers
    external: dict[str, Answers]
    robustness: robustness.Robustness | None
    bundle: Mapping[str, Any]
    curves: Path | None


def evaluate(
    model: str | os.PathLike[str],
    frame: pd.DataFrame,
    split: str,
    out: Path,
    *,
    allow_leaks: bool = False,
    pictures: int = PICTURES,
    threads: int | None = None,
    engine: str = AUTO,
    external: Mapping[str, pd.DataFrame] | None = None,
    disturbed: int = 0,
    prevalence: float | None = None,
    how: How = "mean",
) -> dict[str, Any]:
    """Evaluate a model on a split and write :data:`FILES` to ``out``.

    The folder appears whole or not at all. A file that cannot be read is listed and stops nothing.

    Args:
        model: a bundle's folder, a ``.callus`` file, or a run folder.
        frame: the manifest.
        split: a name in its column ``split``, or "all".
        out: folder to write; one that a former evaluation wrote is replaced.
        allow_leaks: go on where :func:`callus.report.leaks.find_leaks` would refuse; what is written then says so.
        pictures: at most how many pictures stand in the page.
        threads: cores for the network; None for all that this process may use.
        engine: what runs it, as :class:`callus.identify.Identifier` takes it.
        external: manifests of other data, by name, all of whose files are evaluated too.
        disturbed: at most how many files are disturbed to see how the figures move; 0: none.
        prevalence: share of fractured cases, in (0, 1), for which PPV, NPV and net benefit are wanted.
        how: the files of one radiograph, and of one study, are put together: "mean" or "max".

    Returns:
        What ``metrics.json`` holds (``docs/evaluate.md`` describes it).

    Raises:
        DatasetError: no such split, no file in it can be read, or its groups also stand in another split or were
            trained on.
        BundleError: the model cannot be loaded.
        CallusError: something else lies in ``out``, it cannot be written, or an option is out of range.
    """
    from callus.report.card import model_card  # noqa: PLC0415 - matplotlib and Jinja2, once there is something to say
    from callus.report.pages import report_page  # noqa: PLC0415 - the same

    external = external or {}
    _check_asked(out, external, prevalence)
    _check_rows(frame, external)
    digests = {"": digest(frame), **{name: digest(theirs) for name, theirs in external.items()}}
    frame = join_groups(frame)
    external = {name: join_groups(theirs) for name, theirs in external.items()}
    rows = rows_of(frame, split)
    identifier = Identifier(model, engine=engine, threads=threads)
    asked = Measuring(identifier.info.operating_points, identifier.info.map_threshold, prevalence, how)
    training = identifier.bundle.info["training"]
    leaks = {"": find_leaks(frame, rows, training, Path(model), identifier.bundle.pictures)}
    for name, theirs in external.items():
        outside = theirs.assign(split=EXTERNAL)
        leaks[name] = find_leaks(outside, outside, training, Path(model), identifier.bundle.pictures).on_external(
            _both(theirs, frame)
        )
    for name, found in leaks.items():
        if found.refusals and not allow_leaks:
            raise found.error(name or split, external=bool(name))
    result = run(identifier, rows, split, external, leaks, digests, asked, disturbed, Path(model))
    with whole_folder(out) as folder:
        with whole_file(folder / "metrics.json", "w") as file:
            json.dump(result.metrics, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
        result.answers.predictions.to_parquet(folder / "predictions.parquet", index=False)
        for name, answers in result.external.items():
            answers.predictions.to_parquet(folder / f"predictions-{name}.parquet", index=False)
        (folder / "model_card.md").write_text(model_card(result.metrics, result.bundle), encoding="utf-8")
        (folder / "report.html").write_text(report_page(result, pictures=pictures), encoding="utf-8")
    return result.metrics


def rows_of(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of a split; all rows for "all".

    Raises:
        DatasetError: nothing has that split; those that exist are named.
    """
    if split == ALL:
        return frame
    rows = frame[frame["split"] == split]
    if len(rows):
        return rows
    names = sorted(set(frame["split"]) - {""})
    if names:
        raise DatasetError(f"no row has the split {split!r}", hint=f"expected one of {', '.join([*names, ALL])}")
    raise DatasetError(f"no row has the split {split!r}: the manifest is not split", hint="split it, or take 'all'")


def run(
    identifier: Identifier,
    rows: pd.DataFrame,
    split: str,
    external: Mapping[str, pd.DataFrame],
    leaks: Mapping[str, Leaks],
    digests: Mapping[str, str],
    asked: Measuring,
    disturbed: int,
    model: Path,
) -> Evaluation:
    """Answer every readable row and count; writes nothing.

    Args:
        identifier: the model.
        rows: of the manifest, those of the split.
        split: its name.
        external: manifests of other data by name.
        leaks: what makes the figures too good, of the split by "", of the others by name.
        digests: of the whole manifests, in the same way.
        asked: how it is counted.
        disturbed: at most how many files are disturbed; 0: none.
        model: where the model came from; a run folder has the training's curves.
    """
    # Other data first: where none of theirs can be read, nothing long was done yet.
    outside = {name: answer(identifier, theirs, f"external test {name!r}") for name, theirs in external.items()}
    answers = answer(identifier, rows, f"split {split!r}")
    with progress("counting", 3 * (1 + len(outside))) as advance:
        told = _part(identifier, answers, leaks[""], asked, advance)
        theirs = {name: _part(identifier, one, leaks[name], asked, advance) for name, one in outside.items()}
    moved = None
    if disturbed and len(answers.judged):
        moved = robustness.measure(identifier, rows, answers.predictions, most=disturbed)
    curves = model / "curves.png"
    metrics = {
        "schema_version": SCHEMA_VERSION,
        "callus": callus.__version__,
        "research_only": RESEARCH_ONLY,
        "model": {
            "name": identifier.name,
            "engine": identifier.engine.ran,
            "bundle_sha256": identifier.bundle.digest,
            "operating_points": asked.points.as_dict(),
            "calibration": identifier.info.calibration.as_dict(),
        },
        **told,
        "external": {
            name: part | {"data": {"manifest_sha256": digests[name], **part["data"]}} for name, part in theirs.items()
        },
        "robustness": None if moved is None else moved.as_dict(),
    }
    metrics["data"] = {"split": split, "manifest_sha256": digests[""], **told["data"]}
    return Evaluation(metrics, answers, outside, moved, identifier.bundle.info, curves if curves.is_file() else None)


def _part(
    identifier: Identifier, answers: Answers, leaks: Leaks, asked: Measuring, advance: Callable[..., None]
) -> dict[str, Any]:
    """What ``metrics.json`` holds of one data set."""
    data = counts(answers.predictions)
    failed = answers.predictions[answers.predictions["error"] != ""]
    told = measure(answers.predictions, asked)
    advance()
    told["localisation"] = measure_places(located(identifier, answers), asked)
    advance()
    told["subgroups"] = measure_subgroups(answers.predictions, answers.rows, asked)
    advance()
    return {
        "data": data,
        **told,
        "leaks": leaks.counts,
        "warnings": leaks.warnings + _class_warnings(data) + _warnings(identifier, answers),
        "failures": failed[["path", "error"]].to_dict("records"),
    }


def _class_warnings(data: Mapping[str, Any]) -> list[str]:
    """What the labels do not let us say."""
    if not data["judged"]:
        files = f"none of the {data['files']} files"
        return [f"{files} has both a label and an answer: there are predictions, but no figures"]
    for key, value, missing in (("fractured", 1, "sensitivity"), ("not_fractured", 0, "specificity")):
        if not data[key]:
            return [f'no file is labelled "{LABEL_NAMES[value]}": {missing} and AUROC are undefined']
    return []


def _warnings(identifier: Identifier, answers: Answers) -> list[str]:
    """What else makes figures less than they seem."""
    engine, rows, told = identifier.info, answers.judged, []
    if engine.operating_points.reason:
        told.append(f"the operating points are not what was asked for: {engine.operating_points.reason}")
    if engine.calibration.reason:
        told.append(f"the calibration is no ordinary fit: {engine.calibration.reason}")
    if answers.unanswered:
        lost = answers.rows.loc[answers.rows["path"].isin(answers.unanswered), "label"]
        kinds = f"{int((lost == 1).sum())} fractured, {int((lost == 0).sum())} not"
        files = counted(len(answers.unanswered), "file")
        told.append(f"the network gave no answer to {files} ({kinds}): the figures are those of the others")
    known = rows[rows["radiograph"] != ""].groupby("radiograph")["label"].nunique()
    if conflicts := int((known > 1).sum()):
        told.append(f"{counted(conflicts, 'radiograph')} with files of different labels: at least one of them is wrong")
    if lost_places := misplaced(answers):
        told.append(f"boxes or polygons outside of their picture, or without an area, are left out: {lost_places:,}")
    return told


def _check_rows(frame: pd.DataFrame, external: Mapping[str, pd.DataFrame]) -> None:
    """Refuse rows that stand twice.

    Raises:
        DatasetError: the first of them is named.
    """
    for name, rows in (("", frame), *external.items()):
        twice = rows.loc[rows["path"].duplicated(), "path"]
        if len(twice):
            where = f"external test {name!r}" if name else None
            raise DatasetError(f"{twice.iloc[0]} stands more than once in the manifest", where=where)


def _both(theirs: pd.DataFrame, frame: pd.DataFrame) -> int:
    """How many files of an external test stand in the manifest too."""
    return int(theirs["sha256"].isin(set(frame["sha256"]) - {""}).sum())


def _check_asked(out: Path, external: Mapping[str, pd.DataFrame], prevalence: float | None) -> None:
    """Refuse what cannot be done before anything is.

    Raises:
        CallusError: something else lies in ``out``, a name or the prevalence is none.
    """
    check_ours(out, FILES, "evaluation", _EXTERNAL_FILE)
    for name in external:
        if not _NAME.fullmatch(name):
            raise CallusError(
                f"an external test is called {name!r}; expected letters, digits, - and _, at most 60 of them"
            )
    if prevalence is not None:
        check_prevalence(prevalence)
