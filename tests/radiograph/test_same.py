"""The same radiograph is known however dcmtk writes it, and no other one is taken for it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import simulated_dicom
from programs import dcmtk
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from callus.radiograph.same import is_same


def radiograph(**tags: object) -> Dataset:
    """With sequences in sequences, private elements, numbers of each kind, and text of odd lengths."""
    data = simulated_dicom.simulated(**tags)
    inner, middle = Dataset(), Dataset()
    inner.CodeValue, inner.CodeMeaning = "T-15420", "elbow"
    middle.AnatomicRegionModifierSequence = Sequence([inner])
    middle.CodeMeaning = "arm"
    data.AnatomicRegionSequence = Sequence([middle, Dataset()])
    data.add_new(0x00281054, "LO", "US")
    data.add_new(0x00280120, "US", 7)
    data.add_new(0x00186011, "SQ", Sequence([]))
    data.add_new(0x00181405, "IS", 300)
    data.add_new(0x0018605A, "FL", 0.25)
    block = data.private_block(0x0019, "NOBODY", create=True)
    block.add_new(1, "LO", "a setting")
    block.add_new(2, "UL", 70000)
    block.add_new(3, "SQ", Sequence([inner]))
    return data


def written(data: Dataset, folder: Path, name: str = "one.dcm") -> Path:
    data.save_as(folder / name, enforce_file_format=True)
    return folder / name


WAYS: dict[str, tuple[str, ...]] = {
    "implicit": ("dcmconv", "+ti"),
    "big endian": ("dcmconv", "+tb"),
    "deflated": ("dcmconv", "+td"),
    "lengths stated": ("dcmconv", "+te", "+e"),
    "lengths open": ("dcmconv", "+ti", "-e"),
    "group lengths and padding": ("dcmconv", "+g", "+p", "512", "64"),
    "RLE": ("dcmcrle",),
    "JPEG-LS": ("dcmcjpls", "+el"),
    "JPEG lossless": ("dcmcjpeg", "+e1", "+un"),
}


@pytest.fixture
def anew(tmp_path: Path) -> Callable[[Path, str], Path]:
    def write(file: Path, way: str) -> Path:
        program, *words = WAYS[way]
        subprocess.run([dcmtk(program), *words, file, tmp_path / f"{way}.dcm"], check=True, timeout=60)
        return tmp_path / f"{way}.dcm"

    return write


@pytest.mark.parametrize("way", [name for name in WAYS if "JPEG" not in name])
@pytest.mark.parametrize("bits", [8, 12])
def test_another_encoding_is_the_same(tmp_path: Path, anew: Callable[..., Path], way: str, bits: int) -> None:
    values = simulated_dicom.stored_values((31, 33))
    pixels = values if bits == 12 else (values >> 4).astype(np.uint8)
    file = written(radiograph(pixels=pixels), tmp_path)
    other = anew(file, way)
    assert is_same(file.read_bytes(), other.read_bytes())
    implicit = anew(file, "implicit")
    assert is_same(other.read_bytes(), implicit.read_bytes())


@pytest.mark.parametrize("way", ["RLE", "JPEG-LS", "JPEG lossless"])
def test_what_was_compressed_without_loss_is_the_same(tmp_path: Path, anew: Callable[..., Path], way: str) -> None:
    file = written(radiograph(), tmp_path)
    other = pydicom.dcmread(anew(file, way))
    pixels = pydicom.dcmread(file)
    assert other.file_meta.TransferSyntaxUID.is_compressed
    for tag in set(other.keys()) - set(pixels.keys()):  # dcmtk notes here that it has compressed it
        del other[tag]
    other.ImageType, other.SOPInstanceUID = pixels.ImageType, pixels.SOPInstanceUID
    other.save_as(tmp_path / "coded.dcm")
    coded = (tmp_path / "coded.dcm").read_bytes()
    assert is_same(file.read_bytes(), coded)
    values = pixels.pixel_array.copy()
    values[-1, -1] ^= 1
    pixels.PixelData = values.tobytes()
    assert not is_same(written(pixels, tmp_path).read_bytes(), coded)


@pytest.mark.parametrize("way", ["implicit", "big endian", "deflated", "RLE"])
def test_another_radiograph_in_another_encoding_is_not(tmp_path: Path, anew: Callable[..., Path], way: str) -> None:
    file = written(radiograph(), tmp_path)
    other = anew(file, way).read_bytes()
    for change in (
        lambda data: setattr(data, "PatientID", "someone else"),
        lambda data: setattr(data, "PaletteColorLookupTableUID", "1.2"),
        lambda data: delattr(data, "StudyTime"),
        lambda data: setattr(data.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0], "CodeMeaning", "wrist"),
        lambda data: data.AnatomicRegionSequence.append(Dataset()),
        lambda data: setattr(data, "BitsStored", 11),
        lambda data: setattr(data[0x00191002], "value", 70001),
        lambda data: setattr(data, "PixelData", data.PixelData[:-2] + b"\1\1"),
    ):
        changed = radiograph()
        change(changed)
        assert not is_same(written(changed, tmp_path, "changed.dcm").read_bytes(), other)


def test_what_lost_something_is_the_same_only_as_its_own_copy(tmp_path: Path) -> None:
    pixels = (simulated_dicom.stored_values() >> 4).astype(np.uint8)
    file = written(radiograph(pixels=pixels), tmp_path)
    lossy = tmp_path / "lossy.dcm"
    subprocess.run([dcmtk("dcmcjpeg"), "+eb", "+un", "+ua", file, lossy], check=True, timeout=60)
    subprocess.run([dcmtk("dcmconv"), "+g", "+e", lossy, tmp_path / "copy.dcm"], check=True, timeout=60)
    subprocess.run([dcmtk("dcmdjpeg"), lossy, tmp_path / "plain.dcm"], check=True, timeout=60)
    assert is_same(lossy.read_bytes(), (tmp_path / "copy.dcm").read_bytes())
    assert not is_same(lossy.read_bytes(), (tmp_path / "plain.dcm").read_bytes())


def test_what_is_cut_or_damaged_is_the_same_as_nothing(tmp_path: Path, anew: Callable[..., Path]) -> None:
    file = written(radiograph(), tmp_path)
    whole, other = file.read_bytes(), anew(file, "implicit").read_bytes()
    for damaged in (whole[:-100], whole[:300], whole[:500] + b"\xff" * 40 + whole[540:]):
        assert not is_same(damaged, other)
        assert not is_same(other, damaged)
