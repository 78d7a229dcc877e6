"""Keras' weights files: read by name, or refused with a reason."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch
from legacy_weights import same, shuffled, unlist, write_layer, write_legacy

from callus.errors import WeightsError
from callus.model.imagenet import load_weights
from callus.model.trunks import build_trunk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from callus.model.trunks import Trunk


def refused(trunk: Trunk, file: Path) -> str:
    """Return the one line with which a file is refused; the trunk must be left as it was."""
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(trunk, file)
    assert all(torch.equal(value, before[key]) for key, value in trunk.state_dict().items())
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


@pytest.mark.parametrize("style", ["keras 2", "keras 3", "published"])
def test_every_naming_of_keras_is_read_by_name(mobilenet: Trunk, tmp_path: Path, style: str) -> None:
    file = write_legacy(mobilenet, tmp_path / "weights.h5", style=style)
    trunk = build_trunk("mobilenet_v2")

    load_weights(trunk, file)

    assert same(trunk, mobilenet)


def test_biases_and_long_lists_of_layers_are_read(tmp_path: Path) -> None:
    original = shuffled("resnet50v2")
    file = write_legacy(original, tmp_path / "weights.h5")
    with h5py.File(file, "r+") as opened:  # Keras cuts a list above 64 kB into numbered ones
        names = opened.attrs.pop("layer_names")
        for i, part in enumerate(np.array_split(names, 3)):
            opened.attrs[f"layer_names{i}"] = part
    trunk = build_trunk("resnet50v2")

    load_weights(trunk, file)

    assert same(trunk, original)


def test_dtype_and_device_of_the_trunk_are_kept(mobilenet: Trunk, mobilenet_file: Path) -> None:
    trunk = build_trunk("mobilenet_v2").double()

    load_weights(trunk, mobilenet_file)

    assert trunk.Conv1.weight.dtype == torch.float64
    assert torch.equal(trunk.Conv1.weight, mobilenet.Conv1.weight.double())


@pytest.mark.parametrize("top", ["predictions", "probs", "Logits"])
def test_the_top_is_left_out(mobilenet: Trunk, tmp_path: Path, top: str) -> None:
    file = write_legacy(mobilenet, tmp_path / "weights.h5", extra=(top,))
    trunk = build_trunk("mobilenet_v2")

    load_weights(trunk, file)

    assert same(trunk, mobilenet)


def test_a_whole_saved_model_is_read(mobilenet: Trunk, mobilenet_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.h5"
    with h5py.File(mobilenet_file) as weights, h5py.File(file, "w") as whole:
        weights.copy(weights, whole, "model_weights")
    trunk = build_trunk("mobilenet_v2")

    load_weights(trunk, file)

    assert same(trunk, mobilenet)


def test_the_real_file_has_every_layer(imagenet_mobilenet: Path) -> None:
    trunk = build_trunk("mobilenet_v2")

    load_weights(trunk, imagenet_mobilenet)

    with h5py.File(imagenet_mobilenet) as opened:
        kernel = opened["block_3_expand"]["block_3_expand/kernel"][()]
    assert np.array_equal(trunk.layers()["block_3_expand"].weight.detach()[7, 5, 0, 0], kernel[0, 0, 5, 7])


@pytest.mark.parametrize(("held", "wanted"), [("resnet50v2", "resnet152v2"), ("mobilenet_v2", "resnet50v2")])
def test_a_wrong_trunk_is_named(tmp_path: Path, held: str, wanted: str) -> None:
    file = write_legacy(build_trunk(held), tmp_path / "weights.h5")

    message = refused(build_trunk(wanted), file)

    assert message.startswith(f"holds the layers of {held}, not of {wanted}; ")
    assert f"--trunk {held}" in message


def test_resnet_of_version_1_is_named(tmp_path: Path, keras: Any, save_legacy: Callable) -> None:
    model = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(32, 32, 3))
    file = save_legacy(model, tmp_path / "weights.h5")

    assert refused(build_trunk("resnet50v2"), file).startswith("holds the layers of a ResNet of version 1")


def test_a_network_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.h5"
    with h5py.File(file, "w") as opened:
        opened.attrs["layer_names"] = [b"dense"]
        write_layer(opened.create_group("dense"), "dense", {"kernel": np.ones((2, 2))}, "keras 2")

    assert refused(build_trunk("mobilenet_v2"), file).startswith("holds the layers of another network, not of mobile")


def test_a_missing_layer_is_named(mobilenet_file: Path) -> None:
    unlist(mobilenet_file, "block_7_depthwise_BN")

    message = refused(build_trunk("mobilenet_v2"), mobilenet_file)

    assert "does not fit mobilenet_v2: without the layer block_7_depthwise_BN;" in message


def test_missing_and_unknown_layers_are_told_at_once(mobilenet: Trunk, tmp_path: Path) -> None:
    file = write_legacy(mobilenet, tmp_path / "weights.h5", extra=("dense", "dense_1", "dense_2", "dense_3"))
    unlist(file, "Conv_1")

    message = refused(build_trunk("mobilenet_v2"), file)

    assert "without the layer Conv_1 and with the unknown layer dense, dense_1, dense_2 and 1 more" in message


def test_a_listed_layer_that_is_not_there_is_named(mobilenet_file: Path) -> None:
    with h5py.File(mobilenet_file, "r+") as opened:
        del opened["block_2_project"]

    assert "lists the layer block_2_project but does not hold it" in refused(
        build_trunk("mobilenet_v2"), mobilenet_file
    )


def test_a_listed_weight_that_is_not_there_is_named(mobilenet_file: Path) -> None:
    with h5py.File(mobilenet_file, "r+") as opened:
        del opened["bn_Conv1/bn_Conv1/beta:0"]

    assert "lists bn_Conv1/beta:0 but does not hold it" in refused(build_trunk("mobilenet_v2"), mobilenet_file)


def test_a_layer_without_its_weight_is_named(mobilenet_file: Path) -> None:
    with h5py.File(mobilenet_file, "r+") as opened:
        opened["bn_Conv1"].attrs["weight_names"] = [b"bn_Conv1/gamma:0", b"bn_Conv1/beta:0"]

    message = refused(build_trunk("mobilenet_v2"), mobilenet_file)

    assert "the layer bn_Conv1 has beta, gamma, but beta, gamma, moving_mean, moving_variance is expected" in message


def test_a_wrong_shape_is_named_as_keras_has_it(mobilenet_file: Path) -> None:
    with h5py.File(mobilenet_file, "r+") as opened:
        del opened["block_1_expand/block_1_expand/kernel:0"]
        opened["block_1_expand"].create_dataset("block_1_expand/kernel:0", data=np.ones((1, 1, 8, 48)))

    message = refused(build_trunk("mobilenet_v2"), mobilenet_file)

    assert "block_1_expand has a kernel of shape (1, 1, 8, 48), but (1, 1, 16, 96) is expected" in message


def test_another_width_of_mobilenet_is_refused(tmp_path: Path, keras: Any, save_legacy: Callable) -> None:
    model = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.5)
    file = save_legacy(model, tmp_path / "weights.h5")

    message = refused(build_trunk("mobilenet_v2"), file)

    assert "Conv1 has a kernel of shape (3, 3, 3, 16), but (3, 3, 3, 32) is expected" in message
    assert "another width" in message


@pytest.mark.parametrize("values", [np.full(32, np.nan), np.ones(32, dtype=np.int64)])
def test_values_that_are_no_finite_numbers_are_refused(mobilenet_file: Path, values: np.ndarray) -> None:
    with h5py.File(mobilenet_file, "r+") as opened:
        del opened["bn_Conv1/bn_Conv1/beta:0"]
        opened["bn_Conv1"].create_dataset("bn_Conv1/beta:0", data=values)

    assert "bn_Conv1 has a beta that is not finite numbers" in refused(build_trunk("mobilenet_v2"), mobilenet_file)


def test_a_truncated_file_is_refused(mobilenet_file: Path) -> None:
    mobilenet_file.write_bytes(mobilenet_file.read_bytes()[:1_000_000])

    assert "is no HDF5 file, or a damaged one (1000000 bytes)" in refused(build_trunk("mobilenet_v2"), mobilenet_file)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04" + bytes(100)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "weights.h5"
    file.write_bytes(content)

    assert "is no HDF5 file" in refused(build_trunk("mobilenet_v2"), file)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    trunk = build_trunk("mobilenet_v2")

    assert "there is no such file" in refused(trunk, tmp_path / "nothing.h5")
    assert "there is no such file" in refused(trunk, tmp_path)


def test_another_hdf5_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data.h5"
    with h5py.File(file, "w") as opened:
        opened["data"] = np.ones(3)

    assert "no attribute layer_names" in refused(build_trunk("mobilenet_v2"), file)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras' torch backend
def test_the_new_layout_of_keras_is_refused(tmp_path: Path, keras: Any) -> None:
    file = tmp_path / "new.weights.h5"
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.save_weights(file)

    assert "layout of Keras 3's .weights.h5" in refused(build_trunk("mobilenet_v2"), file)


def test_names_that_are_damaged_are_refused(mobilenet_file: Path) -> None:
    whole = mobilenet_file.read_bytes()
    for name, damaged in ((b"block_11_project_BN", b"\xc5lock_11_project_BN"), (b"weight_names", b"weight_nomes")):
        mobilenet_file.write_bytes(whole.replace(name, damaged))

        refused(build_trunk("mobilenet_v2"), mobilenet_file)


def test_a_file_that_may_not_be_read_is_told(mobilenet_file: Path) -> None:
    mobilenet_file.chmod(0)
    if os.access(mobilenet_file, os.R_OK):
        pytest.skip("whoever runs this may read everything")
    try:
        assert "it may not be read" in refused(build_trunk("mobilenet_v2"), mobilenet_file)
    finally:
        mobilenet_file.chmod(stat.S_IRUSR | stat.S_IWUSR)
