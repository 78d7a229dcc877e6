"""What is refused before it costs anything."""

from __future__ import annotations

import os
import re
import struct
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from callus.errors import RadiographError
from callus.radiograph import limits, read
from callus.radiograph.elements import DEFLATED, EXPLICIT, PIXEL_DATA, parse

if TYPE_CHECKING:
    from pathlib import Path


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"\0")) + _chunk(b"IEND", b"")


def _jpeg_header(width: int, height: int) -> bytes:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\1\x11\0"
    return b"\xff\xd8" + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + b"\0" * 64 + b"\xff\xd9"


def _tiff_header(width: int, height: int) -> bytes:
    tags = ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 100))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def _webp_header(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("header", [_png_header, _jpeg_header, _tiff_header, _webp_header])
def test_a_huge_header_is_refused(header: Any) -> None:
    with pytest.raises(RadiographError, match=r"60,000 x 60,000 pixels; at most 100 million"):
        read(header(60_000, 60_000))


@pytest.mark.parametrize("header", [_png_header, _jpeg_header, _tiff_header])
def test_a_picture_without_pixels_is_refused(header: Any) -> None:
    with pytest.raises(RadiographError, match="has no pixels: 0 x 7"):
        read(header(0, 7))


def test_the_limit_itself_is_allowed() -> None:
    limits.check_size(10_000, 10_000)
    with pytest.raises(RadiographError, match="too large"):
        limits.check_size(10_000, 10_001)
    with pytest.raises(RadiographError, match="too large"):
        limits.check_size(65_536, 1)


@pytest.mark.parametrize("options", [{"kind": "PNG", "compress_level": 1}, {"kind": "TIFF"}])
def test_between_pillows_warning_and_our_limit_nothing_warns(options: dict[str, Any], save: Any) -> None:
    # Pillow warns from 89 million pixels on; warnings are errors here.
    radiograph = read(save(np.zeros((9_500, 9_500), np.uint8), **options))
    assert radiograph.shape == (9_500, 9_500)


def test_a_dicom_of_many_pixels_is_refused(make_dicom: Any) -> None:
    with pytest.raises(RadiographError, match="60,000 x 60,000"):
        read(make_dicom(np.zeros((2, 2), np.uint16), Rows=60_000, Columns=60_000))


def test_a_deflated_bomb_is_refused(make_dicom: Any) -> None:
    bomb = make_dicom(np.zeros((8000, 8000), np.uint16), syntax=DEFLATED)  # 128 MB
    assert len(bomb) < 200_000
    tracemalloc.start()
    with pytest.raises(RadiographError, match="inflates to more than 1,000,000 bytes"):
        parse(bomb, most=1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000


def test_what_inflates_costs_no_more_than_it_is(make_dicom: Any) -> None:
    plain = make_dicom(np.zeros((4000, 4000), np.uint16), syntax=DEFLATED)  # 32 MB
    tracemalloc.start()
    tags = parse(plain)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tags.by_tag[PIXEL_DATA].value) == 32_000_000
    assert not tags.cut
    assert peak < 48_000_000


@pytest.mark.parametrize("size", [1, 255, 256, 257, 1 << 17, (1 << 17) + 129, 1 << 20])
def test_what_inflates_in_pieces_is_whole(make_dicom: Any, size: int) -> None:
    pixels = np.repeat(np.arange(size, dtype=np.uint16)[None], 2, 0)
    deflated, plain = (make_dicom(pixels[:, :65000], syntax=syntax) for syntax in (DEFLATED, EXPLICIT))
    one, other = parse(deflated), parse(plain)
    assert one.by_tag[PIXEL_DATA].value == other.by_tag[PIXEL_DATA].value
    assert not one.cut
    assert parse(deflated[:-9]).cut


def test_a_text_chunk_bomb_costs_nothing(save: Any, picture: np.ndarray) -> None:
    plain = save(picture, "PNG")
    bomb = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9))
    radiograph = read(plain[:33] + bomb + plain[33:])
    assert np.array_equal(radiograph.pixels, picture)


def test_a_jpeg_of_endless_scans_is_refused(save: Any, picture: np.ndarray) -> None:
    data = save(picture, "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert read(data[:-2] + scan * 50 + data[-2:]).shape == picture.shape
    with pytest.raises(RadiographError, match="more than 200 scans"):
        read(data[:-2] + scan * 300 + data[-2:])


def test_a_tiff_whose_lengths_lie_is_refused() -> None:
    lying = _tiff_header(100, 100).replace(struct.pack("<HHII", 279, 4, 1, 100), struct.pack("<HHII", 279, 4, 1, 2**31))
    with pytest.raises(RadiographError, match="truncated"):
        read(lying)


def test_a_tiff_that_goes_in_circles_is_refused() -> None:
    header = _tiff_header(10, 10)
    with pytest.raises(RadiographError, match="circles"):
        read(header[:-4] + struct.pack("<I", 8))


def test_too_large_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, save: Any, picture: np.ndarray) -> None:
    path = tmp_path / "large.png"
    path.write_bytes(save(picture, "PNG"))
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 100)
    for source in (path, path.read_bytes()):
        with pytest.raises(RadiographError, match="bytes; at most 100 are read"):
            read(source)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RadiographError, match=re.escape(f"{tmp_path / 'none.png'}: there is no such file")):
        read(tmp_path / "none.png")
    with pytest.raises(RadiographError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(RadiographError, match="cannot be opened"):
        read("a\0b.png")
    with pytest.raises(RadiographError, match="expected a path or bytes"):
        read(3)  # type: ignore[arg-type]
    (tmp_path / "empty.png").touch()
    with pytest.raises(RadiographError, match=r"empty \(0 bytes\)"):
        read(tmp_path / "empty.png")


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(RadiographError, match="is a pipe or a device"):
        read(tmp_path / "pipe.png")
    with pytest.raises(RadiographError, match="is a pipe or a device"):
        read("/dev/zero")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything: let the system's answer stand in

        def refuse(*_: Any) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(limits.os, "open", refuse)
    with pytest.raises(RadiographError, match=r"secret\.png: may not be read: permission denied"):
        read(path)
