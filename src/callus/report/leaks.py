"""Whether what is evaluated on was learnt from, which makes figures too good.

Refused, unless leaks are allowed:

- a group stands in several splits of the manifest, whichever split is asked for, and with "all". Where none of the
  files that are evaluated is in such a group, these figures are not touched, and what is written with --allow-leaks
  says so; the manifest is refused all the same, as the model that it was made for has learnt from it.
- the model was trained on a group of files which this manifest holds out (they stand in a split
  that is not "train": val, test, a fold): the same data were split another way.

Warned of only: files of the split "train", or of none, that were trained on. Who asks for them asks how well the
training data were learnt, and is told that it is that. A bundle knows the files of its training by their bytes; one of
before it did only tells when groups crossed the splits of its training.

Counted are files that have a label and can be read: no others make figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from callus.bundle import PICTURE_DIGITS
from callus.dataset.clean import counted
from callus.dataset.groups import join_groups
from callus.dataset.manifest import few, group_keys, read_manifest, usable
from callus.dataset.split import ALLOW, ANEW, crossing_groups, crossing_names, crossing_sentence, leak_sentence
from callus.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

TRAIN = "train"


@dataclass(frozen=True)
class Leaks:
    """What was found.

    Attributes:
        counts: what ``metrics.json`` holds under ``leaks``.
        refusals: why the files are not to be evaluated on, a sentence each.
        warnings: what the results have to say, a sentence each.
    """

    counts: dict[str, Any]
    refusals: list[str]
    warnings: list[str]

    def error(self, name: str, *, external: bool = False) -> DatasetError:
        """The refusal in one line, for a split or an external test."""
        if external:
            hint = f"name data that the model never saw, or {ALLOW}"
            return DatasetError("; ".join(self.refusals), where=f"external test {name!r}", hint=hint)
        hint = f"{ANEW}, and train on that, or {ALLOW}"
        return DatasetError("; ".join(self.refusals), where=f"split {name!r}", hint=hint)

    def on_external(self, both: int) -> Leaks:
        """The same for an external test, of whose files ``both`` also stand in the manifest that is evaluated."""
        told = (
            [f"{counted(both, 'file')} stand in the evaluated manifest too: this is no external test"] if both else []
        )
        return replace(self, warnings=[*self.warnings, *told])


@dataclass(frozen=True)
class _Trained:
    """Which of the evaluated rows a run folder was trained on.

    Attributes:
        files: by the file itself.
        groups: by a file of their group.
    """

    files: pd.Series[bool]
    groups: pd.Series[bool]


def find_leaks(
    frame: pd.DataFrame,
    rows: pd.DataFrame,
    training: Mapping[str, Any],
    model: Path,
    pictures: Mapping[str, str] | None = None,
) -> Leaks:
    """Look for what makes figures too good; the rule stands at the top of this module.

    Args:
        frame: the whole manifest.
        rows: those that are evaluated on.
        training: what the bundle says of its training.
        model: the model's place; a run folder tells by its own ``manifest.parquet`` what it was trained on.
        pictures: what the bundle says of the files of its training (:attr:`callus.bundle.Bundle.pictures`).
    """
    rows = usable(rows)
    keys = group_keys(rows)
    anywhere = crossing_groups(usable(frame))
    among = anywhere["group"].isin(set(keys))
    crossing, elsewhere = anywhere[among], anywhere[~among]
    refusals, warnings = [], []
    across = int(keys.isin(set(crossing["group"])).sum())
    if len(crossing):
        names = crossing_names(crossing)
        refusals.append(f"{crossing_sentence(len(crossing), across)} ({names})")
        warnings.append(f"{leak_sentence(len(crossing), across)} ({names})")
    if len(elsewhere):
        told = f"{crossing_sentence(len(elsewhere), int(elsewhere['files'].sum()))} ({crossing_names(elsewhere)})"
        refusals.append(f"beside the files that are evaluated, {told}")
        warnings.append(f"beside the files that were evaluated, {told}; these figures are not touched")
    trained = _trained_on(frame, rows, model) or _known_to(pictures, frame, rows)
    if trained is not None:
        held_out = trained.groups & ~rows["split"].isin(["", TRAIN])
        if held_out.any():
            groups = sorted(set(keys[held_out]))
            counts = f"{counted(len(groups), 'group')} ({counted(int(held_out.sum()), 'file')})"
            refusals.append(f"{model} was trained on {counts} of these: {few(groups, 3)}")
        warnings += _trained_warnings(trained, keys)
    elif (rows["split"] == TRAIN).any():
        warnings.append(
            'files of the split "train" are among these: if the model learnt from them, the figures are too good'
        )
    if training.get("leaks"):
        warnings.append(f"when the model was trained, {training['leaks']['sentence']}")
    found = {
        "groups_across_splits": len(crossing),
        "files_across_splits": across,
        "files_trained_on": None if trained is None else int(trained.files.sum()),
        "groups_trained_on": None if trained is None else int(keys[trained.groups].nunique()),
        "allowed": bool(refusals),
        "in_training": training.get("leaks"),
    }
    return Leaks(found, refusals, warnings)


def _trained_warnings(trained: _Trained, keys: pd.Series[str]) -> list[str]:
    files, groups = int(trained.files.sum()), int(keys[trained.groups].nunique())
    if files:
        return [f"{files} of these {counted(len(keys), 'file')} were trained on: the figures are too good"]
    if groups:
        return [f"{counted(groups, 'group')} of these files were trained on by other files: the figures are too good"]
    return []


def _trained_on(frame: pd.DataFrame, rows: pd.DataFrame, model: Path) -> _Trained | None:
    """Tell which rows the run folder was trained on; None where the model is no run folder.

    A group is known by any file of it in this manifest that was trained on. Its name counts as well, where the two
    manifests have files in common: those of other data may call their patients alike.
    """
    try:
        theirs = join_groups(read_manifest(model / "manifest.parquet"))
    except DatasetError:
        return None
    learnt = usable(theirs[theirs["split"] == TRAIN])
    groups = set(group_keys(frame)[_among(frame, learnt)])
    if _among(frame, theirs).any():
        groups |= set(group_keys(learnt))
    return _Trained(_among(rows, learnt), group_keys(rows).isin(groups))


def _known_to(pictures: Mapping[str, str] | None, frame: pd.DataFrame, rows: pd.DataFrame) -> _Trained | None:
    """Tell which rows a bundle says that it was trained on, and which are of their groups; None where it tells none."""
    if pictures is None:
        return None
    learnt = {digits for digits, split in pictures.items() if split == TRAIN}
    files, all_files = (part["sha256"].str[:PICTURE_DIGITS].isin(learnt) for part in (rows, frame))
    return _Trained(files, group_keys(rows).isin(set(group_keys(frame)[all_files])))


def _among(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series[bool]:
    """Tell which files also stand in ``others``, by their bytes or their place."""
    return rows["sha256"].isin(set(others["sha256"]) - {""}) | rows["path"].isin(set(others["path"]))
