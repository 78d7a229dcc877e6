"""Which files a training takes in, and whose split it keeps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from callus.dataset import read_manifest
from callus.dataset.split import check_groups, folds, split
from callus.errors import DatasetError
from callus.training.intake import take_in
from callus.training.recipe import Recipe


@pytest.fixture
def parted(simulated: Path) -> pd.DataFrame:
    """A manifest with a split of callus' own."""
    return split(read_manifest(simulated), test=0.25, val=0.25)


def torn(frame: pd.DataFrame, *parts: str) -> pd.DataFrame:
    """Join the first file of each of these splits to one group."""
    frame = frame.copy()
    frame.loc[[frame.index[frame["split"] == part][0] for part in parts], "group"] = "torn"
    return frame


def test_a_split_that_no_group_crosses_is_kept(parted: pd.DataFrame, small: Recipe) -> None:
    taken = take_in(parted, small, fold=None, threads=1)
    assert taken.frame["split"].tolist() == parted["split"].tolist()
    assert taken.leaks.empty


def test_a_split_that_groups_cross_is_refused_or_told(parted: pd.DataFrame, small: Recipe) -> None:
    frame = torn(parted, "train", "test")
    with pytest.raises(DatasetError, match=r"1 group, 2 files \(torn in test and train\); .*data split.*--allow-leaks"):
        take_in(frame, small, fold=None, threads=1)
    taken = take_in(frame, small, fold=None, threads=1, allow_leaks=True)
    assert taken.frame["split"].tolist() == frame["split"].tolist()
    assert taken.leaks["group"].tolist() == ["torn"]
    assert taken.lines[-4:][0] == "warning: groups cross the splits: 1 group, 2 files; the figures are too good"


def test_folds_are_made_by_group_whatever_split_was_there(parted: pd.DataFrame, small: Recipe) -> None:
    taken = take_in(torn(parted, "train", "test"), small, fold=(1, 4), threads=1)
    check_groups(taken.frame)
    assert taken.leaks.empty


def test_validation_is_cut_by_group_from_a_split_without_it(parted: pd.DataFrame, small: Recipe) -> None:
    frame = parted.assign(split=parted["split"].replace("val", "train"))
    with pytest.raises(DatasetError, match="torn in test and train"):
        take_in(torn(frame, "train", "test"), small, fold=None, threads=1)
    taken = take_in(frame, small, fold=None, threads=1)
    assert set(taken.frame["split"]) == {"train", "val", "test"}
    assert ((taken.frame["split"] == "test") == (frame["split"] == "test")).all()
    check_groups(taken.frame)


@pytest.mark.parametrize("change", [{"label": pd.NA}, {"note": "unreadable: it is text"}])
def test_files_that_are_not_used_let_nothing_through(
    parted: pd.DataFrame, small: Recipe, change: dict[str, object]
) -> None:
    frame = torn(parted, "train", "test")
    row = frame.index[(frame["group"] == "torn") & (frame["split"] == "test")]
    for column, value in change.items():
        frame.loc[row, column] = value
    assert take_in(frame, small, fold=None, threads=1).leaks.empty


@pytest.mark.parametrize("bring", ["nothing", "parts", "fold"])
def test_label_conflicts_are_left_out_and_told(simulated: Path, small: Recipe, bring: str) -> None:
    frame = read_manifest(simulated)
    pair = [frame.index[frame["label"] == label][0] for label in (0, 1)]
    if bring == "parts":
        frame = split(frame, test=0.25, val=0.25)
    frame.loc[pair, "radiograph"] = "same"
    frame.loc[pair, "group"] = "same"  # they may cross the split that the data bring: they are not used
    taken = take_in(frame, small, fold=(1, 4) if bring == "fold" else None, threads=1)
    assert taken.frame.loc[pair, "split"].tolist() == ["", ""]
    assert (taken.frame["split"] == "").sum() == 2
    assert any(line.startswith("left out: 2 files of 1 radiograph with both labels: ") for line in taken.lines)


def test_it_is_told_when_a_split_is_not_kept(simulated: Path, small: Recipe) -> None:
    taken = take_in(folds(read_manifest(simulated), 4), small, fold=None, threads=1)
    assert set(taken.frame["split"]) == {"train", "val", "test"}
    assert any(
        line.startswith("split anew: the data's own split (fold0, fold1, fold2 and 1 more)") for line in taken.lines
    )
