"""Keras' own networks, which ours are held against."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
from legacy_weights import shuffled, write_legacy

from callus.model.imagenet import load_weights
from callus.model.trunks import build_trunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    from callus.model.trunks import Trunk

APPLICATIONS = {
    "resnet50v2": "ResNet50V2",
    "resnet101v2": "ResNet101V2",
    "resnet152v2": "ResNet152V2",
    "mobilenet_v2": "MobileNetV2",
}


@contextmanager
def keras_may_warn() -> Iterator[None]:
    """Keras' torch backend does not yet speak NumPy 2's ``__array__`` and reads gradients that nobody needs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        yield


@contextmanager
def keras_keeps_float64() -> Iterator[None]:
    """Outside TensorFlow, Keras' type promotion turns float64 to float32, which its batch norm asks for in between."""
    from keras.src.backend.common import dtypes

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
        yield


@pytest.fixture(scope="session")
def keras(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Keras on torch, with nothing read from or written to the user's home."""
    with pytest.MonkeyPatch.context() as patch, keras_may_warn():
        patch.setenv("KERAS_BACKEND", "torch")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras
    assert keras.backend.backend() == "torch"
    return keras


@pytest.fixture(scope="session")
def save_legacy(keras: ModuleType) -> Callable[[Any, Path], Path]:
    """``save_legacy(model, file)`` writes weights as Keras wrote those that it publishes."""
    from keras.src.legacy.saving import legacy_h5_format

    def save(model: Any, file: Path) -> Path:
        with h5py.File(file, "w") as opened, keras_may_warn():
            legacy_h5_format.save_weights_to_hdf5_group(opened, model)
        return file

    return save


class Twins:
    """A trunk of ours and Keras' network of the same name, with the same weights and the same number format.

    Args:
        keras: the module.
        name: of the trunk.
        floatx: "float32" or "float64".
        size: (height, width) of the pictures, which Keras' MobileNetV2 is built for.
    """

    def __init__(self, keras: ModuleType, name: str, floatx: str, size: tuple[int, int] | None) -> None:
        self.keras = keras
        self.name = name
        self.floatx = floatx
        self.ours: Trunk = build_trunk(name).to(getattr(torch, floatx))
        self.build_theirs(size)

    def build_theirs(self, size: tuple[int, int] | None) -> None:
        """Build Keras' network. Channels stand first, where torch wants them: channels last is six times as slow."""
        config = self.keras.config
        before = config.floatx(), config.dtype_policy(), config.image_data_format()
        config.set_floatx(self.floatx)
        config.set_dtype_policy(self.floatx)
        config.set_image_data_format("channels_first")
        try:
            application = getattr(self.keras.applications, APPLICATIONS[self.name])
            shape = (3, *(size or (None, None)))
            self.whole = application(include_top=False, weights=None, input_shape=shape)
            assert {str(weight.dtype) for weight in self.whole.weights} == {self.floatx}
            maps = [self.whole.get_layer(name).output for name in self.ours.scale_names]
            self.theirs = self.keras.Model(self.whole.inputs, maps)
        finally:
            config.set_floatx(before[0])
            config.set_dtype_policy(before[1])
            config.set_image_data_format(before[2])

    def draw_weights(self, seed: int) -> None:
        """Give Keras' network weights of which none is 0 or 1 and which keep the activations within bounds."""
        rng = np.random.default_rng(seed)
        for layer in self.whole.layers:
            if values := [self._drawn(rng, layer, weight) for weight in layer.weights]:
                layer.set_weights(values)

    @staticmethod
    def _drawn(rng: np.random.Generator, layer: Any, weight: Any) -> np.ndarray:
        shape = tuple(weight.shape)
        match weight.name:
            case "gamma":
                # MobileNetV2's skips end in a batch norm: less of each block keeps their sum within bounds.
                return rng.uniform(0.6, 1.4, shape) * (0.5 if "project" in layer.name else 1)
            case "moving_variance":
                return rng.uniform(0.5, 2, shape)
            case "kernel":
                depthwise = layer.name.endswith("depthwise")
                fan_in = shape[0] * shape[1] * (1 if depthwise else shape[2])
                # The residual branch of a ResNet's block ends in _3_conv.
                return rng.normal(0, (2 / fan_in) ** 0.5 * (0.3 if layer.name.endswith("_3_conv") else 1), shape)
            case "beta" | "moving_mean" | "bias":
                return rng.normal(0, 0.3, shape)
        raise AssertionError(weight.name)

    def run_theirs(self, x: torch.Tensor, *, training: bool = False) -> list[torch.Tensor]:
        """Return Keras' maps (B, C, h, w) of (B, 3, H, W)."""
        with torch.no_grad(), keras_may_warn(), keras_keeps_float64():
            return [y.detach().cpu() for y in self.theirs(x, training=training)]

    def run_ours(self, x: torch.Tensor, *, training: bool = False) -> tuple[torch.Tensor, ...]:
        """Return our maps (B, C, h, w) of (B, 3, H, W)."""
        with torch.no_grad():
            return self.ours.train(training)(x)

    def picture(self, batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
        """Return smooth and fine detail in [-1, 1]: (B, 3, H, W)."""
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand((batch, 3, 8, 8), generator=generator)
        fine = torch.rand((batch, 3, height, width), generator=generator)
        x = 0.7 * torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear") + 0.3 * fine
        return (x * 2 - 1).to(getattr(torch, self.floatx))


@pytest.fixture(scope="session")
def make_twins(
    keras: ModuleType, save_legacy: Callable[[Any, Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Twins]:
    """``make_twins(name, floatx="float32", size=None)``: with random weights that went through a Keras file."""

    def make(name: str, floatx: str = "float32", size: tuple[int, int] | None = None) -> Twins:
        twins = Twins(keras, name, floatx, size)
        with keras_may_warn():
            twins.draw_weights(seed=5)
        file = save_legacy(twins.whole, tmp_path_factory.mktemp("weights") / f"{name}.h5")
        load_weights(twins.ours, file)
        file.unlink()  # up to half a gigabyte
        return twins

    return make


def relative_differences(ours: Any, theirs: Any) -> list[float]:
    """Return max|ours - theirs| / max|theirs| of each map; shapes must be equal, and the maps worth comparing."""
    differences = []
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert 0.02 < b.std() < 50, f"values of no use for a comparison: standard deviation {b.std():.3g}"
        differences.append(float((a - b).abs().max() / b.abs().max()))
    return differences


@pytest.fixture(scope="session")
def differences() -> Callable[..., list[float]]:
    """``differences(ours, theirs)``: max|ours - theirs| / max|theirs| of each map."""
    return relative_differences


@pytest.fixture(scope="session")
def make_real_twins(keras: ModuleType) -> Callable[[Path], Twins]:
    """``make_real_twins(file)``: MobileNetV2 at 224 x 224 with a file that both have read themselves."""

    def make(file: Path) -> Twins:
        twins = Twins(keras, "mobilenet_v2", "float32", (224, 224))
        with keras_may_warn():
            twins.whole.load_weights(file)
        load_weights(twins.ours, file)
        return twins

    return make


@pytest.fixture(scope="session")
def moved_statistics() -> Callable[[Twins], float]:
    """``moved_statistics(twins)``: the largest difference between the batch norms' moving statistics."""

    def largest_difference(twins: Twins) -> float:
        differences = []
        layers = twins.ours.layers()
        for layer in twins.whole.layers:
            if hasattr(layer, "moving_mean"):
                ours = layers[layer.name]
                differences.append((ours.running_mean - layer.moving_mean.value).detach().abs().max())
                differences.append((ours.running_var - layer.moving_variance.value).detach().abs().max())
        return float(max(differences))

    return largest_difference


@pytest.fixture(scope="session")
def mobilenet() -> Trunk:
    return shuffled("mobilenet_v2")


@pytest.fixture
def mobilenet_file(mobilenet: Trunk, tmp_path: Path) -> Path:
    return write_legacy(mobilenet, tmp_path / "mobilenet.h5")
