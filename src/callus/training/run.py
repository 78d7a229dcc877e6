"""One training from data to bundle: what ``callus train`` does."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric

from callus import dataset
from callus.atomic import whole_file
from callus.bundle import PICTURE_DIGITS
from callus.cache import cache_folder
from callus.dataset.manifest import digest, read_manifest, write_manifest
from callus.dataset.split import crossing_groups, leak_summary, splittable
from callus.errors import TrainingError
from callus.memory import keep_freed_memory
from callus.model import imagenet
from callus.model.network import FractureNet, build_network
from callus.training import recipe as recipes
from callus.training import trunk_cache
from callus.training.batches import CachedFeatures, Pictures, fill_cache
from callus.training.denormals import flushed_denormals
from callus.training.examples import PLAIN, Examples
from callus.training.export import export_bundle, summary
from callus.training.intake import take_in
from callus.training.loop import Phase, fit
from callus.training.on_device import DevicePictures, fits
from callus.training.rounding import round_weights
from callus.training.run_folder import RunFolder
from callus.training.weights import restate, set_layout, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    from torch import Tensor

    from callus.training.batches import Source
    from callus.training.recipe import Recipe

GIGABYTE = 1_000_000_000
_CACHE_BATCH = 16
_SETTLE = 64
"""Pictures that give a trunk's batch norm its first statistics of radiographs, spread over the training set."""
_ENOUGH_OUTLINED = 0.5
"""Share of the fractured pictures that have to have an outline before the others are left out for the sake of crops."""


@dataclass(frozen=True)
class Options:
    """How a training runs, which does not change what it comes to (but for rounding).

    Attributes:
        devices: processes (CPU) or GPUs on each machine.
        nodes: machines.
        accelerator: "auto", "cpu" or "cuda".
        precision: of lightning.fabric: "32-true", "64-true", "bf16-mixed", "16-mixed".
        cache: where trunk features are kept; None for ``$CALLUS_CACHE`` or the system's place for caches.
        cache_limit: how many bytes of trunk features may lie on the disk.
        threads: that read pictures.
    """

    devices: int = 1
    nodes: int = 1
    accelerator: str = "auto"
    precision: str = "32-true"
    cache: Path | None = None
    cache_limit: int = 20 * GIGABYTE
    threads: int = 0


@flushed_denormals()
def train(
    data: Path | pd.DataFrame,
    recipe: str | Path | Recipe,
    out: Path,
    *,
    trunk: str | None = None,
    weights: str | None = None,
    overrides: Mapping[str, object] | None = None,
    fold: tuple[int, int] | None = None,
    allow_leaks: bool = False,
    resume: bool = False,
    options: Options | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Train a network and write its bundle.

    Args:
        data: a folder of radiographs, a manifest's file, or a manifest.
        recipe: a recipe's name, its file, or the recipe.
        out: the run folder to make.
        trunk: instead of the recipe's.
        weights: instead of the recipe's: "imagenet", "none", or a file in Keras' layout.
        overrides: other values of the recipe, by ``section.key``.
        fold: (k, n) tests on fold k of n instead of one split.
        allow_leaks: go on where groups cross the split that the data bring; the run folder, the bundle and its model
            card then say so.
        resume: go on with the run that ``out`` holds; its own recipe and manifest are used.
        options: how it runs.
        say: takes lines for people; None says nothing.

    Returns:
        ``out``, which ends with ``bundle/``.

    Raises:
        RecipeError, DatasetError, WeightsError, TrainingError: as their names say.
    """
    keep_freed_memory()
    options = options or Options()
    threads = options.threads or len(os.sched_getaffinity(0))
    run = RunFolder(Path(out))
    fabric = Fabric(
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.nodes,
        precision=options.precision,  # type: ignore[arg-type]
        strategy="ddp" if options.devices * options.nodes > 1 else "auto",
    )

    def tell(line: str) -> None:
        if say is not None and fabric.is_global_zero:
            say(line)

    # Before other processes are started: what is refused here is then said once, and nobody waits for it.
    if fabric.is_global_zero and not (resume and run.manifest.exists()):
        chosen = _resolved(recipe, trunk, weights, overrides or {})
        run.check_free(resume=resume)
        if chosen.trunk.weights != "imagenet":  # a file that is not there is said before the data are read
            imagenet.resolve(chosen.trunk.name, chosen.trunk.weights)
        taken = take_in(data, chosen, fold=fold, threads=threads, allow_leaks=allow_leaks)
        weights_file = imagenet.resolve(chosen.trunk.name, chosen.trunk.weights)
        run.begin(
            {"fold": fold, "allow_leaks": allow_leaks, **{key: str(value) for key, value in vars(options).items()}}
        )
        for line in taken.lines:
            tell(line)
        chosen = _fitted(chosen, taken.frame, weights_file)
        with whole_file(run.recipe, "w") as file:
            file.write(chosen.to_toml())
        run.write_leaks(taken.leaks)
        write_manifest(taken.frame, run.manifest)
    fabric.launch()
    try:
        fabric.barrier()
        _train(fabric, run, options, threads, tell)
    except RuntimeError as error:
        if fabric.is_global_zero or "Connection closed by peer" not in str(error):
            raise
        raise TrainingError("this process stops because the first one did, which says why") from error
    return run.path


def _train(fabric: Fabric, run: RunFolder, options: Options, threads: int, tell: Callable[[str], None]) -> None:
    """Train from the recipe and the manifest that the run folder holds to its bundle, as one of all processes."""
    chosen = recipes.load(run.recipe)
    frame = read_manifest(run.manifest)
    if run.bundle.exists():
        tell(f"{run.path} is finished; its bundle is {run.bundle}")
        return

    network = initial_network(chosen).to(fabric.device)
    set_layout(network, torch.channels_last)  # faster convolutions on CPUs and GPUs alike
    rows = dataset.usable(frame)
    learnt_from = rows[rows["split"] == "train"]
    training = Examples(learnt_from, chosen)
    tuned_from = training
    if chosen.tuning.crop:  # whether a crop shows the fracture can only be told of those that are outlined
        tuned_from = Examples(
            learnt_from[(learnt_from["label"] == 0) | _outlined(learnt_from)], chosen, chosen.tuning.crop
        )
    validation = Examples(rows[rows["split"] == "val"], chosen)
    spread = np.unique(np.linspace(0, len(training) - 1, _SETTLE).astype(np.int64))
    some = np.array_split(spread, _SETTLE // _CACHE_BATCH)
    seen_first = (training.pictures(part, [0] * len(part)).to(fabric.device) for part in some if len(part) > 1)
    if network.fresh_trunk:
        settle(network, seen_first)
    phases, cache, views = _phases(fabric, network, chosen, training, tuned_from, validation, options, threads, tell)
    if network.learns_statistics and not network.fresh_trunk:
        # Behind the cache, which is found by the trunk's weights: these are no others, and yet of this split.
        restate(network, seen_first, max(chosen.tuning.stages, chosen.whole.stages))
    if fabric.is_global_zero and views != chosen.frozen.cache_views:
        # The recipe says what was done, and a resumed run does the same under another limit.
        with whole_file(run.recipe, "w") as file:
            file.write(replace(chosen, frozen=replace(chosen.frozen, cache_views=views)).to_toml())
    with nullcontext() if cache is None else closing(cache):
        fit(fabric, network, phases, chosen, run, tell)
    if fabric.is_global_zero:
        plain = Pictures(validation, chosen.optimisation.batch, threads)
        seen = Pictures(training, chosen.optimisation.batch, threads)
        name = run.path.name or "run"
        told = origin(chosen, frame)
        listed = pictures(frame)
        bundle = export_bundle(network, plain, chosen, told, run.bundle, name, seen=seen, pictures=listed)
        for line in summary(bundle.info):
            tell(line)
        tell(f"bundle: {run.bundle}")
    fabric.barrier()


def _resolved(
    recipe: str | Path | Recipe, trunk: str | None, weights: str | None, overrides: Mapping[str, object]
) -> Recipe:
    chosen = recipe if isinstance(recipe, recipes.Recipe) else recipes.load(recipe)
    changes = dict(overrides)
    if trunk is not None:
        changes["trunk.name"] = trunk
    if weights is not None:
        changes["trunk.weights"] = weights
    return recipes.override(chosen, changes)


def _fitted(chosen: Recipe, frame: pd.DataFrame, weights_file: Path | None) -> Recipe:
    """The recipe as this data set lets it be: no location and no crops where nothing tells where fractures are."""
    rows = dataset.usable(frame)
    fractured = rows[(rows["split"] == "train") & (rows["label"] == 1)]
    located = _outlined(fractured)
    if chosen.head.location and (chosen.head.kind == "pooled" or not located.any()):
        chosen = replace(chosen, head=replace(chosen.head, location=False))
    smaller = chosen.tuning.crop < min(chosen.input.height, chosen.input.width)
    if chosen.tuning.crop and (not smaller or located.mean() < _ENOUGH_OUTLINED):
        chosen = replace(chosen, tuning=replace(chosen.tuning, crop=0))
    where = "none" if weights_file is None else str(weights_file.resolve())
    return replace(chosen, trunk=replace(chosen.trunk, weights=where))


def _outlined(rows: pd.DataFrame) -> pd.Series[bool]:
    """Which rows have a fracture's outline."""
    return (rows["boxes"].str.len() > 0) | (rows["polygons"].str.len() > 0)


def initial_network(chosen: Recipe) -> FractureNet:
    """The network as it begins: the trunk from its weights file, the rest drawn from the recipe's seed."""
    torch.manual_seed(chosen.seed)
    network = build_network(
        chosen.trunk.name,
        head=chosen.head.kind,
        width=chosen.head.width,
        dense=chosen.head.dense,
        dropout=chosen.head.dropout,
        location=chosen.head.location,
        location_gain=chosen.head.location_gain,
        location_stride=chosen.head.location_stride,
    )
    if chosen.trunk.weights != "none":
        path = Path(chosen.trunk.weights)
        if not path.is_file():
            raise TrainingError("the trunk's weights are not there any more", where=path, hint="put them back")
        imagenet.load_weights(network.trunk, path)
        network.fresh_trunk = False
        network.learns_statistics = chosen.trunk.batch_norm == "learnt"
    if chosen.optimisation.int8_weights:  # for good where they are frozen
        round_weights(network)
    return network


def _phases(
    fabric: Fabric,
    network: FractureNet,
    chosen: Recipe,
    training: Examples,
    tuned_from: Examples,
    validation: Examples,
    options: Options,
    threads: int,
    tell: Callable[[str], None],
) -> tuple[list[Phase], trunk_cache.TrunkCache | None, int]:
    """The recipe's phases, the trunk cache (filled) where the frozen phase wants one, and the views that it holds."""
    batch = chosen.optimisation.batch
    there: dict[str, Tensor] = {}
    roomy = fabric.device.type == "cuda" and fits(training, fabric.device)

    def varied_afresh(examples: Examples) -> Source:
        if roomy:
            return DevicePictures(examples, batch, threads, fabric.device, there)
        return Pictures(examples, batch, threads)

    fresh = varied_afresh(training), Pictures(validation, batch, threads)
    phases, cache, views = [], None, chosen.frozen.cache_views
    if chosen.frozen.epochs and chosen.frozen.cache_views:
        cache, views = _open_cache(fabric, network, chosen, training, validation, options, tell)
        wanted = [(training, range(views)), (validation, [PLAIN])]
        fill_cache(fabric, network, cache, wanted, _CACHE_BATCH, threads)
        sources = tuple(CachedFeatures(part, cache, views, batch, threads) for part in (training, validation))
        phases.append(Phase("frozen", chosen.frozen.epochs, 0, chosen.frozen.rate, 0.0, *sources))
    elif chosen.frozen.epochs:
        phases.append(Phase("frozen", chosen.frozen.epochs, 0, chosen.frozen.rate, 0.0, *fresh))
    if chosen.tuning.epochs:
        tuning = chosen.tuning
        crops = varied_afresh(tuned_from)
        phases.append(Phase("tuning", tuning.epochs, tuning.stages, tuning.rate, tuning.trunk_rate, crops, fresh[1]))
    if chosen.whole.epochs:
        whole = chosen.whole
        phases.append(Phase("whole", whole.epochs, whole.stages, whole.rate, whole.trunk_rate, *fresh))
    return phases, cache, views


def _open_cache(
    fabric: Fabric,
    network: FractureNet,
    chosen: Recipe,
    training: Examples,
    validation: Examples,
    options: Options,
    tell: Callable[[str], None],
) -> tuple[trunk_cache.TrunkCache, int]:
    """The trunk cache of this recipe, and how many views of each picture the limit lets it hold."""
    root = (options.cache or cache_folder()) / "features"
    network.trunk.eval()
    with torch.inference_mode():
        blank = torch.zeros(1, 3, chosen.input.height, chosen.input.width, device=fabric.device)
        shapes = [tuple(part.shape[1:]) for part in network.head.collect(network.trunk(blank))]
    key = trunk_cache.cache_key(network.trunk, chosen)
    cache = trunk_cache.TrunkCache(root, key, shapes)
    views = trunk_cache.affordable_views(
        chosen.frozen.cache_views, len(training), len(validation), cache.record_bytes, options.cache_limit
    )
    need = (views * len(training) + len(validation)) * cache.record_bytes
    fewer = "" if views == chosen.frozen.cache_views else f" ({chosen.frozen.cache_views} do not fit in --cache-limit)"
    tell(f"trunk features: {views} views of each picture{fewer}, {need / GIGABYTE:.2f} GB in {cache.folder}")
    if fabric.is_global_zero:
        trunk_cache.clear_others(root, key, need, options.cache_limit)
    fabric.barrier()
    return cache, views


def pictures(frame: pd.DataFrame) -> bytes:
    """The bundle's ``pictures.csv``: which files stood in which split, by the beginning of their SHA-256."""
    rows = dataset.usable(frame)
    rows = rows[(rows["split"] != "") & (rows["sha256"] != "")].sort_values("sha256")
    lines = [f"{sha256[:PICTURE_DIGITS]},{split}" for sha256, split in zip(rows["sha256"], rows["split"], strict=True)]
    return "\n".join(["sha256,split", *lines, ""]).encode()


def origin(chosen: Recipe, frame: pd.DataFrame) -> dict[str, Any]:
    """What the bundle says of its training."""
    rows = dataset.usable(frame)
    rows = rows[rows["split"] == "train"]
    weights = chosen.trunk.weights
    if weights != "none":
        path = Path(weights)
        # A bundle is passed on: where the file lies on this machine is nobody's business.
        chosen = replace(chosen, trunk=replace(chosen.trunk, weights=path.name))
        weights = f"ImageNet, {path.name}, SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return {
        "trunk": chosen.trunk.name,
        "weights": weights,
        "recipe": chosen.to_toml(),
        "manifest_sha256": digest(frame),
        "files": len(rows),
        "radiographs": int(rows["radiograph"].nunique()),
        "groups": int(rows["group"].nunique()),
        "splits": {name: int(count) for name, count in dataset.usable(frame)["split"].value_counts().items() if name},
        "leaks": leak_summary(crossing_groups(splittable(frame))),
    }
