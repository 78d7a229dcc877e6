"""``callus bench``: all figures are there and fit each other; how fast the machine is no test can know."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import tiny_bundle
from ctrl_c import HEED_CTRL_C

from callus.bundle import Bundle
from callus.bundle.openvino_engine import import_openvino
from callus.cli import main
from callus.cli.bench import SIMULATED, table, warnings
from callus.dataset.simulated import simulate
from callus.errors import BundleError, CallusError
from callus.measure import phases
from callus.measure.map_cost import map_share, needed_layers
from callus.measure.phases import Task
from callus.measure.run import MOST_FILES, measure, run_phase, usable

if TYPE_CHECKING:
    from collections.abc import Callable

START = {"python_s", "imports_s", "load_s", "first_answer_s", "total_s"}
ONE = {"engine", "threads", "answers", "p50_ms", "p99_ms", "decode_ms", "prepare_ms", "network_ms", "boxes_ms"}
ONE |= {"decode_cpu_ms", "decode_share", "map_share", "peak_memory_mib"}
MANY = {"engine", "threads", "batch", "answers", "seconds", "images_a_second", "cpu_ms", "cores_busy", "decode_share"}
MANY |= {"peak_memory_mib"}


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("radiographs")
    simulate(folder / "simulated", 6, seed=1)
    (folder / "simulated" / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder / "simulated" / "images"


@pytest.fixture
def bench(bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def run(*arguments: object, model: Path = bundle) -> Answer:
        words = ["callus", "bench", "--model", model, "--threads", "1", "--seconds", "0.4", *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as left:
            main()
        return Answer(int(left.value.code or 0), *capfd.readouterr())

    return run


def test_figures_are_all_there_and_fit_each_other(
    bench: Callable[..., Answer], bundle: Path, radiographs: Path, tmp_path: Path
) -> None:
    answer = bench("--files", radiographs, "--json", tmp_path / "new" / "bench.json")
    assert answer.code == 0, answer.err
    told = json.loads((tmp_path / "new" / "bench.json").read_text())
    head = {"measured", "callus", "research_only", "model", "machine", "versions", "files", "settings"}
    assert set(told) == head | {"start", "one", "many"}
    assert told["research_only"] in answer.out
    assert told["model"] == {"name": "tiny", "digest": Bundle.load(bundle).digest, "height": 64, "width": 64}
    assert told["settings"] == {"engine": "auto", "threads": 1, "seconds": 0.4}
    assert told["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert {"callus", "python", "openvino", "onnxruntime"} <= set(told["versions"])
    assert (told["files"]["count"], told["files"]["unreadable"]) == (6, 1)
    assert (told["files"]["endings"], told["files"]["simulated"]) == ({".png": 6}, False)
    assert "1 files could not be read" in answer.err
    check_start(told["start"])
    check_one(told["one"])
    check_many(told["many"], told["one"])
    for line in table(told):
        assert line in answer.out.splitlines()


def check_start(start: dict[str, float]) -> None:
    assert set(start) == START
    parts = [start[name] for name in START - {"total_s"}]
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(start["total_s"])


def check_one(one: dict[str, Any]) -> None:
    assert set(one) == ONE
    assert (one["engine"], one["threads"]) == ("openvino-float32", 1)
    assert one["answers"] >= 5
    assert 0 < one["p50_ms"] <= one["p99_ms"]
    for part in ("decode_ms", "prepare_ms", "network_ms", "boxes_ms", "decode_cpu_ms"):
        assert 0 < one[part] < one["p99_ms"]
    assert 0 < one["decode_share"] < 1
    assert one["map_share"] > 0
    assert 20 < one["peak_memory_mib"] < 4096


def check_many(many: dict[str, Any], one: dict[str, Any]) -> None:
    assert set(many) == MANY
    assert (many["engine"], many["threads"]) == ("openvino-float32", 1)
    assert many["answers"] >= 5
    assert many["answers"] % many["batch"] == 0
    assert many["images_a_second"] == pytest.approx(many["answers"] / many["seconds"])
    assert many["cores_busy"] == pytest.approx(many["cpu_ms"] * many["answers"] / many["seconds"] / 1e3)
    assert many["decode_share"] == pytest.approx(min(1, one["decode_cpu_ms"] / many["cpu_ms"]))
    assert many["peak_memory_mib"] > 20


def test_without_files_radiographs_are_simulated_and_the_engine_is_the_users(
    bench: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callus.cli.bench.SIMULATED_SIZE", (320, 256))  # a second instead of five
    (tmp_path / "file").write_text("in the way")
    answer = bench("--engine", "onnx-float32", "--json", tmp_path / "file" / "x")
    assert answer.code == 1
    assert answer.err.splitlines()[-1].startswith(f"callus: {tmp_path}/file/x: cannot be ")
    assert answer.out.startswith("tiny, 64 x 64, onnx-float32\n")  # what was measured is shown all the same
    assert f"{SIMULATED} simulated radiographs" in answer.out


def test_what_cannot_be_measured_is_one_line(
    bench: Callable[..., Answer], bundle: Path, radiographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("no picture")
    wrong = [
        (bench(model=tmp_path / "none"), "there is no such model"),
        (bench("--files", tmp_path / "empty"), f"{tmp_path}/empty: holds no radiographs"),
        (bench("--files", tmp_path / "text"), f"{tmp_path}/text/a.png: "),
        (bench("--files", tmp_path / "missing"), f"{tmp_path}/missing: "),
        (bench("--files", radiographs, "--engine", "openvino-int8"), "has no engine 'openvino-int8'"),
    ]
    for answer, message in wrong:
        assert answer.code == 2, answer
        last = answer.err.splitlines()[-1]
        assert last.startswith("callus: ")
        assert message in last
        assert "Traceback" not in answer.err
    assert bench("--seconds", "0").code == 2
    assert bench("--threads", "0").code == 2


def test_what_a_process_raises_is_raised_here(bundle: Path, radiographs: Path) -> None:
    (file, *_) = sorted(str(path) for path in radiographs.glob("0*.png"))
    with pytest.raises(BundleError, match="there is no such model"):
        run_phase(Task("one", str(bundle / "none"), [file], "auto", 1, 0.1, time.perf_counter()))
    with pytest.raises(CallusError, match="exit code 1 and no figures"):
        run_phase(Task("no such phase", str(bundle), [file], "auto", 1, 0.1, time.perf_counter()))
    told = run_phase(Task("start", str(bundle), [file], "auto", 1, 0.1, time.perf_counter()))
    check_start(told)


def test_of_a_large_folder_some_are_taken(radiographs: Path) -> None:
    file = next(radiographs.glob("0*.png"))
    taken, told = usable([file] * (3 * MOST_FILES - 1))
    assert len(taken) == told["count"] == MOST_FILES


def test_no_time_is_wrong_use(bundle: Path, radiographs: Path) -> None:
    with pytest.raises(CallusError, match="0 seconds were asked for"):
        measure(bundle, [radiographs], seconds=0.0)


def test_layers_that_the_logit_needs() -> None:
    core = import_openvino().Core()
    model = core.read_model(model=tiny_bundle.tiny_graph().SerializeToString())
    model.reshape([1, 3, 64, 64])
    needed = needed_layers(core.compile_model(model, "CPU").get_runtime_model())
    assert {"largest", "logit"} <= needed
    assert not {"map", "pooled", "features"} & needed


def test_boxes_are_made_once_however_often_the_network_is_asked() -> None:
    times = phases._Times()
    times.parts["network"], times.parts["boxes"] = [0.25, 0.75], [0.125, 0.125]
    assert phases._map_share(times, 0.5, 1) == 0.75
    assert phases._map_share(times, 0.5, 2) == 0.625


def test_share_of_map_and_features(bundle: Path) -> None:
    batch = np.zeros((1, 3, 64, 64), dtype=np.float32)
    loaded = Bundle.load(bundle)
    # 0 where the layers take less than a microsecond: which ones are counted is tested above.
    assert 0 <= map_share(loaded, "openvino-float32", 1, batch, 3) < 1
    assert 0 <= map_share(loaded, "onnx-float32", 1, batch, 3) < 1


def test_a_busy_machine_is_told(bundle: Path) -> None:
    quiet: dict[str, Any] = {"machine": {"load_average": 0.4, "cores": 2}, "files": {"unreadable": 0}}
    assert warnings(quiet) == []
    quiet["machine"]["load_average"] = 1.1
    assert warnings(quiet) == ["the machine was busy before (load 1.1 on 2 cores): alone it is faster"]
    quiet["machine"]["load_average"] = None  # as on Windows
    assert warnings(quiet) == []


def test_ctrl_c_ends_what_was_started(bundle: Path, radiographs: Path) -> None:
    words = ["bench", "--model", bundle, "--files", radiographs, "--seconds", "600", "--threads", "1"]
    run = subprocess.Popen(
        [sys.executable, "-c", HEED_CTRL_C + "from callus.cli import main; main()", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    ends = time.monotonic() + 60
    while not (started := children.read_text().split()) and time.monotonic() < ends:
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert started
    assert run.returncode == 130
    assert err.splitlines()[-1].startswith("callus: stopped")
    assert not Path(f"/proc/{started[0]}").exists()
