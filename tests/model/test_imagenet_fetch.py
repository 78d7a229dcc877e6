"""Keras' weights files: fetched once, checked, and kept whole or not at all."""

from __future__ import annotations

import hashlib
import os
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from legacy_weights import same

from callus.errors import WeightsError
from callus.model import imagenet
from callus.model.imagenet import PUBLISHED, Published, fetch, load_weights, resolve
from callus.model.trunks import TRUNKS, build_trunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from callus.model.trunks import Trunk


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
