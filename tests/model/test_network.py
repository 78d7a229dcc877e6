from __future__ import annotations

import torch

from callus.model.network import build_network
from callus.model.trunks import build_trunk


def test_the_network_answers_with_logit_map_and_features() -> None:
    torch.manual_seed(0)
    network = build_network("mobilenet_v2", head="hierarchical", width=8, dense=(8,), dropout=0.5, location=True).eval()
    with torch.inference_mode():
        logit, where, features = network(torch.rand(2, 3, 96, 64) * 2 - 1)
    assert logit.shape == (2,)
    assert where.shape == (2, 6, 4)
    assert features.shape == (2, network.feature_channels) == (2, 32 + 96 + 1280)


def test_the_pooled_network_has_a_map_at_stride_32() -> None:
    torch.manual_seed(0)
    network = build_network("mobilenet_v2", head="pooled", width=0, dense=(8,), dropout=0.5, location=False).eval()
    with torch.inference_mode():
        logit, where, _ = network(torch.rand(1, 3, 96, 64) * 2 - 1)
    assert where.shape == (1, 3, 2)
    assert network.head.map_kind == "gradcam"
    assert logit.shape == (1,)


def test_the_small_trunk_has_three_scales_and_can_be_unfrozen_whole() -> None:
    trunk = build_trunk("small").eval()
    with torch.inference_mode():
        scales = trunk(torch.rand(2, 3, 64, 96))
    assert [tuple(part.shape[1:]) for part in scales] == [(48, 8, 12), (72, 4, 6), (96, 2, 3)]
    staged = {id(value) for _, modules in trunk.stages() for module in modules for value in module.parameters()}
    assert staged == {id(value) for value in trunk.parameters()}
