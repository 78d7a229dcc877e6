"""Test-time views: what they leave as it is, and what they even out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from callus.bundle import Bundle, Outputs
from callus.bundle.views import TURN, VIEWS, answered
from callus.errors import BundleError, CallusError
from callus.identify import Identifier
from callus.metrics.boxes import map_to_input
from callus.radiograph import Radiograph

CELLS = map_to_input(8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


class Counting:
    """A network whose logit, map and features are read off the picture: map = means of 8 x 8 pixels."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []

    def __call__(self, batch: np.ndarray) -> Outputs:
        self.batches.append(batch)
        count, _, height, width = batch.shape
        cells = batch[:, 0].reshape(count, height // 8, 8, width // 8, 8).mean(axis=(2, 4))
        logit = np.full(count, len(self.batches), np.float32)
        return Outputs(logit, cells.astype(np.float32), batch.mean(axis=(2, 3)))


def smooth(height: int = 64, width: int = 96) -> np.ndarray:
    """Two pictures, float32 (2, 3, height, width) in [0, 1], without structure finer than a cell."""
    y, x = np.mgrid[0:height, 0:width] / 32
    grey = np.stack([0.5 + 0.25 * np.sin(x) + 0.2 * np.cos(2 * y), 0.5 + 0.4 * np.sin(x + y)])
    return np.repeat(grey[:, None], 3, axis=1).astype(np.float32)


def test_no_views_give_the_networks_own_answer() -> None:
    network, batch = Counting(), smooth()
    outputs = answered(network, batch, (), 0.0, CELLS)
    assert len(network.batches) == 1
    assert network.batches[0] is batch
    assert (outputs.map == Counting()(batch).map).all()


def test_the_mirrored_view_is_mirrored_back_exactly() -> None:
    network, batch = Counting(), smooth()
    outputs = answered(network, batch, ("mirror",), 0.0, CELLS)
    assert (network.batches[1] == batch[:, :, :, ::-1]).all()
    assert outputs.map == pytest.approx(Counting()(batch).map, abs=1e-6)
    assert outputs.logit.tolist() == [1.5, 1.5]  # the first pass gave 1, the second 2
    assert (outputs.features == batch.mean(axis=(2, 3))).all()
    assert (outputs.logit.dtype, outputs.map.dtype) == (np.float32, np.float32)


def test_a_mirrored_view_whose_cells_lie_elsewhere_is_moved_to_the_pictures() -> None:
    """Of a width of 60 the mirrored picture's cells of 8 begin 4 pixels beside the picture's own."""

    def network(batch: np.ndarray) -> Outputs:
        columns = np.arange(8) * 8 + 4
        cells = np.stack([batch[:, 0, :, column - 1 : column + 1].mean(axis=(1, 2)) for column in columns], axis=-1)
        heat = np.repeat(cells[:, None], 8, axis=1).astype(np.float32)
        return Outputs(np.zeros(len(batch), np.float32), heat, batch.mean(axis=(2, 3)))

    rising = np.broadcast_to(np.linspace(0.1, 0.9, 60, dtype=np.float32), (1, 3, 64, 60))
    plain, outputs = network(rising).map, answered(network, rising, ("mirror",), 0.0, CELLS)
    assert np.abs(network(rising[..., ::-1]).map[:, :, ::-1] - plain).max() > 0.05
    assert outputs.map[:, :, 1:7] == pytest.approx(plain[:, :, 1:7], abs=1e-4)


def test_cells_that_do_not_lie_evenly_are_mirrored_to_their_own_places() -> None:
    """As a trunk's padding puts them: at 0, 8, 16 and so on, of a mirrored picture at 7, 15, 23."""

    def network(batch: np.ndarray) -> Outputs:
        heat = np.ascontiguousarray(batch[:, 0, ::8, ::8])
        return Outputs(np.zeros(len(batch), np.float32), heat, batch.mean(axis=(2, 3)))

    rising = np.broadcast_to(np.linspace(0.1, 0.9, 64, dtype=np.float32), (1, 3, 64, 64))
    plain, outputs = network(rising).map, answered(network, rising, ("mirror",), 0.0, map_to_input(8, 0.0))
    assert outputs.map[:, :, 1:7] == pytest.approx(plain[:, :, 1:7], abs=1e-4)
    evenly = answered(network, rising, ("mirror",), 0.0, CELLS).map
    assert np.abs(evenly - plain)[:, :, 1:7].min() > 0.03, "half a cell beside"


def test_turned_views_are_turned_back_to_where_the_picture_is() -> None:
    network, batch = Counting(), smooth()
    outputs = answered(network, batch, ("rotate",), 0.0, CELLS)
    assert len(network.batches) == 3
    assert [batch.shape for batch in network.batches] == [(2, 3, 64, 96)] * 3
    plain = Counting()(batch).map
    one = network.batches[1][0, 0]
    assert one[0, 0] == 0  # a corner that the picture does not reach is black
    # The views do differ from the plain picture, and what is turned back does not, but for the black corners' edges.
    assert np.abs(Counting()(network.batches[1]).map - plain)[:, 2:-2, 2:-2].max() > 0.05
    assert outputs.map[:, 2:-2, 2:-2] == pytest.approx(plain[:, 2:-2, 2:-2], abs=0.01)
    assert outputs.logit.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("views", [("mirror",), VIEWS])
def test_one_channel_shown_three_times_is_a_batch_as_any_other(views: tuple[str, ...]) -> None:
    """Training hands its pictures over so: three channels that lie in one place of memory."""
    batch = smooth()
    shown = np.broadcast_to(np.ascontiguousarray(batch[:, :1]), batch.shape)
    ours, theirs = answered(Counting(), shown, views, 0.0, CELLS), answered(Counting(), batch, views, 0.0, CELLS)
    assert (ours.map == theirs.map).all()
    assert (ours.logit == theirs.logit).all()


def test_both_turns_go_different_ways() -> None:
    network, batch = Counting(), smooth(64, 64)
    answered(network, batch, VIEWS, 0.0, CELLS)
    plain, mirrored, left, right = network.batches
    assert right[0, 0] == pytest.approx(np.flip(_turned_by_mirroring(plain), axis=1), abs=1e-3)
    assert not np.allclose(left, right, atol=0.05)
    assert (mirrored[..., ::-1] == plain).all()


def _turned_by_mirroring(batch: np.ndarray) -> np.ndarray:
    """Turning right is turning the mirrored picture left, and mirroring."""
    network = Counting()
    answered(network, batch[..., ::-1], ("rotate",), 0.0, CELLS)
    return np.asarray(network.batches[1][0, 0])


@pytest.mark.parametrize(
    ("given", "meant"), [((), ()), (("rotate", "mirror", "rotate"), VIEWS), (["mirror"], ("mirror",))]
)
def test_an_identifier_says_which_views_it_took(bundle: Path, given: tuple[str, ...], meant: tuple[str, ...]) -> None:
    pixels = np.random.default_rng(0).integers(20, 60, (200, 320)).astype(np.uint8)
    pixels[60:120, 60:120] = 255
    finding = Identifier(bundle, threads=1, views=given).identify(Radiograph(pixels, None, "PNG", ""))
    assert finding.views == meant
    assert finding.level == "fracture"
    assert finding.probability == pytest.approx(1 / (1 + np.exp(-finding.logit)))


def test_a_bundle_says_which_views_it_was_made_for(tmp_path: Path) -> None:
    made = tiny_bundle.write_tiny_bundle(tmp_path / "tiny", views=["mirror"])
    assert Identifier(made, threads=1).views == ("mirror",)
    assert Identifier(made, threads=1, views=()).views == ()
    assert Identifier(made, threads=1, views=("rotate",)).views == ("rotate",)


@pytest.mark.parametrize("views", [["flip"], ["mirror", "mirror"], "mirror", [1], {"mirror": 1}, None])
def test_a_bundle_with_unknown_views_is_refused(tmp_path: Path, views: object) -> None:
    made = tiny_bundle.write_tiny_bundle(tmp_path / "tiny")
    info = json.loads((made / "bundle.json").read_text())
    (made / "bundle.json").write_text(json.dumps({**info, "views": views}))
    with pytest.raises(BundleError, match=r"views is .* expected a list of some of mirror, rotate"):
        Bundle.load(made)


@pytest.mark.parametrize("given", ["mirror", ("flip",), ("mirror", "")])
def test_unknown_views_are_refused(bundle: Path, given: object) -> None:
    with pytest.raises(CallusError, match="expected some of mirror, rotate"):
        Identifier(bundle, threads=1, views=given)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(512, 256), (200, 640)])
def test_mirroring_moves_no_box(bundle: Path, shape: tuple[int, int]) -> None:
    pixels = np.full(shape, 30, np.uint8)
    pixels[shape[0] // 8 : shape[0] // 2, shape[1] // 8 : shape[1] // 3] = 255
    made = Radiograph(pixels, None, "PNG", "")
    (plain,) = Identifier(bundle, threads=1).identify(made).boxes
    (mirrored,) = Identifier(bundle, threads=1, views=("mirror",)).identify(made).boxes
    assert (plain.x, plain.y, plain.width, plain.height) == (mirrored.x, mirrored.y, mirrored.width, mirrored.height)


def test_views_even_out_what_a_network_sees_on_one_side_only() -> None:
    def sided(batch: np.ndarray) -> Outputs:
        half = batch.shape[3] // 2
        logit = batch[:, 0, :, :half].mean(axis=(1, 2))
        return Outputs(logit.astype(np.float32), np.zeros((len(batch), 8, 8), np.float32), batch.mean(axis=(2, 3)))

    picture = smooth(64, 64)
    one = answered(sided, picture, ("mirror",), 0.0, CELLS).logit
    other = answered(sided, np.ascontiguousarray(picture[..., ::-1]), ("mirror",), 0.0, CELLS).logit
    assert one == pytest.approx(other, abs=1e-6)
    assert sided(picture).logit != pytest.approx(one, abs=1e-3)
    assert 0 < TURN < 15
