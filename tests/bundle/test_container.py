"""Files that nobody may be made to wait for, or to keep in memory, before it is known that a bundle is one."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
import zipfile
from pathlib import Path

import pytest
import tiny_bundle

from callus.bundle import Bundle, contents, pack, write_bundle
from callus.bundle.container import LARGEST_DIRECTORY
from callus.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.write_tiny_bundle(tmp_path / "tiny")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, 9, 99])
@pytest.mark.parametrize("name", ["bundle.json", "model.onnx"])
def test_only_stored_and_deflated_entries_are_read(bundle: Path, tmp_path: Path, method: int, name: str) -> None:
    """Whatever the method's decoder would raise: the bytes of these entries are none that it knows."""
    packed = pack(bundle, tmp_path / "tiny.callus")
    data = bytearray(packed.read_bytes())
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(name.encode()))
    data[at + 10 : at + 12] = struct.pack("<H", method)
    packed.write_bytes(data)
    with pytest.raises(BundleError, match=rf"'{name}' is packed by method {method}; expected stored or deflated"):
        Bundle.load(packed)


def test_a_directory_of_millions_is_not_read(bundle: Path, tmp_path: Path) -> None:
    packed = pack(bundle, tmp_path / "tiny.callus")
    with zipfile.ZipFile(packed, "a") as archive:
        entry = zipfile.ZipInfo("x")
        archive.writestr(entry, b"")
        entry.extra = struct.pack("<HH", 0xCA11, 60_000) + bytes(60_000)
        archive.filelist.extend([entry] * (LARGEST_DIRECTORY // 60_000 + 1))
    with pytest.raises(BundleError, match="its directory has more than 1,048,576 bytes"):
        Bundle.load(packed)


@pytest.mark.parametrize("name", ["model-int8.bin", "pictures.csv", "MODEL_CARD.md"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_longer_than_any_of_its_kind_is_refused_before_it_is_read(
    bundle: Path, tmp_path: Path, name: str, zipped: bool
) -> None:
    size = {"pictures.csv": contents.LARGEST_PICTURES, "MODEL_CARD.md": contents.LARGEST_TEXT}.get(
        name, contents.LARGEST_FILE
    )
    info = json.loads((bundle / "bundle.json").read_text())
    info["files"][name] = "0" * 64
    (bundle / "bundle.json").write_text(json.dumps(info))
    with (bundle / name).open("wb") as file:
        file.truncate(size + 1)  # takes no room
    where = bundle
    if zipped:
        where = tmp_path / "long.callus"
        with zipfile.ZipFile(where, "w") as archive:
            for file in ("bundle.json", "model.onnx", "MODEL_CARD.md"):
                archive.writestr(file, (bundle / file).read_bytes() if file != name else b"x")
            if name != "MODEL_CARD.md":
                archive.writestr(name, b"x")
            said = archive.getinfo(name)
            said.file_size, said.compress_size = size + 1, size // 100  # the directory is written with that
    with pytest.raises(BundleError, match=rf"{name} is longer than {size:,} bytes"):
        Bundle.load(where)


def test_a_bundle_with_such_a_file_is_not_written(bundle: Path, tmp_path: Path) -> None:
    long = tmp_path / "long"
    with long.open("wb") as file:
        file.truncate(contents.LARGEST_PICTURES + 1)
    files = {"model.onnx": bundle / "model.onnx", "MODEL_CARD.md": b"# x", "pictures.csv": long}
    with pytest.raises(BundleError, match=r"pictures\.csv is longer than 33,554,432 bytes"):
        write_bundle(tmp_path / "b", tiny_bundle.tiny_info(), files)


def test_lines_of_pictures_that_are_not_as_they_should_be_are_passed_over(tmp_path: Path) -> None:
    good = "0123456789abcdef"
    lines = f"sha256,split\r\n{good},train\r\nshort,val\n{good[::-1]},a,b\n,\n\n{good[1:]}0,val"
    files = {"model.onnx": tiny_bundle.tiny_graph().SerializeToString(), "MODEL_CARD.md": b"# x"}
    made = write_bundle(tmp_path / "b", tiny_bundle.tiny_info(), files | {"pictures.csv": lines.encode()})
    assert Bundle.load(made).pictures == {good: "train", good[1:] + "0": "val"}
    commas = b"sha256,split\n" + b"," * (8 << 20)
    made = write_bundle(tmp_path / "b", tiny_bundle.tiny_info(), files | {"pictures.csv": commas})
    loaded, began = Bundle.load(made), time.process_time()
    assert loaded.pictures == {}
    assert time.process_time() - began < 1


def test_a_pipe_is_no_bundle_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.callus")
    with pytest.raises(BundleError, match=r"pipe\.callus: is neither a file nor a folder"):
        Bundle.load(tmp_path / "pipe.callus")


def sealed(folder: Path, **engine: str) -> Path:
    """Change the entry of the one engine, and add the files that it names."""
    info = json.loads((folder / "bundle.json").read_text())
    info["engines"]["onnx-float32"] |= engine
    for name in engine.values():
        if not (folder / name).exists():
            (folder / name).write_bytes(b"x")
        info["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ({"weights": "w.bin"}, "weights is 'w.bin', expected none but with a .xml"),
        ({"file": "m.xml", "weights": "w.bin"}, "file is 'm.xml', expected an ONNX graph"),
    ],
)
def test_a_graph_that_nobody_would_look_at_is_refused(bundle: Path, engine: dict[str, str], told: str) -> None:
    with pytest.raises(BundleError, match=told):
        Bundle.load(sealed(bundle, **engine))


def test_a_map_of_too_many_cells_is_refused(bundle: Path) -> None:
    info = json.loads((bundle / "bundle.json").read_text())
    info["outputs"]["map"]["stride"] = 1
    info["input"] |= {"height": 512, "width": 513}
    (bundle / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(BundleError, match="the map has 262,656 cells, at most 262,144 are read"):
        Bundle.load(bundle)
