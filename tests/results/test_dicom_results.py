from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from PIL import Image
from programs import missing
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import JPEGLSLossless
from simulated_dicom import KINDS, as_bytes, made_finding, simulated, stored_values

import callus
from callus.errors import CallusError
from callus.identify import Finding
from callus.radiograph import Radiograph, apart
from callus.results.dicom_results import Algorithm, Exam, ResultError, dicom_results, encoded
from callus.results.hospital import write_hospital_files
from callus.results.overlay import overlay

ALGORITHM = Algorithm("mine", "0123456789abcdef" * 4)
REAL = ["RG2_J2KR", "RG2_JLSL", "RG2_RLE", "RG3_J2KI", "RG3_JPLL", "RG3_RLE", "RG3_UNC"]
LEVEL_NAMES = {"fracture": "Fracture", "doubt": "Doubt", "none": "None seen"}


def made(data: Dataset | bytes, level: str = "fracture", **changes: Any) -> tuple[Exam, Finding, dict[str, Dataset]]:
    """A radiograph's results, written to bytes and read back."""
    content = data if isinstance(data, bytes) else as_bytes(data)
    radiograph = callus.read(content)
    exam = Exam.of(radiograph, content)
    finding = made_finding(radiograph, level, **changes)
    results = dicom_results(exam, finding, ALGORITHM, presentation=True)
    return exam, finding, {kind: pydicom.dcmread(io.BytesIO(encoded(result))) for kind, result in results.items()}


def report_of(results: dict[str, Dataset]) -> Any:
    """The report as highdicom reads it."""
    return hd.sr.srread(io.BytesIO(encoded(results["sr"]))).content


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing(f"{name} (Debian: dicom3tools, dcmtk)")
    return found


def check_with_others(results: dict[str, Dataset], folder: Path) -> None:
    """What programs that are not ours say of the files."""
    verifier, printer = program("dciodvfy"), program("dsrdump")
    for kind, result in results.items():
        file = folder / f"{kind}.dcm"
        file.write_bytes(encoded(result))
        said = subprocess.run([verifier, file], capture_output=True, text=True, check=False)
        lines = (said.stdout + said.stderr).splitlines()
        assert not [line for line in lines if line.startswith("Error")], (kind, lines)
        name = {"sr": "ComprehensiveSR", "sc": "SCImage", "pr": "GrayscaleSoftcopyPresentationState"}[kind]
        assert name in lines
    printed = subprocess.run([printer, folder / "sr.dcm"], capture_output=True, text=True, check=False)
    assert printed.returncode == 0
    assert "E:" not in printed.stderr
    assert "Probability of fracture" in printed.stdout


def check_content(finding: Finding, results: dict[str, Dataset]) -> None:
    """Every box and number is the finding's."""
    report = report_of(results)
    (group,) = report.get_image_measurement_groups()
    assert group.finding_type.meaning == LEVEL_NAMES[finding.level]
    (probability,) = group.get_measurements()
    assert (probability.name.value, probability.unit.value) == ("probability", "1")
    assert probability.value == finding.probability
    regions = report.get_planar_roi_measurement_groups()
    drawn = results["pr"].GraphicAnnotationSequence[0].get("GraphicObjectSequence", [])
    assert len(regions) == len(drawn) == len(finding.boxes)
    for box, region, graphic in zip(finding.boxes, regions, drawn, strict=True):
        right, bottom = box.x + box.width, box.y + box.height
        corners = [[box.x, box.y], [right, box.y], [right, bottom], [box.x, bottom], [box.x, box.y]]
        assert region.roi.graphic_type == hd.sr.GraphicTypeValues.POLYLINE
        assert np.allclose(region.roi.value, corners, rtol=1e-6)
        assert np.array_equal(region.roi.value[0], region.roi.value[-1])
        assert np.allclose(np.reshape(graphic.GraphicData, (5, 2)), corners, rtol=1e-6)
        assert (graphic.GraphicType, graphic.GraphicAnnotationUnits) == ("POLYLINE", "PIXEL")
        assert [measurement.value for measurement in region.get_measurements()] == [box.score]


def check_study(exam: Exam, source: Dataset, results: dict[str, Dataset]) -> None:
    """The results are in the source's study, each in a series of its own, and point at the source."""
    for result in results.values():
        assert result.StudyInstanceUID == source.StudyInstanceUID
        for keyword in ("PatientID", "PatientName", "PatientSex", "StudyDate", "AccessionNumber"):
            assert (result[keyword].value or "") == (source.get(keyword) or ""), keyword
        assert result.SOPInstanceUID.startswith("2.25.")
    names = [result.SOPInstanceUID for result in results.values()]
    names += [result.SeriesInstanceUID for result in results.values()]
    assert len({*names, source.SeriesInstanceUID, source.SOPInstanceUID}) == len(names) + 2
    evidence = results["sr"].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    states = results["pr"].ReferencedSeriesSequence[0]
    assert evidence.SeriesInstanceUID == states.SeriesInstanceUID == source.SeriesInstanceUID
    for reference in (
        evidence.ReferencedSOPSequence[0],
        results["sc"].SourceImageSequence[0],
        states.ReferencedImageSequence[0],
        results["pr"].GraphicAnnotationSequence[0].ReferencedImageSequence[0],
    ):
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == source.SOPClassUID


@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str, dicom_folder: Path, tmp_path: Path) -> None:
    content = (dicom_folder / f"{name}.dcm").read_bytes()
    exam, finding, results = made(content, "doubt" if name == "RG2_RLE" else "fracture")
    source = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    check_study(exam, source, results)
    check_content(finding, results)
    lossy = source.get("LossyImageCompression")
    assert (results["sc"].get("LossyImageCompression") == "01") == (lossy == "01")
    check_with_others(results, tmp_path)


@pytest.mark.parametrize(("kind", "level"), [*((kind, "fracture") for kind in KINDS), ("DX", "doubt"), ("DX", "none")])
def test_every_kind_and_level(kind: str, level: str, tmp_path: Path) -> None:
    source = simulated(kind)
    exam, finding, results = made(source, level)
    check_study(exam, source, results)
    check_content(finding, results)
    check_with_others(results, tmp_path)


def test_the_report_says_who_judged_what_and_how_far_to_trust_it() -> None:
    _, finding, results = made(simulated())
    report = results["sr"]
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    (group,) = report_of(results).get_image_measurement_groups()
    items = [(item.name.meaning, item.value) for item in group[0].ContentSequence if item.ValueType == "TEXT"]
    assert ("Algorithm Name", "callus mine") in items
    assert ("Algorithm Version", callus.__version__) in items
    assert ("Algorithm Parameters", f"bundle SHA-256: {ALGORITHM.digest}") in items
    assert ("Algorithm Parameters", "engine: onnx-float32") in items
    assert ("Comment", "Research and education, not a medical device") in items
    assert ("Comment", f"caution: {finding.cautions[0]}") in items
    finding_code = group.finding_type
    assert (finding_code.value, finding_code.scheme_designator) == ("72704001", "SCT")
    (scheme,) = report.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99CALLUS"


def test_none_seen_is_never_no_fracture() -> None:
    _, _, results = made(simulated(), "none")
    for kind in ("sr", "pr"):
        words = encoded(results[kind]).lower()
        assert b"none seen" in words
        assert b"no fracture" not in words
        assert b"absent" not in words
    text = results["pr"].GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue
    assert text.splitlines()[:2] == [
        "none seen, probability 0.031",
        "Research and education, not a medical device",
    ]


def test_coordinates_begin_at_the_corner_of_the_first_pixel() -> None:
    """PS3.3 C.18.6 and C.10.5.1.2: 0, 0 is that corner, and Columns, Rows that of the last pixel."""
    _, _, results = made(simulated())
    whole = report_of(results).get_planar_roi_measurement_groups()[1].roi.value
    assert whole.tolist() == [[0, 0], [120, 0], [120, 150], [0, 150], [0, 0]]
    drawn = results["pr"].GraphicAnnotationSequence[0].GraphicObjectSequence[1].GraphicData
    assert list(drawn) == whole.ravel().tolist()


@pytest.mark.parametrize(("level", "style"), [("fracture", "SOLID"), ("doubt", "DASHED")])
def test_boxes_are_solid_at_fracture_and_dotted_at_doubt(level: str, style: str) -> None:
    _, _, results = made(simulated(), level)
    for graphic in results["pr"].GraphicAnnotationSequence[0].GraphicObjectSequence:
        (line,) = graphic.LineStyleSequence
        assert line.LineDashingStyle == style
        assert ("LinePattern" in line) == (style == "DASHED")


def test_the_capture_is_the_overlay_picture() -> None:
    exam, finding, results = made(simulated(), path="Doe_Jane_1970.dcm")
    capture = results["sc"]
    assert np.array_equal(capture.pixel_array, np.asarray(overlay(exam.radiograph, replace(finding, path=None))))
    assert (capture.ConversionType, capture.Laterality, list(capture.PatientOrientation)) == ("WSD", "L", ["L", "F"])
    assert list(capture.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
    assert "research and education, not a medical device" in capture.DerivationDescription
    assert "PixelSpacing" not in capture  # it is scaled: nothing can be measured on it
    assert "BurnedInAnnotation" not in capture


def test_once_lossy_always_lossy() -> None:
    lossy = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": ["12.5", "3"],
        "LossyImageCompressionMethod": ["ISO_10918_1", "ISO_15444_1"],
        "BurnedInAnnotation": "NO",
    }
    capture = made(simulated(**lossy))[2]["sc"]
    assert capture.LossyImageCompression == "01"
    assert [float(ratio) for ratio in capture.LossyImageCompressionRatio] == [12.5, 3]
    assert list(capture.LossyImageCompressionMethod) == lossy["LossyImageCompressionMethod"]
    assert capture.BurnedInAnnotation == "NO"


def lut(first: int, entries: np.ndarray, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = entries.astype("<u2").tobytes()
    item["LUTData"].VR = "OW"
    return item


def modality_lut(first: int = 0) -> Dataset:
    item = lut(first, np.arange(4096)[::-1] // 2, 16)
    item.ModalityLUTType = "US"
    return item


def functional_groups() -> Dataset:
    """A window and a slope as objects of several frames have them."""
    window, rescale, groups = Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = 2000, 3000
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, -1000, "US"
    groups.FrameVOILUTSequence, groups.PixelValueTransformationSequence = [window], [rescale]
    return groups


SIGNED = (stored_values().astype(np.int32) - 2000).astype(np.int16)
ROOTS = np.sqrt(np.arange(4096) / 4095) * 4095
SIXTEEN = {"BitsStored": 16, "HighBit": 15}
WIDE = stored_values().astype(np.uint32) * 25
PADDED = stored_values().copy()
PADDED[:40] = 4095
GREY = {
    "window": {"WindowCenter": [1500, 9], "WindowWidth": [900, 9]},
    "exact window": {"WindowCenter": 1500.5, "WindowWidth": 900, "VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
    "VOI LUT of 12 bits": {"VOILUTSequence": [lut(500, np.sqrt(np.arange(3000)) / np.sqrt(3000) * 4095, 12)]},
    "VOI LUT from below 0": {
        "pixels": SIGNED,
        "VOILUTSequence": [lut(-2048, ROOTS, 12)],
        "WindowCenter": 0,
        "WindowWidth": 300,
    },
    "VOI LUT from beyond 0x7FFF": {
        "pixels": stored_values() + np.uint16(39_000),
        "VOILUTSequence": [lut(40_000, ROOTS[:3000], 12)],
        "WindowCenter": 40_000,
        "WindowWidth": 300,
        **SIXTEEN,
    },
    "VOI LUT from below 0 for rescaled values": {
        "RescaleSlope": 1,
        "RescaleIntercept": -1000,
        "VOILUTSequence": [lut(-500, ROOTS, 12)],
        "PhotometricInterpretation": "MONOCHROME1",
    },
    "modality LUT from below 0": {
        "pixels": SIGNED,
        "ModalityLUTSequence": [modality_lut(-2048)],
        "WindowCenter": 900,
        "WindowWidth": 1200,
    },
    "modality LUT from below 0, no view": {"pixels": SIGNED, "ModalityLUTSequence": [modality_lut(-2048)]},
    "modality LUT from below 0, padding": {
        "pixels": PADDED.astype(np.int16),
        "ModalityLUTSequence": [modality_lut(-48)],
        "PixelPaddingValue": 4095,
        "BitsStored": 16,
        "HighBit": 15,
    },
    "modality LUT from beyond 0x7FFF, 32 bits": {
        "pixels": WIDE,
        "ModalityLUTSequence": [modality_lut(60_000)],
        "WindowCenter": 1000,
        "WindowWidth": 2400,
        "BitsStored": 32,
        "HighBit": 31,
    },
    "no view": {},
    "no view, rescaled": {"RescaleSlope": 2, "RescaleIntercept": -1000, "RescaleType": "HU"},
    "no view, rescaled to less than 1": {"RescaleSlope": "1e-4", "RescaleIntercept": "-0.3"},
    "no view, rescaled downwards to less than 1": {"RescaleSlope": "-1e-5", "RescaleIntercept": 0},
    "no view, modality LUT": {"ModalityLUTSequence": [modality_lut()]},
    "no view, signed": {"pixels": SIGNED},
    "signed window": {"pixels": SIGNED, "WindowCenter": -20, "WindowWidth": 1000},
    "no view, padding": {"pixels": PADDED, "PixelPaddingValue": 4095},
    "padding that no pixel can hold": {"PixelPaddingValue": 65535, "BitsStored": 12, "HighBit": 11},
    "padding over everything": {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 65535},
    "a rescale beyond all measure": {"RescaleSlope": "1e305", "RescaleIntercept": 0},
    "a rescale of an odd type": {"RescaleSlope": 2, "RescaleIntercept": -7, "RescaleType": "x" * 40},
    "a window beyond all measure": {"WindowCenter": "1e308", "WindowWidth": "1e308"},
    "a window that shows nothing": {"WindowCenter": 60000, "WindowWidth": 2},
    "functional groups": {"SharedFunctionalGroupsSequence": [functional_groups()]},
    "MONOCHROME1": {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 1500, "WindowWidth": 900},
    "INVERSE": {
        "PhotometricInterpretation": "MONOCHROME1",
        "PresentationLUTShape": "INVERSE",
        "WindowCenter": 1500,
        "WindowWidth": 900,
    },
}


@pytest.mark.parametrize("name", GREY)
def test_the_presentation_state_shows_the_grey_that_was_judged(name: str, tmp_path: Path) -> None:
    """Its steps, done by pydicom on the stored values, give the reader's picture."""
    source = simulated("CR", **GREY[name])
    exam, _, results = made(source)
    part, judged = shown_by(source, results["pr"]), exam.radiograph.unit()
    assert 0 <= part.min() < part.max() <= 1
    if "padding" in name:
        part, judged = part[40:], judged[40:]
    assert np.abs(part - judged).max() < 3e-4
    if "LUT from" in name:
        assert results["pr"].SoftcopyVOILUTSequence[0].VOILUTSequence[0].LUTDescriptor[1] == 0
        check_with_others(results, tmp_path)


@pytest.mark.parametrize(("photometric", "grey"), [("MONOCHROME2", 0), ("MONOCHROME1", 1)])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), ("1e-4", 0), (1, "1e20")])
def test_a_flat_picture_is_as_flat_in_its_presentation_state(
    slope: object, intercept: object, photometric: str, grey: int
) -> None:
    flat, kind = np.full((150, 120), 700, np.uint16), {"PhotometricInterpretation": photometric}
    source = simulated("CR", flat, RescaleSlope=slope, RescaleIntercept=intercept, **kind)
    exam, _, results = made(source)
    assert np.all(exam.radiograph.unit() == grey)
    assert intercept or np.allclose(shown_by(source, results["pr"]), grey, atol=1e-6)


def shown_by(source: Dataset, state: Dataset) -> np.ndarray:
    """A presentation state's picture, 0 to 1: its steps, done by pydicom on the stored values."""
    steps = Dataset()
    steps.file_meta = source.file_meta
    for keyword in ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"):
        if keyword in state:
            steps[keyword] = state[keyword]
    for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"):
        if keyword in state.SoftcopyVOILUTSequence[0]:
            steps[keyword] = state.SoftcopyVOILUTSequence[0][keyword]
    steps.BitsStored, steps.PixelRepresentation = 16, 0
    steps.PhotometricInterpretation = "MONOCHROME2"
    stored = source.pixel_array
    real = apply_modality_lut(stored, steps)
    if "VOILUTSequence" in steps or np.array_equal(real, np.rint(real)):
        real = np.rint(real).astype(np.int64)  # pydicom looks up whole numbers
    shown = np.asarray(apply_voi_lut(real, steps), dtype=np.float64)
    # pydicom spans a window over the range of rescaled stored values; as a part of it, it is the same for all.
    if "VOILUTSequence" in steps:
        low, high = 0.0, 65535.0
    else:
        slope, intercept = float(state.get("RescaleSlope", 1)), float(state.get("RescaleIntercept", 0))
        low, high = (slope * end + intercept for end in (0, 65535))
    part = (shown - low) / (high - low)
    return np.asarray(1 - part if state.PresentationLUTShape == "INVERSE" else part)


def test_a_coded_file_is_decoded_where_a_crash_costs_only_its_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that names no view is decoded once more, for the range of its values: never in this process."""
    plain, source = made(simulated("CR"))[2]["pr"], simulated("CR")
    source.compress(JPEGLSLossless, generate_instance_uid=False)
    content = as_bytes(source)
    radiograph = callus.read(content)
    exam = Exam.of(radiograph, content)
    finding = made_finding(radiograph)
    crash = "import os; from callus.radiograph import apart, codecs; codecs.coded = lambda *_: os.abort()"
    with monkeypatch.context() as context:
        apart._end_idle()
        context.setattr(apart, "_SERVE", f"{crash}; apart.serve()")
        with pytest.raises(CallusError, match=r"make the process of its decoder fail \(signal 6\) \[JPEG-LS"):
            dicom_results(exam, finding, ALGORITHM, presentation=True)
    state = dicom_results(exam, finding, ALGORITHM, presentation=True)["pr"]
    assert state.SoftcopyVOILUTSequence[0] == plain.SoftcopyVOILUTSequence[0]


def test_pixels_that_are_no_squares_keep_their_shape() -> None:
    area = made(simulated(PixelSpacing=["0.2", "0.1"]))[2]["pr"].DisplayedAreaSelectionSequence[0]
    assert [float(side) for side in area.PresentationPixelSpacing] == [0.2, 0.1]
    assert "PresentationPixelAspectRatio" not in area


def test_colour_gets_no_presentation_state(tmp_path: Path) -> None:
    colour = np.dstack([np.full((90, 80), 200, np.uint8), *[np.zeros((90, 80), np.uint8)] * 2])
    _, _, results = made(simulated("SC", colour))
    assert sorted(results) == ["sc", "sr"]


def test_the_same_answer_has_the_same_names() -> None:
    again = [made(simulated())[2] for _ in range(2)]
    assert [result.SOPInstanceUID for result in again[0].values()] == [
        result.SOPInstanceUID for result in again[1].values()
    ]
    other = made(simulated(), probability=0.9)[2]
    neighbour = made(simulated(SOPInstanceUID="1.2.276.0.1.99"))[2]
    for kind, result in again[0].items():
        assert result.SOPInstanceUID not in (other[kind].SOPInstanceUID, neighbour[kind].SOPInstanceUID)
        assert result.SeriesInstanceUID == other[kind].SeriesInstanceUID == neighbour[kind].SeriesInstanceUID


@pytest.mark.parametrize("keyword", ["ImageLaterality", "Laterality"])
def test_one_series_of_results_says_one_side_and_numbers_its_results(keyword: str, tmp_path: Path) -> None:
    """Laterality is an attribute of the series (PS3.3 C.7.3.1); a series of radiographs may hold both hands."""
    hands = [("L", "4"), ("R", "5"), ("L", "6"), (None, "0"), ("R", None)]
    said: dict[str, dict[str, list[tuple[str, int]]]] = {"sr": {}, "sc": {}, "pr": {}}
    for place, (side, number) in enumerate(hands):
        sides = {"ImageLaterality": None, keyword: side}
        results = made(simulated(SOPInstanceUID=f"1.2.276.0.1.{place + 10}", InstanceNumber=number, **sides))[2]
        for kind, result in results.items():
            told = (result.get("Laterality") or "", int(result.InstanceNumber))
            said[kind].setdefault(result.SeriesInstanceUID, []).append(told)
        if place == 1:
            check_with_others(results, tmp_path)
    for kind in ("sc", "pr"):
        assert list(said[kind].values()) == [[("L", 4), ("L", 6)], [("R", 5), ("R", 1)], [("", 1)]]
    assert list(said["sr"].values()) == [[("", 4), ("", 5), ("", 6), ("", 1), ("", 1)]]


@pytest.mark.parametrize(
    ("number", "written"), [("12", 12), ("-3", 1), ("99999999999", 2**31 - 1), ("7.5", 1), ("3\\4", 1), ("", 1)]
)
def test_an_instance_number_is_one(number: str, written: int) -> None:
    content = as_bytes(simulated())
    exam = Exam.of(callus.read(content), content)
    assert exam.number == 3
    assert replace(exam, identity=replace(exam.identity, instance_number=number)).number == written


@pytest.mark.parametrize("offset", ["+1400", "-1200", "+0530", "-0930"])
def test_times_are_written_at_the_offset_that_the_radiograph_states(offset: str, tmp_path: Path) -> None:
    """It counts for all times of a data set (PS3.3 C.12.1.1.8): the study's, which are kept, and the making's."""
    results = made(simulated(TimezoneOffsetFromUTC=offset))[2]
    check_with_others(results, tmp_path)
    moments = []
    for result in results.values():
        assert (result.TimezoneOffsetFromUTC, result.StudyDate, result.StudyTime) == (offset, "20240229", "101112")
        for element in result.iterall():
            if element.VR == "DT":
                moments.append(element.value)
            elif element.VR == "DA" and element.keyword not in ("StudyDate", "PatientBirthDate"):
                keyword = element.keyword.replace("Date", "Time")
                moments.append(f"{element.value}{result[keyword].value}")
    assert len(moments) == 3 + 2 + 3 + 2
    for moment in moments:
        written = datetime.strptime(f"{moment}{offset}", "%Y%m%d%H%M%S.%f%z")
        assert abs(datetime.now(UTC) - written) < timedelta(minutes=5)


@pytest.mark.parametrize("offset", [None, "", "-0000", "+1500", "-1230", "+0560", "UTC", "0100"])
def test_an_offset_that_is_none_is_left_out(offset: str | None) -> None:
    for result in made(simulated(TimezoneOffsetFromUTC=offset))[2].values():
        assert "TimezoneOffsetFromUTC" not in result


ODD: dict[str, dict[str, Any]] = {
    "bare": dict.fromkeys(
        ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
         "StudyTime", "AccessionNumber", "Manufacturer", "BodyPartExamined", "ImageLaterality", "PatientOrientation",
         "Modality", "ImageType", "InstanceNumber", "SeriesNumber")
    ),
    "against the rules": {
        "PatientBirthDate": "19701399", "PatientSex": "unknown", "StudyDate": "yesterday", "StudyTime": "25:61",
        "StudyID": "S" * 40, "AccessionNumber": "A" * 40, "StudyDescription": "D" * 100, "BodyPartExamined": "l\xe4nk",
        "PatientOrientation": ["Q"], "Manufacturer": "M" * 90, "PatientName": "N" * 200, "ImageLaterality": "X",
        "PatientAge": "old", "ReferringPhysicianName": "A^B^C^D^E^F^G",
    },
    "old forms": {"StudyDate": "2024.02.29", "StudyTime": "10:11:12", "PatientSex": "f"},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_attributes_are_left_empty(name: str, tmp_path: Path) -> None:
    content = as_bytes(simulated(**ODD[name]))
    _, finding, results = made(content)
    check_content(finding, results)
    check_with_others(results, tmp_path)
    for result in results.values():
        if name == "old forms":
            assert (result.StudyDate, result.StudyTime, result.PatientSex) == ("20240229", "101112", "F")
        else:
            for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "AccessionNumber"):
                assert keyword in result
                assert not result[keyword].value


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"StudyInstanceUID": None}, "lacks its Study Instance UID, so a result cannot point at it"),
        ({"SeriesInstanceUID": None}, "lacks its Series Instance UID"),
        ({"SOPInstanceUID": None}, "lacks its SOP Instance UID"),
        ({"SOPClassUID": None}, "lacks its SOP Class UID"),
        ({"SOPClassUID": "1.2.276.0.99"}, "which is no image that results can point at"),
        ({"StudyInstanceUID": "1.2.x"}, "has the Study Instance UID '1.2.x', which is no UID"),
        ({"PatientID": "P" * 65}, "which cannot be written: at most 64 characters"),
    ],
)
def test_what_has_no_place_is_refused(tags: dict[str, Any], message: str) -> None:
    content = as_bytes(simulated(**tags))
    with pytest.raises(ResultError, match=message) as raised:
        Exam.of(callus.read(content), content)
    assert "\n" not in str(raised.value)


def test_a_frame_of_several_is_refused() -> None:
    content = as_bytes(simulated("XA", np.stack([stored_values()] * 2).reshape(300, 120), Rows=150, NumberOfFrames=2))
    with pytest.raises(ResultError, match="holds 2 frames; results point at files of one frame"):
        Exam.of(callus.read(content, frame=1), content)


def test_a_picture_has_no_study(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((90, 80), np.uint8)).save(tmp_path / "a.png")
    radiograph = callus.read(tmp_path / "a.png")
    with pytest.raises(ResultError, match=r"a\.png: is no DICOM, so there is no study to put a result in$"):
        Exam.of(radiograph)


def test_a_file_that_has_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.dcm"
    file.write_bytes(as_bytes(simulated()))
    radiograph = callus.read(file)
    file.write_bytes(as_bytes(simulated(PatientID="another")))
    with pytest.raises(ResultError, match=r"a\.dcm: has changed since it was read"):
        Exam.of(radiograph)


def test_names_in_any_script_arrive(tmp_path: Path) -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    content = as_bytes(simulated(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=name, PatientID="P  47"))
    _, _, results = made(content)
    for result in results.values():
        assert (str(result.PatientName), result.SpecificCharacterSet) == (name, "ISO_IR 192")
        assert result.PatientID == "P  47"
    assert str(made(simulated(PatientName="Bono"))[2]["sc"].PatientName) == "Bono"


def test_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "a.dcm"
    file.write_bytes(as_bytes(simulated()))
    radiograph = callus.read(file)
    finding, stem = made_finding(radiograph), tmp_path / "out" / "a"
    written = write_hospital_files(radiograph, finding, ALGORITHM, dicom=stem, fhir=stem, presentation=True)
    names = ["a.callus-fhir.json", "a.callus-pr.dcm", "a.callus-sc.dcm", "a.callus-sr.dcm"]
    assert sorted(path.name for path in written) == sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    (tmp_path / "blocked" / "a.callus-sc.dcm").mkdir(parents=True)
    with pytest.raises(CallusError, match="cannot be written"):
        write_hospital_files(radiograph, finding, ALGORITHM, dicom=tmp_path / "blocked" / "a", presentation=True)
    assert [path.name for path in (tmp_path / "blocked").iterdir()] == ["a.callus-sc.dcm"]


def test_a_disk_that_fills_up_leaves_no_part_of_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.dcm"
    file.write_bytes(as_bytes(simulated()))
    radiograph: Radiograph = callus.read(file)
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))  # the report fits, the picture does not
    try:
        with pytest.raises(CallusError, match="cannot be written"):
            write_hospital_files(radiograph, made_finding(radiograph), ALGORITHM, dicom=tmp_path / "out" / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "out").iterdir()) == []
