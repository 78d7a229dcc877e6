"""ONNX Runtime on a GPU, pretended: nothing that runs these tests has one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_bundle

from callus.bundle import Bundle, Engine, onnx_engine
from callus.bundle.engine import ONNX_FLOAT32, OPENVINO_FLOAT32, OPENVINO_INT8
from callus.measure.map_cost import map_share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.load(tiny_bundle.write_tiny_bundle(tmp_path / "bundle"))


class PretendedRuntime(ModuleType):
    """ONNX Runtime as it is installed for a GPU, on a machine that has one or has none."""

    def __init__(self, provider: str, *, works: bool) -> None:
        super().__init__("onnxruntime")
        self._real = importlib.import_module("onnxruntime")
        self._provider, self._works = provider, works
        self.opened: list[list[str]] = []
        self.given: list[int] = []
        self.room = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_available_providers(self) -> list[str]:
        return [self._provider, "CPUExecutionProvider"]

    def InferenceSession(self, graph: bytes, options: Any, providers: list[Any], **how: Any) -> Any:  # noqa: N802
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        self.opened.append(names)
        assert how == {"enable_fallback": 0}, "ONNX Runtime falls back by itself, and says so on stdout"
        if self._provider in names and not self._works:
            raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")
        if self._provider in names and not self.room and graph != onnx_engine._GIVES_BACK:
            raise RuntimeError("CUDA failure 2: out of memory")
        session = self._real.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        session.get_providers = lambda: names
        run = session.run

        def noted(outputs: list[str], feeds: dict[str, np.ndarray], *options: Any) -> Any:
            self.given += [len(value) for value in feeds.values()]
            return run(outputs, feeds, *options)

        session.run = noted
        return session


@pytest.fixture(params=["CUDAExecutionProvider", "MIGraphXExecutionProvider", "ROCMExecutionProvider"])
def pretended(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    def pretend(*, works: bool) -> PretendedRuntime:
        made = PretendedRuntime(request.param, works=works)
        monkeypatch.setitem(sys.modules, "onnxruntime", made)
        monkeypatch.setattr(onnx_engine, "_may_have_gpu", lambda: True)
        onnx_engine.gpu_providers.cache_clear()
        return made

    yield pretend
    onnx_engine.gpu_providers.cache_clear()


def test_auto_takes_a_gpu_that_works_and_gives_it_many_pictures(
    tmp_path: Path, pretended: Callable[..., PretendedRuntime]
) -> None:
    pretended(works=True)
    held = Bundle.load(tiny_bundle.ir_bundle(tmp_path / "ir"))
    soon, flow = Engine(held), Engine(held, hint="throughput")
    assert (soon.ran, soon.batch, flow.batch) == ("onnx-float32 on GPU", 1, onnx_engine.BATCH_ON_GPU)
    assert soon.info.name == ONNX_FLOAT32
    assert len(flow.run(np.zeros((flow.batch, 3, 64, 64), np.float32)).logit) == flow.batch


@pytest.mark.parametrize("count", [1, 5, 16, 21])
def test_a_gpu_is_given_the_same_number_of_pictures_each_time(
    bundle: Bundle, pretended: Callable[..., PretendedRuntime], count: int
) -> None:
    batch = np.random.default_rng(0).uniform(-1, 1, (count, 3, 64, 64)).astype(np.float32)
    expected = Engine(bundle, name=ONNX_FLOAT32).run(batch)
    runtime = pretended(works=True)
    for hint, given in (("latency", [1] * count), ("throughput", [16] * -(-count // 16))):
        runtime.given.clear()
        found = Engine(bundle, name=ONNX_FLOAT32, hint=hint).run(batch)
        assert runtime.given == given
        for name in ("logit", "map", "features"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)


def test_a_gpu_without_room_for_the_network_leaves_it_to_the_cpu(
    bundle: Bundle, pretended: Callable[..., PretendedRuntime], capfd: pytest.CaptureFixture[str]
) -> None:
    runtime = pretended(works=True)
    runtime.room = False
    engine = Engine(bundle, name=ONNX_FLOAT32, hint="throughput")
    assert (engine.ran, engine.batch, runtime.opened[-1]) == (ONNX_FLOAT32, 1, ["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pretended", ["TensorrtExecutionProvider", "CoreMLExecutionProvider"], indirect=True)
def test_providers_that_take_fewer_bits_are_passed_over(
    bundle: Bundle, pretended: Callable[..., PretendedRuntime]
) -> None:
    runtime = pretended(works=True)
    assert Engine(bundle).ran == OPENVINO_FLOAT32
    assert Engine(bundle, name=ONNX_FLOAT32).ran == ONNX_FLOAT32
    assert runtime.opened == [["CPUExecutionProvider"]]


def test_libraries_that_pip_installed_are_loaded_before_cuda_is_tried(
    bundle: Bundle, pretended: Callable[..., PretendedRuntime], capfd: pytest.CaptureFixture[str]
) -> None:
    runtime = pretended(works=True)
    loaded: list[int] = []

    def preload() -> None:
        loaded.append(len(runtime.opened))
        sys.stdout.write("Failed to load libcudnn.so.9")
        raise OSError

    runtime.preload_dlls = preload  # type: ignore[method-assign]
    assert Engine(bundle).ran == "onnx-float32 on GPU"
    assert loaded == ([0] if "CUDAExecutionProvider" in runtime.get_available_providers() else [])
    assert capfd.readouterr().out == ""


def test_a_runtime_for_a_gpu_that_is_not_there_is_passed_over(
    tmp_path: Path, bundle: Bundle, pretended: Callable[..., PretendedRuntime]
) -> None:
    runtime = pretended(works=False)
    assert Engine(bundle).ran == OPENVINO_FLOAT32
    assert Engine(Bundle.load(tiny_bundle.ir_bundle(tmp_path / "ir"))).ran == OPENVINO_INT8
    assert len(runtime.opened) == 1  # it is tried once
    asked = Engine(bundle, name=ONNX_FLOAT32, hint="throughput")
    assert (asked.ran, asked.batch, runtime.opened[-1]) == (ONNX_FLOAT32, 1, ["CPUExecutionProvider"])


def test_what_the_map_takes_is_measured_where_the_engine_runs(
    bundle: Bundle, pretended: Callable[..., PretendedRuntime]
) -> None:
    runtime = pretended(works=True)
    batch = np.zeros((1, 3, 64, 64), np.float32)
    assert 0 <= map_share(bundle, ONNX_FLOAT32, 1, batch, 3) <= 1
    assert runtime.opened[-1][0] in onnx_engine.GPU_PROVIDERS


def test_the_graph_that_providers_are_tried_with_is_one() -> None:
    """Nothing here has a GPU: the trial itself is run on the CPU."""
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(onnx_engine._GIVES_BACK, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.array([3], np.float32)})[0].tolist() == [3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_engine, "GPU_PROVIDERS", {"CPUExecutionProvider": {}})
        assert onnx_engine._works("CPUExecutionProvider")
        patch.setattr(onnx_engine, "_GIVES_BACK", b"no graph")
        assert not onnx_engine._works("CPUExecutionProvider")


def test_whether_there_may_be_a_gpu_is_seen_by_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime" / "capi").mkdir(parents=True)
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise RuntimeError('was imported')")
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert not onnx_engine._may_have_gpu()
    (tmp_path / "onnxruntime" / "capi" / "libonnxruntime_providers_shared.so").touch()
    assert not onnx_engine._may_have_gpu()
    for name in (
        "libonnxruntime_providers_cuda.so",
        "onnxruntime_providers_cuda.dll",
        "libonnxruntime_providers_migraphx.so",
    ):
        (tmp_path / "onnxruntime" / "capi" / name).touch()
        assert onnx_engine._may_have_gpu()
        (tmp_path / "onnxruntime" / "capi" / name).unlink()
    assert not onnx_engine._may_have_gpu()
