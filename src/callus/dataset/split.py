"""Splits that no group crosses, stratified by label and region; one seed gives one split, whatever the rows' order.

Groups are handed out largest first, each to the part that lacks its kind of files most. scikit-learn's
StratifiedGroupKFold does that for folds of equal size only, and does not look at regions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from callus.dataset.clean import counted, label_conflicts
from callus.dataset.groups import join_groups
from callus.dataset.manifest import few, group_keys, usable
from callus.errors import DatasetError
from callus.labels import FRACTURED, LABEL_NAMES, NOT_FRACTURED

if TYPE_CHECKING:
    import numpy.typing as npt

_LABELS: Final = (NOT_FRACTURED, FRACTURED)
# How much a file's region counts beside its label when groups are handed out.
_REGION_WEIGHT: Final = 0.5
ANEW: Final = "split anew with: callus data split MANIFEST --out FILE"
ALLOW: Final = "go on with --allow-leaks: every result then says so"


def split(frame: pd.DataFrame, *, test: float = 0.2, val: float = 0.1, seed: int = 0) -> pd.DataFrame:
    """Give a copy whose ``split`` is train, val or test, by group; empty where :func:`splittable` leaves a file out.

    Args:
        frame: a manifest.
        test: the fraction of files to hold out for the test, 0 to leave that part out.
        val: the fraction to tune on, the same.
        seed: another seed, another split.

    Raises:
        DatasetError: the fractions do not fit, or a class has too few groups to be in every part.
    """
    if not (0 <= test < 1 and 0 <= val < 1 and test + val < 1):
        raise DatasetError(
            f"test {test:g} and val {val:g} leave nothing to train on",
            hint="give fractions from 0 up that sum to less than 1",
        )
    shares = {name: share for name, share in (("train", 1 - test - val), ("val", val), ("test", test)) if share > 0}
    return _assign(frame, shares, seed)


def folds(frame: pd.DataFrame, k: int = 5, seed: int = 0) -> pd.DataFrame:
    """Give a copy whose ``split`` is fold0 to fold{k-1}, by group; empty where :func:`splittable` leaves a file out.

    Raises:
        DatasetError: k is below 2, or a class has fewer than k groups.
    """
    if k < 2:  # noqa: PLR2004
        raise DatasetError(f"there cannot be {k} folds", hint="give 2 or more")
    return _assign(frame, {f"fold{number}": 1 / k for number in range(k)}, seed)


def assign_fold(
    frame: pd.DataFrame, k: int = 5, test_fold: int = 0, seed: int = 0, *, val: float = 0.1
) -> pd.DataFrame:
    """Give a copy whose ``split`` has fold ``test_fold`` of ``folds(frame, k, seed)`` as test; the rest is split anew.

    Args:
        frame: a manifest.
        k: how many folds there are.
        test_fold: which is the test, from 0.
        seed: another seed, other folds.
        val: the fraction of all files to validate on, out of the rest. A whole fold would be taken from the training.

    Raises:
        DatasetError: there is no such fold, the fractions do not fit, or a class has too few groups.
    """
    if not 0 <= test_fold < k:
        raise DatasetError(f"there is no fold {test_fold} of {k}", hint=f"give 0 to {k - 1}")
    folded = folds(frame, k, seed)
    tested = folded["split"] == f"fold{test_fold}"
    rest = split(folded[~tested], test=0.0, val=val * k / (k - 1), seed=seed)
    folded["split"] = rest["split"].reindex(folded.index, fill_value="test").astype("str")
    return folded


def splittable(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the rows that a split takes: they have a label, can be read, and no copy of theirs has the other label."""
    return usable(frame[~label_conflicts(frame)])


def existing_split(frame: pd.DataFrame) -> bool:
    """Tell whether every splittable file stands in train, val or test, and there is train and at least one other."""
    parts = set(splittable(frame)["split"])
    return "train" in parts and len(parts) > 1 and parts <= {"train", "val", "test"}


def crossing_groups(frame: pd.DataFrame) -> pd.DataFrame:
    """Give one line a group that stands in several splits: ``group``, ``splits`` (a list), ``files``."""
    keyed = pd.DataFrame({"group": group_keys(frame), "split": frame["split"]})[frame["split"] != ""]
    counted = keyed.groupby("group")["split"].agg(splits=lambda parts: sorted(set(parts)), files="size").reset_index()
    return counted[counted["splits"].map(len) > 1].reset_index(drop=True)


def leak_sentence(groups: int, files: int) -> str:
    """Say in plain words that groups cross the splits; what allowed leaks are written down as, everywhere."""
    return f"{crossing_sentence(groups, files)}; the figures are too good"


def crossing_sentence(groups: int, files: int) -> str:
    """Say how many groups cross the splits, with how many files."""
    return f"groups cross the splits: {counted(groups, 'group')}, {counted(files, 'file')}"


def check_groups(frame: pd.DataFrame) -> None:
    """Raise where a group crosses splits, joined as :func:`callus.dataset.groups.join_groups` does.

    Raises:
        DatasetError: it names how many groups and files, the first of them, and what to do.
    """
    if len(crossing := crossing_groups(join_groups(frame))):
        raise crossing_error(crossing)


def leak_summary(crossing: pd.DataFrame) -> dict[str, Any] | None:
    """Give ``groups``, ``files`` and the ``sentence`` that results bear; None where no group crosses."""
    if crossing.empty:
        return None
    groups, files = len(crossing), int(crossing["files"].sum())
    return {"groups": groups, "files": files, "sentence": leak_sentence(groups, files)}


def crossing_error(crossing: pd.DataFrame, where: object = None) -> DatasetError:
    """Give the error for groups that cross splits.

    Args:
        crossing: what :func:`crossing_groups` gave, not empty.
        where: the manifest or folder that it is about.
    """
    said = f"{crossing_sentence(len(crossing), int(crossing['files'].sum()))} ({crossing_names(crossing)})"
    return DatasetError(said, where=where, hint=f"{ANEW}, or {ALLOW}")


def crossing_names(crossing: pd.DataFrame) -> str:
    """Name the first few groups that cross, with their splits: "a in test and train"."""
    pairs = zip(crossing["group"], crossing["splits"], strict=True)
    return few([f"{group} in {' and '.join(parts)}" for group, parts in pairs], 3)


def _assign(frame: pd.DataFrame, shares: dict[str, float], seed: int) -> pd.DataFrame:
    """Give a copy with ``split`` filled, parts named and sized by ``shares``; ``group`` is what was kept together."""
    frame = join_groups(frame)
    rows = splittable(frame)
    if rows.empty:
        raise DatasetError(
            f"none of the {len(frame)} files has one label and can be read", hint="there is nothing to split"
        )
    table = _count(rows)
    _check_enough(table, list(shares))
    order = _order(table, seed)
    counts = table.to_numpy(np.float64)[order]  # (groups, strata)
    part = _hand_out(counts, np.array(list(shares.values())))
    _repair(counts[:, : len(_LABELS)], part, len(shares))
    names = dict(zip(table.index[order], np.array(list(shares), dtype=object)[part], strict=True))
    given = frame.copy()
    given["split"] = pd.Series("", index=frame.index, dtype="str")
    given.loc[rows.index, "split"] = group_keys(rows).map(names)
    given["split"] = given["split"].astype("str")
    _check_parts(given, list(shares))
    return given


def _count(rows: pd.DataFrame) -> pd.DataFrame:
    """Count each group's files: one column a label, then one a label and region where regions are known."""
    keys = group_keys(rows).rename("group")
    by_label = pd.crosstab(keys, rows["label"].astype("int64")).reindex(columns=list(_LABELS), fill_value=0)
    if rows["region"].nunique() < 2:  # noqa: PLR2004 - one region is no stratum
        return by_label
    strata = rows["label"].astype("str") + " " + rows["region"]
    return pd.concat([by_label, pd.crosstab(keys, strata)], axis=1).sort_index()


def _order(table: pd.DataFrame, seed: int) -> npt.NDArray[np.int64]:
    """Give the order to hand groups out in: large ones first, equal ones shuffled by the seed."""
    shuffled = np.random.default_rng(seed).permutation(len(table))  # the table is sorted by the groups' names
    sizes = table[list(_LABELS)].sum(axis=1).to_numpy()[shuffled]
    ordered: npt.NDArray[np.int64] = shuffled[np.argsort(-sizes, kind="stable")]
    return ordered


def _hand_out(counts: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Give each group (in this order) to the part that it brings nearest to what that part is to have.

    Args:
        counts: (groups, strata) files; the first two columns are the labels.
        shares: (parts,) fractions that sum to 1.

    Returns:
        (groups,) the number of the part.
    """
    totals = counts.sum(axis=0)
    weights = np.where(np.arange(len(totals)) < len(_LABELS), 1.0, _REGION_WEIGHT) / np.maximum(totals, 1)
    lacking = shares[:, None] * totals  # (parts, strata): what each part has still to get
    part = np.empty(len(counts), np.int64)
    for number, count in enumerate(counts):
        # The squared distance from the wanted counts changes by sum w ((lacking - c)^2 - lacking^2).
        change = ((count * (count - 2 * lacking)) * weights).sum(axis=1)
        part[number] = int(np.argmin(change))
        lacking[part[number]] -= count
    return part


def _repair(labels: npt.NDArray[np.float64], part: npt.NDArray[np.int64], parts: int) -> None:
    """Give every part both classes, in place: where one lacks a class, the smallest group to be spared moves there."""
    for _ in range(2 * parts):
        held = np.array(
            [[((part == p) & (labels[:, c] > 0)).sum() for c in range(labels.shape[1])] for p in range(parts)]
        )
        lacking = np.argwhere(held == 0)
        if len(lacking) == 0:
            return
        to, kind = lacking[0]
        # A group can be spared where its part keeps others of each class that it holds.
        spare = np.flatnonzero((labels[:, kind] > 0) & ((held[part] > 1) | (labels == 0)).all(axis=1))
        if len(spare) == 0:
            return
        part[spare[np.argmin(labels[spare].sum(axis=1))]] = to


def _check_enough(table: pd.DataFrame, parts: list[str]) -> None:
    problems = [
        f"{LABEL_NAMES[label]}: {count} group{'' if count == 1 else 's'}"
        for label in _LABELS
        if (count := int((table[label] > 0).sum())) < len(parts)
    ]
    if problems:
        raise DatasetError(
            f"each class needs a group for each of {', '.join(parts)}; there are too few ({'; '.join(problems)})",
            hint="a group is a patient, or copies of one radiograph: add others, or ask for fewer parts",
        )


def _check_parts(frame: pd.DataFrame, parts: list[str]) -> None:
    held: Any = splittable(frame).groupby("split")["label"].nunique()
    if lacking := [part for part in parts if held.get(part, 0) < len(_LABELS)]:
        raise DatasetError(
            f"no way was found to give {', '.join(lacking)} both classes: the groups are too few and too mixed",
            hint="ask for fewer or larger parts",
        )
