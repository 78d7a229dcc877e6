"""Whether what is evaluated on was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callus.dataset.manifest import few, group_keys, read_manifest
from callus.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

TRAIN = "train"


def find_leaks(frame: pd.DataFrame, rows: pd.DataFrame, model: Path) -> tuple[dict[str, Any], list[str]]:
    """Look for what makes figures too good.

    Args:
        frame: the whole manifest.
        rows: those that are evaluated on.
        model: the model's place; a run folder tells by its own ``manifest.parquet`` what it was trained on.

    Returns:
        ``groups_across_splits`` (count), ``files_trained_on`` and ``groups_trained_on`` (counts, None where nobody
        knows what the model was trained on), and a sentence for each that is not 0.
    """
    crossing = _crossing(frame, rows)
    warnings = []
    if crossing:
        warnings.append(
            f"{len(crossing)} groups stand in this split and in another ({few(crossing, 3)}): "
            "where one of the splits was trained on, the figures are too good"
        )
    files, groups = _trained_on(rows, model)
    if files:
        warnings.append(f"{files} of these {len(rows)} files were trained on: the figures are too good")
    elif groups:
        warnings.append(f"{groups} groups of these files were trained on by other files: the figures are too good")
    elif files is None and (rows["split"] == TRAIN).any():
        warnings.append(
            'files of the split "train" are among these: if the model learnt from them, the figures are too good'
        )
    leaks = {"groups_across_splits": len(crossing), "files_trained_on": files, "groups_trained_on": groups}
    return leaks, warnings


def _crossing(frame: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Groups of ``rows`` that have more than one split in the manifest."""
    keys, known = group_keys(frame), frame["split"] != ""
    splits = frame["split"][known].groupby(keys[known]).nunique()
    return sorted(set(splits.index[splits > 1]) & set(group_keys(rows)))


def _trained_on(rows: pd.DataFrame, model: Path) -> tuple[int | None, int | None]:
    """How many of the files, and of their groups, the run folder says it was trained on; (None, None): it is none."""
    try:
        theirs = read_manifest(model / "manifest.parquet")
    except DatasetError:
        return None, None
    theirs = theirs[theirs["split"] == TRAIN]
    seen = rows["sha256"].isin(set(theirs["sha256"]) - {""}) | rows["path"].isin(set(theirs["path"]))
    groups = set(rows["group"]) & set(theirs["group"]) - {""}
    return int(seen.sum()), len(groups)
