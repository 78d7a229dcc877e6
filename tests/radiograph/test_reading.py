"""``read`` as a whole: the type by content, errors in one line, threads, damaged bytes."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import callus
from callus.errors import RadiographError
from callus.preprocess import InputSpec, prepare
from callus.radiograph import Radiograph, read
from callus.radiograph.reading import detect

if TYPE_CHECKING:
    from pathlib import Path


def test_the_content_tells_the_type(every_format: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in every_format.items():
        path = tmp_path / "misleading.txt"
        path.write_bytes(data)
        radiograph = read(path)
        assert radiograph.format == name.split()[0].upper()
        assert radiograph.path == str(path)
        assert radiograph.sha256 == hashlib.sha256(data).hexdigest()
        assert (radiograph.identity is not None) == (radiograph.format == "DICOM")
        same = read(data)
        assert same.path is None
        assert np.array_equal(same.pixels, radiograph.pixels)


def test_the_public_name() -> None:
    assert callus.read is read
    assert callus.Radiograph is Radiograph


@pytest.mark.parametrize(
    "content", [b"patient,label\n1,fractured\n", b"GIF89a", b"%PDF-1.4", b"\0" * 200, b"x", b"\x08\0\x08\0"]
)
def test_what_is_no_image(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(content)
    with pytest.raises(
        RadiographError, match=r"text\.png: is not an image: it begins with b.*expected PNG, JPEG"
    ) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert caught.value.where == str(path)
    assert caught.value.hint


def test_a_dicom_preamble_that_is_a_tiff(every_format: dict[str, bytes]) -> None:
    assert detect(b"II*\0" + every_format["dicom"][4:]) == "DICOM"


def test_one_pixel(save: Any, make_dicom: Any) -> None:
    pixel = np.full((1, 1), 200, np.uint8)
    for data in (
        save(pixel, "PNG"),
        save(pixel, "TIFF"),
        save(pixel, "JPEG"),
        make_dicom(pixel, WindowCenter=128, WindowWidth=256),
    ):
        radiograph = read(data)
        assert radiograph.shape == (1, 1)
        assert abs(int(radiograph.pixels[0, 0]) - 200) <= 1
        assert prepare(radiograph, InputSpec()).array.shape == (3, 448, 448)


def test_unit_and_shape() -> None:
    radiograph = Radiograph(np.array([[0, 65535, 13107]], np.uint16), None, "PNG", "")
    assert (radiograph.height, radiograph.width, radiograph.shape) == (1, 3, (1, 3))
    assert radiograph.unit().dtype == np.float32
    assert radiograph.unit()[0].tolist() == pytest.approx([0, 1, 0.2])
    assert Radiograph(np.array([[51]], np.uint8), None, "PNG", "").unit()[0, 0] == pytest.approx(0.2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        radiograph.path = "elsewhere"  # type: ignore[misc]


def test_threads(every_format: dict[str, bytes]) -> None:
    expected = {name: read(data).pixels for name, data in every_format.items()}
    jobs = [*every_format.items()] * 12
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: read(job[1]).pixels, jobs))
    for (name, _), pixels in zip(jobs, found, strict=True):
        assert np.array_equal(pixels, expected[name]), name


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(data=st.data())
def test_damaged_bytes_never_raise_anything_else(data: st.DataObject, every_format: dict[str, bytes]) -> None:
    raw = bytearray(every_format[data.draw(st.sampled_from(sorted(every_format)))])
    # Headers are where a flipped bit does most: half of the places are among the first bytes.
    place = st.integers(0, min(400, len(raw) - 1)) | st.integers(0, len(raw) - 1)
    for position, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=8)):
        raw[position] = value
    cut = data.draw(st.none() | st.integers(0, len(raw)))
    outcome = _outcome(bytes(raw[:cut]))
    if isinstance(outcome, str):
        assert outcome.isprintable()
        assert len(outcome) < 500
    else:
        assert outcome.pixels.dtype in (np.uint8, np.uint16)
        assert outcome.pixels.ndim == 2
        assert outcome.pixels.flags.c_contiguous


def _outcome(data: bytes) -> Radiograph | str:
    """The radiograph, or the one kind of error that there may be."""
    try:
        return read(data)
    except RadiographError as error:
        return str(error)
