"""MobileNetV2 is Keras', and fit for export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from callus.model.mobilenet_v2 import MobileNetV2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Sides that are odd at some stride are padded otherwise than even ones.
SIZES = ((224, 224), (320, 256), (225, 190))


@pytest.fixture(scope="module", params=SIZES, ids=str)
def twins(request: pytest.FixtureRequest, make_twins: Callable) -> Any:
    return make_twins("mobilenet_v2", size=request.param), request.param


@pytest.fixture(scope="module", params=SIZES, ids=str)
def twins_float64(request: pytest.FixtureRequest, make_twins: Callable) -> Any:
    return make_twins("mobilenet_v2", "float64", request.param), request.param


@pytest.mark.parametrize("batch", [1, 3])
def test_evaluation_equals_keras(twins: Any, differences: Callable, batch: int) -> None:
    pair, size = twins
    x = pair.picture(batch, *size)

    assert max(differences(pair.run_ours(x), pair.run_theirs(x))) < 1e-5


@pytest.mark.parametrize("batch", [1, 3])
def test_training_equals_keras(
    twins_float64: Any, differences: Callable, moved_statistics: Callable, batch: int
) -> None:
    pair, size = twins_float64
    x = pair.picture(batch, *size, seed=batch)

    ours = pair.run_ours(x, training=True)

    assert max(differences(ours, pair.run_theirs(x, training=True))) < 1e-8
    assert moved_statistics(pair) < 1e-10


@pytest.mark.parametrize(
    ("layer", "weight"),
    [
        ("Conv1", "weight"),
        ("expanded_conv_depthwise_BN", "running_mean"),
        ("block_5_depthwise", "weight"),
        ("block_16_project_BN", "bias"),
        ("Conv_1_bn", "running_var"),
    ],
)
def test_the_comparison_sees_one_weight_that_is_one_percent_off(
    make_twins: Callable, differences: Callable, layer: str, weight: str
) -> None:
    pair = make_twins("mobilenet_v2", size=(64, 64))
    x = pair.picture(1, 64, 64)

    getattr(pair.ours.layers()[layer], weight).data.mul_(1.01)

    assert max(differences(pair.run_ours(x), pair.run_theirs(x))) > 1e-4


def test_the_real_weights_give_what_they_give_in_keras(
    make_real_twins: Callable, differences: Callable, imagenet_mobilenet: Path
) -> None:
    twins = make_real_twins(imagenet_mobilenet)

    x = twins.picture(3, 224, 224)

    assert max(differences(twins.run_ours(x), twins.run_theirs(x))) < 1e-4


def test_maps_and_stages() -> None:
    with torch.device("meta"):
        trunk = MobileNetV2()
        maps = trunk(torch.zeros(2, 3, 96, 160))

    assert [tuple(y.shape) for y in maps] == [(2, 32, 12, 20), (2, 96, 6, 10), (2, 1280, 3, 5)]
    assert trunk.scale_names == ("block_5_add", "block_12_add", "out_relu")
    assert [stage for stage, _ in trunk.stages()] == [
        "blocks_13_to_16",
        "blocks_6_to_12",
        "blocks_3_to_5",
        "blocks_1_to_2",
        "stem",
    ]
    staged = [parameter for _, modules in trunk.stages() for module in modules for parameter in module.parameters()]
    assert len(staged) == len(set(staged)) == len(list(trunk.parameters()))


def test_unfrozen_last_stages_alone_get_gradients() -> None:
    trunk = MobileNetV2().requires_grad_(requires_grad=False)
    for _, modules in trunk.stages()[:2]:
        for module in modules:
            module.requires_grad_(requires_grad=True)

    fine, middle, coarse = trunk(torch.rand(2, 3, 64, 64))
    (middle.square().mean() + coarse.square().mean()).backward()

    assert not fine.requires_grad
    learning = {path.partition(".")[0] for path, weight in trunk.named_parameters() if weight.grad is not None}
    assert learning == {f"block_{i}" for i in range(6, 17)} | {"Conv_1", "Conv_1_bn"}


def test_batch_norms_are_keras() -> None:
    norms = [module for module in MobileNetV2().modules() if isinstance(module, nn.BatchNorm2d)]

    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.001)}


def test_memory_format_is_kept() -> None:
    trunk = MobileNetV2().eval().to(memory_format=torch.channels_last)

    maps = trunk(torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last))

    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in maps)
