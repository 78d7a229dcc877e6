"""Weights are rounded as the int8 network rounds them, for the loss and its gradients alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from callus.bundle import Bundle
from callus.dataset import read_manifest, usable
from callus.errors import RecipeError
from callus.model.network import FractureNet
from callus.training import Options, loop, train
from callus.training import recipe as recipes
from callus.training.recipe import Recipe
from callus.training.rounding import round_weights, rounded, rounded_weights
from callus.training.run import initial_network
from callus.training.schedule import steps_of
from callus.training.weights import put

ROUNDED = {"optimisation.int8_weights": True, "optimisation.keep": "last"}


def test_seven_bits_from_the_largest_weight_of_each_channel() -> None:
    weight = torch.randn((5, 3, 3, 3), generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    weight[4] *= 1e-30
    told = rounded(weight)
    largest = weight.abs().amax((1, 2, 3), keepdim=True)
    step = largest / 63.5
    assert ((told - weight).abs() <= step * 0.5001).all()
    assert torch.equal(told[3], weight[3])
    alive = [0, 1, 2, 4]
    is_largest = (weight.abs() == largest)[alive]
    assert torch.equal(told[alive][is_largest], weight[alive][is_largest])
    steps = (told / step)[alive][~is_largest]
    np.testing.assert_allclose(steps, steps.round(), atol=1e-4)
    assert 30 < len(torch.unique(steps.round())) <= 127


def test_what_is_rounded_is_rounded_to_itself() -> None:
    weight = torch.randn((64, 96, 1, 1), generator=torch.Generator().manual_seed(1))
    once = rounded(weight)
    assert not torch.equal(once, weight)
    np.testing.assert_allclose(rounded(once), once, rtol=1e-5, atol=1e-6)


def test_halves_go_where_int8_has_them() -> None:
    """What was in eight bits before, as the frozen stages' weights were, lies halfway every second time."""
    weight = torch.arange(-127, 128, dtype=torch.float32)[None]
    steps = rounded(weight)[0] / 2
    halves = (weight[0] % 2 != 0) & (weight[0].abs() < 127)
    np.testing.assert_allclose(steps[~halves], weight[0][~halves] / 2, atol=1e-4)
    assert (steps[halves].round() % 2 != 0).all(), "to the odd step, as rounding to even about 127 gives"


def test_depthwise_convolutions_stay() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1))
    before = [layer.weight.detach().clone() for layer in network]
    round_weights(network)
    assert torch.equal(network[0].weight, before[0])
    assert not torch.equal(network[1].weight, before[1])


def test_gradients_are_those_at_rounded_weights_and_the_weights_stay() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.randn((3, 1, 4, 4))
    with rounded_weights(network):
        loss = network(x).square().sum()
        loss.backward()
    after = network.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    fixed = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1))
    fixed.load_state_dict({n: rounded(v) if v.dim() > 1 else v for n, v in before.items()})
    fixed(x).square().sum().backward()
    for (name, one), other in zip(network.named_parameters(), fixed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    assert not torch.equal(network(x), fixed(x))


def test_the_weights_come_back_when_a_step_fails() -> None:
    layer = nn.Linear(4, 2)
    before = layer.weight.clone()
    with pytest.raises(RuntimeError), rounded_weights(layer):
        layer(torch.zeros(1, 3))
    assert torch.equal(layer.weight, before)


def test_what_a_run_keeps_is_rounded_and_its_graph_with_it(tmp_path: Path, simulated: Path, small: Recipe) -> None:
    changes = ROUNDED | {"frozen.cache_views": 0, "frozen.epochs": 0, "export.int8": False}
    run = train(simulated, recipes.override(small, changes), tmp_path / "run", options=Options(accelerator="cpu"))
    kept = load_file(run / "best" / "network.safetensors")
    rounding = [name for name in kept if name.endswith("weight") and kept[name].dim() > 1 and kept[name].shape[1] > 1]
    assert any(name.startswith("trunk") for name in rounding)
    assert any(name.startswith("head.dense") for name in rounding)
    for name in rounding:
        np.testing.assert_allclose(rounded(kept[name]), kept[name], rtol=1e-5, atol=1e-7, err_msg=name)
    network = initial_network(recipes.load(run / "recipe.toml"))
    put(network, kept)
    graph = onnx.load_model_from_string(Bundle.load(run / "bundle").read("model.onnx")).graph
    stored = {tuple(np.shape(value)): value for value in map(onnx.numpy_helper.to_array, graph.initializer)}
    locate = network.head.locate.weight.detach().numpy()
    np.testing.assert_array_equal(stored[locate.shape], locate)


def test_the_last_phase_alone_learns_with_rounded_weights(
    tmp_path: Path, simulated: Path, small: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = 0

    @contextmanager
    def noted(network: FractureNet) -> Iterator[None]:
        nonlocal begun
        begun += 1
        with rounded_weights(network):
            before = network.head.locate.weight.clone()
            assert torch.equal(rounded(before), before)
            yield

    monkeypatch.setattr(loop, "rounded_weights", noted)
    changes = {"frozen.epochs": 0, "frozen.cache_views": 0, "whole.epochs": 2, "export.int8": False}
    recipe = recipes.override(small, ROUNDED | changes)
    run = train(simulated, recipe, tmp_path / "run", options=Options(accelerator="cpu"))
    learnt = usable(read_manifest(run / "manifest.parquet")).query("split == 'train'")["label"]
    steps = steps_of(learnt.to_numpy(), recipe.optimisation)
    assert begun == 2 * (steps + 1), "each step of the last phase, and each validation of it"


def test_rounding_wants_the_last_epoch_kept(small: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"int8_weights wants optimisation\.keep"):
        recipes.override(small, {"optimisation.int8_weights": True, "optimisation.keep": "best"})


def test_a_trunk_from_a_file_begins_rounded(imagenet_mobilenet: Path, small: Recipe) -> None:
    """Its frozen stages are then those of the int8 network from the first step, and what a cache keeps of them."""
    changes = ROUNDED | {"trunk.weights": str(imagenet_mobilenet)}
    network = initial_network(recipes.override(small, changes))
    for layer in network.trunk.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1:
            np.testing.assert_allclose(rounded(layer.weight.detach()), layer.weight.detach(), rtol=1e-5, atol=1e-7)
