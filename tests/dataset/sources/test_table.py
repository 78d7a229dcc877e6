from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from callus.dataset import build_manifest
from callus.dataset.manifest import disagreeing
from callus.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from callus.dataset.sources import Found

    Find = Callable[..., tuple[str, Found]]
    Draw = Callable[..., Path]
    Write = Callable[[str, str], Path]


def test_all_columns(draw: Draw, write: Write, tmp_path: Path) -> None:
    for name in ("a.png", "deep/b.png", "deep/c.png"):
        draw(name)
    table = write(
        "labels.csv",
        "Image;Label;Patient ID;Study;Region;View;Split;Boxes;Remark\n"
        "a.png;fractured;p1;s1;XR_WRIST;lateral;training;[[1,2,3,4],[5,6,7,8]];x\n"
        "b;0;p1;s2;hand;frontal;test;;y\n"
        "deep\\c.png;Fractured;p2;s3;mixed;;valid;[1, 2, 3, 4]\n",
    )
    frame = build_manifest(tmp_path, labels=table)
    assert set(frame["source"]) == {"table"}
    assert frame["label"].tolist() == [1, 0, 1]
    assert (frame["note"] == "").all()
    assert frame["region"].tolist() == ["wrist", "hand", "mixed"]
    assert frame["split"].tolist() == ["train", "test", "val"]
    assert frame["boxes"].tolist() == [[[1, 2, 3, 4], [5, 6, 7, 8]], [], [[1, 2, 3, 4]]]
    assert frame["group"].tolist() == ["patient:p1", "patient:p1", "patient:p2"]


def test_a_table_is_held_against_folders_and_boxes(draw: Draw, write: Write, tmp_path: Path) -> None:
    """The table wins over a folder, a box over the table; what may mean something else contradicts nothing."""
    rows = {
        "fractured/a.png": ("0", ""),
        "not fractured/b.png": ("1", ""),
        "fractured/c.png": ("1", ""),
        "1/d.png": ("0", ""),
        "abnormal/e.png": ("0", ""),
        "x/f.png": ("0", "[1, 2, 3, 4]"),
        "normal/g.png": ("0", "[1, 2, 3, 4]"),
        "x/h.png": ("", "[1, 2, 3, 4]"),
        "fractured/i.png": ("", ""),
    }
    for name in rows:
        draw(name)
    lines = [f'{name},{label},"{boxes}"\n' for name, (label, boxes) in rows.items()]
    frame = build_manifest(tmp_path, labels=write("labels.csv", "path,label,boxes\n" + "".join(lines)))
    told = {
        Path(path).relative_to(tmp_path).as_posix(): (None if pd.isna(label) else label, note)
        for path, label, note in frame[["path", "label", "note"]].itertuples(index=False)
    }
    drawn = "labels disagree: labels.csv says not fractured but a fracture is drawn (taken)"
    assert told == {
        "fractured/a.png": (0, "labels disagree: the folder says fractured, labels.csv not fractured (taken)"),
        "not fractured/b.png": (1, "labels disagree: the folder says not fractured, labels.csv fractured (taken)"),
        "fractured/c.png": (1, ""),
        "1/d.png": (0, ""),
        "abnormal/e.png": (0, ""),
        "x/f.png": (1, drawn),
        "normal/g.png": (
            1,
            f"{drawn}; labels disagree: the folder says not fractured, its boxes fractured (taken)",
        ),
        "x/h.png": (1, ""),
        "fractured/i.png": (None, ""),
    }
    assert disagreeing(frame).sum() == 4


def test_a_table_at_the_top_is_recognised(draw: Draw, write: Write, tmp_path: Path, find: Find) -> None:
    draw("images/a.png")
    write("my.csv", "filename,fracture\na.png,yes\n")
    name, found = find(tmp_path)
    assert name == "table"
    assert found.rows[0].label == 1


def test_missing_and_unlisted_pictures_are_remarked(draw: Draw, write: Write, tmp_path: Path, find: Find) -> None:
    draw("a.png")
    draw("z.png")
    missing = [f"m{number}.png" for number in range(8)]
    table = write("labels.csv", "path,label\na.png,1\n" + "".join(f"{name},0\n" for name in missing))
    _, found = find(tmp_path, labels=table)
    assert [row.label for row in found.rows] == [1, None]
    assert found.remarks == [
        "8 pictures that labels.csv lists are missing: m0.png, m1.png, m2.png, m3.png, m4.png and 3 more",
        "1 pictures are not in labels.csv: they have no label",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\nm.png,1\nn.png,0\n", "none of the 2 pictures that labels.csv lists is there: m.png, n.png"),
        ("path,label\na.png,perhaps\n", "row 1: the label 'perhaps' is not understood"),
        ("path,label\na.png,1\na.png,0\n", "row 2: 'a.png' stands there a second time"),
        ("path,label,region\na.png,1,skull\n", "row 1: the region 'skull' is none of hand"),
        ('path,label,boxes\na.png,1,"[[1,2,3]]"\n', "row 1: the boxes '\\[\\[1,2,3\\]\\]' are not"),
        ("where,label\na.png,1\n", "has no column of files .*; it has where, label"),
        ("path,colour\na.png,1\n", "has no column of labels"),
        ("path,label\n", "has no lines below its header"),
        ("", "has no lines"),
        ("path,label\na.png,1,2\n", "row 1 has 3 cells, the header has 2"),
        ("path,label\nb.png,1\n", "'b.png' may mean 2 files: x/b.png, y/b.png"),
    ],
)
def test_what_does_not_fit_is_named(
    draw: Draw, write: Write, tmp_path: Path, find: Find, text: str, expected: str
) -> None:
    for name in ("a.png", "x/b.png", "y/b.png"):
        draw(name)
    with pytest.raises(DatasetError, match=expected) as raised:
        find(tmp_path, labels=write("labels.csv", text))
    assert "\n" not in str(raised.value)


def test_paths_beside_the_table(draw: Draw, write: Write, tmp_path: Path, find: Find) -> None:
    for name in ("x/b.png", "y/b.png"):
        draw(name)
    _, found = find(tmp_path, labels=write("y/labels.csv", f"path,label\nb.png,1\n{tmp_path}/x/b.png,0.0\n"))
    assert {row.name: row.label for row in found.rows} == {"y/b.png": 1, "x/b.png": 0}


def test_names_that_differ_by_case_only(draw: Draw, write: Write, tmp_path: Path, find: Find) -> None:
    for name in ("images/A.png", "images/a.png", "B.png"):
        draw(name)
    _, found = find(tmp_path, labels=write("labels.csv", "path,label\nA.png,1\na,0\nb.PNG,1\n"))
    assert {row.name: row.label for row in found.rows} == {"images/A.png": 1, "images/a.png": 0, "B.png": 1}


def test_a_missing_table_and_a_source_that_takes_none(draw: Draw, tmp_path: Path, find: Find) -> None:
    draw("a.png")
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        find(tmp_path, labels=tmp_path / "no.csv")
    with pytest.raises(DatasetError, match="'folder' takes no label file"):
        find(tmp_path, "folder", labels=tmp_path / "no.csv")
    with pytest.raises(DatasetError, match="has 0 tables"):
        find(tmp_path, "table")


def test_a_table_for_each_split_is_read(draw: Draw, write: Write, tmp_path: Path, find: Find) -> None:
    for name in ("fractured/a.png", "fractured/b.png", "normal/c.png", "normal/d.png", "normal/e.png"):
        draw(name)
    write("train_labels.csv", "path,label\na.png,1\nb.png,0\n")
    write("valid.csv", "file;class;split\nc.png;normal;\nd.png;normal;test\nlost.png;normal;\n")
    name, found = find(tmp_path)
    assert name == "table"
    assert [(row.name, row.label, row.split) for row in found.rows] == [
        ("fractured/a.png", 1, "train"),
        ("fractured/b.png", 0, "train"),
        ("normal/c.png", 0, "val"),
        ("normal/d.png", 0, "test"),
        ("normal/e.png", None, ""),
    ]
    assert found.rows[1].notes == ["labels disagree: the folder says fractured, train_labels.csv not fractured (taken)"]
    assert found.remarks == [
        "1 pictures that train_labels.csv, valid.csv list are missing: lost.png",
        "1 pictures are not in train_labels.csv, valid.csv: they have no label",
    ]


def test_a_table_for_each_split_may_name_files_from_its_folder(
    draw: Draw, write: Write, tmp_path: Path, find: Find
) -> None:
    for name in ("training/fractured/1.png", "test/1.png", "test/normal/2.png"):
        draw(name)
    write("train.csv", "path,label\n1.png,1\n")
    write("test.csv", "path,label\n1.png,0\nnormal/2.png,0\n")
    assert [(row.name, row.label) for row in find(tmp_path)[1].rows] == [
        ("test/1.png", 0),
        ("test/normal/2.png", 0),
        ("training/fractured/1.png", 1),
    ]


def test_what_is_wrong_in_one_of_several_tables_is_named_with_it(
    draw: Draw, write: Write, tmp_path: Path, find: Find
) -> None:
    draw("fractured/a.png")
    write("train.csv", "path,label\na.png,1\na.png,1\n")
    write("test.csv", "path,label\na.png,perhaps\n")
    said = (
        "test.csv row 1: the label 'perhaps' is not understood .*; train.csv row 1: 'a.png' stands in test.csv too; "
        "train.csv row 2: 'a.png' stands in test.csv too"
    )
    with pytest.raises(DatasetError, match=said):
        find(tmp_path)


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        (["annotations/labels.csv"], "annotations/labels.csv"),
        (["first.csv", "second.csv"], "first.csv, second.csv"),
        (["train.csv", "training.csv"], "train.csv, training.csv"),
        (["labels.csv", "train.csv"], "labels.csv, train.csv"),
    ],
)
def test_tables_that_are_not_read_are_named(
    draw: Draw, write: Write, tmp_path: Path, find: Find, tables: list[str], named: str
) -> None:
    draw("fractured/a.png")
    write("notes.csv", "path,colour\na.png,grey\n")
    for name in tables:
        write(name, "path,label\na.png,0\n")
    remark = f"label tables that are not read: {named}; data manifest and data audit take --labels"
    name, found = find(tmp_path)
    assert (name, found.rows[0].label, found.remarks) == ("folder", 1, [remark])
    for source, labels in (("folder", None), ("auto", tmp_path / tables[0])):
        assert remark not in find(tmp_path, source, labels=labels)[1].remarks


def test_labels_that_cannot_be_read_are_left_out_where_everything_is_taken(
    draw: Draw, write: Write, tmp_path: Path, find: Find
) -> None:
    for name in ("fractured/a.png", "fractured/copies/a.png"):
        draw(name)
    table = write("labels.csv", "path,label\na.png,0\n")
    with pytest.raises(DatasetError, match="may mean 2 files"):
        find(tmp_path)
    name, found = find(tmp_path, take_all=True)
    assert (name, [row.label for row in found.rows]) == ("folder", [1, 1])
    assert found.remarks == [
        (
            "its labels are not read, only folders' names: "
            "as table, 'a.png' may mean 2 files: fractured/a.png, fractured/copies/a.png"
        ),
        "label tables that are not read: labels.csv; data manifest and data audit take --labels",
    ]
    write("labels.csv", "path,label\nfractured/a.png,perhaps\n")
    assert (
        find(tmp_path, take_all=True)[1]
        .remarks[0]
        .startswith(
            "its labels are not read, only folders' names: as table, labels.csv: row 1: the label 'perhaps' is not"
        )
    )
    for source, labels in (("table", None), ("auto", table)):
        with pytest.raises(DatasetError, match="perhaps"):
            find(tmp_path, source, labels=labels, take_all=True)


def test_cells_that_name_nobody_join_nobody(draw: Draw, write: Write, tmp_path: Path) -> None:
    cells = ["unknown", "unknown", "NA", "n/a", "-", "Anonymous", "none", "", "0", "0"]
    lines = []
    for number, cell in enumerate(cells):
        draw(f"{number}.png")
        lines.append(f"{number}.png,{number % 2},{cell},{cell},{cell}\n")
    table = write("labels.csv", "path,label,patient_id,study,radiograph\n" + "".join(lines))
    frame = build_manifest(tmp_path, labels=table)
    assert frame["patient"].tolist() == frame["study"].tolist() == [""] * 8 + ["0", "0"]  # 0 may be the first patient
    assert frame["radiograph"].nunique() == frame["group"].nunique() == 9
