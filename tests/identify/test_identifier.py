from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import sound_pictures
import tiny_bundle
from PIL import Image

import callus
from callus.errors import CallusError, RadiographError
from callus.identify import Finding, Identifier, cautions
from callus.preprocess import InputSpec
from callus.radiograph import Radiograph, apart


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def identifier(bundle: Path) -> Identifier:
    return Identifier(bundle, threads=1)


def radiograph(height: int = 256, width: int = 256, *, peak: int = 255, dtype: type = np.uint8) -> Radiograph:
    """Grey noise with one bright square in the cell (5, 2) of eight by eight."""
    pixels = np.random.default_rng(0).integers(20, 60, (height, width)).astype(dtype)
    pixels[5 * height // 8 : 6 * height // 8, 2 * width // 8 : 3 * width // 8] = peak
    return Radiograph(pixels, "made.png", "PNG", "")


def test_a_bright_place_is_a_fracture_with_a_box_around_it(identifier: Identifier) -> None:
    finding = identifier.identify(radiograph())
    assert finding.level == "fracture"
    assert finding.probability == pytest.approx(1 / (1 + np.exp(-finding.logit)))
    (box,) = finding.boxes
    assert (box.x, box.y, box.width, box.height) == (64.0, 160.0, 32.0, 32.0)
    assert box.score == pytest.approx(1.0, abs=1e-5)
    assert (finding.map.shape, finding.map.dtype, finding.features.shape) == ((8, 8), np.float32, (3,))
    assert (finding.model, finding.engine, finding.path, finding.shape) == (
        "tiny",
        "openvino-float32",
        "made.png",
        (256, 256),
    )


@pytest.mark.parametrize(("peak", "level", "boxes"), [(255, "fracture", 1), (128, "doubt", 1), (60, "none", 0)])
def test_levels_and_no_box_where_none_is_seen(identifier: Identifier, peak: int, level: str, boxes: int) -> None:
    finding = identifier.identify(radiograph(peak=peak))
    assert (finding.level, len(finding.boxes)) == (level, boxes)


@pytest.mark.parametrize("shape", [(512, 256), (200, 640), (1283, 901)])
def test_boxes_lie_on_the_originals_pixels_through_the_letterbox(
    identifier: Identifier, shape: tuple[int, int]
) -> None:
    """A white square of one cell's size, put where a cell lies by the letterbox's own arithmetic."""
    scale = max(shape) / 64
    margins = [(64 - round(side / scale)) // 2 for side in shape]
    used = [round(side / scale) for side in shape]
    pixels = np.full(shape, 30, np.uint8)
    edges = [
        [(32 + more - margin) * side / use for more in (0, 8)]
        for side, margin, use in zip(shape, margins, used, strict=True)
    ]
    (top, bottom), (left, right) = [[round(edge) for edge in pair] for pair in edges]
    pixels[top:bottom, left:right] = 255
    (box,) = identifier.identify(Radiograph(pixels, None, "PNG", "")).boxes
    assert (box.x, box.x + box.width) == pytest.approx((left, right), abs=0.5)
    assert (box.y, box.y + box.height) == pytest.approx((top, bottom), abs=0.5)


def test_heat_is_the_map_at_the_originals_size(identifier: Identifier) -> None:
    finding = identifier.identify(radiograph(300, 512))
    heat = finding.heat()
    assert (heat.shape, heat.dtype) == ((300, 512), np.float32)
    inverse = cv2.invertAffineTransform(finding.map_to_original)
    rows, columns = np.mgrid[0:300, 0:512].astype(np.float32)
    x = (inverse[0, 0] * columns + inverse[0, 2]).astype(np.float32)
    y = (inverse[1, 1] * rows + inverse[1, 2]).astype(np.float32)
    expected = cv2.remap(finding.map, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    assert heat == pytest.approx(expected, abs=0.02)  # OpenCV interpolates in steps of 1/32 of a cell
    half = finding.heat((150, 256))
    assert half == pytest.approx(heat.reshape(150, 2, 256, 2).mean(axis=(1, 3)), abs=0.02)


def test_files_bytes_and_radiographs_give_one_answer(identifier: Identifier, tmp_path: Path) -> None:
    made = radiograph()
    file = tmp_path / "made.png"
    Image.fromarray(made.pixels).save(file)
    logits = {identifier.identify(source).logit for source in (made, file, str(file), file.read_bytes())}
    assert len(logits) == 1
    assert identifier.identify(file).path == str(file)
    assert identifier.identify(file.read_bytes()).path is None


def test_sixteen_bits_give_the_answer_of_eight(identifier: Identifier) -> None:
    eight = radiograph()
    sixteen = Radiograph((eight.pixels.astype(np.uint16) * 257), None, "PNG", "")
    assert identifier.identify(sixteen).logit == pytest.approx(identifier.identify(eight).logit, abs=1e-3)


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_many_keep_their_order_and_bad_ones_stop_nothing(identifier: Identifier, tmp_path: Path, batch: int) -> None:
    text = tmp_path / "text.png"
    text.write_text("not an image")
    sources: list[object] = []
    for number in range(12):
        sources.append(radiograph(64 + 8 * number, 96, peak=40 + 15 * number))
        if number % 4 == 1:
            sources.append(text if number < 6 else tmp_path / "missing.png")
    answers = list(identifier.identify_many(sources, batch=batch))
    assert [source for source, _, _ in answers] == sources
    for source, read, answer in answers:
        if isinstance(source, Radiograph):
            assert isinstance(answer, Finding)
            assert read is source
            assert answer.logit == pytest.approx(identifier.identify(source).logit, abs=1e-5)
        else:
            assert isinstance(answer, RadiographError)
            assert read is None
            assert str(source) in str(answer)


def test_many_read_ahead_but_only_a_little(identifier: Identifier) -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield radiograph(64, 64)

    answers = identifier.identify_many(endless(), batch=2)  # type: ignore[arg-type]
    for _ in range(10):
        next(answers)
    answers.close()
    assert 10 <= taken <= 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("callus-read")]


def test_a_native_decoder_that_crashes_costs_one_file(identifier: Identifier, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sound_pictures.simulated()
    monkeypatch.setattr(apart, "_SERVE", "import os; os.abort()")
    apart._end_idle()
    answers = [answer for *_, answer in identifier.identify_many([files["dicom 4.80 8 bits"], files["png grey"]])]
    assert isinstance(answers[0], RadiographError)
    assert "make the process of its decoder fail (signal 6)" in str(answers[0])
    assert isinstance(answers[1], Finding)


def test_many_of_nothing(identifier: Identifier) -> None:
    assert list(identifier.identify_many([])) == []
    with pytest.raises(CallusError, match="batch is 0"):
        next(identifier.identify_many([], batch=0))


def test_a_radiograph_that_breaks_the_network_spoils_no_other(
    identifier: Identifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = identifier.engine.run

    def fragile(batch: np.ndarray) -> object:
        if (batch.max(axis=(1, 2, 3)) > 0.99).any():
            raise CallusError("the network fails")
        return run(batch)

    monkeypatch.setattr(identifier.engine, "run", fragile)
    sources = [radiograph(peak=90), radiograph(peak=255), radiograph(peak=120)]
    answers = [answer for _, _, answer in identifier.identify_many(sources, batch=3)]
    assert [type(answer) for answer in answers] == [Finding, CallusError, Finding]


def test_strict_refuses_what_is_damaged(identifier: Identifier, tmp_path: Path) -> None:
    file = tmp_path / "cut.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (300, 300), dtype=np.uint8)
    Image.fromarray(noise).save(file, quality=90)
    file.write_bytes(file.read_bytes()[:-9000])
    ((_, _, lenient),) = identifier.identify_many([file])
    ((_, _, strict),) = identifier.identify_many([file], strict=True)
    assert isinstance(lenient, Finding)
    assert any(caution.startswith("truncated") for caution in lenient.cautions)
    assert isinstance(strict, RadiographError)


def test_threads_may_share_one(identifier: Identifier) -> None:
    sources = [radiograph(peak=peak) for peak in range(60, 250, 10)]
    alone = [identifier.identify(source).logit for source in sources]
    with ThreadPoolExecutor(4) as pool:
        assert [finding.logit for finding in pool.map(identifier.identify, sources)] == alone


SPEC = InputSpec(448, 448)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pixels": np.tile(np.arange(100, dtype=np.uint8), (100, 1))}, ["too small: 100 x 100"]),
        ({"pixels": np.tile(np.arange(200, dtype=np.uint8), (200, 1))}, ["enlarged to the network's 448 x 448"]),
        ({"pixels": np.tile(np.arange(225, dtype=np.uint8), (225, 1))}, []),
        ({"pixels": np.tile(np.arange(250, dtype=np.uint8), (2000, 1))}, ["long: 250 x 2000"]),
        ({"grey": False}, ["not grey"]),
        ({"notes": ("truncated: ends early",)}, ["truncated: ends early"]),
        ({"pixels": np.full((500, 500), 7, np.uint8)}, ["flat"]),
    ],
)
def test_cautions(change: dict[str, object], words: list[str]) -> None:
    fields = {"pixels": np.tile(np.arange(500, dtype=np.uint16) * 100, (500, 1)), "grey": True, "notes": ()} | change
    made = Radiograph(path=None, format="PNG", sha256="", **fields)  # type: ignore[arg-type]
    found = cautions(made, SPEC)
    assert len(found) == len(words)
    for caution, word in zip(found, words, strict=True):
        assert word in caution


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("outliers", "flat"), [(0.009, True), (0.011, False)])
def test_flat_is_what_98_per_cent_say(dtype: type[np.unsignedinteger], outliers: float, flat: bool) -> None:
    """A letter, or a few dead pixels, do not make a picture out of nothing."""
    white = np.iinfo(dtype).max
    values = np.full(250_000, white // 2, dtype)
    values[: round(outliers * values.size)] = white // 2 + white // 10
    pixels = np.random.default_rng(3).permutation(values).reshape(500, 500)
    told = cautions(Radiograph(pixels, None, "PNG", ""), SPEC)
    assert [caution[:4] for caution in told] == (["flat"] if flat else [])


def test_clipping_counts_in_the_exposed_field_only() -> None:
    ramp = np.tile(np.linspace(10, 240, 500).astype(np.uint8), (500, 1))
    framed = ramp.copy()
    framed[:, :150] = 255  # collimation, shown white
    framed[:120] = 0  # and black
    burnt = ramp.copy()
    burnt[200:300, 200:300] = 255
    black = np.where(np.indices((500, 500)).sum(axis=0) % 3 > 0, 0, ramp).astype(np.uint8)
    assert cautions(Radiograph(framed[120:], None, "PNG", ""), SPEC) == ()
    assert cautions(Radiograph(np.vstack([np.zeros_like(ramp[:300]), ramp]), None, "PNG", ""), SPEC) == ()
    assert "4% of the exposed field is full white" in cautions(Radiograph(burnt, None, "PNG", ""), SPEC)[0]
    assert "67% of the exposed field is full black" in cautions(Radiograph(black, None, "PNG", ""), SPEC)[0]


def test_real_radiographs_raise_few_cautions(fracatlas: Path) -> None:
    files = sorted((fracatlas / "images" / "Fractured").glob("*.jpg"))[::50]
    found = [cautions(callus.read(file), InputSpec(224, 224)) for file in files]
    assert len(files) > 5
    assert sum(map(bool, found)) <= len(files) // 5


def test_all_syntaxes_of_one_picture_give_one_answer(identifier: Identifier, dicom_folder: Path) -> None:
    answers = {
        file.name: finding
        for file, _, finding in identifier.identify_many(sorted(dicom_folder.glob("RG3_*.dcm")))
        if isinstance(finding, Finding)
    }
    assert set(answers) >= {"RG3_RLE.dcm", "RG3_UNC.dcm", "RG3_JPLL.dcm"}
    assert len({answers[name].logit for name in ("RG3_RLE.dcm", "RG3_UNC.dcm", "RG3_JPLL.dcm")}) == 1


def test_the_public_names(bundle: Path) -> None:
    assert callus.Identifier(bundle).name == "tiny"


def test_no_torch_and_no_pandas_are_imported(bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(radiograph().pixels).save(tmp_path / "a.png")
    code = (
        "import sys, callus\n"
        "from callus.identify import Identifier\n"
        "finding = Identifier(sys.argv[1]).identify(sys.argv[2])\n"
        "from callus.results.overlay import overlay\n"
        "overlay(callus.read(sys.argv[2]), finding)\n"
        "print(finding.level, sorted({'torch', 'onnx', 'pandas', 'matplotlib.pyplot', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle), str(tmp_path / "a.png")], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("fracture []\n", "", 0)
