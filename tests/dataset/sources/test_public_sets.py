"""FracAtlas, MURA and GRAZPEDWRI-DX: their published layouts in small, and the real part of FracAtlas."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from callus.dataset import build_manifest
from callus.dataset.manifest import disagreeing, readable
from callus.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from callus.dataset.sources import Found

    Find = Callable[..., tuple[str, Found]]

FRACATLAS_HEADER = (
    "image_id,hand,leg,hip,shoulder,mixed,hardware,multiscan,fractured,fracture_count,frontal,lateral,oblique\n"
)


@pytest.fixture
def small_fracatlas(draw: Callable[..., Path], write: Callable[[str, str], Path], tmp_path: Path) -> Path:
    draw("FracAtlas/images/Fractured/IMG0000025.jpg", size=(100, 80))
    draw("FracAtlas/images/Fractured/IMG0000049.jpg")
    draw("FracAtlas/images/Non_fractured/IMG0000050.jpg")
    write(
        "FracAtlas/dataset.csv",
        FRACATLAS_HEADER
        + "IMG0000025.jpg,1,0,0,0,0,1,0,1,1,1,1,0\n"
        + "IMG0000049.jpg,1,1,0,0,1,0,0,0,0,0,0,1\n"
        + "IMG0000050.jpg,0,0,1,0,0,0,0,0,0,1,0,0\n"
        + "IMG0000051.jpg,0,0,1,0,0,0,0,0,0,1,0,0\n",
    )
    coco = {
        "images": [{"id": 2, "width": 200, "height": 160, "file_name": "IMG0000025.jpg"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 2,
                "category_id": 0,
                "segmentation": [[20, 20, 60, 20, 60, 40]],
                "bbox": [20, 20, 40, 20],
            }
        ],
        "categories": [{"id": 0, "name": "fractured"}],
    }
    write("FracAtlas/Annotations/COCO JSON/COCO_fracture_masks.json", json.dumps(coco))
    return tmp_path


def test_fracatlas_rows(small_fracatlas: Path) -> None:
    frame = build_manifest(small_fracatlas)
    assert set(frame["source"]) == {"fracatlas"}
    assert frame["label"].tolist() == [1, 1, 0]
    assert frame["region"].tolist() == ["hand", "mixed", "hip"]
    assert frame["view"].tolist() == ["frontal+lateral", "oblique", "frontal"]
    assert frame["hardware"].tolist() == [True, False, False]
    assert frame["group"].tolist() == ["block:numbers 25-49", "block:numbers 25-49", "block:numbers 50-74"]
    assert frame["boxes"].tolist() == [[[10.0, 10.0, 20.0, 10.0]], [], []]
    assert frame["polygons"].tolist() == [[[10.0, 10.0, 30.0, 10.0, 30.0, 20.0]], [], []]
    assert "scaled" in frame.loc[0, "note"]
    assert frame.loc[1, "note"] == "labels disagree: the folder says fractured (taken), dataset.csv not fractured"
    assert frame.attrs["remarks"] == ["1 pictures of dataset.csv are not here: this is a part of FracAtlas"]


def test_a_fracture_drawn_on_what_fracatlas_calls_whole_is_a_disagreement(small_fracatlas: Path) -> None:
    fractured = small_fracatlas / "FracAtlas" / "images" / "Fractured"
    for picture in fractured.iterdir():
        if picture.stem == "IMG0000025":
            picture.rename(small_fracatlas / "FracAtlas" / "images" / "Non_fractured" / picture.name)
    frame = build_manifest(small_fracatlas)
    row = frame["path"].str.endswith("IMG0000025.jpg")
    assert frame.loc[row, "label"].tolist() == [0]
    assert "labels disagree: a fracture is drawn" in frame.loc[row, "note"].item()
    assert disagreeing(frame)[row].all()


def test_fracatlas_without_folders_takes_the_table(small_fracatlas: Path, find: Find) -> None:
    images = small_fracatlas / "FracAtlas" / "images"
    for picture in images.rglob("*.jpg"):
        picture.rename(images / picture.name)
    _, found = find(small_fracatlas)
    assert [row.label for row in found.rows] == [1, 0, 0]


def test_what_was_added_to_fracatlas_is_there_and_told(small_fracatlas: Path, draw: Callable[..., Path]) -> None:
    images = "FracAtlas/images"
    for name in ("Fractured/copy_of_49.jpg", "Fractured/IMG0000025_rot.png", "Fractured/IMG0000050.jpg"):
        draw(f"{images}/{name}")
    draw("FracAtlas/Utilities/figure.png")
    draw("FracAtlas/copies/IMG0000025.jpg", size=(50, 40))
    frame = build_manifest(small_fracatlas)
    assert readable(frame).all()
    frame.index = [path.removeprefix(f"{small_fracatlas}/FracAtlas/") for path in frame["path"]]
    unlisted = ["Utilities/figure.png", "images/Fractured/IMG0000025_rot.png", "images/Fractured/copy_of_49.jpg"]
    assert frame.index[frame["note"] == "not in dataset.csv"].tolist() == unlisted
    assert frame.loc[unlisted, "label"].fillna(-1).tolist() == [-1, 1, 1]
    assert frame.attrs["remarks"][1] == (
        "3 pictures are not in dataset.csv: FracAtlas/Utilities/figure.png, "
        "FracAtlas/images/Fractured/IMG0000025_rot.png, FracAtlas/images/Fractured/copy_of_49.jpg"
    )
    # A number in the name is kept together with its neighbours.
    assert frame.loc["images/Fractured/IMG0000025_rot.png", "group"] == "block:numbers 25-49"
    # A second file of a number is what the table says of the number.
    assert frame.loc["copies/IMG0000025.jpg", ["label", "region"]].tolist() == [1, "hand"]
    assert frame.loc["copies/IMG0000025.jpg", "boxes"] == [[5.0, 5.0, 10.0, 5.0]]
    assert disagreeing(frame)["images/Fractured/IMG0000050.jpg"]


def test_fracatlas_whole(fracatlas: Path, find: Find) -> None:
    name, found = find(fracatlas)
    assert name == "fracatlas"
    assert len(found.rows) == 3385
    assert Counter(row.label for row in found.rows) == {1: 610, 0: 2775}
    assert sum(len(row.boxes) for row in found.rows) == 784
    assert len({row.block for row in found.rows}) == 147
    noted = [row for row in found.rows if row.notes]
    assert [row.name for row in noted] == ["images/Fractured/IMG0003298.jpg"]
    assert noted[0].boxes


def test_not_fracatlas(draw: Callable[..., Path], tmp_path: Path, find: Find) -> None:
    draw("fractured/a.png")
    for source, name in (("fracatlas", "FracAtlas"), ("mura", "MURA"), ("grazpedwri", "GRAZPEDWRI-DX")):
        with pytest.raises(DatasetError, match=f"this is not {name}"):
            find(tmp_path, source)


def test_mura(draw: Callable[..., Path], write: Callable[[str, str], Path], tmp_path: Path) -> None:
    draw("MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png")
    draw("MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image2.png")
    draw("MURA-v1.1/train/XR_HAND/patient00001/study1_negative/image1.png")
    draw("MURA-v1.1/valid/XR_ELBOW/patient11185/study1_negative/image1.png")
    write(
        "MURA-v1.1/train_labeled_studies.csv",
        "MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/,1\n"
        "MURA-v1.1/train/XR_HAND/patient00001/study1_negative/,1\n",
    )
    frame = build_manifest(tmp_path).sort_values("path").reset_index(drop=True)
    assert set(frame["source"]) == {"mura"}
    assert frame["label"].tolist() == [0, 1, 1, 0]
    assert frame["region"].tolist() == ["hand", "wrist", "wrist", "elbow"]
    assert frame["split"].tolist() == ["train", "train", "train", "val"]
    assert frame["patient"].tolist() == ["patient00001"] * 3 + ["patient11185"]
    assert frame["study"].nunique() == 3
    assert frame["group"].nunique() == 2
    assert "says not fractured (taken), the CSV of studies fractured" in frame.loc[0, "note"]
    assert disagreeing(frame).tolist() == [True, False, False, False]
    assert "which need not be a fracture" in frame.loc[1, "note"]
    assert "abnormal, not fractured" in frame.attrs["remarks"][0]


def test_mura_labels_may_stand_in_the_csv_alone(
    draw: Callable[..., Path], write: Callable[[str, str], Path], tmp_path: Path, find: Find
) -> None:
    draw("valid/XR_WRIST/patient00001/study1/image1.png")
    write("valid_labeled_studies.csv", "MURA-v1.1/valid/XR_WRIST/patient00001/study1/,1\n")
    name, found = find(tmp_path)
    assert name == "mura"
    assert found.rows[0].label == 1


def test_what_was_added_to_mura_is_there_and_told(draw: Callable[..., Path], tmp_path: Path, find: Find) -> None:
    draw("train/XR_WRIST/patient00001/study1_positive/image1.png")
    draw("train/XR_WRIST/patient00001/study1_positive/turned/image1.png")
    draw("originals/copy.png")
    name, found = find(tmp_path)
    assert name == "mura"
    assert [(row.name, row.label, len(row.notes)) for row in found.rows] == [
        ("originals/copy.png", None, 1),
        ("train/XR_WRIST/patient00001/study1_positive/image1.png", 1, 1),
        ("train/XR_WRIST/patient00001/study1_positive/turned/image1.png", 1, 2),
    ]
    assert found.rows[0].notes == ["not in XR_REGION/patientN/studyN, where MURA's lie"]
    assert found.remarks[0].startswith("2 pictures are not in XR_REGION/patientN/studyN, where MURA's lie: originals/")


GRAZ_HEADER = (
    "filestem,patient_id,study_number,timehash,gender,age,laterality,projection,initial_exam,ao_classification,cast,"
    "diagnosis_uncertain,osteopenia,fracture_visible,metal\n"
)


def test_grazpedwri(draw: Callable[..., Path], write: Callable[[str, str], Path], tmp_path: Path) -> None:
    stems = ["0001_1297860395_01_WRI-L1_M014", "0001_1297860435_01_WRI-L2_M014", "0002_0354485735_01_WRI-R1_F012"]
    draw(f"images_part1/{stems[0]}.png", size=(100, 200))
    draw(f"images_part2/{stems[1]}.png")
    draw(f"images_part2/{stems[2]}.png")
    write(f"folder_structure/yolov5/labels/{stems[0]}.txt", "3 0.5 0.5 0.2 0.1\n8 0.9 0.1 0.1 0.1\n")
    write(f"folder_structure/yolov5/labels/{stems[1]}.txt", "8 0.9 0.1 0.1 0.1\nnonsense\n")
    write(f"folder_structure/yolov5/labels/{stems[2]}.txt", "3 0.5 0.5 0.2 0.1\n")
    write(
        "dataset.csv",
        GRAZ_HEADER
        + f"{stems[0]},1,1,x,M,14,L,1,1,23r-M/2.1,,,,1.0,\n"
        + f"{stems[1]},1,1,x,M,14,L,2,1,23r-M/2.1,1.0,1.0,,1.0,1.0\n"
        + f"{stems[2]},2,1,x,F,12,R,1,1,,,,,,\n"
        + "0003_x,3,1,x,F,12,R,1,1,,,,,,\n",
    )
    frame = build_manifest(tmp_path)
    assert set(frame["source"]) == {"grazpedwri"}
    assert frame["label"].tolist() == [1, 1, 1]
    assert frame["view"].tolist() == ["frontal", "lateral", "frontal"]
    assert frame["hardware"].tolist() == [False, True, False]
    assert frame["boxes"].tolist()[0] == [pytest.approx([40.0, 90.0, 20.0, 20.0])]
    assert frame["boxes"].tolist()[1] == []
    assert frame["group"].tolist() == ["patient:1", "patient:1", "patient:2"]
    assert frame["study"].tolist() == ["1/1", "1/1", "2/1"]
    assert set(frame["region"]) == {"wrist"}
    assert "diagnosis uncertain; cast" in frame.loc[1, "note"]
    assert "line 2 is not numbers" in frame.loc[1, "note"]
    assert frame.loc[2, "note"] == "labels disagree: dataset.csv says not fractured but a fracture is drawn (taken)"
    assert frame.attrs["remarks"] == ["1 pictures of dataset.csv are not here: this is a part of GRAZPEDWRI-DX"]


def test_what_was_added_to_grazpedwri_is_there_and_told(
    draw: Callable[..., Path], write: Callable[[str, str], Path], tmp_path: Path, find: Find
) -> None:
    stem = "0001_1297860395_01_WRI-L1_M014"
    for name in (f"images_part1/{stem}.png", f"copies/{stem}.jpg", f"images_part1/{stem}_rot.png"):
        draw(name)
    write("dataset.csv", f"{GRAZ_HEADER}{stem},1,1,x,M,14,L,1,1,23r-M/2.1,,,,1.0,\n")
    name, found = find(tmp_path)
    assert name == "grazpedwri"
    assert [(row.name, row.label, row.patient, row.notes) for row in found.rows] == [
        (f"copies/{stem}.jpg", 1, "1", []),
        (f"images_part1/{stem}.png", 1, "1", []),
        (f"images_part1/{stem}_rot.png", None, "", ["not in dataset.csv"]),
    ]
    assert found.remarks == [f"1 pictures are not in dataset.csv: images_part1/{stem}_rot.png"]
