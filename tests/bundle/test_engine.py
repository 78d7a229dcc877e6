from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import tiny_bundle
from onnx import TensorProto, helper
from tiny_bundle import IR_FILES, IR_POINTS, ir_bundle

from callus.bundle import Bundle, Engine, pack, write_bundle
from callus.bundle.engine import ENGINES, ONNX_FLOAT32, OPENVINO_FLOAT32, OPENVINO_INT8, chosen, usable_cores
from callus.errors import BundleError, CallusError
from callus.identify import Identifier
from callus.radiograph import Radiograph

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

every_engine = pytest.mark.parametrize("engine", [ONNX_FLOAT32, OPENVINO_FLOAT32])


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.load(tiny_bundle.write_tiny_bundle(tmp_path / "bundle"))


def with_graph(folder: Path, graph: bytes, **changes: Any) -> Bundle:
    files = {"model.onnx": graph, "MODEL_CARD.md": b"# x\n"}
    return Bundle.load(write_bundle(folder, tiny_bundle.tiny_info(**changes), files))


@pytest.mark.parametrize("hint", ["latency", "throughput"])
@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("count", [1, 3, 11])
@every_engine
def test_it_gives_what_the_graph_says(
    bundle: Bundle, engine: str, count: int, threads: int | None, hint: Literal["latency", "throughput"]
) -> None:
    batch = np.random.default_rng(0).uniform(-1, 1, (count, 3, 64, 64)).astype(np.float32)
    outputs = Engine(bundle, threads, engine, hint).run(batch)
    cells = (batch.reshape(count, 3, 8, 8, 8, 8).mean(axis=(1, 3, 5)) + 1) / 2
    assert outputs.map == pytest.approx(cells, abs=1e-5)
    assert outputs.logit == pytest.approx(20 * (cells.max(axis=(1, 2)) - 0.5), abs=1e-4)
    assert outputs.features == pytest.approx(batch.mean(axis=(2, 3)), abs=1e-5)
    assert outputs.logit.dtype == outputs.map.dtype == outputs.features.dtype == np.float32


def test_the_hint_chooses_how_many_pictures_are_given_at_once(bundle: Bundle) -> None:
    soon, flow = (Engine(bundle, 2, OPENVINO_FLOAT32, hint) for hint in ("latency", "throughput"))
    assert (soon.batch, soon._graph._free.qsize()) == (1, 1)
    assert flow.batch > flow._graph._free.qsize() >= 1, "each stream is given several"
    assert [Engine(bundle, 2, ONNX_FLOAT32, hint).batch for hint in ("latency", "throughput")] == [1, 1]
    assert [Engine(bundle, threads).threads for threads in (1, 2, None)] == [1, 2, usable_cores()]


@pytest.mark.parametrize("hint", ["latency", "throughput"])
@every_engine
def test_threads_may_share_it(bundle: Bundle, engine: str, hint: Literal["latency", "throughput"]) -> None:
    shared = Engine(bundle, 2, engine, hint)
    batches = [np.full((1 + number % 3, 3, 64, 64), number / 16 - 0.5, np.float32) for number in range(16)]
    alone = [shared.run(batch).logit.tolist() for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        assert [outputs.logit.tolist() for outputs in pool.map(shared.run, batches * 4)] == alone * 4


@every_engine
def test_it_says_nothing_on_stderr(bundle: Bundle, engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    Engine(bundle, name=engine).run(np.zeros((1, 3, 64, 64), np.float32))
    assert capfd.readouterr() == ("", "")


def test_answers_stay_when_the_engine_runs_again(bundle: Bundle) -> None:
    engine = Engine(bundle, name=OPENVINO_FLOAT32)
    first = engine.run(np.full((1, 3, 64, 64), 0.5, np.float32))
    kept = first.map.copy()
    engine.run(np.full((1, 3, 64, 64), -0.5, np.float32))
    assert (first.map == kept).all()


@pytest.mark.parametrize(
    ("engines", "openvino", "gpu", "expected"),
    [
        ({ONNX_FLOAT32, OPENVINO_FLOAT32, OPENVINO_INT8}, True, False, OPENVINO_INT8),
        ({ONNX_FLOAT32, OPENVINO_FLOAT32, OPENVINO_INT8}, True, True, ONNX_FLOAT32),
        ({OPENVINO_INT8}, True, True, OPENVINO_INT8),
        ({ONNX_FLOAT32, OPENVINO_FLOAT32, OPENVINO_INT8}, False, False, ONNX_FLOAT32),
        ({ONNX_FLOAT32, OPENVINO_FLOAT32}, True, False, OPENVINO_FLOAT32),
        ({ONNX_FLOAT32, OPENVINO_FLOAT32}, True, True, ONNX_FLOAT32),
        ({ONNX_FLOAT32, OPENVINO_FLOAT32}, False, False, ONNX_FLOAT32),
    ],
)
def test_auto_takes_the_fastest_that_is_there(engines: set[str], *, openvino: bool, gpu: bool, expected: str) -> None:
    assert chosen(engines, openvino=openvino, gpu=gpu) == expected


def test_auto_on_this_machine_says_what_ran(tmp_path: Path, bundle: Bundle) -> None:
    without, held = Engine(bundle), Engine(Bundle.load(ir_bundle(tmp_path / "ir")))
    assert (without.name, without.ran, without.info.name) == (OPENVINO_FLOAT32,) * 3
    assert (held.name, held.ran, held.info.name) == (OPENVINO_INT8,) * 3
    assert set(held.info.operating_points.as_dict().values()) >= set(IR_POINTS.values())


def test_a_bundle_tells_its_engines(tmp_path: Path, bundle: Bundle) -> None:
    assert bundle.engines == (ONNX_FLOAT32, OPENVINO_FLOAT32)
    assert set(Bundle.load(ir_bundle(tmp_path / "ir")).engines) == set(ENGINES)
    shared, own = (bundle.engine_info(name) for name in (OPENVINO_FLOAT32, ONNX_FLOAT32))
    assert (shared.file, shared.operating_points, shared.calibration) == (
        own.file,
        own.operating_points,
        own.calibration,
    )


def test_an_identifier_calls_by_the_thresholds_of_what_runs(tmp_path: Path) -> None:
    where = ir_bundle(tmp_path / "ir")
    picture = np.full((64, 64), 122, np.uint8)  # its probability lies between the two engines' thresholds
    levels = {}
    for engine in ENGINES:
        identifier = Identifier(where, engine=engine)
        finding = identifier.identify(Radiograph(picture, None, "PNG", ""))
        assert finding.engine == identifier.info.name == engine
        assert 0.3 < finding.probability < 0.7
        levels[engine] = finding.level
    assert levels == {OPENVINO_INT8: "fracture", OPENVINO_FLOAT32: "doubt", ONNX_FLOAT32: "doubt"}


@pytest.mark.parametrize("name", ["auto", OPENVINO_INT8])
@pytest.mark.parametrize("part", ["file", "weights"])
def test_a_changed_network_is_refused_before_it_is_compiled(tmp_path: Path, name: str, part: str) -> None:
    where = ir_bundle(tmp_path / "ir")
    loaded = Bundle.load(where)
    file = where / IR_FILES[part]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(BundleError, match=f"{IR_FILES[part]} has SHA-256"):
        Bundle.load(where)
    with pytest.raises(BundleError, match=f"{IR_FILES[part]} has SHA-256"):
        Engine(loaded, name=name)


def test_a_packed_bundle_runs_openvino_too(tmp_path: Path) -> None:
    where = ir_bundle(tmp_path / "ir")
    batch = np.random.default_rng(0).uniform(-1, 1, (2, 3, 64, 64)).astype(np.float32)
    logits = [
        Engine(Bundle.load(path)).run(batch).logit.tolist() for path in (where, pack(where, tmp_path / "a.callus"))
    ]
    assert logits[0] == logits[1]


@pytest.mark.parametrize("graph", [b"", b"no xml", b"<net", b'<net name="x" version="11"><layers/><edges/></net>'])
def test_a_file_that_openvino_refuses_is_one_line(
    tmp_path: Path, graph: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.load(ir_bundle(tmp_path / "ir", spoil=graph))
    with pytest.raises(BundleError, match=r"OpenVINO .* cannot load the graph|the graph is not a bundle's") as refused:
        Engine(bundle)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"file": "model.xml"}, r"weights is missing, expected a line of text"),
        ({"file": "model.xml", "weights": 3}, r"weights is 3, expected a line of text"),
        ({"file": "model.xml", "weights": "other.bin"}, r"weights is 'other.bin', expected one of files"),
    ],
)
def test_where_the_weights_lie_has_to_be_said(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    engines = tiny_bundle.tiny_info()["engines"]
    engines[OPENVINO_INT8] = {**engines[ONNX_FLOAT32], **entry}
    files = {
        "model.onnx": tiny_bundle.tiny_graph().SerializeToString(),
        "MODEL_CARD.md": b"# x\n",
        "model.xml": b"<net/>",
    }
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "b", tiny_bundle.tiny_info(engines=engines), files)


@pytest.mark.parametrize("told", [[], "none", {"openvino-int8": 1}, {"openvino-int8": "two\nlines"}])
def test_why_an_engine_is_missing_is_a_line_of_text(tmp_path: Path, told: object) -> None:
    with pytest.raises(BundleError, match="engines_left_out"):
        tiny_bundle.write_tiny_bundle(tmp_path / "b", engines_left_out=told)
    good = tiny_bundle.write_tiny_bundle(tmp_path / "b", engines_left_out={"openvino-int8": "too small to gain"})
    assert Engine(Bundle.load(good)).name == OPENVINO_FLOAT32


def test_names_and_hints_that_nobody_knows_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no engine 'openvino-int8'; expected one of onnx-float32, openvino-float32"):
        Engine(bundle, name=OPENVINO_INT8)
    with pytest.raises(CallusError, match="the hint is 'speed'; expected latency or throughput"):
        Engine(bundle, hint="speed")  # type: ignore[arg-type]


def test_an_engine_of_a_later_callus_is_named(tmp_path: Path) -> None:
    engine = tiny_bundle.tiny_info()["engines"][ONNX_FLOAT32]
    where = tiny_bundle.write_tiny_bundle(tmp_path / "b", engines={ONNX_FLOAT32: engine, "abacus-int2": engine})
    bundle = Bundle.load(where)
    assert Engine(bundle).name == OPENVINO_FLOAT32
    with pytest.raises(CallusError, match="this callus has no engine 'abacus-int2'"):
        Engine(bundle, name="abacus-int2")


def test_without_openvino_onnx_runtime_answers(tmp_path: Path) -> None:
    where = ir_bundle(tmp_path / "ir")
    code = f"""
import sys
import numpy as np

class NoOpenVINO:
    def find_spec(self, name, path=None, target=None):
        if name == "openvino":
            raise ImportError("libopenvino.so: cannot open shared object file")

sys.meta_path.insert(0, NoOpenVINO())
import callus
from callus.errors import CallusError
identifier = callus.Identifier({str(where)!r})
radiograph = callus.Radiograph(np.full((64, 64), 122, np.uint8), None, "PNG", "")
print(identifier.engine.name, identifier.info.name, identifier.identify(radiograph).engine)
try:
    callus.Identifier({str(where)!r}, engine="openvino-int8")
except CallusError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.splitlines()) == (
        "",
        [
            "onnx-float32 onnx-float32 onnx-float32",
            (
                "the engine openvino-int8 needs OpenVINO, which cannot be imported; "
                "pip install openvino, or take the engine onnx-float32"
            ),
        ],
    )


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 3, 64, 32), np.float32),
        np.zeros((3, 64, 64), np.float32),
        np.zeros((1, 3, 64, 64), np.float64),
        np.zeros((0, 3, 64, 64), np.float32),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(bundle: Bundle, batch: np.ndarray) -> None:
    with pytest.raises(CallusError, match=r"expected float32 \(n, 3, 64, 64\)"):
        Engine(bundle).run(batch)


def renamed_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = model.graph.node[6].input[0] = "image"


def no_features(model: onnx.ModelProto) -> None:
    del model.graph.output[2]


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def other_rank(model: onnx.ModelProto) -> None:
    model.graph.node[7].CopyFrom(helper.make_node("Identity", ["pooled"], ["features"]))
    del model.graph.output[2]
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3, 1, 1]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (renamed_input, "its inputs are image, expected radiograph"),
        (no_features, "it has no output features"),
        (fixed_batch, "takes a batch of 1 only"),
        (other_rank, "features is .*, expected"),
    ],
)
@every_engine
def test_a_graph_that_is_not_a_bundles_is_refused(
    tmp_path: Path, engine: str, spoil: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = tiny_bundle.tiny_graph()
    spoil(model)
    with pytest.raises(BundleError, match=message):
        Engine(with_graph(tmp_path / "b", model.SerializeToString()), name=engine)


@every_engine
def test_sizes_that_differ_from_the_bundles_are_told_together(tmp_path: Path, engine: str) -> None:
    size = {"height": 96, "width": 96, "channels": 3, "fit": "letterbox", "low": -1.0, "high": 1.0}
    bundle = with_graph(tmp_path / "b", tiny_bundle.tiny_graph().SerializeToString(), input=size)
    with pytest.raises(BundleError, match=r"radiograph is .*expected \['n', 3, 96, 96\].*map is .*12, 12"):
        Engine(bundle, name=engine)


@every_engine
def test_a_graph_that_the_runtime_refuses_is_one_line(
    tmp_path: Path, engine: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tiny_bundle.tiny_graph()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BundleError, match="cannot load the graph") as refused:
        Engine(with_graph(tmp_path / "b", model.SerializeToString()), name=engine)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""


@every_engine
def test_answers_that_are_no_numbers_are_refused(tmp_path: Path, engine: str) -> None:
    graph = tiny_bundle.tiny_graph(gain=float("inf")).SerializeToString()
    with pytest.raises(BundleError, match="logit holds values that are no numbers"):
        Engine(with_graph(tmp_path / "b", graph), name=engine).run(np.zeros((1, 3, 64, 64), np.float32))


def test_no_threads_is_wrong(bundle: Bundle) -> None:
    with pytest.raises(CallusError, match="threads is 0"):
        Engine(bundle, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="where the identifier would lie is known for Linux")
@pytest.mark.parametrize("quiet", [False, True])
def test_the_runtime_tells_its_maker_nothing(tmp_path: Path, *, quiet: bool) -> None:
    """It begins with an identifier of the machine; that it writes one without callus shows that the test can fail."""
    code = ("import callus; " if quiet else "") + "import onnxruntime"
    subprocess.run([sys.executable, "-c", code], check=True, env={"HOME": str(tmp_path)})
    assert bool(list(tmp_path.rglob("deviceid"))) is not quiet


NETWORK = """
import os, socket, sys

def noted(*arguments, **named):
    with open(sys.argv[1], "a") as file:
        file.write(repr(arguments)[:200])
    raise OSError("there is no network here")

socket.getaddrinfo = socket.socket.connect = noted
"""
QUANTISE = """
import nncf, numpy, openvino
graph = openvino.opset13.parameter([1, 3, 8, 8], dtype=numpy.float32)
kernel = openvino.opset13.constant(numpy.ones((4, 3, 3, 3), numpy.float32))
made = openvino.opset13.convolution(graph, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
pictures = nncf.Dataset([numpy.ones((1, 3, 8, 8), numpy.float32)])
nncf.quantize(openvino.Model([made], [graph]), pictures, subset_size=1)
"""


@pytest.mark.parametrize(
    ("first", "quiet"),
    [
        ("import openvino", False),
        ("from callus.bundle import openvino_engine; openvino_engine.import_openvino()", True),
        ("import openvino_telemetry; from callus.bundle import openvino_engine; openvino_engine.silence()", True),
    ],
)
def test_openvino_and_nncf_tell_their_maker_nothing(tmp_path: Path, first: str, *, quiet: bool) -> None:
    """They begin with their first import; that they try without callus shows that the test can fail."""
    code = NETWORK + first + QUANTISE
    environment = {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    (tmp_path / "home").mkdir()
    call = [sys.executable, "-c", code, str(tmp_path / "noted")]
    subprocess.run(call, check=True, env=environment, capture_output=True)
    assert (tmp_path / "noted").exists() is not quiet
