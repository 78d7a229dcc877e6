"""Weights files in the layout that Keras publishes, written from a trunk of ours. Not a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch

from callus.model.trunks import build_trunk

if TYPE_CHECKING:
    from pathlib import Path

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
            write_layer(opened.create_group(written), written, _keras_values(layer, style), style)
        for name in (*extra, "input_1"):
            names.append(name)
            values = {"kernel": np.ones((2, 2)), "bias": np.ones(2)} if name in extra else {}
            write_layer(opened.create_group(name), name, values, style)
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


def write_layer(group: h5py.Group, name: str, values: dict[str, np.ndarray], style: str) -> None:
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
