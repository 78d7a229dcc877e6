"""What a training takes in: the manifest's usable rows, split by group, and what was left out and why."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from callus import dataset
from callus.dataset.clean import conflict_lines, label_conflicts
from callus.dataset.groups import join_groups
from callus.dataset.manifest import few
from callus.dataset.sources.names import split_name
from callus.dataset.split import (
    assign_fold,
    crossing_error,
    crossing_groups,
    existing_split,
    leak_sentence,
    split,
    splittable,
)
from callus.errors import CallusError, TrainingError, printable
from callus.progress import track
from callus.radiograph import read

if TYPE_CHECKING:
    import pandas as pd

    from callus.training.recipe import Recipe

MOST_UNUSABLE = 0.05
"""Training stops where more than this share of the files cannot be used: something is wrong with the data set."""


@dataclass(frozen=True)
class Intake:
    """A manifest that is ready to train on.

    Attributes:
        frame: all rows; ``split`` is train, val, test, or empty for what was left out; ``group`` is joined.
        leaks: the groups that cross the splits, as ``crossing_groups`` gives them; rows only where that is allowed.
        lines: what to tell the user, a line each.
    """

    frame: pd.DataFrame
    leaks: pd.DataFrame
    lines: list[str]


def take_in(
    data: Path | pd.DataFrame,
    recipe: Recipe,
    *,
    fold: tuple[int, int] | None,
    threads: int,
    allow_leaks: bool = False,
) -> Intake:
    """Read, check and split a data set.

    Files of a radiograph with both labels are in no split. A split that the data bring is kept where every other usable
    file stands in train, val or test ("Training" and "valid" are understood too); any other is made anew, by group. One
    that groups cross is refused either way: who wrote it believes in it. Leaks are counted over the files that are
    used: one that cannot be read, or has no label, lets nothing through. Groups are joined by radiograph, study,
    patient and equal bytes, whatever the manifest's column says.

    Args:
        data: a folder, a manifest's file, or a manifest.
        recipe: gives the shares of the splits and the seed.
        fold: (k, n): test on fold k of n (from 1), and the rest is for training and validation; None for one split.
        threads: that check files.
        allow_leaks: go on where groups cross the split that the data bring.

    Raises:
        DatasetError: the data set is not what it has to be, or a group crosses its splits and that is not allowed.
        TrainingError: more than 5 % of the files cannot be used.
    """
    frame = join_groups(_read(data, threads) if isinstance(data, Path) else data)
    conflicts = label_conflicts(frame)
    lines = [*frame.attrs.get("remarks", []), *_left_out(frame)]
    lines += [f"left out: {line}" for line in conflict_lines(frame[conflicts & dataset.readable(frame)])]
    dataset.check_trainable(frame[~conflicts])
    named = frame["split"].map(lambda name: split_name(name) or name)
    frame = frame.assign(split=named.mask(conflicts, "").astype("str"))
    if fold is None and not allow_leaks and len(crossing := crossing_groups(splittable(frame))):
        raise crossing_error(crossing, where=data if isinstance(data, Path) else None)
    if fold is not None:
        frame = assign_fold(frame, fold[1], fold[0] - 1, recipe.seed, val=recipe.splitting.validation)
    elif existing_split(frame):
        frame = _keep_split(frame, recipe)
    else:
        if names := sorted(set(frame["split"]) - {""}):
            lines.append(
                f"split anew: the data's own split ({few(names, 3)}) is not train and val or test of all files"
            )
        frame = split(frame, test=recipe.splitting.test, val=recipe.splitting.validation, seed=recipe.seed)
    rows = splittable(frame)
    leaks = crossing_groups(rows)
    if len(leaks):
        lines.append(f"warning: {leak_sentence(len(leaks), int(leaks['files'].sum()))}")
    for name in ("train", "val"):
        part = rows[rows["split"] == name]
        if part["label"].nunique() < 2:  # noqa: PLR2004 - the two classes
            raise TrainingError(
                f"the split {name} has {len(part)} files of {part['label'].nunique()} class(es); both are needed",
                hint="split anew with callus data split, or add radiographs",
            )
    lines += [
        f"{name:<10} {len(part):>6} files, {part['radiograph'].nunique():>5} radiographs, "
        f"{part['group'].nunique():>5} groups, {int((part['label'] == 1).sum()):>5} fractured"
        for name in ("train", "val", "test")
        if len(part := rows[rows["split"] == name])
    ]
    return Intake(frame, leaks, [printable(line) for line in lines])


def _read(data: Path, threads: int) -> pd.DataFrame:
    """A manifest, its files checked; or a folder's; with a remark where nobody looked for copies in it."""
    frame = dataset.load(data, workers=threads)
    if frame.attrs.get("audited") is False:
        frame.attrs["remarks"] = [*frame.attrs.get("remarks", []), dataset.UNSEEN_COPIES]
    return _check_files(frame, threads) if data.is_file() else frame


def _keep_split(frame: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """The split that the data set came with; validation is cut from training where it has none."""
    if (frame["split"] == "val").any():
        return frame
    kept = frame.copy()
    training = frame["split"] == "train"
    parts = split(frame[training], test=0.0, val=recipe.splitting.validation, seed=recipe.seed)
    kept.loc[training, "split"] = parts["split"]
    return kept


def _check_files(frame: pd.DataFrame, threads: int) -> pd.DataFrame:
    """Mark rows of a manifest whose file is missing, cannot be read, or is another than when it was listed."""

    def look(job: tuple[str, str]) -> str:
        path, sha256 = job
        try:
            seen = read(path).sha256
        except CallusError as error:
            return f"unreadable: {error.what}"
        return "" if not sha256 or seen == sha256 else "unreadable: the file has changed since the manifest was made"

    readable = dataset.readable(frame)
    jobs = list(zip(frame.loc[readable, "path"], frame.loc[readable, "sha256"], strict=True))
    with ThreadPoolExecutor(threads) as pool:
        notes = list(track(pool.map(look, jobs), "checking files", len(jobs)))
    frame = frame.copy()
    index = frame.index[readable]
    for row, note in zip(index, notes, strict=True):
        if note:
            frame.loc[row, "note"] = note
    return frame


def _left_out(frame: pd.DataFrame) -> list[str]:
    """Tell what is left out; raise where it is too much."""
    unreadable = frame[~dataset.readable(frame)]
    if len(unreadable) > MOST_UNUSABLE * len(frame):
        shown = few(
            [f"{Path(path).name} ({note})" for path, note in zip(unreadable["path"], unreadable["note"], strict=True)]
        )
        raise TrainingError(
            f"{len(unreadable)} of {len(frame)} files cannot be used, more than 5 %: {shown}",
            hint="mend or remove them",
        )
    lines = [f"left out: {path}: {note}" for path, note in zip(unreadable["path"], unreadable["note"], strict=True)]
    unlabelled = int((dataset.readable(frame) & frame["label"].isna()).sum())
    if unlabelled:
        lines.append(f"left out: {unlabelled} files without a label")
    noted = frame[dataset.readable(frame) & (frame["note"] != "")]
    if len(noted):
        lines.append(f"used as they are, see the manifest's notes: {len(noted)} files, {noted['note'].iloc[0]} ...")
    return lines
