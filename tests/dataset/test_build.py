from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from callus.dataset import build_manifest, read_manifest, readable, write_manifest
from callus.dataset.columns import COLUMNS, conform
from callus.dataset.files import list_files
from callus.dataset.groups import components, join_groups, name_groups
from callus.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_every_file_is_a_row_and_bad_ones_say_why(draw: Callable[..., Path], tmp_path: Path) -> None:
    good = draw("fractured/good.png", size=(40, 30))
    draw("normal/good.jpg")
    (tmp_path / "normal" / "text.png").write_text("this is text")
    (tmp_path / "normal" / "empty.png").write_bytes(b"")
    (tmp_path / "normal" / "cut.png").write_bytes(good.read_bytes()[:60])
    (tmp_path / "normal" / "nowhere.png").symlink_to(tmp_path / "missing.png")
    frame = build_manifest(tmp_path).set_index("path", drop=False)
    frame.index = frame.index.map(lambda path: Path(path).name)
    assert sorted(frame.index) == ["cut.png", "empty.png", "good.jpg", "good.png", "nowhere.png", "text.png"]
    assert frame.loc["good.png", ["width", "height"]].tolist() == [40, 30]
    bad = frame[~readable(frame)]
    assert {"text.png", "empty.png", "nowhere.png"} <= set(bad.index)
    assert bad["width"].isna().all()
    assert not bad["note"].str.contains(str(tmp_path), regex=False).any()
    assert (bad["radiograph"] == "").all()
    assert frame["group"].nunique() == 6


def test_other_files_are_no_rows(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("fractured/a.png")
    shutil.copy(draw("normal/b.png"), tmp_path / "normal" / "1.2.840.113619.2")
    for name in ("README", "README.md", "notes.csv", "x.json", "Thumbs.db", ".DS_Store", "normal/LICENSE", "DICOMDIR"):
        (tmp_path / name).write_text("nothing to see")
    (tmp_path / ".hidden").mkdir()
    draw(".hidden/c.png")
    listing = list_files(tmp_path)
    assert listing.pictures == ("fractured/a.png", "normal/1.2.840.113619.2", "normal/b.png")
    assert len(build_manifest(tmp_path)) == 3


def test_dicom_needs_no_ending(dicom_folder: Path, tmp_path: Path) -> None:
    file = next(path for path in sorted(dicom_folder.rglob("*")) if path.suffix == ".dcm")
    shutil.copy(file, tmp_path / "IM000001")
    frame = build_manifest(tmp_path)
    assert readable(frame).all()
    assert frame.loc[0, "study"] != ""
    assert frame.loc[0, "group"] != ""


def test_byte_equal_copies_are_one_radiograph(draw: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copy(draw("fractured/a.png"), tmp_path / "fractured" / "copy.png")
    draw("normal/b.png")
    frame = build_manifest(tmp_path)
    assert frame["radiograph"].tolist()[0] == frame["radiograph"].tolist()[1] == frame["sha256"].tolist()[0]
    assert frame["group"].nunique() == 2


def test_strict_takes_truncated_files_as_unreadable(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("fractured/a.png")
    cut = draw("normal/b.jpg", size=(256, 256))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 4])
    lenient, strict = build_manifest(tmp_path), build_manifest(tmp_path, strict=True)
    assert lenient.loc[1, "note"].startswith("truncated")
    assert readable(lenient).all()
    assert strict.loc[1, "note"].startswith("unreadable: ")


@pytest.mark.parametrize("content", [None, "README"])
def test_an_empty_folder_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / content).write_text("x")
    with pytest.raises(DatasetError, match=r"looked for PNG, JPEG, TIFF, WebP and DICOM") as raised:
        build_manifest(tmp_path)
    assert "\n" not in str(raised.value)


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        build_manifest(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match="is not a folder"):
        build_manifest(tmp_path / "file")
    with pytest.raises(DatasetError, match="no source 'nonsense'"):
        build_manifest(_with_picture(tmp_path), "nonsense")


def _with_picture(folder: Path) -> Path:
    (folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def test_link_loops_end_and_are_named(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("fractured/a.png")
    draw("normal/b.png")
    (tmp_path / "normal" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "normal", target_is_directory=True)
    frame = build_manifest(tmp_path)
    assert len(frame) == 2
    assert len(frame.attrs["remarks"]) == 2
    assert all("listed already" in remark for remark in frame.attrs["remarks"])


def test_a_link_to_a_sibling_gives_no_label_and_no_split(draw: Callable[..., Path], tmp_path: Path) -> None:
    """The link is met before the folder that it leads to, whose files are that folder's all the same."""
    draw("train/fractured/a.png")
    draw("train/not fractured/b.png")
    draw("test/fractured/c.png")
    (tmp_path / "train" / "fractured" / "see also").symlink_to(tmp_path / "train" / "not fractured")
    (tmp_path / "test" / "all").symlink_to(tmp_path / "train")
    frame = build_manifest(tmp_path)
    assert {Path(path).name: (label, split) for path, label, split in frame[["path", "label", "split"]].to_numpy()} == {
        "a.png": (1, "train"),
        "b.png": (0, "train"),
        "c.png": (1, "test"),
    }
    assert [remark.partition(":")[0] for remark in frame.attrs["remarks"]] == ["test/all", "train/fractured/see also"]


def test_a_folder_that_only_a_link_leads_to_is_listed(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("elsewhere/deep/a.png")
    draw("set/fractured/b.png")
    (tmp_path / "set" / "normal").symlink_to(tmp_path / "elsewhere")
    assert list_files(tmp_path / "set").pictures == ("fractured/b.png", "normal/deep/a.png")


def test_links_to_themselves_hide_nothing(draw: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(3):
        draw(f"fractured/{number}.png")
        draw(f"normal/deeper/{number}.png")
    for name in ("m", "fractured/m.png", "normal/m"):
        (tmp_path / name).symlink_to((tmp_path / name).name)
    frame = build_manifest(tmp_path)
    assert readable(frame).sum() == 6
    (loop,) = frame.loc[~readable(frame), "path"]
    assert Path(loop).name == "m.png"
    assert sorted(remark.partition(": cannot be looked at: ")[0] for remark in frame.attrs["remarks"]) == [
        "m",
        "normal/m",
    ]


def test_a_folder_whose_own_name_is_not_utf8_is_one_error(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("set/fractured/a.png")
    odd = tmp_path / os.fsdecode(b"\xff")
    (tmp_path / "set").rename(odd)
    for folder in (odd, odd / "fractured"):
        with pytest.raises(DatasetError, match="name is not UTF-8"):
            build_manifest(folder)
    (tmp_path / "link").symlink_to(odd)
    write_manifest(build_manifest(tmp_path / "link"), tmp_path / "link" / "m.parquet")
    assert len(read_manifest(tmp_path / "link" / "m.parquet")) == 1
    with pytest.raises(DatasetError, match="name is not UTF-8"):
        read_manifest(odd / "m.parquet")


def test_odd_names(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("fractured/line\nbreak.png")
    draw("normal/A.png")
    draw("normal/a.png")
    (tmp_path / "normal" / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    os.mkfifo(tmp_path / "normal" / "pipe.png")
    frame = build_manifest(tmp_path)
    assert len(frame) == 3
    write_manifest(frame, tmp_path / "m.parquet")
    assert any("not UTF-8" in remark for remark in frame.attrs["remarks"])
    assert any("a pipe" in remark for remark in frame.attrs["remarks"])


AS_NOBODY = """
import os, sys
from pathlib import Path
import callus.dataset.build as build
from callus.errors import DatasetError
os.setgroups([]); os.setgid(65534); os.setuid(65534)
frame = build.build_manifest(Path(sys.argv[1]))
print(len(frame), frame["note"].tolist(), frame.attrs["remarks"])
for inner in ("", "deeper"):
    try:
        build.load(Path(sys.argv[1]) / "normal" / "locked" / inner)
    except DatasetError as error:
        print("refused:", error)
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become an unprivileged user")
def test_what_may_not_be_read_is_named(draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("fractured/a.png")
    draw("normal/b.png").chmod(0)
    draw("normal/c.png").rename(tmp_path / "normal" / "IM000001")
    (tmp_path / "normal" / "IM000001").chmod(0)
    draw("normal/c.png")
    draw("normal/locked/deeper/d.png").parent.parent.chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)  # pytest's folders are private
    answer = subprocess.run([sys.executable, "-c", AS_NOBODY, tmp_path], capture_output=True, text=True, check=False)
    found, refused, deeper = answer.stdout.splitlines() or [answer.stderr, "", ""]
    assert found.startswith("4 ['', 'unreadable: "), answer.stderr
    assert found.count("'unreadable: ") == 2
    assert "normal/locked: folder cannot be read: Permission denied" in found
    assert refused.startswith(f"refused: {tmp_path}/normal/locked: cannot be read: Permission denied")
    assert deeper.startswith(f"refused: {tmp_path}/normal/locked/deeper: cannot be looked at: Permission denied")


def text(*values: str) -> pd.Series[str]:
    return pd.Series(values, dtype="str")


def test_components_are_the_union_of_all_keys() -> None:
    keys = {"a": text("1", "1", "", "2", "", ""), "b": text("", "x", "x", "", "1", "")}
    assert components(keys, 6).tolist() == [0, 0, 0, 1, 2, 3]


def test_group_names_do_not_depend_on_the_order() -> None:
    frame = pd.DataFrame(
        {
            "path": text("/a", "/b", "/c", "/d", "/e"),
            "radiograph": text("r2", "r1", "r1", "", "r9"),
            "study": text("s", "s", "", "", ""),
            "patient": text("", "", "", "", "p"),
        }
    )
    blocks = text("", "", "", "", "k")
    names = name_groups(frame, blocks)
    assert names.tolist() == ["study:s", "study:s", "study:s", "file:/d", "patient:p"]
    mixed = [3, 1, 4, 0, 2]
    turned = name_groups(frame.iloc[mixed].reset_index(drop=True), blocks.iloc[mixed].reset_index(drop=True))
    assert turned.tolist() == names.iloc[mixed].tolist()


def test_patients_and_studies_without_a_name_join_nothing() -> None:
    names = ["unknown", "unknown", "N/A", "n/a", "-", "-", "p1", "p1"]
    for column in ("patient", "study"):
        frame = pd.DataFrame("", index=range(8), columns=list(COLUMNS), dtype="object")
        frame["path"] = [f"/{number}.png" for number in range(8)]
        frame[column] = names
        joined = join_groups(conform(frame))
        assert joined["group"].nunique() == 7
        assert joined[column].tolist() == [""] * 6 + ["p1", "p1"]
