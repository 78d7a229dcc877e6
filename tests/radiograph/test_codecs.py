"""Transfer syntaxes: lossless ones exact, lossy ones near, damaged ones an error."""

from __future__ import annotations

import base64
import os
import re
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import gdcm
import numpy as np
import pytest
from pydicom.uid import UID

from callus.errors import RadiographError
from callus.radiograph import read

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "1.2.840.10008.1.2"


@pytest.fixture(scope="module")
def stored(picture: np.ndarray) -> np.ndarray:
    """12 bits in 16."""
    return (picture.astype(np.uint16) * 16) ^ np.arange(70, dtype=np.uint16) % 16


def _by_gdcm(pixels: np.ndarray, bits: int, name: str, path: Path, make_dicom: Any) -> bytes:
    """Code a picture with GDCM, which writes the JPEG kinds that pydicom does not."""
    path.write_bytes(make_dicom(pixels, bits=bits))
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    codec = gdcm.JPEGCodec()
    if "Lossless" not in name:
        codec.SetLossless(False)
        codec.SetQuality(98)
        change.SetUserCodec(codec)
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path.read_bytes()


@pytest.mark.parametrize("syntax", [f"{PREFIX}", f"{PREFIX}.1", f"{PREFIX}.1.99", f"{PREFIX}.2"])
def test_uncompressed(syntax: str, stored: np.ndarray, picture: np.ndarray, make_dicom: Any) -> None:
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    radiograph = read(make_dicom(stored, bits=12, syntax=syntax, **window))
    assert np.array_equal(radiograph.pixels, np.rint(stored / 4095 * 65535))
    assert radiograph.format == "DICOM"
    assert radiograph.notes == ()
    assert np.array_equal(read(make_dicom(picture, syntax=syntax, WindowCenter=128, WindowWidth=256)).pixels, picture)


def test_big_endian_bytes_in_words(make_dataset: Any, as_bytes: Any, picture: np.ndarray) -> None:
    data = make_dataset(picture, syntax=f"{PREFIX}.2", WindowCenter=128, WindowWidth=256)
    data.PixelData = picture.tobytes()
    data["PixelData"].VR = "OW"
    written = as_bytes(data)
    # pydicom writes OW as it stands: the pairs are swapped here, as a big-endian writer of words has them.
    swapped = picture.view(np.uint16).byteswap().tobytes()
    assert np.array_equal(read(written.replace(picture.tobytes(), swapped)).pixels, picture)


@pytest.mark.parametrize("number", ["5", "4.80", "4.90"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_syntaxes_are_exact(
    number: str, bits: int, picture: np.ndarray, make_dataset: Any, as_bytes: Any
) -> None:
    pixels = picture if bits == 8 else (picture.astype(np.uint16) << (bits - 8)) | 3
    data = make_dataset(pixels, bits=bits)
    expected = read(as_bytes(data)).pixels
    data.compress(f"{PREFIX}.{number}", generate_instance_uid=False)
    radiograph = read(as_bytes(data))
    assert np.array_equal(radiograph.pixels, expected)
    assert radiograph.notes == ()


def test_high_throughput_jpeg_2000(make_coded: Any, make_dataset: Any, as_bytes: Any) -> None:
    # Nothing that is installed here writes HTJ2K: these 230 bytes are of OpenJPH, reversible, 16 bits.
    stream = base64.b85decode(
        "|4;u>04YEK0000A0000C00000000000000A0000C0000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&kdTm&"
        "kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000aR34TlfVEb6ZHiLbN~Rr024p}698QP0ta*e5cC6wbO68r5x@Ww04s9<"
        "r>6iyGyuQ=5<mbIKq%sL07NA!QNU7x{<Z+X04pE>6~IUYK_bZ5FW2CUcK}vev0}x_^bkfu0qnQ{|Je"
    )
    rows, columns = np.mgrid[:12, :10]
    pixels = (rows * 300 + columns * 37 + 5).astype(np.uint16)
    expected = read(as_bytes(make_dataset(pixels))).pixels
    for number in ("4.201", "4.202", "4.203"):
        data = make_coded(pixels, f"{PREFIX}.{number}", [stream])
        assert np.array_equal(read(as_bytes(data)).pixels, expected)


def test_jpeg_of_12_bits(every_format: dict[str, bytes], jpeg_12_bit: dict[str, bytes], make_dicom: Any) -> None:
    rows, columns = np.mgrid[:16, :16]
    expected = read(make_dicom((rows * 200 + columns * 40 + 9).astype(np.uint16), bits=12)).pixels
    for name in jpeg_12_bit:
        difference = np.abs(read(every_format[f"dicom {name}"]).pixels.astype(int) - expected)
        assert difference.max() <= (32 if "extended" in name else 0)  # 2 of 4095


def test_jpeg_kinds_that_no_decoder_does_right(jpeg_12_bit: dict[str, bytes], make_coded: Any, as_bytes: Any) -> None:
    coded = jpeg_12_bit["JPEG extended 51"]
    for wrong in (coded.replace(b"\xff\xc1\0\x0b\x0c", b"\xff\xc1\0\x0b\x10"), coded.replace(b"\xff\xc1", b"\xff\xc5")):
        assert wrong != coded
        data = make_coded(np.zeros((16, 16), np.uint16), f"{PREFIX}.4.51", [wrong], bits=12)
        with pytest.raises(RadiographError, match=r"JPEG process \d+ with \d+ bits, which is not read"):
            read(as_bytes(data))


def test_a_header_that_gdcm_would_end_the_process_for(
    jpeg_12_bit: dict[str, bytes], every_format: dict[str, bytes], make_coded: Any, as_bytes: Any
) -> None:
    for name, stream in jpeg_12_bit.items():
        gap = stream.index(b"\xff\xc4")
        dirty = stream[:gap] + b"\1" * 30 + stream[gap:]  # libjpeg warns of bytes between markers
        data = make_coded(np.zeros((16, 16), np.uint16), f"{PREFIX}.4.{name.split()[-1]}", [dirty], bits=12)
        assert np.array_equal(read(as_bytes(data)).pixels, read(every_format[f"dicom {name}"]).pixels)


@pytest.mark.parametrize("number", ["4.80", "4.90"])
def test_signed_values_survive_lossless_syntaxes(number: str, make_dataset: Any, as_bytes: Any) -> None:
    pixels = (np.arange(80 * 60).reshape(80, 60) % 4096 - 2048).astype(np.int16)
    data = make_dataset(pixels, bits=12)
    expected = read(as_bytes(data)).pixels
    data.compress(f"{PREFIX}.{number}", generate_instance_uid=False)
    assert np.array_equal(read(as_bytes(data)).pixels, expected)


def test_jpeg_ls_near_lossless(stored: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    data = make_dataset(stored, bits=12, WindowCenter=2048, WindowWidth=4096)
    data.compress(f"{PREFIX}.4.81", jls_error=3, generate_instance_uid=False)
    ours = read(as_bytes(data)).pixels / 65535 * 4095
    assert 0 < np.abs(ours - stored).max() <= 3.5


def test_jpeg_2000_lossy(stored: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    data = make_dataset(stored, bits=12, WindowCenter=2048, WindowWidth=4096)
    data.compress(f"{PREFIX}.4.91", j2k_psnr=[60], generate_instance_uid=False)
    ours = read(as_bytes(data)).pixels / 65535 * 4095
    assert 0 < np.abs(ours - stored).mean() < 8


@pytest.mark.parametrize(
    ("name", "bits", "error"),
    [
        ("JPEGBaselineProcess1", 8, 3),
        ("JPEGLosslessProcess14", 8, 0),
        ("JPEGLosslessProcess14_1", 8, 0),
        ("JPEGLosslessProcess14_1", 12, 0),
        ("JPEGLosslessProcess14_1", 16, 0),
    ],
)
def test_jpeg(
    name: str, bits: int, error: int, picture: np.ndarray, stored: np.ndarray, make_dicom: Any, tmp_path: Path
) -> None:
    pixels = {8: picture, 12: stored, 16: stored << 4 | 5}[bits]
    window = {"WindowCenter": str(2 ** (bits - 1)), "WindowWidth": str(2**bits)}

    def windowed(values: Any, **tags: Any) -> bytes:
        return bytes(make_dicom(values, **tags, **window))

    radiograph = read(_by_gdcm(pixels, bits, name, tmp_path / "x.dcm", windowed))
    white = 255 if bits == 8 else 65535
    ours = radiograph.pixels / white * (2**bits - 1)
    assert np.abs(ours - pixels).mean() <= error + 0.1
    assert bool(error) == bool(np.abs(ours - pixels).max() > 1)
    assert radiograph.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)


def test_eight_bit_jpeg_extended(picture: np.ndarray, save: Any, make_coded: Any, as_bytes: Any) -> None:
    data = make_coded(picture, f"{PREFIX}.4.51", [save(picture, "JPEG", quality=97)], WindowCenter=128, WindowWidth=256)
    assert np.abs(read(as_bytes(data)).pixels.astype(int) - picture).max() <= 6


def test_a_wrong_syntax_is_seen_through(stored: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    """The stream says what it is; a converter that copied the wrong UID does no harm."""
    data = make_dataset(stored, bits=12)
    expected = read(as_bytes(data)).pixels
    data.compress(f"{PREFIX}.4.80", generate_instance_uid=False)
    data.file_meta.TransferSyntaxUID = UID(f"{PREFIX}.4.90")
    assert np.array_equal(read(as_bytes(data)).pixels, expected)


def test_every_syntax_gives_the_same_picture(dicom_folder: Path) -> None:
    for picture, lossy in (("RG2", ()), ("RG3", ("J2KI",))):
        files = sorted(dicom_folder.glob(f"{picture}_*.dcm"))
        exact = [path for path in files if path.stem[4:] not in lossy]
        first = read(exact[0])
        assert first.notes == ()
        for path in files:
            radiograph = read(path)
            assert radiograph.notes == (), path
            difference = np.abs(radiograph.pixels.astype(int) - first.pixels)
            if path in exact:
                assert not difference.any(), path
            else:
                assert difference.mean() < 0.005 * 65535


def test_a_stream_wider_than_its_values(stored: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    """Many coders take all the bits that are allocated: white stays what the data set says."""
    colour = np.dstack([stored, stored // 2, stored // 3])
    for pixels in (stored, colour, stored >> 4):
        bits = 8 if pixels.max() < 256 else 12
        expected = read(as_bytes(make_dataset(pixels, bits=bits)))
        data = make_dataset(pixels, bits=16)
        data.compress(f"{PREFIX}.4.80", generate_instance_uid=False)
        data.BitsStored, data.HighBit = bits, bits - 1
        radiograph = read(as_bytes(data))
        assert np.array_equal(radiograph.pixels, expected.pixels)
        assert (radiograph.pixels.dtype, radiograph.grey) == (expected.pixels.dtype, expected.grey)


def test_an_overlay_in_the_bits_above_is_no_picture(stored: np.ndarray, make_dataset: Any, as_bytes: Any) -> None:
    expected = read(as_bytes(make_dataset(stored, bits=12))).pixels
    drawn = stored.copy()
    drawn[10:20, 10:20] |= 1 << 12
    data = make_dataset(drawn, bits=16)
    data.compress(f"{PREFIX}.4.80", generate_instance_uid=False)
    data.BitsStored, data.HighBit = 12, 11
    assert not np.array_equal(read(as_bytes(data)).pixels, expected)  # who does not say so means the value
    data.add_new(0x60020100, "US", 16)
    data.add_new(0x60020102, "US", 12)
    assert np.array_equal(read(as_bytes(data)).pixels, expected)


@pytest.mark.parametrize("number", [53, 55])
def test_retired_kinds_of_jpeg(number: int, picture: np.ndarray, save: Any, make_coded: Any, as_bytes: Any) -> None:
    coded = save(picture, "JPEG", quality=97, progressive=True)
    data = make_coded(picture, f"{PREFIX}.4.{number}", [coded], WindowCenter=128, WindowWidth=256)
    assert np.abs(read(as_bytes(data)).pixels.astype(int) - picture).max() <= 6


def test_a_syntax_that_keeps_the_pixels_elsewhere_is_named(
    picture: np.ndarray, make_dataset: Any, as_bytes: Any
) -> None:
    data = make_dataset(picture)
    del data.PixelData
    data.PixelDataProviderURL = "https://example.org/x"
    data.file_meta.TransferSyntaxUID = UID(f"{PREFIX}.4.94")
    with pytest.raises(RadiographError, match=r"JPIP Referenced \(1\.2\.840\.10008\.1\.2\.4\.94\), which is not read"):
        read(as_bytes(data))


@pytest.mark.parametrize(("number", "name"), [("110", "JPEG XL Lossless"), ("112", "JPEG XL")])
def test_syntaxes_that_pydicom_does_not_know_are_named(
    number: str, name: str, picture: np.ndarray, make_coded: Any, as_bytes: Any
) -> None:
    known = as_bytes(make_coded(picture, f"{PREFIX}.4.201", [b"\xff\x0a" + bytes(98)]))
    data = known.replace(f"{PREFIX}.4.201".encode(), f"{PREFIX}.4.{number}".encode())
    with pytest.raises(RadiographError, match=rf"has the transfer syntax {name} \(1.*\.{number}\), which is not read"):
        read(data)


def test_an_unknown_syntax_is_named(make_coded: Any, as_bytes: Any, picture: np.ndarray) -> None:
    video = make_coded(picture, f"{PREFIX}.4.102", [b"\0" * 100])
    with pytest.raises(
        RadiographError, match=r"MPEG-4 AVC/H.264 High Profile.* \(1.2.840.10008.1.2.4.102\), which is not"
    ):
        read(as_bytes(video))
    video.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.103")
    private = as_bytes(video).replace(b"1.2.840.10008.1.2.4.103", b"1.2.3.4.5.6.7.8.9.10.11")
    with pytest.raises(RadiographError, match=r"transfer syntax 1\.2\.3\.4\.5\.6\.7\.8\.9\.10\.11, which is not read"):
        read(private)


@pytest.mark.parametrize("number", ["5", "4.80", "4.90"])
def test_a_corrupt_fragment_is_an_error_that_names_the_syntax(
    number: str, stored: np.ndarray, make_dataset: Any, as_bytes: Any
) -> None:
    data = make_dataset(stored, bits=12)
    data.compress(f"{PREFIX}.{number}", generate_instance_uid=False)
    whole = as_bytes(data)
    start = whole.index(b"\xfe\xff\x00\xe0", whole.index(b"\xe0\x7f\x10\x00") + 20) + 8
    for junk in (b"\0" * 64, b"\xff" * 64):
        with pytest.raises(RadiographError, match=rf"1\.2\.840\.10008\.1\.2\.{number}"):
            read(whole[:start] + junk + whole[start + 64 :])


def test_a_stream_of_another_size_is_refused(
    picture: np.ndarray, make_coded: Any, make_dataset: Any, as_bytes: Any, save: Any
) -> None:
    data = make_coded(picture, f"{PREFIX}.4.50", [save(picture[:-1], "JPEG")])
    with pytest.raises(
        RadiographError, match="states 70 x 90 pixels of 1 samples, but its pixel data are 70 x 89 of 1"
    ):
        read(as_bytes(data))
    data = make_dataset(picture[:-1])
    data.compress(f"{PREFIX}.4.90", generate_instance_uid=False)
    data.Rows = 90
    with pytest.raises(RadiographError, match="70 x 89"):
        read(as_bytes(data))


def test_rle_bombs(make_coded: Any, as_bytes: Any, picture: np.ndarray) -> None:
    header = struct.pack("<16I", 1, 64, *[0] * 14)
    for body, message in ((b"\x81\0" * 500_000, "far too long"), (b"\x81\0", "decoder refuses.*RLE")):
        with pytest.raises(RadiographError, match=message):
            read(as_bytes(make_coded(picture, f"{PREFIX}.5", [header + body])))


@pytest.mark.parametrize(
    ("module", "package", "kind"),
    [
        ("gdcm", "python-gdcm", "dicom JPEG lossless 70"),
        ("jpeg_ls", "pyjpegls", "dicom JPEG-LS"),
        ("openjpeg.utils", "pylibjpeg-openjpeg", "dicom JPEG 2000"),
        ("rle.utils", "pylibjpeg-rle", "dicom RLE"),
    ],
)
def test_a_decoder_that_is_missing_is_named_and_the_file_is_not_blamed(
    module: str, package: str, kind: str, every_format: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # Python's way to say: cannot be imported
    with pytest.raises(RadiographError) as caught:
        read(every_format[kind])
    told = str(caught.value)
    assert f"needs a decoder that cannot be imported here: import of {module} halted" in told
    assert f"({PREFIX}." in told
    assert told.endswith(f"]; pip install {package}")


READ_BOTH_WAYS = """
import sys
from callus import read
from callus.errors import RadiographError
for isolated in (False, True):
    try:
        read(sys.argv[1], isolated=isolated)
    except RadiographError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (
            "gdcm",
            r"wrist.dcm: needs a decoder that cannot be imported here: no libgdcm.so \[JPEG.*pip install python-",
        ),
        ("rle", r"wrist.dcm: needs a library that cannot be imported here: no librle.so; install callus again"),
    ],
)
def test_a_decoder_that_lacks_a_library(module: str, told: str, every_format: dict[str, bytes], tmp_path: Path) -> None:
    """The process that decodes apart says the same. pydicom takes all of pylibjpeg's decoders or fails itself."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / f"{module}.py").write_text(f"raise ImportError('no lib{module}.so')")
    (tmp_path / "wrist.dcm").write_bytes(every_format["dicom JPEG lossless 70"])
    paths = [str(tmp_path / "here"), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", READ_BOTH_WAYS, str(tmp_path / "wrist.dcm")],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    one, other = done.stdout.splitlines()
    assert one == other
    assert re.search(told, one)
