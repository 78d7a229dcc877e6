"""The ImageNet weights that Keras publishes: fetched once, and put into our trunks layer by layer, by name.

The files are HDF5 in Keras' legacy layout: a group a layer, listed in the attribute ``layer_names`` of the root (or of
``model_weights`` in a file that holds a whole model); in each group the weights that its ``weight_names`` lists, called
``conv1_conv/kernel:0`` by older Keras and ``conv1_conv/kernel`` by Keras 3. The published MobileNetV2 file is older
than the names that its layers have today; those are translated.
"""

from __future__ import annotations

import logging
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from callus.cache import cache_folder
from callus.errors import WeightsError
from callus.model.trunks import TRUNKS, Trunk, build_trunk
from callus.progress import progress

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

# BASE_WEIGHTS_PATH of keras/src/applications/resnet.py and BASE_WEIGHT_PATH of mobilenet_v2.py, less their last folder.
KERAS_ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True)
class Published:
    """A weights file without top that Keras publishes.

    Attributes:
        folder: below ``KERAS_ADDRESS``.
        file: its name.
        md5: what Keras' source says it has (WEIGHTS_HASHES, the second of each pair); None where it says nothing.
    """

    folder: str
    file: str
    md5: str | None


PUBLISHED = {
    "resnet50v2": Published(
        "resnet",
        "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "fac2f116257151a9d068a22e544a4917",
    ),
    "resnet101v2": Published(
        "resnet",
        "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "c0ed64b8031c3730f411d2eb4eea35b5",
    ),
    "resnet152v2": Published(
        "resnet",
        "resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "ed17cf2e0169df9d443503ef94b23b33",
    ),
    "mobilenet_v2": Published(
        "mobilenet_v2",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        None,
    ),
}

# The classifier that files with top have, by its names through Keras' versions.
_TOP = {"predictions", "probs", "Logits", "fc1000"}
# MobileNetV2's blocks were called so when its weights were published (keras-team/keras pull request 10047), and still
# are in the file: mobl1_conv_1_expand is block_1_expand today, bn1_conv_1_bn_expand is block_1_expand_BN.
_OLD_NAME = re.compile(r"(?:mobl|bn)(\d+)_conv_\1_(bn_)?(expand|depthwise|project)")
# What h5py raises where a file is no HDF5, ends too soon, or has damaged names or types.
_DAMAGED = (OSError, RuntimeError, KeyError, TypeError, ValueError)
_FETCH_AGAIN = "it is damaged: delete it and fetch it again"
_SHOWN = 3  # of a list of layers in an error
_WITHOUT_NETWORK = "give a file with --weights FILE, or train without ImageNet weights with --weights none"


def resolve(trunk_name: str, weights: str | os.PathLike[str]) -> Path | None:
    """Turn what stands behind ``--weights`` into a file.

    Args:
        trunk_name: one of ``TRUNKS``.
        weights: "imagenet" (fetched, or taken from the cache), "none", or the path of a file.

    Returns:
        The file to give to ``load_weights``; None for random weights.

    Raises:
        WeightsError: there is no such file, or it cannot be fetched.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        return fetch(trunk_name)
    path = Path(weights)
    if not path.is_file():
        raise WeightsError("there is no such weights file", where=path, hint="give a file, imagenet or none")
    return path


def fetch(trunk_name: str, cache: Path | None = None, *, address: str = KERAS_ADDRESS) -> Path:
    """Download the ImageNet weights of a trunk from Keras' own address, or take them from the cache.

    Args:
        trunk_name: one of ``TRUNKS``.
        cache: the folder to keep them in; by default ``$CALLUS_CACHE``, or the system's place for caches.
        address: where to download from.

    Returns:
        The file, whose MD5 is the published one where there is one.

    Raises:
        WeightsError: no network, no such file there, a wrong MD5, or a cache that cannot be written.
    """
    import pooch  # noqa: PLC0415 - only where something is fetched
    from requests import RequestException  # noqa: PLC0415

    if trunk_name not in PUBLISHED:
        raise WeightsError(f"there are no ImageNet weights of a trunk {trunk_name!r}", hint=f"it is {_one_of(TRUNKS)}")
    published = PUBLISHED[trunk_name]
    url = f"{address}/{published.folder}/{published.file}"
    folder = (cache or cache_folder()) / "weights"
    pooch.get_logger().setLevel(logging.WARNING)  # what it does is shown by the progress bar
    try:
        with ExitStack() as open_bars:
            bar = _DownloadBar(published.file, open_bars)
            file = pooch.retrieve(
                url,
                known_hash=f"md5:{published.md5}" if published.md5 else None,
                fname=published.file,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 18),
            )
        if published.md5 is None and not h5py.is_hdf5(file):
            Path(file).unlink()
            raise WeightsError("what came is no HDF5 file", where=url, hint=_WITHOUT_NETWORK)
    except ValueError as error:  # pooch's word for a wrong hash
        raise WeightsError(
            f"what came has not the MD5 {published.md5} of Keras' {published.file}: damaged or not the original",
            where=url,
            hint=f"try again, or {_WITHOUT_NETWORK}",
        ) from error
    except RequestException as error:
        raise WeightsError(f"cannot be fetched: {_reason(error)}", where=url, hint=_WITHOUT_NETWORK) from error
    except OSError as error:
        raise WeightsError(
            f"the weights cannot be kept here: {error.strerror or error}",
            where=folder,
            hint="set CALLUS_CACHE to a folder that is writable and has room",
        ) from error
    return Path(file)


def load_weights(trunk: Trunk, file: Path) -> None:
    """Put the weights of a Keras file into a trunk, layer by layer, by name; all of them or, on an error, none.

    Args:
        trunk: whose weights and batch norm statistics are overwritten, in the dtype and on the device that they have.
        file: HDF5 in Keras' legacy layout, with or without top. What the top holds is left out.

    Raises:
        WeightsError: not such a file, one for another trunk, a missing or unknown layer, a wrong shape, damaged.
    """
    file = Path(file)
    try:
        with h5py.File(file, "r") as opened:
            found = _layers_of(opened, file)
            _check_layers(trunk, set(found), file)
            pairs = [
                pair for name, layer in trunk.layers().items() for pair in _matched(name, layer, found[name], file)
            ]
    except _DAMAGED as error:
        raise _unreadable(file, error) from error
    with torch.no_grad():
        for target, values in pairs:
            target.copy_(values)


class _DownloadBar:
    """What pooch tells about a download, shown by callus' own progress bar, in megabytes."""

    def __init__(self, what: str, open_bars: ExitStack) -> None:
        self.total = 0  # bytes; set by pooch once the server has told, 0 where it does not tell
        self._what = what
        self._open_bars = open_bars
        self._advance: Callable[..., None] | None = None
        self._bytes = self._shown = 0

    def update(self, count: int) -> None:
        if self._advance is None:
            total = _megabytes(self.total) or None
            self._advance = self._open_bars.enter_context(progress(f"{self._what} (MB)", total))
        self._bytes += count
        steps = _megabytes(self._bytes) - self._shown
        self._shown += steps
        self._advance(steps)

    def reset(self) -> None:
        """Begin to count anew: pooch counts whole chunks, and at the end starts again to add the true total at once."""
        self._bytes = 0

    def close(self) -> None:
        """Leave the closing to the stack that the bar was opened in: pooch does not call this on an error."""


def _megabytes(count: int) -> int:
    return round(count / 1_000_000)


def _layers_of(opened: h5py.File, file: Path) -> dict[str, dict[str, h5py.Dataset]]:
    """Return layer name -> weight name ("kernel", "gamma", ...) -> dataset, for the layers that have weights."""
    root = opened.get("model_weights", opened)
    names = _listed(root, "layer_names")
    if not names:
        if "layers" in root or "_layer_checkpoint_dependencies" in root:
            reason = "is in the layout of Keras 3's .weights.h5, which counts layers instead of naming them"
        else:
            reason = "has no attribute layer_names: it holds no weights in Keras' legacy layout"
        raise WeightsError(reason, where=file, hint="take a file that Keras publishes (…_tf_kernels_notop.h5)")
    layers: dict[str, dict[str, h5py.Dataset]] = {}
    for name in names:
        group = root.get(name)
        if not isinstance(group, h5py.Group):
            raise WeightsError(f"lists the layer {name} but does not hold it", where=file, hint=_FETCH_AGAIN)
        weights = {}
        for path in _listed(group, "weight_names"):
            dataset = group.get(path)
            if not isinstance(dataset, h5py.Dataset):
                raise WeightsError(f"lists {path} but does not hold it", where=file, hint=_FETCH_AGAIN)
            weights[path.rpartition("/")[2].partition(":")[0]] = dataset
        if weights:
            layers[_OLD_NAME.sub(_name_of_today, name)] = weights
    return layers


def _name_of_today(old: re.Match[str]) -> str:
    number, bn, part = old.groups()
    block = "expanded_conv" if number == "0" else f"block_{number}"
    return f"{block}_{part}_BN" if bn else f"{block}_{part}"


def _listed(group: h5py.Group, attribute: str) -> list[str]:
    """Return the names in an attribute, which Keras cuts into attribute0, attribute1, ... where it is long."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{len(parts)}"])
    return [name.decode() if isinstance(name, bytes) else str(name) for part in parts for name in np.ravel(part)]


def _check_layers(trunk: Trunk, found: set[str], file: Path) -> None:
    """Raise where the layers of a file are not those of the trunk; say whose they seem to be."""
    wanted = set(trunk.layers())
    found = found - _TOP
    if found == wanted:
        return
    other = _looks_like(found)
    if other != trunk.name:
        raise WeightsError(
            f"holds the layers of {other}, not of {trunk.name}",
            where=file,
            hint=f"give the weights of {trunk.name}" + (f", or take --trunk {other}" if other in TRUNKS else ""),
        )
    problems = []
    if missing := [name for name in trunk.layers() if name not in found]:
        problems.append(f"without the layer {_some(missing)}")
    if unknown := sorted(found - wanted):
        problems.append(f"with the unknown layer {_some(unknown)}")
    hint = "give a file of this trunk alone, such as Keras publishes" if unknown else _FETCH_AGAIN
    raise WeightsError(f"does not fit {trunk.name}: {' and '.join(problems)}", where=file, hint=hint)


def _looks_like(found: set[str]) -> str:
    """Name the network that most of these layers belong to."""
    if "conv2_block1_0_bn" in found:
        return "a ResNet of version 1 (or a ResNeXt)"
    with torch.device("meta"):
        wanted = {name: set(build_trunk(name).layers()) for name in TRUNKS}
    # The share of layers in common: depth 50 is a part of depth 152.
    likeness = {name: len(found & names) / len(found | names) for name, names in wanted.items()}
    best = max(likeness, key=likeness.__getitem__)
    return best if likeness[best] > 0.5 else "another network"  # noqa: PLR2004 - more than half in common


def _matched(
    name: str, layer: nn.Conv2d | nn.BatchNorm2d, weights: dict[str, h5py.Dataset], file: Path
) -> list[tuple[Tensor, Tensor]]:
    """Return (the trunk's tensor, the file's values in torch's order) for each weight of a layer."""
    targets = _targets(layer)
    if "depthwise_kernel" in weights:  # what a depthwise convolution's kernel was called before Keras 3
        weights = {"kernel" if key == "depthwise_kernel" else key: dataset for key, dataset in weights.items()}
    if weights.keys() != targets.keys():
        raise WeightsError(
            f"the layer {name} has {_one_of(sorted(weights))}, but {_one_of(sorted(targets))} is expected",
            where=file,
            hint=_FETCH_AGAIN,
        )
    return [
        (target, _values(weights[key], target, order, f"the layer {name} has a {key}", file))
        for key, (target, order) in targets.items()
    ]


def _targets(layer: nn.Conv2d | nn.BatchNorm2d) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """Return Keras' name of each weight of a layer -> (the tensor, which of Keras' axes is each of torch's)."""
    if isinstance(layer, nn.Conv2d):
        # Keras has (height, width, in, out), and for a depthwise convolution (height, width, channels, 1).
        kernel = (layer.weight, (3, 2, 0, 1) if layer.groups == 1 else (2, 3, 0, 1))
        return {"kernel": kernel} | ({} if layer.bias is None else {"bias": (layer.bias, (0,))})
    tensors = {
        "gamma": layer.weight,
        "beta": layer.bias,
        "moving_mean": layer.running_mean,
        "moving_variance": layer.running_var,
    }
    return {key: (tensor, (0,)) for key, tensor in tensors.items() if tensor is not None}


def _values(dataset: h5py.Dataset, target: Tensor, order: tuple[int, ...], what: str, file: Path) -> Tensor:
    """Read one weight; its shape is checked before, so that a hostile file costs no memory."""
    expected = tuple(target.shape[order.index(axis)] for axis in range(len(order)))
    if dataset.shape != expected:
        raise WeightsError(
            f"{what} of shape {dataset.shape}, but {expected} is expected",
            where=file,
            hint="is it for a network of another width?",
        )
    values = np.asarray(dataset)
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        raise WeightsError(f"{what} that is not finite numbers", where=file, hint=_FETCH_AGAIN)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(order)))


def _unreadable(file: Path, error: Exception) -> WeightsError:
    if not file.is_file() or isinstance(error, PermissionError):
        reason = "it may not be read" if isinstance(error, PermissionError) else "there is no such file"
        return WeightsError(f"cannot be read: {reason}", where=file, hint="give the path of a weights file")
    return WeightsError(
        f"is no HDF5 file, or a damaged one ({file.stat().st_size} bytes): {' '.join(str(error).split())}",
        where=file,
        hint="give a weights file in Keras' HDF5 layout, and if it is one, fetch it again",
    )


def _reason(error: Any) -> str:
    if getattr(error, "response", None) is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    return f"no connection ({type(error).__name__})"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _one_of(names: Any) -> str:
    return ", ".join(names)
