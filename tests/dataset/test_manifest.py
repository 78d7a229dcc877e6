from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest

from callus.dataset import build_manifest, check_trainable, digest, load, read_manifest, usable, write_manifest
from callus.dataset.columns import COLUMNS, conform
from callus.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def table(**columns: list[object]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    frame = pd.DataFrame({name: columns.get(name, [""] * count) for name in COLUMNS})
    if "path" not in columns:
        frame["path"] = [f"/data/{number}.png" for number in range(count)]
    return frame


def rich(folder: Path) -> pd.DataFrame:
    return conform(
        table(
            path=[str(folder / "in" / "a,b\n.png"), "/elsewhere/c.png", str(folder / "d.png")],
            sha256=["aa", "bb", ""],
            width=[10, 20, None],
            height=[11, 21, None],
            label=[1, 0, None],
            group=["NA", "null", "nan"],
            hardware=[True, False, None],
            boxes=[[[1.0, 2.5, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4]], [], []],
            polygons=[[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], [], []],
            note=["", "cast", "unreadable: it is text"],
        )
    )


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_what_is_written_is_read(tmp_path: Path, ending: str) -> None:
    frame = rich(tmp_path)
    write_manifest(frame, tmp_path / f"manifest.{ending}")
    back = read_manifest(tmp_path / f"manifest.{ending}")
    pd.testing.assert_frame_equal(back, frame)
    assert digest(back) == digest(frame)
    assert str(back["label"].dtype) == "Int8"
    assert str(back["width"].dtype) == "Int32"
    assert str(back["hardware"].dtype) == "boolean"


def test_parquet_has_the_schema_and_the_mark(tmp_path: Path) -> None:
    write_manifest(rich(tmp_path), tmp_path / "m.parquet")
    schema = pq.read_schema(tmp_path / "m.parquet")
    assert schema.metadata[b"callus manifest"] == b"version 1"
    assert str(schema.field("boxes").type) == "list<element: list<element: double>>"
    assert schema.names == list(COLUMNS)
    stored = pq.read_table(tmp_path / "m.parquet")["path"].to_pylist()
    assert stored == ["in/a,b\n.png", "/elsewhere/c.png", "d.png"]


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(rich(tmp_path), path)
    pq.write_table(pq.read_table(path).replace_schema_metadata({b"callus manifest": b"version 2"}), path)
    with pytest.raises(DatasetError, match="version 2, this callus reads version 1"):
        read_manifest(path)


def test_a_moved_folder_keeps_working(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("set/fractured/a.png")
    draw("set/normal/b.png")
    frame = build_manifest(tmp_path / "set")
    write_manifest(frame, tmp_path / "set" / "manifest.csv")
    shutil.move(tmp_path / "set", tmp_path / "moved")
    moved = read_manifest(tmp_path / "moved" / "manifest.csv")
    assert moved["path"].tolist() == [
        str(tmp_path / "moved" / "fractured" / "a.png"),
        str(tmp_path / "moved" / "normal" / "b.png"),
    ]
    assert digest(moved) == digest(frame)


def test_a_sibling_folder_of_like_name_is_not_below(tmp_path: Path) -> None:
    frame = conform(table(path=[str(tmp_path / "data2" / "a.png")]))
    write_manifest(frame, tmp_path / "data" / "m.csv")
    assert read_manifest(tmp_path / "data" / "m.csv")["path"].tolist() == frame["path"].tolist()


def test_all_problems_are_raised_at_once(tmp_path: Path) -> None:
    frame = table(
        path=["a.png", "", "c.png"],
        label=["1", "2", "broken"],
        width=["10", "-3", "1.5"],
        region=["hand", "skull", ""],
        boxes=["[[1,2,3,4]]", "[[1,2,3]]", "x"],
        hardware=["", "maybe", "true"],
    )
    path = tmp_path / "m.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(DatasetError) as raised:
        read_manifest(path)
    message = str(raised.value)
    for part in (
        "row 2: '2', row 3: 'broken'",
        "row 2: '-3', row 3: '1.5'",
        "row 2: 'skull'",
        "row 2: '[[1,2,3]]', row 3: 'x'",
        "row 2: 'maybe'",
        "path has to be a path (row 2: '')",
        str(path),
    ):
        assert part in message
    assert "\n" not in message


def test_columns_are_checked(tmp_path: Path) -> None:
    frame = table(label=[1]).drop(columns=["sha256", "note"]).assign(colour="grey")
    path = tmp_path / "m.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(DatasetError, match="columns are missing: sha256, note; columns are unknown: colour"):
        read_manifest(path)


def test_double_paths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    table(path=["a.png", "./a.png"]).to_csv(path, index=False)
    with pytest.raises(DatasetError, match="more than once"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("no.parquet", None, "no such manifest"),
        ("text.parquet", b"hello", "cannot be read as a manifest"),
        ("empty.csv", b"", "cannot be read as a manifest"),
        ("latin.csv", b"path\n\xff\xfe\n", "cannot be read as a manifest"),
    ],
)
def test_what_is_no_manifest_is_named(tmp_path: Path, name: str, content: bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=expected):
        load(tmp_path / name)


def test_only_parquet_and_csv_are_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"ends in \.parquet or \.csv"):
        write_manifest(rich(tmp_path), tmp_path / "m.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(rich(tmp_path), tmp_path / "m.parquet")
    before = (tmp_path / "m.parquet").read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(Exception, match="No space left on device"):
        write_manifest(rich(tmp_path), tmp_path / "m.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]
    assert (tmp_path / "m.parquet").read_bytes() == before


def test_digest_changes_with_content_but_not_with_place(tmp_path: Path) -> None:
    frame = rich(tmp_path)
    other = frame.assign(path="/x/" + frame.index.astype(str))
    assert digest(other) == digest(frame)
    assert digest(frame.assign(split="train")) != digest(frame)
    assert digest(frame.iloc[::-1]) != digest(frame)


def test_usable_leaves_out_unlabelled_and_unreadable() -> None:
    frame = conform(table(label=[1, None, 0], note=["truncated: 3 rows", "", "unreadable: empty"]))
    assert usable(frame).index.tolist() == [0]


@pytest.mark.parametrize(
    ("labels", "groups", "expected"),
    [
        ([1, 1], ["a", "b"], "only one class: all 2 files are fractured, none is not fractured"),
        ([0, 0], ["a", "b"], "none is fractured"),
        ([None, None], ["a", "b"], "none of the 2 files has a label"),
        ([1, 1, 0, 0], ["a", "a", "b", "c"], "2 files that are fractured come from 1 group"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(labels: list[int | None], groups: list[str], expected: str) -> None:
    with pytest.raises(DatasetError, match=expected):
        check_trainable(conform(table(label=labels, group=groups)))


def test_what_can_be_learnt_from_passes() -> None:
    check_trainable(conform(table(label=[1, 1, 0, 0], group=["a", "b", "c", "d"])))


def test_csv_is_json_in_cells(tmp_path: Path) -> None:
    write_manifest(rich(tmp_path), tmp_path / "m.csv")
    cells = pd.read_csv(tmp_path / "m.csv", dtype=str, keep_default_na=False)["boxes"].tolist()
    assert json.loads(cells[0]) == [[1.0, 2.5, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4]]
    assert cells[1:] == ["", ""]
