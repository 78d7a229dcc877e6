"""The weights that move: a trunk's batch norm that takes on new statistics, and what a stopped run goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from legacy_weights import write_legacy
from torch import Tensor

from callus.model.batch_norm import BatchNorm2d
from callus.model.network import FractureNet, build_network
from callus.training import Options, run_folder, train
from callus.training import recipe as recipes
from callus.training.recipe import Recipe
from callus.training.weights import freeze, restate, set_modes


def network_with_folded_norm() -> FractureNet:
    """As the compact trunk's weights are: gain 1, mean 0, variance 1 less epsilon, and a bias that does the work."""
    torch.manual_seed(0)
    made = build_network("mobilenet_v2", head="hierarchical", width=8, dense=[8], dropout=0.0, location=True)
    for layer in made.trunk.modules():
        if isinstance(layer, BatchNorm2d):
            assert layer.running_var is not None
            layer.running_var.fill_(1 - layer.eps)
            layer.bias.data.normal_(0.3, 0.2)
    return made.eval()


def maps(network: FractureNet, pictures: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return list(network.trunk(pictures))


def apart(some: list[Tensor], others: list[Tensor]) -> list[float]:
    """The largest difference of each map, relative to the largest value."""
    return [float((a - b).abs().max() / a.abs().max()) for a, b in zip(some, others, strict=True)]


def test_restated_batch_norm_is_the_same_function_and_holds_in_training() -> None:
    network = network_with_folded_norm()
    pictures = torch.rand(6, 3, 96, 96) * 2 - 1
    before = maps(network, pictures)
    network.learns_statistics = True
    freeze(network, 3)
    set_modes(network, training=True)
    broken = apart(before, maps(network, pictures))
    network = network_with_folded_norm()
    restate(network, [pictures[:2], pictures[2:]], 3)
    assert max(apart(before, maps(network, pictures))) < 1e-4
    freeze(network, 3)
    set_modes(network, training=True)
    # In training mode the batch's own statistics are those that were given, up to Bessel's correction.
    held = apart(before, maps(network, pictures))
    assert max(held) < 0.01
    assert broken[2] > 0.2  # what restating is for


def test_only_stages_that_will_learn_are_restated() -> None:
    network = network_with_folded_norm()
    kept = {name: value.clone() for name, value in network.trunk.state_dict().items()}
    restate(network, [torch.rand(2, 3, 96, 96)], 1)
    changed = {name for name, value in network.trunk.state_dict().items() if not torch.equal(value, kept[name])}
    last = [name for name, _ in network.trunk.named_parameters() if name.startswith("Conv_1_bn")]
    assert set(last) <= changed
    assert not any(name.startswith(("Conv1", "bn_Conv1", "block_3")) for name in changed)


@pytest.mark.parametrize("batch_norm", ["kept", "learnt"])
def test_stages_that_stand_still_again_keep_what_they_learnt_through_a_stop(
    tmp_path: Path, simulated: Path, small: Recipe, monkeypatch: pytest.MonkeyPatch, batch_norm: str
) -> None:
    """Stopped in a last phase that trains fewer stages than the one before."""
    weights_file = write_legacy(network_with_folded_norm().trunk, tmp_path / "trunk.h5")
    changes = {"frozen.epochs": 0, "tuning.stages": 2, "whole.epochs": 2, "whole.stages": 1}
    changes |= {"optimisation.keep": "last", "trunk.weights": str(weights_file), "trunk.batch_norm": batch_norm}
    recipe = recipes.override(small, {**changes, "tuning.trunk_rate": 1e-2, "export.int8": False})
    options = Options(accelerator="cpu", cache=tmp_path)
    whole = train(simulated, recipe, tmp_path / "whole", options=options)
    stopped = tmp_path / "stopped"
    write_state = run_folder.RunFolder.write_state

    def stop(self: run_folder.RunFolder, state: run_folder.State, tensors: dict[str, Tensor]) -> None:
        write_state(self, state, tensors)
        if [row["phase"] for row in state.history] == ["tuning", "whole"]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.RunFolder, "write_state", stop)
        with pytest.raises(KeyboardInterrupt):
            train(simulated, recipe, stopped, options=options)
    train(simulated, recipe, stopped, options=options, resume=True)
    ours, theirs = ((run / "bundle" / "model.onnx").read_bytes() for run in (whole, stopped))
    assert ours == theirs
