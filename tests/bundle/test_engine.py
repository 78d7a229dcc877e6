from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_bundle
from onnx import TensorProto, helper

from callus.bundle import Bundle, Engine, write_bundle
from callus.errors import BundleError, CallusError

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.load(tiny_bundle.write_tiny_bundle(tmp_path / "bundle"))


def with_graph(folder: Path, graph: bytes, **changes: Any) -> Bundle:
    files = {"model.onnx": graph, "MODEL_CARD.md": b"# x\n"}
    return Bundle.load(write_bundle(folder, tiny_bundle.tiny_info(**changes), files))


@pytest.mark.parametrize("threads", [None, 1, 2])
@pytest.mark.parametrize("count", [1, 3])
def test_it_gives_what_the_graph_says(bundle: Bundle, count: int, threads: int | None) -> None:
    batch = np.random.default_rng(0).uniform(-1, 1, (count, 3, 64, 64)).astype(np.float32)
    outputs = Engine(bundle, threads).run(batch)
    cells = (batch.reshape(count, 3, 8, 8, 8, 8).mean(axis=(1, 3, 5)) + 1) / 2
    assert outputs.map == pytest.approx(cells, abs=1e-5)
    assert outputs.logit == pytest.approx(20 * (cells.max(axis=(1, 2)) - 0.5), abs=1e-4)
    assert outputs.features == pytest.approx(batch.mean(axis=(2, 3)), abs=1e-5)
    assert outputs.logit.dtype == outputs.map.dtype == outputs.features.dtype == np.float32


def test_threads_may_share_it(bundle: Bundle) -> None:
    engine = Engine(bundle, 1)
    batches = [np.full((1, 3, 64, 64), value, np.float32) for value in np.linspace(-1, 1, 16)]
    alone = [float(engine.run(batch).logit[0]) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        assert [float(outputs.logit[0]) for outputs in pool.map(engine.run, batches)] == alone


def test_it_says_nothing_on_stderr(bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    Engine(bundle).run(np.zeros((1, 3, 64, 64), np.float32))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 3, 64, 32), np.float32),
        np.zeros((3, 64, 64), np.float32),
        np.zeros((1, 3, 64, 64), np.float64),
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
def test_a_graph_that_is_not_a_bundles_is_refused(
    tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], message: str
) -> None:
    model = tiny_bundle.tiny_graph()
    spoil(model)
    with pytest.raises(BundleError, match=message):
        Engine(with_graph(tmp_path / "b", model.SerializeToString()))


def test_sizes_that_differ_from_the_bundles_are_told_together(tmp_path: Path) -> None:
    size = {"height": 96, "width": 96, "channels": 3, "fit": "letterbox", "low": -1.0, "high": 1.0}
    bundle = with_graph(tmp_path / "b", tiny_bundle.tiny_graph().SerializeToString(), input=size)
    with pytest.raises(BundleError, match=r"radiograph is .*expected \['n', 3, 96, 96\].*map is .*12, 12"):
        Engine(bundle)


def test_a_graph_that_the_runtime_refuses_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny_bundle.tiny_graph()
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(BundleError, match="cannot load the graph") as refused:
        Engine(with_graph(tmp_path / "b", model.SerializeToString()))
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""


def test_answers_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    graph = tiny_bundle.tiny_graph(gain=float("inf")).SerializeToString()
    with pytest.raises(BundleError, match="logit holds values that are no numbers"):
        Engine(with_graph(tmp_path / "b", graph)).run(np.zeros((1, 3, 64, 64), np.float32))


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
