"""A graph that is not the network that was trained makes no bundle."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from callus import dataset
from callus.bundle import Bundle, Engine
from callus.dataset.simulated import simulate
from callus.errors import TrainingError
from callus.model.network import FractureNet, build_network
from callus.preprocess import InputSpec
from callus.training import export
from callus.training import recipe as recipes
from callus.training.batches import Pictures
from callus.training.examples import PLAIN, Examples
from callus.training.measured import parity
from callus.training.recipe import Recipe
from callus.training.weights import settle

KEYS = ("trunk", "weights", "recipe", "splits", "files", "radiographs", "groups")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    changes = {"input.height": 64, "input.width": 64, "head.width": 8, "head.dense": [8], "export.int8": False}
    return recipes.override(recipes.load("demo"), changes)


@pytest.fixture(scope="module")
def pictures(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return Pictures(
        Examples(dataset.usable(simulate(tmp_path_factory.mktemp("data") / "set", 12, seed=3)), recipe), 8, 1
    )


@pytest.fixture(scope="module")
def network(pictures: Pictures) -> FractureNet:
    torch.manual_seed(0)
    made = build_network(
        "small", head="hierarchical", width=8, dense=[8], dropout=0.0, location=True, location_gain=1.0
    )
    settle(made, [pictures.examples.pictures(range(12), [PLAIN] * 12)])
    return made.eval()


@pytest.fixture(scope="module")
def bundle(
    network: FractureNet, pictures: Pictures, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    return written(network, pictures, recipe, tmp_path_factory.mktemp("bundle") / "right")


@pytest.fixture
def same_graph(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the network, the exporter writes the graph of the one before."""

    def write_again(_network: FractureNet, _spec: InputSpec, path: Path) -> None:
        path.write_bytes(bundle.read("model.onnx"))

    monkeypatch.setattr(export, "write_graph", write_again)


def written(network: FractureNet, validation: Pictures, recipe: Recipe, out: Path, **how: Any) -> Bundle:
    training = dict.fromkeys(KEYS, "x") | {"manifest_sha256": "0" * 64}
    return export.export_bundle(network, validation, recipe, training, out, "made", **how)


def other_than(network: FractureNet, parameter: str, by: float) -> FractureNet:
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.get_parameter(parameter).add_(by)
    return other


@pytest.mark.usefixtures("same_graph")
@pytest.mark.parametrize(
    ("parameter", "by", "told"),
    [
        ("head.dense.logit.bias", 0.05, r"logit by [\d.e-]+, at most 0\.001 is right"),
        ("head.dense.logit.bias", 0.001, r": probability by [\d.e-]+, at most 0\.0001 is right"),
        ("head.locate.bias", 0.05, r"map by [\d.e-]+, at most 0\.001 is right"),
        ("head.dense.logit.bias", float("nan"), r"logit by nan, at most 0\.001 is right"),
    ],
)
def test_a_graph_that_is_not_the_network_is_no_bundle(
    network: FractureNet, pictures: Pictures, recipe: Recipe, tmp_path: Path, parameter: str, by: float, told: str
) -> None:
    other = other_than(network, parameter, by)
    with pytest.raises(TrainingError, match=rf"the exported graph differs from torch with onnx-float32.*{told}"):
        written(other, pictures, recipe, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_every_engine_in_float32_is_held_against_torch(
    network: FractureNet, bundle: Bundle, pictures: Pictures
) -> None:
    told = bundle.engine_info("onnx-float32").parity
    assert told["against"] == f"torch {torch.__version__}"
    assert told["pictures"] == 12
    for found in (told["max_difference"], told["openvino-float32"]):
        assert found["probability"] <= 1e-4
        assert found["map"] <= 1e-3
    other = other_than(network, "head.locate.bias", 0.05)
    with pytest.raises(TrainingError, match="differs from torch with openvino-float32"):
        parity(other, Engine(bundle, name="openvino-float32"), pictures)


@pytest.mark.usefixtures("same_graph")
@pytest.mark.parametrize(("size", "kept"), [(1000, True), (1001, False)])
def test_a_list_of_pictures_that_no_reader_would_take_is_left_out(
    network: FractureNet,
    pictures: Pictures,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    kept: bool,
) -> None:
    monkeypatch.setattr(export, "LARGEST_PICTURES", 1000)
    made = written(network, pictures, recipe, tmp_path / "bundle", pictures=b"x" * size)
    assert (made.pictures is not None) is kept
