"""Which files a training takes in, and whose split it keeps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from callus.dataset import UNSEEN_COPIES, read_manifest, write_manifest
from callus.dataset.split import check_groups, folds, split
from callus.errors import DatasetError
from callus.training.intake import take_in
from callus.training.recipe import Recipe


@pytest.fixture
def parted(simulated: Path) -> pd.DataFrame:
    """A manifest with a split of callus' own."""
    return split(read_manifest(simulated), test=0.25, val=0.25)


def torn(frame: pd.DataFrame, *parts: str) -> pd.DataFrame:
    """Join the first file of each of these splits to one group; nothing else holds them to other files."""
    rows = first_of(frame, *parts)
    frame = alone(frame, rows)
    frame.loc[rows, "group"] = "torn"
    return frame


def first_of(frame: pd.DataFrame, *parts: str) -> list[int]:
    return [int(frame.index[frame["split"] == part][0]) for part in parts]


def alone(frame: pd.DataFrame, rows: list[int]) -> pd.DataFrame:
    """Make each of these rows a group of its own, of no known patient."""
    frame = frame.copy()
    frame.loc[rows, ["study", "patient"]] = ""
    frame.loc[rows, "group"] = [f"alone {row}" for row in rows]
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


@pytest.mark.parametrize("column", ["radiograph", "study", "patient", "sha256"])
@pytest.mark.parametrize("group", ["none", "wrong"])
def test_what_holds_files_together_is_no_matter_of_one_column(
    parted: pd.DataFrame, small: Recipe, column: str, group: str
) -> None:
    """A manifest of one's own may have no groups, or wrong ones."""
    pair = first_of(parted, "train", "test")
    frame = alone(parted, pair)
    if group == "none":
        frame["group"] = ""
    assert take_in(frame, small, fold=None, threads=1).leaks.empty
    frame.loc[pair, column] = "same"
    frame.loc[pair, "label"] = 1
    with pytest.raises(DatasetError, match=r"groups cross the splits: 1 group, 2 files"):
        take_in(frame, small, fold=None, threads=1)


def test_patients_of_two_sources_may_be_called_alike(parted: pd.DataFrame, small: Recipe) -> None:
    pair = first_of(parted, "train", "test")
    frame = alone(parted, pair)
    frame.loc[pair, "patient"] = "p1"
    frame.loc[pair[0], "source"] = "another"
    assert take_in(frame, small, fold=None, threads=1).leaks.empty


def test_a_folder_is_told_that_copies_are_not_looked_for(simulated: Path, small: Recipe, tmp_path: Path) -> None:
    for path, label in read_manifest(simulated)[["path", "label"]].itertuples(index=False):
        (tmp_path / ("fractured" if label else "normal")).mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / ("fractured" if label else "normal"))
    said = "copies are known here by names and equal bytes alone: "
    assert any(line.startswith(said) for line in take_in(tmp_path, small, fold=None, threads=1).lines)
    assert not any(line.startswith(said) for line in take_in(simulated, small, fold=None, threads=1).lines)


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
    pair = [int(frame.index[frame["label"] == label][0]) for label in (0, 1)]
    if bring == "parts":
        frame = split(frame, test=0.25, val=0.25)
    frame = alone(frame, pair)
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


def test_a_split_by_other_names_is_understood(parted: pd.DataFrame, small: Recipe) -> None:
    names = {"train": "Training", "val": "valid", "test": "testing"}
    taken = take_in(parted.assign(split=parted["split"].replace(names)), small, fold=None, threads=1)
    assert taken.frame["split"].tolist() == parted["split"].tolist()


@pytest.mark.parametrize("bring", ["other names", "folds", "a file in none"])
def test_a_torn_split_is_refused_though_it_would_not_be_kept(parted: pd.DataFrame, small: Recipe, bring: str) -> None:
    frame = torn(parted, "train", "test")
    if bring == "a file in none":
        frame.loc[frame.index[frame["group"] != "torn"][0], "split"] = ""
    else:
        names = ("Training", "valid", "testing") if bring == "other names" else ("fold0", "fold1", "fold2")
        frame["split"] = frame["split"].replace(dict(zip(("train", "val", "test"), names, strict=True)))
    with pytest.raises(DatasetError, match=r"1 group, 2 files \(torn in "):
        take_in(frame, small, fold=None, threads=1)
    taken = take_in(frame, small, fold=None, threads=1, allow_leaks=True)
    assert len(taken.leaks) == (1 if bring == "other names" else 0)  # what is split anew has none


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_manifest_tells_whether_copies_were_sought(
    parted: pd.DataFrame, small: Recipe, tmp_path: Path, ending: str
) -> None:
    """CSV has no place for it: nothing is said."""
    told = {}
    for audited in (False, True):
        frame = parted.copy()
        frame.attrs["audited"] = audited
        write_manifest(split(frame, test=0.25, val=0.25), tmp_path / f"{audited}.{ending}")
        taken = take_in(tmp_path / f"{audited}.{ending}", small, fold=None, threads=1)
        told[audited] = UNSEEN_COPIES in taken.lines
    assert told == {False: ending == "parquet", True: False}
