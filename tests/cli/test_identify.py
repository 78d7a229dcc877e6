from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pydicom
import pytest
import tiny_bundle
from ctrl_c import HEED_CTRL_C
from PIL import Image
from pydicom.uid import JPEGLSLossless
from simulated_dicom import as_bytes, simulated

from callus.archive.listing import gather
from callus.bundle.views import VIEWS
from callus.cli import main
from callus.cli.identify import View
from callus.errors import PassingError, RadiographError

if TYPE_CHECKING:
    from collections.abc import Callable


class Answer(NamedTuple):
    code: int
    out: list[str]
    err: list[str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def identify(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """Run the verb in this process, as the command line would."""

    def run(*arguments: object, model: Path = bundle) -> Answer:
        words = ["callus", "identify", "--model", model, "--threads", "1", *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        return Answer(int(left.value.code or 0), shown.out.splitlines(), shown.err.splitlines())

    return run


def save(file: Path, peak: int = 255) -> Path:
    pixels = np.random.default_rng(0).integers(20, 60, (160, 160), dtype=np.uint8)
    pixels[100:120, 40:60] = peak
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, format="PNG")
    return file


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    """Two radiographs, one of them below, and what is none."""
    folder = tmp_path / "xrays"
    save(folder / "b.png")
    save(folder / "a" / "low", peak=60)  # no ending, as DICOM files often have
    (folder / "labels.csv").write_text("a,b\n")
    (folder / "notes.txt").write_text("text")
    save(folder / ".hidden.png")
    return folder


def test_a_line_each_in_the_order_of_names(identify: Callable[..., Answer], xrays: Path) -> None:
    answer = identify(xrays)
    assert answer.code == 0
    assert len(answer.out) == 2
    assert answer.out[0].startswith(f"{xrays}/b.png: fracture, probability 1.000")
    assert answer.out[1].startswith(f"{xrays}/a/low: none seen, probability 0.0")
    assert answer.err == [
        "2 identified: 1 fracture, 0 doubt, 1 none seen (research and education, not a medical device)"
    ]


def test_everything_is_written(identify: Callable[..., Answer], xrays: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = identify(xrays, "--out", out, "--json", tmp_path / "new" / "f.json", "--csv", tmp_path / "f.csv")
    assert answer.code == 0
    found = json.loads((tmp_path / "new" / "f.json").read_text())
    assert (found["model"], len(found["findings"])) == ("tiny", 2)
    with (tmp_path / "f.csv").open(newline="") as file:
        assert [row["level"] for row in csv.DictReader(file)] == ["fracture", "none"]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == ["a/low.png", "b.png"]
    assert [entry["map"] for entry in found["findings"]] == [str(out / "b.png"), str(out / "a" / "low.png")]
    with Image.open(out / "b.png") as picture:
        assert picture.mode == "RGB"
    assert not list(tmp_path.rglob("*.part"))


def test_some_fail_and_the_others_are_answered(identify: Callable[..., Answer], xrays: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no image")
    missing = tmp_path / "missing.png"
    answer = identify(text, xrays / "b.png", missing, xrays / "notes.txt", "--json", tmp_path / "f.json")
    assert answer.code == 1
    assert len(answer.out) == 1
    assert len(answer.err) == 4
    for line, file in zip(answer.err, (text, missing, xrays / "notes.txt"), strict=False):
        assert line.startswith(f"callus: {file}: ")
    assert "3 failed" in answer.err[-1]
    entries = json.loads((tmp_path / "f.json").read_text())["findings"]
    assert [entry["error"] is None for entry in entries] == [False, True, False, False]
    assert [entry["path"] for entry in entries] == [
        str(text),
        str(xrays / "b.png"),
        str(missing),
        str(xrays / "notes.txt"),
    ]


def test_wrong_use(identify: Callable[..., Answer], xrays: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = identify(tmp_path / "empty")
    assert (empty.code, empty.out, len(empty.err)) == (2, [], 1)
    assert "holds no radiographs" in empty.err[0]
    no_model = identify(xrays, model=tmp_path / "no model")
    assert (no_model.code, no_model.out, len(no_model.err)) == (2, [], 1)
    assert "there is no such model" in no_model.err[0]
    assert identify().code == 2
    assert identify(xrays, "--threads", "0").code == 2


def test_an_empty_folder_beside_others_is_one_failure(
    identify: Callable[..., Answer], xrays: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    answer = identify(tmp_path / "empty", xrays)
    assert (answer.code, len(answer.out)) == (1, 2)
    assert answer.err[0] == f"callus: {tmp_path}/empty: holds no radiographs"


@pytest.mark.parametrize("option", ["--out", "--json", "--csv"])
def test_a_place_that_cannot_be_written(
    identify: Callable[..., Answer], xrays: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = identify(xrays, option, tmp_path / "file" / "x")
    assert answer.code == 1
    assert answer.err[-1].startswith(f"callus: {tmp_path}/file/x: cannot be ")


def test_a_disk_that_fills_up_keeps_what_was_done(
    identify: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        save(tmp_path / "in" / f"{name}.png")
    save_image = Image.Image.save
    saved = []

    def full(image: Image.Image, *arguments: object, **options: object) -> None:
        if saved:
            raise OSError(28, "No space left on device")
        saved.append(image)
        save_image(image, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "save", full)
    answer = identify(tmp_path / "in", "--out", tmp_path / "out", "--json", tmp_path / "f.json")
    assert answer.code == 1
    assert "out/b.png: cannot be written: No space left on device" in answer.err[-1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png"]
    assert [entry["path"][-5:] for entry in json.loads((tmp_path / "f.json").read_text())["findings"]] == ["a.png"]


def test_an_unreadable_folder_is_one_failure(
    identify: Callable[..., Answer], xrays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user who may not read it, because root may read anything."""
    for place in (xrays, *xrays.parents):
        if (
            place.stat().st_uid == os.geteuid()
            and place.parent != place
            and place.name.startswith(("pytest-", "popen-", "test_"))
        ):
            place.chmod(place.stat().st_mode | 0o055)
    (xrays / "a").chmod(0)
    user = os.geteuid()
    try:
        os.seteuid(user or 65534)
        inputs, failed = gather([xrays, xrays / "a"])  # named twice, told once
    finally:
        os.seteuid(user)
    (xrays / "a").chmod(0o755)
    assert [item.path.name for item in inputs] == ["b.png"]
    line = f"{xrays}/a: cannot be read: Permission denied; check its permissions"
    assert [str(error) for _, error in failed] == [line]
    monkeypatch.setattr("callus.cli.identify.gather", lambda *_: (inputs, failed))
    answer = identify(xrays)
    assert (answer.code, len(answer.out), answer.err[0]) == (1, 1, f"callus: {line}")


def test_ctrl_c_keeps_what_was_done(bundle: Path, tmp_path: Path) -> None:
    for number in range(150):
        save(tmp_path / "in" / f"{number:03}.png")
    words = ["identify", tmp_path / "in", "--model", bundle, "--json", tmp_path / "f.json", "--out", tmp_path / "out"]
    run = subprocess.Popen(
        [sys.executable, "-c", HEED_CTRL_C + "from callus.cli import main; main()", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    for _ in range(3):
        run.stdout.readline()
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert err.splitlines()[-1].startswith("callus: stopped")
    assert "Traceback" not in err
    entries = json.loads((tmp_path / "f.json").read_text())["findings"]
    assert 3 <= len(entries) < 150
    assert not list(tmp_path.rglob("*.part"))


def test_a_result_folder_inside_the_input_is_not_walked(identify: Callable[..., Answer], xrays: Path) -> None:
    for _ in range(2):
        assert len(identify(xrays, "--out", xrays / "out").out) == 2


def test_the_radiograph_itself_is_never_overwritten(identify: Callable[..., Answer], xrays: Path) -> None:
    before = (xrays / "b.png").read_bytes()
    assert identify(xrays / "b.png", "--out", xrays).code == 0
    assert (xrays / "b.png").read_bytes() == before
    assert (xrays / "b.png.png").exists()


def test_strict(identify: Callable[..., Answer], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 300), dtype=np.uint8)
    file = tmp_path / "cut.jpg"
    Image.fromarray(noise).save(file, quality=90)
    file.write_bytes(file.read_bytes()[:-9000])
    lenient = identify(file)
    assert lenient.code == 0
    assert "(caution: truncated" in lenient.out[0]
    assert identify(file, "--strict").code == 1


def test_full_size(identify: Callable[..., Answer], xrays: Path, tmp_path: Path) -> None:
    assert identify(xrays / "b.png", "--out", tmp_path / "out", "--full-size").code == 0
    with Image.open(tmp_path / "out" / "b.png") as picture:
        assert picture.width < 200


@pytest.mark.parametrize("engine", ["onnx-float32", "openvino-float32", "auto"])
def test_the_engine_is_a_choice(identify: Callable[..., Answer], xrays: Path, tmp_path: Path, engine: str) -> None:
    answer = identify(xrays, "--engine", engine, "--throughput", "--json", tmp_path / "f.json")
    assert answer.code == 0, answer.err
    ran = {one["engine"] for one in json.loads((tmp_path / "f.json").read_text())["findings"]}
    assert ran == {"openvino-float32" if engine == "auto" else engine}


def test_an_engine_that_is_not_there_is_wrong_use(identify: Callable[..., Answer], xrays: Path) -> None:
    answer = identify(xrays, "--engine", "openvino-int8")
    assert (answer.code, len(answer.err)) == (2, 1)
    assert "openvino-int8" in answer.err[0]


def test_a_packed_bundle_and_a_run_folder_will_do(
    identify: Callable[..., Answer], bundle: Path, xrays: Path, tmp_path: Path
) -> None:
    from callus.bundle import pack

    shutil.copytree(bundle, tmp_path / "run" / "bundle")
    lines = {
        tuple(identify(xrays, model=model).out)
        for model in (bundle, tmp_path / "run", pack(bundle, tmp_path / "x.callus"))
    }
    assert len(lines) == 1


def test_real_dicom(identify: Callable[..., Answer], dicom_folder: Path, tmp_path: Path) -> None:
    shutil.copy(dicom_folder / "RG3_UNC.dcm", tmp_path / "noending")
    answer = identify(dicom_folder / "RG3_RLE.dcm", tmp_path / "noending")
    assert answer.code == 0
    assert len({line.split(": ", 1)[1] for line in answer.out}) == 1


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two DICOM files: one bright spot, one without."""
    folder = tmp_path / "study"
    folder.mkdir()
    for number, peak in enumerate((4095, 900)):
        pixels = np.random.default_rng(number).integers(300, 900, (160, 160), dtype=np.uint16)
        pixels[100:120, 40:60] = peak
        window = {"WindowCenter": 2048, "WindowWidth": 4096, "SOPInstanceUID": f"1.2.276.0.1.{number + 10}"}
        (folder / f"image{number}").write_bytes(as_bytes(simulated("DX", pixels, **window)))
    return folder


def test_dicom_and_fhir_results(identify: Callable[..., Answer], study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = identify(study, "--dicom", out / "dicom", "--fhir", out / "fhir")
    assert (answer.code, len(answer.out), len(answer.err)) == (0, 2, 1)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        "dicom/image0.callus-sc.dcm",
        "dicom/image0.callus-sr.dcm",
        "dicom/image1.callus-sc.dcm",
        "dicom/image1.callus-sr.dcm",
        "fhir/image0.callus-fhir.json",
        "fhir/image1.callus-fhir.json",
    ]
    report = pydicom.dcmread(out / "dicom" / "image0.callus-sr.dcm")
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.276.0.1.10"
    conclusion = json.loads((out / "fhir" / "image0.callus-fhir.json").read_text())["entry"][0]["resource"][
        "conclusion"
    ]
    assert conclusion.startswith("fracture, probability 1.000")


def test_results_beside_the_files_are_no_radiographs(identify: Callable[..., Answer], study: Path) -> None:
    for _ in range(2):
        answer = identify(study, "--dicom", study, "--gsps", "--fhir", study)
        assert (answer.code, len(answer.out)) == (0, 2)
    assert len(list(study.iterdir())) == 2 + 2 * 4


def test_what_has_no_study_is_warned_of_and_the_rest_goes_on(
    identify: Callable[..., Answer], study: Path, xrays: Path, tmp_path: Path
) -> None:
    answer = identify(xrays / "b.png", study, "--dicom", tmp_path / "out", "--json", tmp_path / "f.json")
    assert (answer.code, len(answer.out)) == (1, 3)
    assert answer.err[0] == f"callus: warning: {xrays}/b.png: is no DICOM, so there is no study to put a result in"
    assert len(answer.err) == 2
    assert "1 without all of their DICOM and FHIR" in answer.err[1]
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert [entry["error"] for entry in json.loads((tmp_path / "f.json").read_text())["findings"]] == [None] * 3


@pytest.mark.parametrize("kind", [RadiographError, PassingError, MemoryError, IndexError])
def test_a_result_that_cannot_be_made_is_its_own_file_s_failure(
    identify: Callable[..., Answer],
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
) -> None:
    """A coded file that names no view is decoded again for its presentation state, which may fail."""
    coded = simulated("CR", SOPInstanceUID="1.2.276.0.1.12")
    coded.compress(JPEGLSLossless, generate_instance_uid=False)
    (study / "image").write_bytes(as_bytes(coded))

    class Failing:
        @staticmethod
        def coded(*_: object) -> None:
            raise kind("has pixel data that fail")

    monkeypatch.setattr("callus.results.dicom_grey.apart", Failing)
    answer = identify(study, "--dicom", tmp_path / "out", "--gsps", "--json", tmp_path / "f.json")
    assert (answer.code, len(answer.out), len(answer.err)) == (1, 3, 2)
    assert answer.err[0].startswith(f"callus: warning: {study}/image: ")
    assert ("there is not enough memory" if kind is MemoryError else "has pixel data that fail") in answer.err[0]
    assert ", 1 without all of their DICOM and FHIR" in answer.err[1]
    assert len(list((tmp_path / "out").iterdir())) == 6
    assert [entry["error"] for entry in json.loads((tmp_path / "f.json").read_text())["findings"]] == [None] * 3


def test_a_picture_that_cannot_be_drawn_is_its_own_file_s_failure(
    identify: Callable[..., Answer], xrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callus.results import overlay

    drawn, draw = [], overlay.overlay

    def once_without_memory(*arguments: object, **options: object) -> Image.Image:
        drawn.append(arguments)
        if len(drawn) == 1:
            raise MemoryError
        return draw(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(overlay, "overlay", once_without_memory)
    answer = identify(xrays, "--out", tmp_path / "out", "--json", tmp_path / "f.json")
    assert (answer.code, len(answer.out), len(answer.err)) == (1, 2, 2)
    line = f"callus: warning: {xrays}/b.png: its picture cannot be made: there is not enough memory"
    assert answer.err[0] == line
    assert ", 1 without a picture (" in answer.err[1]
    entries = json.loads((tmp_path / "f.json").read_text())["findings"]
    assert [(entry["level"], entry["map"]) for entry in entries] == [
        ("fracture", None),
        ("none", str(tmp_path / "out" / "a" / "low.png")),
    ]


def test_tables_are_written_whatever_failed(
    identify: Callable[..., Answer], xrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callus.identify import Identifier

    answers = Identifier.identify_many

    def broken(*arguments: object, **options: object) -> object:
        yield next(answers(*arguments, **options))  # type: ignore[arg-type]
        raise RuntimeError("the engine broke")

    monkeypatch.setattr(Identifier, "identify_many", broken)
    with pytest.raises(RuntimeError, match="the engine broke"):
        identify(xrays, "--json", tmp_path / "f.json")
    assert len(json.loads((tmp_path / "f.json").read_text())["findings"]) == 1


def test_colour_is_told_that_it_gets_no_presentation_state(identify: Callable[..., Answer], tmp_path: Path) -> None:
    colour = np.dstack([np.full((160, 160), 200, np.uint8), *[np.zeros((160, 160), np.uint8)] * 2])
    (tmp_path / "colour.dcm").write_bytes(as_bytes(simulated("SC", colour)))
    answer = identify(tmp_path / "colour.dcm", "--dicom", tmp_path / "out", "--gsps")
    assert answer.code == 1
    assert "has colours, so it gets no presentation state" in answer.err[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "colour.callus-sc.dcm",
        "colour.callus-sr.dcm",
    ]


def test_a_presentation_state_alone_is_wrong_use(identify: Callable[..., Answer], study: Path) -> None:
    answer = identify(study, "--gsps")
    assert (answer.code, answer.out) == (2, [])
    assert "--dicom" in answer.err[-1]


def test_nothing_of_dicom_or_fhir_is_loaded_where_none_is_written(bundle: Path, xrays: Path) -> None:
    code = (
        "import sys; from callus.cli import main\n"
        "try: main()\n"
        "finally: print([name for name in ('highdicom', 'fhir') if name in sys.modules])"
    )
    for words in (["identify", "--help"], ["identify", str(xrays), "--model", str(bundle)]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_an_archive_is_answered_into_parquet(identify: Callable[..., Answer], xrays: Path, tmp_path: Path) -> None:
    (xrays / "text.png").write_text("no image")
    out = xrays / "out"  # not walked, although it lies inside
    line = "2 identified: 1 fracture, 0 doubt, 1 none seen, 1 failed"
    first = identify(xrays, "--parquet", out, "--workers", "1")
    assert (first.code, first.out, len(first.err)) == (1, [], 1)
    assert first.err[0] == f"{line} (research and education, not a medical device)"
    again = identify(xrays, "--parquet", out)
    assert (again.code, again.out, len(again.err)) == (2, [], 1)
    assert f"{out}: holds results already" in again.err[0]
    resumed = identify(xrays, xrays / "b.png", "--parquet", out, "--resume")
    assert (resumed.code, resumed.out) == (1, [])
    assert resumed.err[-1].startswith(f"{line}; 3 of them before")
    (xrays / "text.png").unlink()
    save(xrays / "text.png")
    retried = identify(xrays, "--parquet", out, "--resume", "--retry-failed")
    assert (retried.code, retried.out) == (0, [])
    assert retried.err[-1].startswith("3 identified: 2 fracture, 0 doubt, 1 none seen; 2 of them before")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--resume"], "give --parquet DIR too"),
        (["--workers", "2"], "give --parquet DIR too"),
        (["--parquet", "p", "--json", "f.json", "--gsps"], "does not go with --json and --gsps"),
        (["--parquet", "p", "--full-size"], "does not go with --full-size"),
        (["--parquet", "p", "--retry-failed"], "goes with --resume"),
    ],
)
def test_options_that_do_not_go_together(
    identify: Callable[..., Answer], xrays: Path, options: list[str], said: str
) -> None:
    answer = identify(xrays, *options)
    assert answer.code == 2
    assert said in " ".join(" ".join(answer.err).replace("│", " ").split())
    assert not Path("p").exists()


def test_an_archive_that_holds_nothing_and_one_that_is_partly_missing(
    identify: Callable[..., Answer], xrays: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    empty = identify(tmp_path / "empty", "--parquet", tmp_path / "out")
    assert (empty.code, len(empty.err)) == (2, 1)
    assert not (tmp_path / "out").exists()
    partly = identify(tmp_path / "empty", xrays, "--parquet", tmp_path / "out")
    assert (partly.code, partly.err[0]) == (1, f"callus: {tmp_path}/empty: holds no radiographs")
    assert partly.err[1].startswith("2 identified: 1 fracture, 0 doubt, 1 none seen, 1 failed")


def test_views_are_averaged_and_told(identify: Callable[..., Answer], tmp_path: Path) -> None:
    picture = save(tmp_path / "hand.png", peak=150)
    told = []
    for views in ([], ["--views", "rotate", "--views", "mirror"]):
        assert identify(picture, "--json", tmp_path / "f.json", *views).code == 0
        told += json.loads((tmp_path / "f.json").read_text())["findings"]
    assert [one["views"] for one in told] == [[], ["mirror", "rotate"]]
    assert told[0]["probability"] != told[1]["probability"]
    assert identify(picture, "--views", "upside down").code == 2
    assert identify(picture, "--views", "none").code == 0
    assert identify(picture, "--views", "none", "--views", "mirror").code == 2
    assert tuple(View) == ("none", *VIEWS)
