"""The sizes of what ONNX's operators give, from the sizes of what they take; what cannot be told is a ValueError.

As ONNX 13 to 26 say it (docs/Operators.md there), for what :mod:`callus.bundle.operators` lists.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from callus.bundle.given import FLOAT32, INT64, KINDS, MOST_PLACES, Tensor, axis, broadcast, weight
from callus.bundle.onnx_reader import MOST_VALUES, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callus.bundle.given import Given

MOST_SIDES: Final = 8
"""Of a tensor; a batch of pictures has four."""
MOST_KERNEL: Final = 32
"""The largest side of a convolution's or a pool's window, and the most that pictures are enlarged by: trunks have 7."""
MOST_GROUPED: Final = 7
"""The same where each group of channels has its own: OpenVINO 2026.4 writes code for every place of such a window,
5 GB of it for 64x64."""
_PLANE: Final = 4  # sides of a batch of pictures


def same(given: Given) -> list[Tensor]:
    """As large as what it takes."""
    first = given.tensor(0)
    return [Tensor(first.shape)]


def kept(given: Given) -> list[Tensor]:
    """The same numbers, of another type perhaps."""
    given.any("saturate", "round_mode")
    first, kind = given.tensor(0), given.whole("to", FLOAT32)
    if kind not in KINDS or (kind == INT64 and first.count > MOST_PLACES):
        raise ValueError("makes numbers of a type that callus does not take")
    return [Tensor(first.shape, first.values)]


def stretched(given: Given) -> list[Tensor]:
    """As large as all that it takes, stretched to each other."""
    return [Tensor(broadcast(*(one.shape for one in given.inputs if one is not None)))]


def expand(given: Given) -> list[Tensor]:
    """Stretched to a size."""
    return [Tensor(broadcast(given.tensor(0).shape, _sizes(given.values(1))))]


def normalised(given: Given) -> list[Tensor]:
    """Batch normalisation, as it is when nothing is learnt."""
    if given.whole("training_mode", 0):
        raise ValueError("learns")
    given.any("momentum", "epsilon")
    return same(given)


def _window(given: Given, kernel: list[int], sides: Sequence[int]) -> tuple[int, ...]:
    """Height and width of what a window gives that is moved over a picture."""
    given.text("auto_pad", "NOTSET")
    strides, dilations = given.whole_list("strides", (1, 1), 2), given.whole_list("dilations", (1, 1), 2)
    pads = given.whole_list("pads", (0, 0, 0, 0), 4)
    up = given.whole("ceil_mode", 0) != 0
    if len(kernel) != 2 or not all(0 < side <= MOST_KERNEL for side in kernel):  # noqa: PLR2004 - height and width
        raise ValueError(f"has a window of {kernel}, expected two sides of 1 to {MOST_KERNEL}")
    result = []
    for place, side in enumerate(sides):
        reach = dilations[place] * (kernel[place] - 1) + 1
        before, behind = pads[place], pads[place + 2]
        room = side + before + behind - reach
        if strides[place] < 1 or dilations[place] < 1 or not (min(before, behind) >= 0 and max(before, behind) < reach):
            raise ValueError("has strides, dilations or pads that no window has")
        if room < 0:
            raise ValueError(f"has a window of {reach} on a side of {side}")
        result.append((room + (strides[place] - 1 if up else 0)) // strides[place] + 1)
    return tuple(result)


def _planes(given: Given, index: int = 0) -> tuple[int, ...]:
    shape = given.tensor(index).shape
    if len(shape) != _PLANE:
        raise ValueError(f"takes {shape}, expected pictures with channels")
    return shape


def conv(given: Given) -> list[Tensor]:
    """A convolution over pictures."""
    batch, channels, *sides = _planes(given)
    gives, each, *kernel = _planes(given, 1)
    groups = given.whole("group", 1)
    if groups < 1 or each * groups != channels or gives % groups or given.whole_list("kernel_shape", kernel) != kernel:
        raise ValueError(f"has weights that do not fit {channels} channels")
    if groups > 1 and max(kernel) > MOST_GROUPED:
        raise ValueError(f"has a window of {kernel} for each group, expected sides of 1 to {MOST_GROUPED}")
    return [Tensor((batch, gives, *_window(given, kernel, sides)))]


def pool(given: Given) -> list[Tensor]:
    """The largest or the mean of each window."""
    batch, channels, *sides = _planes(given)
    given.any("storage_order", "count_include_pad")
    return [Tensor((batch, channels, *_window(given, given.whole_list("kernel_shape", ()), sides)))]


def global_pool(given: Given) -> list[Tensor]:
    """One number for each channel."""
    batch, channels, *_ = _planes(given)
    return [Tensor((batch, channels, 1, 1))]


def pad(given: Given) -> list[Tensor]:
    """With a border."""
    shape, pads = given.tensor(0).shape, given.values(1)
    given.text("mode", "constant", "reflect", "edge", "wrap")
    if len(pads) != 2 * len(shape) or given.has(3) or min(pads, default=0) < 0:
        raise ValueError("has pads that callus does not know")
    rank = len(shape)
    return [Tensor(tuple(side + int(pads[place] + pads[place + rank]) for place, side in enumerate(shape)))]


def resize(given: Given) -> list[Tensor]:
    """Enlarged or reduced, by scales or to sizes."""
    shape = _planes(given)
    given.text("mode", "nearest", "linear")
    given.text("keep_aspect_ratio_policy", "stretch")
    given.text("coordinate_transformation_mode", "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    given.any("nearest_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value")
    if given.whole("antialias", 0) or given.has(2) == given.has(3):
        raise ValueError("is a kind of resizing that callus does not know")
    if given.has(3):
        sizes = _sizes(given.values(3))
    else:
        scales = given.values(2)
        if not all(0 < scale <= MOST_KERNEL for scale in scales):
            raise ValueError(f"has scales of {scales}"[:80])
        sizes = tuple(int(side * scale) for side, scale in zip(shape, scales, strict=True))
    return [Tensor(sizes)]


def reduce(given: Given) -> list[Tensor]:
    """One number along some sides."""
    shape = given.tensor(0).shape
    axes = given.axes("axes", 1, len(shape))
    nothing = given.whole("noop_with_empty_axes", 0) != 0
    if not axes:
        axes = [] if nothing else list(range(len(shape)))
    if given.whole("keepdims", 1):
        return [Tensor(tuple(1 if place in axes else side for place, side in enumerate(shape)))]
    return [Tensor(tuple(side for place, side in enumerate(shape) if place not in axes))]


def matmul(given: Given) -> list[Tensor]:
    """Products of matrices."""
    left, right = given.tensor(0).shape, given.tensor(1).shape
    if min(len(left), len(right)) < 2 or left[-1] != right[-2]:  # noqa: PLR2004 - matrices
        raise ValueError(f"multiplies {left} by {right}")
    return [Tensor((*broadcast(left[:-2], right[:-2]), left[-2], right[-1]))]


def gemm(given: Given) -> list[Tensor]:
    """A product of two matrices, turned perhaps, and a sum."""
    left, right = given.tensor(0).shape, given.tensor(1).shape
    given.any("alpha", "beta")
    left = left[::-1] if given.whole("transA", 0) else left
    right = right[::-1] if given.whole("transB", 0) else right
    if len(left) != 2 or len(right) != 2 or left[1] != right[0]:  # noqa: PLR2004 - matrices
        raise ValueError(f"multiplies {left} by {right}")
    shape = (left[0], right[1])
    if given.has(2) and broadcast(shape, given.tensor(2).shape) != shape:
        raise ValueError(f"adds {given.tensor(2).shape} to {shape}")
    return [Tensor(shape)]


def squeeze(given: Given) -> list[Tensor]:
    """Without sides of 1."""
    first = given.tensor(0)
    axes = given.axes("axes", 1, len(first.shape))
    if axes is None:
        axes = [place for place, side in enumerate(first.shape) if side == 1]
    if any(first.shape[place] != 1 for place in axes):
        raise ValueError(f"takes the sides {axes} off {first.shape}")
    return [Tensor(tuple(side for place, side in enumerate(first.shape) if place not in axes), first.values)]


def unsqueeze(given: Given) -> list[Tensor]:
    """With more sides of 1."""
    first = given.tensor(0)
    count = len(given.values(1))
    places: set[int] = set(given.axes("", 1, len(first.shape) + count) or ())
    if len(places) != count:
        raise ValueError("names an axis twice")
    sides = iter(first.shape)
    shape = tuple(1 if place in places else next(sides) for place in range(len(first.shape) + count))
    return [Tensor(shape, first.values)]


def reshape(given: Given) -> list[Tensor]:
    """The same numbers in other sides."""
    first, sizes = given.tensor(0), [int(one) for one in given.values(1)]
    if not given.whole("allowzero", 0):
        if any(size == 0 and place >= len(first.shape) for place, size in enumerate(sizes)):
            raise ValueError("keeps a side that is not there")
        sizes = [first.shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    if sizes.count(-1) == 1:
        known = -math.prod(sizes)
        sizes = [first.count // known if size == -1 and known > 0 else size for size in sizes]
    if min(sizes, default=1) < 1 or math.prod(sizes) != first.count:
        raise ValueError(f"makes {first.shape} into {tuple(sizes)}"[:100])
    return [Tensor(tuple(sizes), first.values)]


def flatten(given: Given) -> list[Tensor]:
    """As a matrix."""
    shape = given.tensor(0).shape
    place = given.whole("axis", 1)
    place = len(shape) if place == len(shape) else axis(place, len(shape))
    return [Tensor((math.prod(shape[:place]), math.prod(shape[place:])))]


def transpose(given: Given) -> list[Tensor]:
    """With its sides in another order."""
    shape = given.tensor(0).shape
    order = given.whole_list("perm", list(range(len(shape)))[::-1])
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"orders {len(shape)} sides by {order}"[:100])
    return [Tensor(tuple(shape[place] for place in order))]


def concat(given: Given) -> list[Tensor]:
    """One behind the other."""
    parts = [given.tensor(index) for index in range(len(given.inputs))]
    place = axis(given.whole("axis", len(parts[0].shape)), len(parts[0].shape))
    if (
        len({one.shape[:place] + one.shape[place + 1 :] for one in parts}) != 1
        or len({len(p.shape) for p in parts}) != 1
    ):
        raise ValueError("joins tensors whose other sides differ")
    shape = list(parts[0].shape)
    shape[place] = sum(one.shape[place] for one in parts)
    values: tuple[float, ...] | None = None
    if len(shape) == 1 and shape[0] <= MOST_VALUES and all(one.values is not None for one in parts):
        values = tuple(value for one in parts for value in one.values or ())
    return [Tensor(tuple(shape), values)]


def gather(given: Given) -> list[Tensor]:
    """What some places hold."""
    data, indices = given.tensor(0), given.tensor(1)
    place = axis(given.whole("axis", 0), len(data.shape))
    values = None
    if data.values is not None and indices.values is not None and len(data.shape) == 1:
        values = tuple(data.values[axis(one, len(data.values))] for one in indices.values)
    return [Tensor(data.shape[:place] + indices.shape + data.shape[place + 1 :], values)]


def top_k(given: Given) -> list[Tensor]:
    """The largest, and their places."""
    shape = list(given.tensor(0).shape)
    given.any("largest", "sorted")
    place, (count,) = axis(given.whole("axis", -1), len(shape)), given.values(1)
    if not 1 <= count <= shape[place]:
        raise ValueError(f"takes {count:g} of {shape[place]}")
    shape[place] = int(count)
    return [Tensor(tuple(shape)), Tensor(tuple(shape), each=8)]


def shape(given: Given) -> list[Tensor]:
    """The sizes themselves."""
    sides = given.tensor(0).shape
    values = sides[given.whole("start", 0) : given.whole("end", MOST_SIDES + 1)]
    return [Tensor((len(values),), tuple(values))]


def constant(given: Given) -> list[Tensor]:
    """Numbers that the step holds."""
    value = given.only()
    if isinstance(value, Weights):
        return [weight(value)]
    if isinstance(value, (int, float)):
        return [Tensor((), (value,))]
    if isinstance(value, list) and len(value) <= MOST_VALUES:
        return [Tensor((len(value),), tuple(value))]
    raise ValueError("is no constant that callus knows")


def _sizes(values: Sequence[float]) -> tuple[int, ...]:
    if len(values) > MOST_SIDES or not all(value >= 1 for value in values):
        raise ValueError(f"has sizes of {values}"[:80])
    return tuple(int(value) for value in values)
