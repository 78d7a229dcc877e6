from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from callus.dataset import build_manifest
from callus.dataset.sources.names import ClassNames, original_stem, region_name, split_name
from callus.dataset.split import existing_split
from callus.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from callus.dataset.sources import Found

    Find = Callable[..., tuple[str, Found]]


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ("fractured", "not fractured"),
        ("Fractured", "Non_fractured"),
        ("FRACTURED", "NOT-FRACTURED"),
        ("positive", "negative"),
        ("fracture", "normal"),
        ("Fracture", "No Fracture"),
        ("with_fracture", "without fracture"),
        ("broken", "not broken"),
        ("Abnormal", "Normal"),
        ("Fractured Bones", "Healthy X-rays"),
        ("BoneFractured", "NonFractured"),
        ("1", "0"),
        ("yes", "no"),
        ("class_1", "class_0"),
    ],
)
def test_common_class_names(
    draw: Callable[..., Path], tmp_path: Path, find: Find, positive: str, negative: str
) -> None:
    draw(f"{positive}/a.png")
    draw(f"{negative}/b.png")
    name, found = find(tmp_path)
    assert name == "folder"
    assert {row.name: row.label for row in found.rows} == {f"{positive}/a.png": 1, f"{negative}/b.png": 0}


@pytest.mark.parametrize("name", ["images", "data", "hand", "train", "patient00001", "unknown", "infracted", "notes"])
def test_what_is_no_class(name: str) -> None:
    assert ClassNames().label(name, weak=True) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", "train"), ("Training", "train"), ("train_images", "train"), ("val", "val"), ("Valid", "val"),
        ("validation set", "val"), ("TEST", "test"), ("testing", "test"), ("attest", ""), ("data", ""),
    ],
)  # fmt: skip
def test_split_names(name: str, expected: str) -> None:
    assert split_name(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("XR_WRIST", "wrist"), ("Elbow positive", "elbow"), ("hand-leg", ""), ("handle", "")]
)
def test_region_names(name: str, expected: str) -> None:
    assert region_name(name) == expected


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("7-rotated2-rotated1", "7"),
        ("7", "7"),
        ("a-rotated", "a-rotated"),
        ("rotated1", "rotated1"),
        ("arm_png.rf.0123456789abcdef0123456789abcdef", "arm_png"),
    ],
)
def test_original_stems(stem: str, expected: str) -> None:
    assert original_stem(stem) == expected


def test_nested_splits_and_regions(draw: Callable[..., Path], tmp_path: Path, find: Find) -> None:
    draw("Bone Set/Data/train/fractured/hand/a.png")
    draw("Bone Set/Data/Testing/not fractured/XR_WRIST/a.png")
    _, found = find(tmp_path)
    rows = {row.name: (row.split, row.label, row.region) for row in found.rows}
    assert rows == {
        "Bone Set/Data/train/fractured/hand/a.png": ("train", 1, "hand"),
        "Bone Set/Data/Testing/not fractured/XR_WRIST/a.png": ("test", 0, "wrist"),
    }


def test_the_deepest_class_decides_and_weak_names_yield(draw: Callable[..., Path], tmp_path: Path, find: Find) -> None:
    draw("fracture study/1/normal/a.png")
    draw("fracture study/0/fractured/b.png")
    _, found = find(tmp_path)
    assert [row.label for row in found.rows] == [1, 0]


def test_unknown_folders_are_listed(draw: Callable[..., Path], tmp_path: Path, find: Find) -> None:
    draw("fractured/a.png")
    draw("cracked/b.png")
    draw("cracked/c.png")
    draw("dubious/d.png")
    with pytest.raises(DatasetError, match=r"name no class: 'cracked' \(2\), 'dubious' \(1\).*--positive"):
        find(tmp_path)
    _, found = find(tmp_path, positive=("Cracked",), negative=("dubious",))
    assert [row.label for row in found.rows] == [1, 1, 0, 1]
    name, found = find(tmp_path, "unlabelled")
    assert name == "unlabelled"
    assert [row.label for row in found.rows] == [None] * 4


@pytest.mark.parametrize(
    ("names", "labels", "remark"),
    [
        (["originals/a.png", "copies/a.png"], [None, None], "'copies' (1), 'originals' (1)"),
        (["PA000001/ST000001/SE000001/a.png", "PA000001/ST000001/SE000002/a.png"], [None] * 2, "'SE000001' (1), "),
        (["2021/wrist_a/a.png"], [None], "'wrist_a' (1)"),
        (["figures/a.png", "fractured/b.png", "normal/c.png"], [None, 1, 0], "'figures' (1)"),
    ],
)
def test_any_folder_can_be_taken_whole(
    draw: Callable[..., Path], tmp_path: Path, find: Find, names: list[str], labels: list[int | None], remark: str
) -> None:
    for name in names:
        draw(name)
    with pytest.raises(DatasetError, match="name no class"):
        find(tmp_path)
    name, found = find(tmp_path, take_all=True)
    assert (name, sorted((row.label for row in found.rows), key=str)) == ("folder", sorted(labels, key=str))
    (told,) = found.remarks
    assert told.startswith(f"{labels.count(None)} pictures lie in folders that name no class: they have no label: ")
    assert remark in told


def test_label_files_that_nobody_can_look_at_are_left_out_where_everything_is_taken(
    draw: Callable[..., Path], write: Callable[[str, str], Path], tmp_path: Path, find: Find
) -> None:
    draw("fractured/a.png")
    write("fractured/a.txt", "0 0.5 0.5 0.1 0.1")
    (tmp_path / "data.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"data.yaml: cannot be read"):
        find(tmp_path)
    name, found = find(tmp_path, take_all=True)
    assert (name, [row.label for row in found.rows]) == ("folder", [1])
    assert found.remarks == [
        "its labels are not read, only folders' names: as auto, data.yaml: cannot be read: No such file or directory"
    ]


def test_a_test_folder_without_classes_has_no_label(draw: Callable[..., Path], tmp_path: Path, find: Find) -> None:
    draw("train/fractured/a.png")
    draw("train/normal/b.png")
    draw("test/c.png")
    _, found = find(tmp_path)
    assert {row.name: row.label for row in found.rows}["test/c.png"] is None


def test_pictures_without_any_class_are_remarked(draw: Callable[..., Path], tmp_path: Path, find: Find) -> None:
    draw("images/a.png")
    _, found = find(tmp_path)
    assert found.rows[0].label is None
    assert found.remarks == ["no folder names a class: no file has a label"]


def test_one_class_only_still_gives_a_manifest(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("fractured/a.png")
    assert build_manifest(tmp_path)["label"].tolist() == [1]


def test_abnormal_is_noted(draw: Callable[..., Path], tmp_path: Path, find: Find) -> None:
    draw("abnormal/a.png")
    draw("normal/b.png")
    _, found = find(tmp_path)
    assert [row.notes for row in found.rows] == [["labelled abnormal, which need not be a fracture"], []]


def test_patients_and_studies(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("train/patient00007/study1_positive/fractured/a.png")
    draw("train/patient00007/study2/normal/b.png")
    draw("test/Patient00007/study2/normal/c.png")
    draw("test/patient8/normal/d.png")
    frame = build_manifest(tmp_path, "folder").sort_values("path")
    assert Counter(frame["patient"]) == {"patient00007": 3, "patient8": 1}
    assert Counter(frame["group"]) == {"patient:patient00007": 3, "patient:patient8": 1}
    assert set(frame["study"]) == {"patient00007/study1", "patient00007/study2", ""}


def test_rotated_copies_are_one_radiograph(draw: Callable[..., Path], tmp_path: Path) -> None:
    for name in (
        "train/fractured/7.png",
        "train/fractured/7-rotated1.png",
        "train/fractured/7-rotated1-rotated3.png",
        "train/fractured/8.png",
        "train/not fractured/7.png",
        "train/not fractured/7-rotated2.png",
        "val/fractured/7-rotated2.png",
        "val/fractured/8.png",
    ):
        draw(name)
    frame = build_manifest(tmp_path)
    by_name = {
        path.removeprefix(f"{tmp_path}/"): row for path, row in zip(frame["path"], frame.itertuples(), strict=True)
    }
    family = [name for name in by_name if name.startswith("train/fractured/7")]
    assert {by_name[name].radiograph for name in family} == {"train/fractured/7"}
    assert by_name["train/not fractured/7.png"].radiograph == "train/not fractured/7"
    # Another split's 7 of the same class may be the same radiograph: nobody knows, so only the group is shared.
    assert by_name["val/fractured/7-rotated2.png"].radiograph == "val/fractured/7"
    assert by_name["val/fractured/7-rotated2.png"].group == by_name["train/fractured/7.png"].group
    assert by_name["train/not fractured/7.png"].group != by_name["train/fractured/7.png"].group
    # 8 has no copies: that two folders number their pictures from 1 joins nothing.
    assert by_name["train/fractured/8.png"].group != by_name["val/fractured/8.png"].group


def test_bonedata(bonedata: Path, find: Callable[..., Any]) -> None:
    name, found = find(bonedata)
    assert name == "folder"
    assert len(found.rows) == 6508
    assert len({row.family for row in found.rows}) == 131
    assert Counter((row.split, row.label) for row in found.rows) == {
        ("train", 1): 2960,
        ("train", 0): 2948,
        ("val", 1): 360,
        ("val", 0): 240,
    }


def test_bonedata_validation_has_its_own_groups(bonedata: Path) -> None:
    frame = build_manifest(bonedata / "Data" / "val")
    assert frame["group"].nunique() == frame["radiograph"].nunique() == 13
    assert not existing_split(frame)
