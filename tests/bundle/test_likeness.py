from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_bundle
from mutate import damage

from callus.bundle import Bundle, Engine, pack, write_bundle
from callus.bundle.likeness import Likeness
from callus.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parent / "golden"


def gaussian(channels: int = 7, components: int = 3) -> Likeness:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(channels, channels)))[0][:components]
    numbers = (rng.normal(size=channels), rng.uniform(0.5, 2, channels), axes, rng.uniform(2, 5, components))
    return Likeness(*(array.astype(np.float32) for array in numbers), 0.75)


def test_the_distance_is_mahalanobis() -> None:
    made = gaussian()
    features = np.random.default_rng(1).normal(size=(20, 7)).astype(np.float32)
    beside = np.eye(7) - made.axes.T @ made.axes
    covariance = made.axes.T @ np.diag(made.deviation**2) @ made.axes + made.residual**2 * beside
    covariance = np.diag(made.scale) @ covariance @ np.diag(made.scale)
    off = features - made.mean
    expected = np.sqrt(np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off) / 7)
    assert made.distance(features) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("channels", "components"), [(7, 3), (1, 0), (24, 0)])
def test_what_was_written_is_read(channels: int, components: int) -> None:
    made = gaussian(channels, components)
    features = np.random.default_rng(1).normal(size=(5, channels)).astype(np.float32)
    read = Likeness.from_bytes(made.to_bytes(), channels, components, "x")
    assert read.distance(features).tolist() == made.distance(features).tolist()
    assert read.distance(made.mean[np.newaxis]) == 0


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 0.0), (0, -1.0), (0, float("nan")), (1, float("inf")), (1, 1e30), (8, 0.0), (8, -1.0), (8, 1e-30), (15, 0.0),
     (15, float("nan")), (18, float("nan")), (18, -1e30)],
)  # fmt: skip
def test_numbers_that_no_gaussian_has_are_refused(place: int, value: float) -> None:
    data = bytearray(gaussian().to_bytes())
    struct.pack_into("<f", data, 4 * place, value)
    with pytest.raises(BundleError, match="holds numbers that no Gaussian has"):
        Likeness.from_bytes(bytes(data), 7, 3, "x")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda axes: np.stack([axes[0], axes[0], axes[2]]),
        lambda axes: 0 * axes,
        lambda axes: 1.01 * axes,
        lambda axes: 1e6 * axes,
        lambda axes: axes + 0.01,
    ],
)
def test_axes_that_no_covariance_has_are_refused(spoil: Callable[[Any], Any]) -> None:
    made = gaussian()
    data = replace(made, axes=spoil(made.axes)).to_bytes()
    with pytest.raises(BundleError, match="holds axes that are no principal components"):
        Likeness.from_bytes(data, 7, 3, "x")


@pytest.mark.parametrize(("change", "channels", "components"), [(1, 7, 3), (-4, 7, 3), (0, 8, 3), (0, 7, 4), (0, 7, 0)])
def test_a_file_of_another_size_is_refused(change: int, channels: int, components: int) -> None:
    data = gaussian().to_bytes()
    data = data + bytes(change) if change > 0 else data[: len(data) + change]
    with pytest.raises(BundleError, match=r"has \d+ bytes; \d features and \d components take"):
        Likeness.from_bytes(data, channels, components, "x")


@pytest.mark.filterwarnings("error")
def test_hostile_numbers_give_a_distance_all_the_same() -> None:
    least, most = np.float32(1e-9), np.float32(1e9)
    axes = np.array([[1, 0, 0], [0, 1, 0]])
    hostile = Likeness(np.full(3, -most), np.full(3, least), axes, np.full(2, least), float(least))
    read = Likeness.from_bytes(hostile.to_bytes(), 3, 2, "x")
    largest = np.full((1, 3), np.finfo(np.float32).max)
    assert np.isfinite(read.distance(largest)).all()
    assert np.isfinite(read.distance(-largest)).all()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.write_knowing_bundle(tmp_path / "bundle")


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    file = bundle / "bundle.json"
    info = json.loads(file.read_text())
    edit(info)
    file.write_text(json.dumps(info))
    return bundle


def test_a_bundle_gives_what_it_knows(bundle: Path, tmp_path: Path) -> None:
    for where in (bundle, pack(bundle, tmp_path / "one.callus")):
        loaded = Bundle.load(where)
        likeness = loaded.likeness()
        assert likeness is not None
        assert likeness.distance(np.full((1, 3), -0.9, np.float32))[0] == pytest.approx(2 * 3**-0.5)
        for engine in ("onnx-float32", "openvino-float32"):
            assert Engine(loaded, 1, engine).info.farthest == 2 * 3**-0.5


def test_a_bundle_without_it_loads(tmp_path: Path) -> None:
    loaded = Bundle.load(tiny_bundle.write_tiny_bundle(tmp_path / "older", likeness_left_out="it was never measured"))
    assert loaded.likeness() is None
    assert loaded.engine_info("onnx-float32").farthest is None


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda i: i.update(likeness={}), "likeness is {}, expected an object"),
        (lambda i: i.update(likeness=None), "likeness is None"),
        (lambda i: i.update(likeness_left_out=3), "likeness_left_out is 3"),
        (lambda i: i["likeness"].pop("file"), r"likeness\.file is missing"),
        (lambda i: i["likeness"].update(file=["x"]), r"likeness\.file is \['x'\]"),
        (lambda i: i["likeness"].update(file="../x.bin"), "expected one of files"),
        (lambda i: i["likeness"].update(file="model.onnx"), r"model\.onnx: has [\d,]+ bytes; 3 features"),
        (lambda i: i["likeness"].update(components=2), "has 44 bytes; 3 features and 2 components take 60"),
        (lambda i: i["likeness"].update(channels=2), "has 44 bytes; 2 features and 1 components take 32"),
        (lambda i: i["likeness"].update(channels=0), r"likeness\.channels is 0, expected a whole number from 1 to 3"),
        (lambda i: i["likeness"].update(channels=4), r"likeness\.channels is 4, expected a whole number from 1 to 3"),
        (lambda i: i["likeness"].update(channels=None), r"likeness\.channels is None"),
        (lambda i: i["likeness"].update(components=-1), r"likeness\.components is -1"),
        (lambda i: i["likeness"].update(components=True), r"likeness\.components is True"),
        (lambda i: i["likeness"].update(components=10**400), "expected a whole number from 0 to 512"),
        (lambda i: i["outputs"].update(features="of something"), r"outputs\.features is 'of something'"),
        (lambda i: i["outputs"]["features"].update(channels=4), "4 features and 1 components"),
        (lambda i: i["outputs"]["features"].update(channels=0), r"channels is 0"),
        (lambda i: i["outputs"]["features"].pop("channels"), r"channels is missing"),
        (lambda i: i["likeness"].pop("thresholds"), r"likeness\.thresholds is missing"),
        (lambda i: i["likeness"].update(thresholds={"onnx": 1.0}), r"thresholds\['onnx-float32'\] is missing"),
        (lambda i: i["likeness"].update(thresholds={"onnx-float32": 0}), "is 0, expected a number from 1e-09"),
        (lambda i: i["likeness"].update(thresholds={"onnx-float32": "1"}), "is '1', expected a number"),
    ],
)
def test_what_does_not_fit_is_refused(bundle: Path, edit: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Bundle.load(change(bundle, edit))


def test_what_would_not_load_is_not_written(bundle: Path) -> None:
    before = (bundle / "bundle.json").read_bytes()
    info = {key: value for key, value in json.loads(before).items() if key != "files"}
    files = {name: (bundle / name).read_bytes() for name in ("model.onnx", "MODEL_CARD.md", "likeness.bin")}
    for spoilt in (files["likeness.bin"][:-4], bytes(44)):
        with pytest.raises(BundleError, match=r"likeness\.bin: (has 40 bytes|holds numbers that no Gaussian has)"):
            write_bundle(bundle, info, files | {"likeness.bin": spoilt})
    assert (bundle / "bundle.json").read_bytes() == before


def test_it_is_held_against_its_hash_when_it_is_used(bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    data = bytearray((bundle / "likeness.bin").read_bytes())
    data[9] ^= 1
    (bundle / "likeness.bin").write_bytes(data)
    with pytest.raises(BundleError, match=r"likeness\.bin has SHA-256"):
        loaded.likeness()


def test_damaged_files_are_refused_or_answer(bundle: Path) -> None:
    """With the right hash, as one makes them who means harm."""
    good, random, refused = (bundle / "likeness.bin").read_bytes(), Random(0), 0  # noqa: S311 - to be repeated
    features = np.full((1, 3), -0.5, np.float32)
    for _ in range(200):
        data = bytearray(good)
        damage(random, data)
        (bundle / "likeness.bin").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        change(bundle, lambda info, digest=digest: info["files"].update({"likeness.bin": digest}))
        try:
            likeness = Bundle.load(bundle).likeness()
        except BundleError:
            refused += 1
        else:
            assert likeness is not None
            assert np.isfinite(likeness.distance(features)).all()
    assert 50 < refused < 200


@pytest.mark.parametrize(("name", "knows"), [("version-1", False), ("version-1-likeness", True)])
def test_bundles_of_earlier_versions_go_on_answering(name: str, *, knows: bool) -> None:
    """Never write these files anew: they are what others have."""
    loaded = Bundle.load(GOLDEN / f"{name}.callus")
    answer = Engine(loaded, 1, "onnx-float32").run(np.full((1, 3, 64, 64), 0.25, np.float32))
    assert answer.logit == pytest.approx([2.5], abs=1e-4)
    assert answer.map == pytest.approx(0.625, abs=1e-5)
    likeness = loaded.likeness()
    assert (likeness is not None) is knows
    if likeness is not None:
        assert likeness.distance(answer.features) / loaded.info["likeness"]["thresholds"]["onnx-float32"] == (
            pytest.approx([4.75], abs=1e-4)
        )
