"""PNG, JPEG, TIFF and WebP: every depth and kind of colour, upright, and what ends early."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from callus.errors import RadiographError
from callus.radiograph import grey, read

LOSSLESS = ("PNG", "TIFF")


@pytest.fixture(scope="module")
def deep(picture: np.ndarray) -> np.ndarray:
    """uint16 values that use the low byte too."""
    return (picture.astype(np.uint16) * 257) ^ np.arange(70, dtype=np.uint16)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_grey_of_8_and_16_bits_is_untouched(kind: str, picture: np.ndarray, deep: np.ndarray, save: Any) -> None:
    for pixels in (picture, deep):
        radiograph = read(save(pixels, kind))
        assert radiograph.pixels.dtype == pixels.dtype
        assert np.array_equal(radiograph.pixels, pixels)
        assert radiograph.grey
        assert radiograph.format == kind
        assert radiograph.notes == ()
        assert radiograph.pixels.flags.c_contiguous


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize(("bits", "greatest"), [(8, 255), (8, 200), (10, 600), (12, 4095), (12, 2100), (14, 16383)])
def test_a_detectors_bits_in_16_are_spread_over_them(kind: str, bits: int, greatest: int, save: Any) -> None:
    values = np.linspace(0, greatest, 80 * 70).round().astype(np.uint16).reshape(80, 70)
    radiograph = read(save(values, kind))
    assert radiograph.pixels.dtype == np.uint16
    assert np.abs(radiograph.pixels - values * (65535 / (2**bits - 1))).max() <= 0.5
    assert radiograph.notes == (f"dark: no value is above {greatest:,} of 65,535; taken for {bits} bits",)


@pytest.mark.parametrize("step", [256, 257])
def test_a_dark_picture_of_8_bits_stays_as_dark_in_16(step: int, save: Any) -> None:
    values = (np.arange(70 * 50, dtype=np.uint16).reshape(50, 70) % 50) * np.uint16(step)
    radiograph = read(save(values, "PNG"))
    assert np.array_equal(radiograph.pixels, values)
    assert radiograph.notes == ()


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_of_16_bits_keeps_them(ending: str, channels: int, deep: np.ndarray) -> None:
    same = np.dstack([deep] * channels)
    if channels == 4:
        same[..., 3] = 65535
    radiograph = read(cv2.imencode(ending, same)[1].tobytes())
    assert radiograph.pixels.dtype == np.uint16
    assert np.array_equal(radiograph.pixels, deep)
    assert radiograph.grey


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_colour_of_16_bits_in_the_right_order(ending: str) -> None:
    bgr = np.zeros((8, 8, 3), np.uint16)
    bgr[..., 2] = 60000  # red
    radiograph = read(cv2.imencode(ending, bgr)[1].tobytes())
    assert int(radiograph.pixels[0, 0]) == pytest.approx(0.299 * 60000, abs=2)
    assert not radiograph.grey


@pytest.mark.parametrize("kind", [*LOSSLESS, "WEBP"])
def test_colour_becomes_luma(kind: str, save: Any) -> None:
    rgb = np.zeros((32, 30, 3), np.uint8)
    rgb[:, :10, 0], rgb[:, 10:20, 1], rgb[:, 20:, 2] = 200, 200, 200
    radiograph = read(save(rgb, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert radiograph.pixels[0, [0, 10, 20]].tolist() == [60, 117, 23]  # 0.299, 0.587, 0.114 of 200
    assert not radiograph.grey


def test_equal_channels_are_grey(picture: np.ndarray, save: Any) -> None:
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 75})):
        assert read(save(np.dstack([picture] * 3), kind, **options)).grey
    assert np.array_equal(read(save(np.dstack([picture] * 3), "PNG")).pixels, picture)


def test_a_colour_jpeg_is_not_grey(picture: np.ndarray, save: Any) -> None:
    rgb = np.dstack([picture, picture // 2, picture // 4])
    radiograph = read(save(rgb, "JPEG", quality=95))
    assert not radiograph.grey
    expected = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(int)
    assert np.abs(radiograph.pixels - expected).max() <= 12
    assert np.abs(radiograph.pixels - expected).mean() < 2


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "LA"), ("PNG", "RGBA"), ("TIFF", "RGBA"), ("WEBP", "RGBA")])
def test_what_is_transparent_is_black(kind: str, mode: str, save: Any) -> None:
    image = Image.new("RGBA", (9, 6), (200, 200, 200, 255))
    image.paste((200, 200, 200, 0), (0, 0, 3, 6))
    image.paste((200, 200, 200, 128), (3, 0, 6, 6))
    radiograph = read(save(image, kind, mode, **({"lossless": True, "exact": True} if kind == "WEBP" else {})))
    assert radiograph.pixels[0].tolist() == [0] * 3 + [100] * 3 + [200] * 3
    assert radiograph.grey


def test_16_bit_grey_with_alpha() -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", 40000, 65535, 40000, 32768, 40000, 0) for _ in range(4))
    radiograph = read(_png(3, 4, 16, 4, rows))
    assert radiograph.pixels.dtype == np.uint16
    assert radiograph.pixels[0].tolist() == [40000, 20000, 0]


def test_a_transparent_value_is_black(save: Any) -> None:
    pixels = np.array([[10, 20, 30]], np.uint8)
    assert read(save(pixels, "PNG", transparency=20)).pixels.tolist() == [[10, 0, 30]]
    assert read(save(pixels.astype(np.uint16) * 1000, "PNG", transparency=20000)).pixels.tolist() == [[10000, 0, 30000]]


@pytest.mark.parametrize("kind", LOSSLESS)
def test_palettes_and_single_bits(kind: str, save: Any) -> None:
    image = Image.new("P", (4, 1))
    image.putpalette([0, 0, 0, 90, 90, 90, 180, 180, 180, 255, 255, 255])
    image.putdata([3, 2, 1, 0])
    assert read(save(image, kind)).pixels.tolist() == [[255, 180, 90, 0]]
    bits = Image.fromarray(np.array([[0, 255, 255, 0, 255]], np.uint8)).convert("1")
    assert read(save(bits, kind)).pixels.tolist() == [[0, 255, 255, 0, 255]]


def test_a_palette_with_transparency(save: Any) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 200, 200, 100, 100, 100])
    image.putdata([0, 1])
    assert read(save(image, "PNG", transparency=0)).pixels.tolist() == [[0, 100]]


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_white_is_zero_in_tiff(bits: int) -> None:
    pixels = {1: [[0, 1]], 8: [[0, 200]], 16: [[0, 50000]]}[bits]
    raw = {1: b"\x40", 8: bytes([0, 200]), 16: struct.pack("<2H", 0, 50000)}[bits]
    expected = {1: [[255, 0]], 8: [[255, 55]], 16: [[65535, 15535]]}[bits]
    assert read(_tiff(2, 1, bits, 0, raw)).pixels.tolist() == expected, pixels


def test_big_endian_tiff_and_bigtiff(deep: np.ndarray) -> None:
    big = Image.fromarray(deep)
    buffer = io.BytesIO()
    big.save(buffer, "TIFF", big_tiff=True)
    assert np.array_equal(read(buffer.getvalue()).pixels, deep)
    raw = struct.pack(">2H", 258, 50000)
    assert read(_tiff(2, 1, 16, 1, raw, order=">")).pixels.tolist() == [[258, 50000]]


def test_values_are_stretched_between_the_ends_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([[np.nan, 2], [5, 3], [np.inf, np.nan], [1, np.nan]], np.float32)
    whole = grey.stretch(values)
    assert whole.tolist() == [[0, 16384], [65535, 32768], [0, 0], [0, 0]]
    monkeypatch.setattr(grey, "_BAND", 2)  # a row at a time
    assert np.array_equal(grey.stretch(values), whole)
    assert not grey.stretch(np.full((3, 2), np.nan)).any()


def test_values_without_a_known_white_are_stretched(save: Any) -> None:
    floats = np.array([[-1.0, 0.0, 1.0]], np.float32)
    assert read(save(floats, "TIFF")).pixels.tolist() == [[0, 32768, 65535]]
    whole = np.array([[-100, 0, 100]], np.int32)
    assert read(save(whole, "TIFF")).pixels.tolist() == [[0, 32768, 65535]]
    odd = np.array([[np.nan, -np.inf, 2.0, 4.0, 4.0]], np.float32)
    assert read(save(odd, "TIFF")).pixels.tolist() == [[0, 0, 0, 65535, 65535]]
    assert read(save(np.full((2, 2), 7.5, np.float32), "TIFF")).pixels.tolist() == [[0, 0], [0, 0]]


def test_a_jpeg_coded_as_rgb(save: Any) -> None:
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[..., 0] = 200
    radiograph = read(save(rgb, "JPEG", quality=95, keep_rgb=True))
    assert np.abs(radiograph.pixels.astype(int) - 60).max() <= 1
    assert not radiograph.grey


def test_a_cmyk_jpeg(save: Any) -> None:
    radiograph = read(save(Image.new("CMYK", (16, 16), (0, 0, 0, 55)), "JPEG", quality=95))
    assert np.abs(radiograph.pixels.astype(int) - 200).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int, save: Any) -> None:
    upright = np.kron(np.array([[10, 60, 110], [160, 210, 250]], np.uint8), np.ones((16, 16), np.uint8))
    # How a camera in that position stores what is upright (EXIF 2.3, 4.6.4): the way back from each.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    radiograph = read(save(np.ascontiguousarray(stored), kind, exif=exif.tobytes(), **options))
    assert radiograph.shape == (32, 48)
    assert np.abs(radiograph.pixels.astype(int) - upright).max() <= (3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff\x12\x01", b"junk"])
def test_damaged_exif_leaves_the_picture_upright(exif: bytes, picture: np.ndarray, save: Any) -> None:
    radiograph = read(save(picture, "JPEG", exif=b"Exif\0\0" + exif))
    assert radiograph.shape == picture.shape


@pytest.mark.parametrize("name", ["jpeg", "jpeg colour", "jpeg progressive", "png", "png colour", "png 16", "tiff"])
def test_a_file_that_ends_early_is_read_as_far_as_it_goes(name: str, every_format: dict[str, bytes]) -> None:
    whole = read(every_format[name], strict=True)
    half = every_format[name][: 6 * len(every_format[name]) // 10]
    radiograph = read(half)
    assert radiograph.shape == whole.shape
    assert len(radiograph.notes) == 1
    assert radiograph.notes[0].startswith("truncated: ")
    if name != "jpeg progressive":
        assert np.array_equal(radiograph.pixels[:16], whole.pixels[:16])
        assert not radiograph.pixels[-16:].any()
    with pytest.raises(RadiographError, match=r"^the given bytes: is truncated: .*; copy the file again"):
        read(half, strict=True)


def test_truncation_never_goes_unnoticed(every_format: dict[str, bytes]) -> None:
    for name, data in every_format.items():
        for cut in range(1, len(data) - 1, max(1, len(data) // 40)):
            try:
                radiograph = read(data[:cut])
            except RadiographError:
                continue
            assert radiograph.notes, f"{name} cut at {cut} of {len(data)}"
            assert radiograph.notes[0].startswith("truncated: ")


def test_bytes_after_the_end_are_no_truncation(every_format: dict[str, bytes]) -> None:
    for name in ("jpeg", "jpeg progressive", "png", "tiff", "webp"):
        assert read(every_format[name] + b"camera makers append things", strict=True).notes == ()


def test_the_real_truncated_files(fracatlas: Any) -> None:
    noted = []
    for path in sorted((fracatlas / "images" / "Non_fractured").glob("IMG0004[01]*.jpg")):
        data = path.read_bytes()
        try:
            Image.open(io.BytesIO(data)).load()
            whole = True
        except OSError:
            whole = False
        assert bool(read(path).notes) != whole, path
        noted += [] if whole else [path]
    assert len(noted) >= 10
    with pytest.raises(RadiographError, match="is truncated"):
        read(noted[0], strict=True)


def test_a_damaged_checksum_is_no_picture(every_format: dict[str, bytes]) -> None:
    data = bytearray(every_format["png"])
    data[data.index(b"IDAT") + 100] ^= 1
    with pytest.raises(RadiographError, match="checksum of its IDAT chunk is wrong"):
        read(bytes(data))


def test_pages_of_a_tiff(picture: np.ndarray, save: Any) -> None:
    pages = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    data = save(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(RadiographError, match=r"holds 2 frames; expected one radiograph; name one: frame=0 to frame=1"):
        read(data)
    assert np.array_equal(read(data, frame=0).pixels, picture)
    assert np.array_equal(read(data, frame=1).pixels, 255 - picture)
    with pytest.raises(RadiographError, match="has no frame 2; it holds 2"):
        read(data, frame=2)


def test_an_animation_is_no_radiograph(picture: np.ndarray, save: Any) -> None:
    pages = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    webp = save(pages[0], "WEBP", save_all=True, append_images=pages[1:], lossless=True)
    with pytest.raises(RadiographError, match="holds 2 frames"):
        read(webp)
    assert np.array_equal(read(webp, frame=1).pixels, 255 - picture)
    with pytest.raises(RadiographError, match="holds 2 frames"):
        read(save(pages[0], "PNG", save_all=True, append_images=pages[1:]))
    animated = save(pages[0], "PNG", save_all=True, append_images=pages[1:])
    assert np.array_equal(read(animated, frame=0).pixels, picture)
    with pytest.raises(RadiographError, match="has no frame 1"):
        read(animated, frame=1)
    with pytest.raises(RadiographError, match="has no frame 1; it holds 1"):
        read(save(picture, "JPEG"), frame=1)


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _tiff(width: int, height: int, bits: int, photometric: int, raw: bytes, order: str = "<") -> bytes:
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8 + 2 + 9 * 12 + 4)]
    tags += [(277, 1), (278, height), (279, len(raw))]
    entries = b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return start + entries + bytes(4) + raw


def _plain_tiff(pixels: np.ndarray, planes: int = 1, **tags: list[int]) -> bytes:
    """An uncompressed TIFF of one strip a plane; tags as ``t258=[16]``."""
    height, width = pixels.shape
    values = {256: [width], 257: [height], 258: [8 * pixels.itemsize] * planes, 259: [1], 262: [1], 277: [planes]}
    values |= {278: [height]} | {int(name[1:]): value for name, value in tags.items()}
    strip = pixels.tobytes()
    values[273], values[279] = [8 + number * len(strip) for number in range(planes)], [len(strip)] * planes
    extra_at = 8 + planes * len(strip) + 2 + 12 * len(values) + 4
    entries, extra = b"", b""
    for tag in sorted(values):
        raw = struct.pack(f"<{len(values[tag])}I", *values[tag])
        entries += struct.pack("<HHI", tag, 4, len(values[tag]))
        entries += raw if len(raw) == 4 else struct.pack("<I", extra_at + len(extra))
        extra += raw if len(raw) > 4 else b""
    head = b"II*\0" + struct.pack("<I", 8 + planes * len(strip))
    return head + planes * strip + struct.pack("<H", len(values)) + entries + bytes(4) + extra


def test_signed_bytes_of_a_tiff_are_stretched() -> None:
    signed = np.array([[-128, -1, 0, 127]], np.int8)
    assert read(_plain_tiff(signed, t339=[2])).pixels.tolist() == [[0, 32639, 32896, 65535]]
    assert read(_plain_tiff(signed.view(np.uint8))).pixels.tolist() == [[128, 255, 0, 127]]


@pytest.mark.parametrize(
    ("pixels", "tags", "told"),
    [
        (np.zeros((4, 8), np.float64), {"t339": [3]}, "1 samples of 64 float bits, photometric interpretation 1"),
        (np.zeros((4, 8), np.float16), {"t339": [3]}, "1 samples of 16 float bits, photometric interpretation 1"),
        (np.zeros((4, 8), np.uint16), {"t258": [14]}, "1 samples of 14 bits, photometric interpretation 1"),
        (np.zeros((4, 8), np.uint16), {"t262": [32803]}, "1 samples of 16 bits, photometric interpretation 32803"),
    ],
)
def test_kinds_of_tiff_that_are_not_read_are_named(pixels: np.ndarray, tags: dict[str, list[int]], told: str) -> None:
    with pytest.raises(RadiographError, match=f"is a TIFF of {told}, which is not read; export it with 8 or 16 bits"):
        read(_plain_tiff(pixels, **tags))


def test_16_bit_colour_in_planes_of_its_own_is_refused_and_not_mixed_up(picture: np.ndarray) -> None:
    planes: dict[str, list[int]] = {"t262": [2], "t284": [2]}
    assert np.array_equal(read(_plain_tiff(picture, 3, **planes)).pixels, picture)
    with pytest.raises(RadiographError, match="16 bits, photometric interpretation 2, in planes of their own"):
        read(_plain_tiff(picture.astype(np.uint16) * 257, 3, **planes))


def _plain_png(colour: int, rows: bytes, size: tuple[int, int], interlaced: int = 0) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_png_that_has_its_end_but_not_its_rows(picture: np.ndarray) -> None:
    height, width = picture.shape
    rows = [b"\0" + row.tobytes() for row in picture]
    assert read(_plain_png(0, b"".join(rows), (width, height))).notes == ()
    radiograph = read(_plain_png(0, b"".join(rows[:40]), (width, height)))
    assert radiograph.notes == (f"truncated: the last {height - 40} of {height} rows are missing",)
    assert np.array_equal(radiograph.pixels[:40], picture[:40])
    assert not radiograph.pixels[40:].any()
    with pytest.raises(RadiographError, match="is truncated"):
        read(_plain_png(0, b"".join(rows[:40]), (width, height)), strict=True)
    with pytest.raises(RadiographError, match="is truncated"):
        read(_plain_png(0, bytes(1600), (width, height), interlaced=1))
    black = np.vstack([picture[:40], np.zeros_like(picture[40:])])
    whole = read(_plain_png(0, b"".join(b"\0" + row.tobytes() for row in black), (width, height)))
    assert (whole.notes, np.array_equal(whole.pixels, black)) == ((), True)


def test_a_png_of_a_palette_without_it_is_refused(picture: np.ndarray) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in picture)
    with pytest.raises(RadiographError, match="is a PNG of palette colours without its palette"):
        read(_plain_png(3, rows, picture.shape[::-1]))


def test_a_tiff_whose_strip_lies_of_its_length_takes_no_memory(picture: np.ndarray, save: Any) -> None:
    data = bytearray(save(picture, "TIFF"))
    (place,) = [found for kind in (3, 4) if (found := data.find(struct.pack("<HHI", 279, kind, 1))) >= 0]
    data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 732_000_000)
    tracemalloc.start()
    with pytest.raises(RadiographError, match="truncated"):
        read(bytes(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
