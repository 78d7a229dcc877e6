"""Keras' weights files: read by name, refused with a reason, fetched and checked."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import torch

from callus.errors import WeightsError
from callus.model import imagenet
from callus.model.imagenet import PUBLISHED, Published, fetch, load_weights, resolve
from callus.model.trunks import TRUNKS, build_trunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from callus.model.trunks import Trunk


def write_legacy(trunk: Trunk, file: Path, *, style: str = "keras 2", extra: tuple[str, ...] = ()) -> Path:
    """Write a trunk's weights as Keras does.

    ``style`` is "keras 2" (names end in ":0"), "keras 3", or "published": the names that MobileNetV2's layers had when
    its weights were published. The layers stand in reverse: what reads them by order goes wrong.
    """
    with h5py.File(file, "w") as opened:
        names = []
        for name, layer in reversed(trunk.layers().items()):
            written = _published_name(name) if style == "published" else name
            names.append(written)
            _write_layer(opened.create_group(written), written, _keras_values(layer, style), style)
        for name in (*extra, "input_1"):
            names.append(name)
            values = {"kernel": np.ones((2, 2)), "bias": np.ones(2)} if name in extra else {}
            _write_layer(opened.create_group(name), name, values, style)
        opened.attrs["layer_names"] = [name.encode() for name in names]
    return file


def _keras_values(layer: Any, style: str) -> dict[str, np.ndarray]:
    if hasattr(layer, "running_mean"):
        tensors = (layer.weight, layer.bias, layer.running_mean, layer.running_var)
        keys = ("gamma", "beta", "moving_mean", "moving_variance")
        return {key: tensor.detach().numpy() for key, tensor in zip(keys, tensors, strict=True)}
    kernel = layer.weight.detach().numpy()
    if layer.groups > 1:
        values = {"kernel" if style == "keras 3" else "depthwise_kernel": kernel.transpose(2, 3, 0, 1)}
    else:
        values = {"kernel": kernel.transpose(2, 3, 1, 0)}
    return values | ({} if layer.bias is None else {"bias": layer.bias.detach().numpy()})


def _write_layer(group: h5py.Group, name: str, values: dict[str, np.ndarray], style: str) -> None:
    paths = {key: f"{name}/{key}" if style == "keras 3" else f"{name}/{key}:0" for key in values}
    group.attrs["weight_names"] = [path.encode() for path in paths.values()]
    for key, path in paths.items():
        group.create_dataset(path, data=values[key])


def _published_name(name: str) -> str:
    """``block_1_expand_BN`` was ``bn1_conv_1_bn_expand``, and ``block_1_expand`` was ``mobl1_conv_1_expand``."""
    if not name.startswith(("block_", "expanded_conv_")):
        return name
    parts = name.replace("expanded_conv", "block_0").split("_")
    number, part = parts[1], parts[2]
    return f"bn{number}_conv_{number}_bn_{part}" if parts[-1] == "BN" else f"mobl{number}_conv_{number}_{part}"


def unlist(file: Path, layer: str) -> None:
    with h5py.File(file, "r+") as opened:
        names = [name.encode() if isinstance(name, str) else name for name in opened.attrs["layer_names"]]
        names.remove(layer.encode())
        opened.attrs["layer_names"] = names


def shuffled(name: str, seed: int = 0) -> Trunk:
    """Build a trunk of which every weight and statistic is drawn."""
    generator = torch.Generator().manual_seed(seed)
    trunk = build_trunk(name)
    with torch.no_grad():
        for tensor in trunk.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return trunk


def same(a: Trunk, b: Trunk) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in a.state_dict().items())


@pytest.fixture(scope="module")
def mobilenet() -> Trunk:
    return shuffled("mobilenet_v2")


@pytest.fixture
def mobilenet_file(mobilenet: Trunk, tmp_path: Path) -> Path:
    return write_legacy(mobilenet, tmp_path / "mobilenet.h5")


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
        _write_layer(opened.create_group("dense"), "dense", {"kernel": np.ones((2, 2))}, "keras 2")

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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Give the address of a server and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            pass

    with _serving(partial(Quiet, directory=folder)) as address:
        yield address, folder


class _serving:  # noqa: N801 - used as a function
    def __init__(self, handler: Any) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def put(folder: Path, name: str, content: bytes) -> Path:
    published = PUBLISHED[name]
    file = folder / published.folder / published.file
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    return file


def not_kept(cache: Path) -> bool:
    """Tell whether nothing, whole or half, is left of a download."""
    return not [file for file in cache.rglob("*") if file.is_file()]


def test_what_is_fetched_is_the_file_that_keras_names(keras: Any) -> None:
    from keras.src.applications import mobilenet_v2, resnet

    for name in ("resnet50v2", "resnet101v2", "resnet152v2"):
        assert PUBLISHED[name].md5 == resnet.WEIGHTS_HASHES[name][1]
        assert f"{imagenet.KERAS_ADDRESS}/{PUBLISHED[name].folder}/" == resnet.BASE_WEIGHTS_PATH
        assert PUBLISHED[name].file == f"{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert f"{imagenet.KERAS_ADDRESS}/{PUBLISHED['mobilenet_v2'].folder}/" == mobilenet_v2.BASE_WEIGHT_PATH
    assert set(PUBLISHED) == set(TRUNKS)


def test_the_right_file_is_fetched_once(
    server: tuple[str, Path], mobilenet: Trunk, mobilenet_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    address, folder = server
    served = put(folder, "mobilenet_v2", mobilenet_file.read_bytes())
    cache = tmp_path / "cache"

    first = fetch("mobilenet_v2", cache, address=address)
    served.unlink()
    second = fetch("mobilenet_v2", cache, address=address)

    assert first == second
    assert cache in first.parents
    trunk = build_trunk("mobilenet_v2")
    load_weights(trunk, first)
    assert same(trunk, mobilenet)
    assert capfd.readouterr().out == ""


def test_the_right_md5_is_accepted(server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, folder = server
    content = os.urandom(300_000)
    put(folder, "resnet50v2", content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(PUBLISHED, "resnet50v2", Published("resnet", PUBLISHED["resnet50v2"].file, md5))

    assert fetch("resnet50v2", tmp_path / "cache", address=address).read_bytes() == content


def test_a_wrong_md5_is_named_and_nothing_kept(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    put(folder, "resnet152v2", b"not the original")
    cache = tmp_path / "cache"

    with pytest.raises(WeightsError, match=r"not the MD5 ed17cf2e0169df9d443503ef94b23b33 .*--weights FILE"):
        fetch("resnet152v2", cache, address=address)

    assert not_kept(cache)


def test_a_damaged_file_in_the_cache_is_fetched_anew(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    put(folder, "resnet50v2", b"right")
    md5 = hashlib.md5(b"right", usedforsecurity=False).hexdigest()
    monkeypatch.setitem(PUBLISHED, "resnet50v2", Published("resnet", PUBLISHED["resnet50v2"].file, md5))
    fetch("resnet50v2", tmp_path, address=address).write_bytes(b"wrong")

    assert fetch("resnet50v2", tmp_path, address=address).read_bytes() == b"right"


def test_a_page_in_place_of_the_file_is_not_kept(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    put(folder, "mobilenet_v2", b"<html>Please log in to this network</html>")
    cache = tmp_path / "cache"

    with pytest.raises(WeightsError, match=r"what came is no HDF5 file; .*--weights none"):
        fetch("mobilenet_v2", cache, address=address)

    assert not_kept(cache)


def test_a_file_that_is_not_there_is_told(server: tuple[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"mobilenet_v2_.*\.h5: cannot be fetched: the server answers 404"):
        fetch("mobilenet_v2", tmp_path / "cache", address=server[0])

    assert not_kept(tmp_path / "cache")


def test_a_download_that_ends_too_soon_is_told(tmp_path: Path) -> None:
    class EndsTooSoon(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"\x89HDF\r\n\x1a\n" + bytes(100))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            pass

    with _serving(EndsTooSoon) as address, pytest.raises(WeightsError, match=r"cannot be fetched: .*--weights FILE"):
        fetch("mobilenet_v2", tmp_path / "cache", address=address)

    assert not_kept(tmp_path / "cache")


def test_without_a_network_the_ways_out_are_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no connection .*--weights FILE.*--weights none"):
        fetch("mobilenet_v2", tmp_path / "cache", address="http://127.0.0.1:9")  # the port that discards: nobody there


def test_a_cache_that_cannot_be_written_is_told(server: tuple[str, Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file stands where the folder should")

    with pytest.raises(WeightsError, match=r"cannot be kept here: .*CALLUS_CACHE"):
        fetch("mobilenet_v2", tmp_path / "cache", address=server[0])


def test_the_cache_is_where_callus_cache_says(
    server: tuple[str, Path], mobilenet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server[1], "mobilenet_v2", mobilenet_file.read_bytes())
    monkeypatch.setenv("CALLUS_CACHE", str(tmp_path / "chosen"))

    assert tmp_path / "chosen" in fetch("mobilenet_v2", address=server[0]).parents


def test_the_bar_ends_at_the_true_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import ExitStack, contextmanager

    shown: list[int] = []

    @contextmanager
    def recorded(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        assert (what, total) == ("weights.h5 (MB)", 5)
        yield shown.append

    monkeypatch.setattr(imagenet, "progress", recorded)
    with ExitStack() as stack:
        bar = imagenet._DownloadBar("weights.h5", stack)
        bar.total = 5_200_000
        for _ in range(3):
            bar.update(2_000_000)  # whole chunks: the last is not full
        bar.reset()
        bar.update(bar.total)
        bar.close()

    assert shown == [2, 2, 2, -1]


def test_what_stands_behind_weights(mobilenet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "fetch", lambda name: Path(f"fetched {name}"))

    assert resolve("mobilenet_v2", "none") is None
    assert resolve("mobilenet_v2", mobilenet_file) == mobilenet_file
    assert resolve("mobilenet_v2", str(mobilenet_file)) == mobilenet_file
    assert resolve("mobilenet_v2", "imagenet") == Path("fetched mobilenet_v2")
    with pytest.raises(WeightsError, match=r"imagnet: there is no such weights file; give a file, imagenet or none"):
        resolve("mobilenet_v2", "imagnet")


def test_an_unknown_trunk_has_no_weights() -> None:
    with pytest.raises(WeightsError, match=r"no ImageNet weights of a trunk 'vgg16'; it is resnet50v2"):
        fetch("vgg16")


def test_a_file_that_may_not_be_read_is_told(mobilenet_file: Path) -> None:
    mobilenet_file.chmod(0)
    if os.access(mobilenet_file, os.R_OK):
        pytest.skip("whoever runs this may read everything")
    try:
        assert "it may not be read" in refused(build_trunk("mobilenet_v2"), mobilenet_file)
    finally:
        mobilenet_file.chmod(stat.S_IRUSR | stat.S_IWUSR)
