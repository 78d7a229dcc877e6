"""COCO, YOLO and Pascal VOC for any folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from callus.dataset import build_manifest
from callus.dataset.sources.drawn import read_yolo_names
from callus.dataset.sources.names import ClassNames
from callus.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from callus.dataset.sources import Found

    Find = Callable[..., tuple[str, Found]]
    Draw = Callable[..., Path]
    Write = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fracture", 1), ("elbow positive", 1), ("Forearm_Fracture", 1), ("fractured bone", 1), ("no fracture", 0),
        ("healthy", 0), ("non-fractured wrist", 0), ("humerus", None), ("metal", None), ("text", None),
    ],
)  # fmt: skip
def test_what_a_box_means(name: str, expected: int | None) -> None:
    assert ClassNames().box_label(name) == expected


def coco(category: str = "fracture", **changes: Any) -> str:
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 32, "height": 24},
            {"id": 2, "file_name": "images/b.png", "width": 32, "height": 24},
        ],
        "categories": [{"id": 5, "name": category}, {"id": 6, "name": "cast"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4], "segmentation": {"counts": "x"}},
            {"id": 2, "image_id": 1, "category_id": 5, "bbox": [], "segmentation": [[0, 0, 4, 0, 4, 8]]},
            {"id": 3, "image_id": 1, "category_id": 5, "bbox": [1, 2, 0, 4]},
            {"id": 4, "image_id": 2, "category_id": 6, "bbox": [1, 2, 3, 4]},
        ],
    }
    return json.dumps(content | changes)


def test_coco(draw: Draw, write: Write, tmp_path: Path) -> None:
    for name in ("images/a.png", "images/b.png", "images/c.png"):
        draw(name)
    write("annotations.json", coco())
    frame = build_manifest(tmp_path)
    assert set(frame["source"]) == {"coco"}
    assert frame["label"].isna().tolist() == [False, False, True]
    assert frame["label"].tolist()[:2] == [1, 0]
    assert frame["boxes"].tolist() == [[[1, 2, 3, 4], [0, 0, 4, 8]], [], []]
    assert frame["polygons"].tolist() == [[[0, 0, 4, 0, 4, 8]], [], []]
    assert "annotation 3 has no box of a size" in frame.loc[0, "note"]
    assert frame.attrs["remarks"] == ["1 pictures are in no label file: they have no label"]


def test_coco_folders_count_where_nothing_is_drawn(draw: Draw, write: Write, tmp_path: Path, find: Find) -> None:
    draw("normal/a.png")
    draw("fractured/b.png")
    draw("fractured/c.png")
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    write("boxes.json", coco(images=images))
    _, found = find(tmp_path)
    rows = {row.name: (row.label, row.notes[-1:] if row.label else []) for row in found.rows}
    assert rows == {
        "normal/a.png": (1, ["labels disagree: the folder says not fractured but a fracture is drawn (taken)"]),
        "fractured/b.png": (1, ["labels disagree: the folder says fractured (taken), but no fracture is drawn"]),
        "fractured/c.png": (1, []),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (coco("humerus"), "none of the classes drawn means a fracture: cast, humerus"),
        (coco(annotations=[{"id": 9, "image_id": 7, "category_id": 5}]), "annotation 9 has the image 7, which is not"),
        (coco(categories=[{"id": 5}]), "is not a COCO file: KeyError 'name'"),
        ('{"images": [], "annotations": [', "is not a COCO file"),
        (coco(images=[{"id": n, "file_name": f"x{n}.png"} for n in (1, 2)]), "none of the 2 pictures .* is there: x1"),
    ],
)
def test_coco_that_does_not_fit(draw: Draw, write: Write, tmp_path: Path, find: Find, text: str, expected: str) -> None:
    draw("a.png")
    draw("images/b.png")
    write("annotations.json", text)
    with pytest.raises(DatasetError, match=expected):
        find(tmp_path)


def test_a_class_can_be_named(draw: Draw, write: Write, tmp_path: Path, find: Find) -> None:
    draw("a.png")
    draw("images/b.png")
    write("annotations.json", coco("humerus"))
    _, found = find(tmp_path, positive=("Humerus",))
    assert [row.label for row in found.rows] == [1, 0]


def test_boxes_of_another_shape_are_left_out(draw: Draw, write: Write, tmp_path: Path) -> None:
    draw("a.png", size=(64, 24))
    draw("images/b.png")
    write("annotations.json", coco())
    frame = build_manifest(tmp_path)
    assert frame["boxes"].tolist() == [[], []]
    assert frame["label"].tolist() == [1, 0]
    assert "its boxes are left out: drawn on 32 x 24, the file is 64 x 24" in frame.loc[0, "note"]


@pytest.mark.parametrize(
    "text",
    [
        "nc: 2\nnames: ['cast', \"elbow positive\"]\n",
        "names: [cast,\n  elbow positive]\nnc: 2",
        "names:\n- cast\n- elbow positive\nnc: 2\n",
        "train: x\nnames:\n  - cast # of plaster\n  - 'elbow positive'\n",
        "names:\n  0: cast\n  1: elbow positive\nother: 3\n",
        "names: {0: cast, 1: elbow positive}",
        "cast\nelbow positive\n",
    ],
)
def test_yolo_names(text: str) -> None:
    assert read_yolo_names(text) == {0: "cast", 1: "elbow positive"}


def test_yolo(draw: Draw, write: Write, tmp_path: Path) -> None:
    draw("train/images/a.png", size=(100, 50))
    draw("train/images/b.png")
    draw("valid/images/a.png", size=(100, 50))
    draw("valid/images/d.png")
    write("data.yaml", "names: ['elbow positive', 'cast']")
    write("train/labels/a.txt", "0 0.5 0.5 0.2 0.4\n1 0.1 0.1 0.1 0.1\n\nx y\n0 3 3 3 3\n")
    write("train/labels/b.txt", "")
    write("valid/labels/a.txt", "0 0.1 0.1 0.3 0.1 0.3 0.5\n")
    frame = build_manifest(tmp_path)
    assert set(frame["source"]) == {"yolo"}
    assert frame["split"].tolist() == ["train", "train", "val", "val"]
    assert frame["label"].tolist()[:3] == [1, 0, 1]
    assert frame["label"].isna().tolist() == [False, False, False, True]
    assert frame["boxes"].tolist()[0] == [pytest.approx([40, 15, 20, 20])]
    assert frame["boxes"].tolist()[2] == [pytest.approx([10, 5, 20, 20])]
    assert frame["polygons"].tolist()[2] == [pytest.approx([10, 5, 30, 5, 30, 25])]
    assert "line 4 is not numbers" in frame.loc[0, "note"]
    assert "line 5 is no box" in frame.loc[0, "note"]


def test_yolo_without_names(draw: Draw, write: Write, tmp_path: Path, find: Find) -> None:
    draw("images/a.png")
    write("labels/a.txt", "0 0.5 0.5 0.2 0.4\n")
    with pytest.raises(DatasetError, match="nothing names the classes"):
        find(tmp_path, "yolo")
    write("classes.txt", "bone\n")
    with pytest.raises(DatasetError, match="none of the classes drawn means a fracture: bone"):
        find(tmp_path, "yolo")


def voc(name: str, *, filename: str = "x.jpg") -> str:
    return (
        f"<annotation><filename>{filename}</filename><size><width>32</width><height>24</height></size><object>"
        f"<name>{name}</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>12</xmax><ymax>8</ymax></bndbox></object>"
        "</annotation>"
    )


def test_voc(draw: Draw, write: Write, tmp_path: Path) -> None:
    draw("images/a.png")
    draw("images/b.png")
    draw("images/c.png")
    write("Annotations/a.xml", voc("fracture"))
    write("Annotations/b.xml", voc("cast"))
    write("Annotations/other.xml", voc("fracture", filename="c.png"))
    write("Annotations/broken.xml", "<annotation>")
    write("Annotations/bomb.xml", '<!DOCTYPE x [<!ENTITY a "aaaa">]><annotation>&a;</annotation>')
    frame = build_manifest(tmp_path)
    assert set(frame["source"]) == {"voc"}
    assert frame["label"].tolist() == [1, 0, 1]
    assert frame["boxes"].tolist() == [[[2, 3, 10, 5]], [], [[2, 3, 10, 5]]]
    assert sorted(remark.split(":")[0] for remark in frame.attrs["remarks"]) == [
        "Annotations/bomb.xml",
        "Annotations/broken.xml",
    ]
