"""Where batches come from: pictures that are read and varied afresh, or trunk features from the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import torch

from callus.progress import progress
from callus.training.examples import PLAIN, Batch, Examples, ahead

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import Tensor

    from callus.model.network import FractureNet
    from callus.training.trunk_cache import TrunkCache

FIRST_VIEW = 1_000_000
"""Of pictures that are varied afresh: an epoch's views are counted from here, behind those of the trunk cache."""

Plain = Iterator[tuple["NDArray[np.int64]", tuple["Tensor", ...]]]


class Source(Protocol):
    """Batches of one split."""

    examples: Examples
    cached: bool
    """Whether inputs are what the head collects; else they are pictures for the trunk."""

    def batches(self, order: NDArray[np.int64], epoch: int, *, rank: int, world: int) -> Iterator[Batch]:
        """This process' share of each batch of an epoch, varied."""

    def plain(self, parts: Sequence[NDArray[np.int64]]) -> Plain:
        """The pictures of each part, not varied, with their positions."""


def shares(order: NDArray[np.int64], batch: int, rank: int, world: int) -> Iterator[tuple[NDArray[np.int64], float]]:
    """Cut an epoch into batches and each batch into the processes' shares.

    Yields:
        The positions that process ``rank`` of ``world`` has of each batch, and the weight of its mean loss: with
        it, the mean of the processes' gradients is the gradient of the whole batch's mean loss.
    """
    for start in range(0, len(order), batch):
        whole = order[start : start + batch]
        if len(whole) < world:
            return  # a last crumb that not every process has a part of
        mine = whole[rank::world]
        yield mine, len(mine) * world / len(whole)


class Pictures:
    """Pictures read and varied afresh in every epoch."""

    cached = False

    def __init__(self, examples: Examples, batch: int, threads: int) -> None:
        self.examples = examples
        self.batch = batch
        self.threads = threads

    def batches(self, order: NDArray[np.int64], epoch: int, *, rank: int, world: int) -> Iterator[Batch]:
        """See :class:`Source`."""
        view = FIRST_VIEW + epoch

        def make(job: tuple[NDArray[np.int64], float]) -> Batch:
            mine, share = job
            views = [view] * len(mine)
            inputs = self.examples.pictures(mine, views)
            return Batch((inputs,), *self.examples.targets(mine, views), share=share)

        return ahead(shares(order, self.batch, rank, world), make, self.threads)

    def plain(self, parts: Sequence[NDArray[np.int64]]) -> Plain:
        """See :class:`Source`."""

        def make(part: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[Tensor, ...]]:
            return part, (self.examples.pictures(part, [PLAIN] * len(part)),)

        return ahead(parts, make, self.threads)


class CachedFeatures:
    """Trunk features of K views of each picture, from the cache."""

    cached = True

    def __init__(self, examples: Examples, cache: TrunkCache, views: int, batch: int, threads: int) -> None:
        self.examples = examples
        self.cache = cache
        self.views = views
        self.batch = batch
        self.threads = threads

    def batches(self, order: NDArray[np.int64], epoch: int, *, rank: int, world: int) -> Iterator[Batch]:
        """See :class:`Source`; a picture's view changes from epoch to epoch, and not for all pictures at once."""

        def make(job: tuple[NDArray[np.int64], float]) -> Batch:
            mine, share = job
            views = [(epoch + int(index)) % self.views for index in mine]
            inputs = self.cache.read([(self.examples.sha256[i], view) for i, view in zip(mine, views, strict=True)])
            return Batch(inputs, *self.examples.targets(mine, views), share=share)

        return ahead(shares(order, self.batch, rank, world), make, self.threads)

    def plain(self, parts: Sequence[NDArray[np.int64]]) -> Plain:
        """See :class:`Source`."""

        def make(part: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[Tensor, ...]]:
            return part, self.cache.read([(self.examples.sha256[i], PLAIN) for i in part])

        return ahead(parts, make, self.threads)


def fill_cache(
    fabric: Fabric,
    network: FractureNet,
    cache: TrunkCache,
    wanted: Sequence[tuple[Examples, Sequence[int]]],
    batch: int,
    threads: int,
) -> int:
    """Run the frozen trunk over every view that the cache does not have yet.

    Args:
        fabric: gives the processes and the device; each process does its share.
        network: its trunk is run in evaluation mode.
        cache: where records go.
        wanted: examples, and which of their views are needed.
        batch: pictures a pass.
        threads: that read and vary pictures ahead of the trunk.

    Returns:
        How many views were computed, over all processes.
    """
    needed = {
        (examples.sha256[index], view): (examples, index)
        for examples, views in wanted
        for view in views
        for index in range(len(examples))
    }
    missing = cache.missing(needed)
    mine = missing[fabric.global_rank :: fabric.world_size]
    jobs = [mine[start : start + batch] for start in range(0, len(mine), batch)]

    def pictures(keys: list[tuple[str, int]]) -> tuple[list[tuple[str, int]], Tensor]:
        grey = []
        for key in keys:
            examples, index = needed[key]
            grey.append(examples.pictures([index], [key[1]]))
        return keys, torch.cat(grey)

    network.trunk.eval()
    with torch.inference_mode(), progress("trunk features", math.ceil(len(mine))) as advance:
        for keys, batch_of in ahead(jobs, pictures, threads):
            inputs = batch_of.to(fabric.device, memory_format=torch.channels_last)
            with fabric.autocast():
                scales = network.trunk(inputs)
            cache.append(keys, network.head.collect(scales))
            advance(len(keys))
    fabric.barrier()
    cache.refresh()
    return len(missing)
