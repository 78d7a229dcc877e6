from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callus.dataset import usable
from callus.dataset.columns import COLUMNS, conform
from callus.dataset.groups import join_groups
from callus.dataset.split import assign_fold, check_groups, crossing_groups, existing_split, folds, split
from callus.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable


def manifest(groups: list[str], labels: list[int | None], regions: list[str] | None = None) -> pd.DataFrame:
    frame = pd.DataFrame("", index=range(len(groups)), columns=list(COLUMNS), dtype="object")
    frame["path"] = [f"/{number}.png" for number in range(len(groups))]
    frame["group"] = groups
    frame["label"] = labels
    frame["region"] = regions or ""
    return conform(frame)


@st.composite
def manifests(draw: Callable[..., object]) -> pd.DataFrame:
    """Ten to sixty groups of one to six files, labels by group with some mixed, some files unlabelled or unreadable."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = int(random.integers(10, 60))
    sizes = random.integers(1, 7, count)
    group = np.repeat(np.arange(count), sizes)
    label = (group % 2) ^ (random.random(len(group)) < random.choice([0, 0.2]))
    frame = manifest(
        [f"g{number}" for number in group], label.tolist(), random.choice(["hand", "leg", ""], len(group)).tolist()
    )
    frame.loc[random.random(len(group)) < 0.05, "label"] = pd.NA
    frame.loc[random.random(len(group)) < 0.05, "note"] = "unreadable: it is text"
    used = usable(frame)
    if used.groupby("label")["group"].nunique().reindex([0, 1], fill_value=0).min() < 5:
        return manifest([f"g{n}" for n in range(20)], [n % 2 for n in range(20)])
    return frame


MAKE = {
    "parts": lambda frame, seed: split(frame, test=0.2, val=0.2, seed=seed),
    "folds": lambda frame, seed: folds(frame, 4, seed),
    "fold": lambda frame, seed: assign_fold(frame, 4, 1, seed),
}


@pytest.mark.parametrize("kind", MAKE)
@settings(max_examples=15, deadline=None)
@given(frame=manifests(), seed=st.integers(0, 5))
def test_splits_hold_what_they_promise(kind: str, frame: pd.DataFrame, seed: int) -> None:
    before = frame.copy(deep=True)
    given_ = MAKE[kind](frame, seed)
    pd.testing.assert_frame_equal(frame, before)
    check_groups(given_)
    used = usable(given_)
    names = {"parts": {"train", "val", "test"}, "fold": {"train", "val", "test"}}.get(
        kind, {f"fold{n}" for n in range(4)}
    )
    assert set(used["split"]) == names
    assert used.groupby("split")["label"].nunique().min() == 2
    assert (given_.loc[~given_.index.isin(used.index), "split"] == "").all()
    pd.testing.assert_frame_equal(given_.drop(columns="split"), frame.drop(columns="split"))
    assert MAKE[kind](frame, seed)["split"].tolist() == given_["split"].tolist()
    order = np.random.default_rng(seed).permutation(len(frame))
    turned = MAKE[kind](frame.iloc[order].reset_index(drop=True), seed)
    assert turned["split"].tolist() == given_["split"].iloc[order].tolist()


@pytest.mark.parametrize("column", ["patient", "study", "radiograph", "sha256"])
@pytest.mark.parametrize("groups", ["", "g"])
def test_what_other_columns_hold_together_is_not_torn(column: str, groups: str) -> None:
    """A manifest of one's own may have no groups, or one a file."""
    count = 40
    frame = manifest([f"g{number}" if groups else "" for number in range(count)], [n // 2 % 2 for n in range(count)])
    frame[column] = [f"x{number // 2}" for number in range(count)]
    given_ = split(frame, test=0.25, val=0.25)
    check_groups(given_)
    assert len(given_.drop_duplicates([column, "split"])) == count // 2
    assert given_["group"].nunique() == count // 2
    with pytest.raises(DatasetError, match="groups cross the splits: 20 groups, 40 files"):
        check_groups(frame.assign(split=["train", "test"] * (count // 2)))


def test_files_that_are_no_pictures_are_not_one_because_their_bytes_are_equal() -> None:
    frame = manifest([""] * 4, [1, 1, 0, 0])
    frame["sha256"] = "of no bytes"
    frame["note"] = ["unreadable: it is empty"] * 3 + [""]
    assert join_groups(frame)["group"].tolist() == ["file:/0.png", "file:/1.png", "file:/2.png", "bytes:of no bytes"]


def large() -> pd.DataFrame:
    random = np.random.default_rng(1)
    group = random.integers(0, 300, 2000)
    return manifest(
        [f"g{number}" for number in group],
        (random.random(2000) < 0.2).astype(int).tolist(),
        random.choice(["hand", "leg", "hip"], 2000, p=[0.5, 0.4, 0.1]).tolist(),
    )


def test_shares_are_near_what_was_asked() -> None:
    given_ = split(large(), test=0.2, val=0.1)
    for part, share in {"train": 0.7, "val": 0.1, "test": 0.2}.items():
        rows = given_[given_["split"] == part]
        assert len(rows) == pytest.approx(2000 * share, rel=0.05)
        assert rows["label"].mean() == pytest.approx(large()["label"].mean(), rel=0.05)
        assert (rows["region"] == "leg").mean() == pytest.approx(0.4, abs=0.04)


def test_another_seed_gives_another_split() -> None:
    assert split(large(), seed=1)["split"].tolist() != split(large(), seed=2)["split"].tolist()


def test_folds_are_of_equal_size_and_assigned_in_turn() -> None:
    folded = folds(large(), 5)
    assert folded["split"].value_counts().to_numpy() == pytest.approx(400, rel=0.02)
    given_ = assign_fold(large(), 5, test_fold=4)
    assert ((given_["split"] == "test") == (folded["split"] == "fold4")).all()
    assert given_["split"].value_counts().to_dict() == pytest.approx({"train": 1400, "test": 400, "val": 200}, rel=0.03)


def test_a_part_can_be_left_out() -> None:
    assert set(split(large(), val=0)["split"]) == {"train", "test"}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_label_conflicts_are_put_aside(make: Callable[[pd.DataFrame, int], pd.DataFrame]) -> None:
    frame = manifest([f"g{number}" for number in range(24)], [number % 2 for number in range(24)])
    frame["radiograph"] = ["same"] * 3 + [f"r{number}" for number in range(21)]
    given_ = make(frame, 0)
    assert given_["split"].tolist()[:3] == ["", "", ""]
    assert (given_["split"][3:] != "").all()
    parted = split(frame)
    assert existing_split(parted), "a split of callus is one that training keeps"
    assert not existing_split(parted.assign(split=parted["split"].where(parted.index != 5, "")))


def test_few_groups_still_get_into_every_part() -> None:
    """One large group and two small ones a class: by size alone the small parts would get none."""
    groups = ["a"] * 20 + ["b", "c"] + ["d"] * 20 + ["e", "f"]
    given_ = split(manifest(groups, [1] * 22 + [0] * 22), test=0.1, val=0.1)
    assert usable(given_).groupby("split")["label"].nunique().to_dict() == {"test": 2, "train": 2, "val": 2}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda frame: split(frame, test=0.8, val=0.3), "test 0.8 and val 0.3 leave nothing to train on"),
        (lambda frame: split(frame, test=-0.1), "leave nothing"),
        (split, r"too few \(not fractured: 2 groups; fractured: 1 group\)"),
        (lambda frame: folds(frame, 1), "there cannot be 1 folds"),
        (lambda frame: assign_fold(frame, 1), "there cannot be 1 folds"),
        (lambda frame: assign_fold(frame, 3, 3), "no fold 3 of 3"),
        (lambda frame: split(frame.assign(note="unreadable: x")), "none of the 4 files"),
        (lambda frame: split(frame.assign(radiograph="one")), "none of the 4 files has one label"),
    ],
)
def test_what_cannot_be_split(make: Callable[[pd.DataFrame], object], expected: str) -> None:
    with pytest.raises(DatasetError, match=expected):
        make(manifest(["a", "a", "b", "c"], [1, 1, 0, 0]))


def test_a_group_that_crosses_is_named() -> None:
    frame = manifest(["a", "a", "b", "c"], [1, 1, 0, 0])
    frame["split"] = ["train", "test", "train", ""]
    said = r"^groups cross the splits: 1 group, 2 files \(a in test and train\); .*data split MANIFEST .*--allow-leaks"
    with pytest.raises(DatasetError, match=said):
        check_groups(frame)
    assert crossing_groups(frame)["group"].tolist() == ["a"]
    frame["split"] = ["train", "", "test", ""]
    check_groups(frame)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["train", "val", "train", "test"], True),
        (["train", "val", "train", "val"], True),
        (["train", "train", "train", "train"], False),
        (["train", "val", "", "test"], False),
        (["fold0", "fold1", "fold0", "fold1"], False),
    ],
)
def test_existing_split(parts: list[str], expected: bool) -> None:
    frame = manifest(["a", "b", "c", "d"], [1, 1, 0, 0])
    frame["split"] = parts
    assert existing_split(frame) is expected
