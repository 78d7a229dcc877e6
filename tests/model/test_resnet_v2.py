"""ResNet50V2, 101V2 and 152V2 are Keras'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from callus.model.resnet_v2 import ResNetV2
from callus.model.trunks import build_trunk

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("resnet50v2", "resnet101v2", "resnet152v2")
SIZES = ((224, 224), (320, 256))


@pytest.fixture(scope="module", params=NAMES)
def twins(request: pytest.FixtureRequest, make_twins: Callable) -> Any:
    return make_twins(request.param)


@pytest.fixture(scope="module", params=NAMES)
def twins_float64(request: pytest.FixtureRequest, make_twins: Callable) -> Any:
    return make_twins(request.param, "float64")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_evaluation_equals_keras(twins: Any, differences: Callable, size: tuple[int, int], batch: int) -> None:
    x = twins.picture(batch, *size)

    assert max(differences(twins.run_ours(x), twins.run_theirs(x))) < 1e-5


def test_any_shape_equals_keras(twins: Any, differences: Callable) -> None:
    x = twins.picture(2, 97, 130)

    assert max(differences(twins.run_ours(x), twins.run_theirs(x))) < 1e-5


@pytest.mark.parametrize(
    ("layer", "weight"),
    [
        ("conv1_conv", "bias"),
        ("conv2_block3_preact_bn", "running_mean"),
        ("conv3_block1_0_conv", "bias"),
        ("conv4_block2_2_conv", "weight"),
        ("post_bn", "running_var"),
    ],
)
def test_the_comparison_sees_one_weight_that_is_one_percent_off(
    twins: Any, differences: Callable, layer: str, weight: str
) -> None:
    x = twins.picture(1, 64, 64)
    values = getattr(twins.ours.layers()[layer], weight).data
    right = values.clone()

    values *= 1.01
    wrong = twins.run_ours(x)
    values.copy_(right)

    theirs = twins.run_theirs(x)
    assert max(differences(wrong, theirs)) > 1e-4
    assert max(differences(twins.run_ours(x), theirs)) < 1e-5


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_training_equals_keras(
    twins_float64: Any, differences: Callable, moved_statistics: Callable, size: tuple[int, int], batch: int
) -> None:
    x = twins_float64.picture(batch, *size, seed=batch)

    ours = twins_float64.run_ours(x, training=True)

    assert max(differences(ours, twins_float64.run_theirs(x, training=True))) < 1e-8
    assert moved_statistics(twins_float64) < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_maps_and_stages(name: str) -> None:
    with torch.device("meta"):
        trunk = build_trunk(name)
        maps = trunk(torch.zeros(2, 3, 96, 160))

    assert [tuple(y.shape) for y in maps] == [
        (2, channels, -(-96 // stride), -(-160 // stride))
        for channels, stride in zip(trunk.channels, trunk.strides, strict=True)
    ]
    assert [stage for stage, _ in trunk.stages()] == ["conv5", "conv4", "conv3", "conv2", "conv1"]
    staged = [parameter for _, modules in trunk.stages() for module in modules for parameter in module.parameters()]
    assert len(staged) == len(set(staged)) == len(list(trunk.parameters()))


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("resnet50v2", ("conv3_block3_out", "conv4_block5_out", "post_relu")),
        ("resnet101v2", ("conv3_block3_out", "conv4_block22_out", "post_relu")),
        ("resnet152v2", ("conv3_block7_out", "conv4_block35_out", "post_relu")),
    ],
)
def test_the_maps_come_from_the_blocks_before_the_strided_ones(name: str, scales: tuple[str, ...]) -> None:
    with torch.device("meta"):
        assert build_trunk(name).scale_names == scales


def test_batch_norms_are_keras() -> None:
    norms = [module for module in ResNetV2(50).modules() if isinstance(module, nn.BatchNorm2d)]

    assert {(norm.eps, norm.momentum) for norm in norms} == {(1.001e-5, 0.01)}


def test_gradients_reach_every_weight() -> None:
    trunk = ResNetV2(50)

    sum(y.square().mean() for y in trunk(torch.rand(2, 3, 64, 64))).backward()

    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in trunk.parameters())
