"""A run's bundle once more: with other validation pictures, without int8, or of several runs that are averaged."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callus import dataset
from callus.bundle import Bundle, pack
from callus.bundle.engine import usable_cores
from callus.bundle.format import ENDING
from callus.dataset.manifest import digest, few, read_manifest
from callus.errors import BundleError, TrainingError
from callus.model.averaged import AveragedNet
from callus.training import recipe as recipes
from callus.training import weights
from callus.training.batches import Pictures
from callus.training.denormals import flushed_denormals
from callus.training.examples import Examples
from callus.training.export import export_bundle, summary
from callus.training.run import initial_network, origin
from callus.training.run import pictures as pictures_of
from callus.training.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from callus.model.network import FractureNet
    from callus.training.recipe import Recipe

_BATCH = 8
_STANDS_FOR_ALL = 0.5
"""Share of the training pictures that have to be there: what is left of a folder may be all of one kind."""


@flushed_denormals()
def export_runs(
    run_paths: Sequence[Path],
    out: Path,
    *,
    data: Path | None = None,
    int8: bool | None = None,
    name: str | None = None,
    card: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Write the bundle of a run that has ended, or of several whose networks are averaged.

    Args:
        run_paths: the run folders; they stay as they are, unless ``out`` is one's own bundle. Several have to be of one
            manifest with the same splits. The one with the largest input comes first: its recipe says what is averaged
            over views and how logits are calibrated.
        out: the bundle's folder, or a file that ends with ``.callus``. A bundle that stands there is replaced, where
            the folder holds nothing else.
        data: other validation pictures than the run's: a folder or a manifest. Its split ``val`` is taken, or all of it
            where it has no split.
        int8: whether int8 is wanted; None for what the run's recipe says.
        name: of the model; None for the first run folder's.
        card: a Markdown file that the model card is to end with; None for none.
        say: takes lines for people; None says nothing.

    Returns:
        ``out``.

    Raises:
        TrainingError: a run has not ended, its trunk's weights or pictures are gone, the pictures are of one class,
            or the run trained or is tested on some of them; or ``out`` is something else than a bundle; or the runs do
            not fit together.
        RecipeError, DatasetError, CallusError: a file of the run or ``data`` cannot be read, ``out`` cannot be written.
    """
    _check_free(out)
    about = "" if card is None else _read_card(card)
    runs = [RunFolder(path) for path in run_paths]
    for run in runs:
        _check_ended(run)
    followed = {run.path: recipes.load(run.recipe) for run in runs}
    runs.sort(key=lambda run: -followed[run.path].input.height * followed[run.path].input.width)
    recipe, *others = (followed[run.path] for run in runs)
    frame = read_manifest(runs[0].manifest)
    rows = _validation(frame, data)
    _check_together(runs, [recipe, *others], frame)
    members = [_network(run, one) for run, one in zip(runs, [recipe, *others], strict=True)]
    sizes = [(one.input.height, one.input.width) for one in (recipe, *others)]
    network = AveragedNet(members, sizes) if others else members[0]
    threads = usable_cores()
    pictures = Pictures(Examples(rows, recipe), _BATCH, threads)
    learnt_from = _at_hand(frame)
    seen = None if learnt_from.empty else Pictures(Examples(learnt_from, recipe), _BATCH, threads)
    called = name or runs[0].path.resolve().name or "run"
    packed = out.suffix == ENDING
    with tempfile.TemporaryDirectory(prefix="callus-export-") as scratch:
        folder = Path(scratch) / "bundle" if packed else out
        bundle = export_bundle(
            network,
            pictures,
            recipe,
            _origin([recipe, *others], frame),
            folder,
            called,
            int8=int8,
            seen=seen,
            about=about,
            pictures=pictures_of(frame),
            others=others,
        )
        if packed:
            pack(folder, out)
    for line in (*summary(bundle.info), f"bundle: {out}"):
        if say is not None:
            say(line)
    return out


def _network(run: RunFolder, recipe: Recipe) -> FractureNet:
    """A run's network with the weights that it kept."""
    network = initial_network(recipe)
    weights.put(network, run.read_best())
    return network


def _origin(followed: Sequence[Recipe], frame: pd.DataFrame) -> dict[str, Any]:
    """What the bundle says of its training; of several networks what the first says, and the recipe of each."""
    told = [origin(recipe, frame) for recipe in followed]
    if len(told) == 1:
        return told[0]
    members = [{key: one[key] for key in ("trunk", "weights", "recipe")} for one in told]
    return {**told[0], "members": members}


def _check_together(runs: Sequence[RunFolder], followed: Sequence[Recipe], frame: pd.DataFrame) -> None:
    """Networks are averaged that learnt from the same files, so that none was taught what another is judged by."""
    first, chosen = followed[0].input, digest(frame)
    for run, recipe in zip(runs[1:], followed[1:], strict=True):
        own, head = recipe.input, recipe.head
        if digest(read_manifest(run.manifest)) != chosen:
            problem = "another manifest, or other splits"
        elif (own.fit, own.low, own.high, own.height * first.width) != (
            first.fit, first.low, first.high, own.width * first.height
        ):  # fmt: skip
            problem = "an input of another aspect, fit or range"
        elif (head.kind, head.location) != (followed[0].head.kind, followed[0].head.location):
            problem = "a map of another kind"
        else:
            continue
        raise TrainingError(f"it has {problem} than {runs[0].path}: the two cannot be averaged", where=run.path)


def _read_card(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise TrainingError(f"cannot be read: {error}", where=path, hint="give a Markdown file") from error


def _check_ended(run: RunFolder) -> None:
    if not run.recipe.exists():
        raise TrainingError("is no run folder: it holds no recipe.toml", where=run.path)
    if not run.best.exists() or not run.read_state()[0].finished:
        raise TrainingError("this training has not ended", where=run.path, hint="go on with callus train --resume")


def _check_free(out: Path) -> None:
    """Replace a bundle, and nothing else."""
    if out.suffix == ENDING:
        if out.is_dir():
            raise TrainingError("is a folder; expected a file to write", where=out, hint="name another --out")
        return
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        # A file called bundle.json makes no bundle of a folder; one that loads holds what it lists, and nothing else.
        whole = Bundle.load(out.absolute()).where == out.absolute()
        reason = "holds more than a bundle"
    except BundleError as error:
        whole, reason = False, f"is there and no bundle: {error.what}"
    if not whole:
        raise TrainingError(reason, where=out, hint="name a new --out, or one that ends with .callus")


def _validation(frame: pd.DataFrame, data: Path | None) -> pd.DataFrame:
    """The pictures to measure on: the run's validation split, or what was given instead of it."""
    rows = dataset.usable(frame)
    if data is None:
        chosen = rows[rows["split"] == "val"]
        hint = "give them, wherever they are now, with --data"
    else:
        given = dataset.usable(dataset.load(data))
        chosen = given[given["split"] == "val"] if (given["split"] == "val").any() else given
        hint = "mend the manifest"
        _check_unseen(rows, chosen, data)
    if chosen["label"].nunique() < 2:  # noqa: PLR2004 - the two classes
        raise TrainingError(
            f"there are {len(chosen)} validation pictures of {chosen['label'].nunique()} class(es); both are needed",
            where=data,
        )
    gone = [str(path) for path in chosen["path"] if not Path(path).exists()]
    if gone:
        names = few([Path(path).name for path in gone], 3)
        raise TrainingError(f"{len(gone)} of {len(chosen)} validation pictures are not there: {names}", hint=hint)
    return chosen


def _at_hand(frame: pd.DataFrame) -> pd.DataFrame:
    """The training pictures, or none where too few of them are still there to stand for all."""
    rows = dataset.usable(frame)
    rows = rows[rows["split"] == "train"]
    there = rows[[Path(path).exists() for path in rows["path"]]]
    return there if len(there) >= _STANDS_FOR_ALL * len(rows) else there.head(0)


def _check_unseen(rows: pd.DataFrame, chosen: pd.DataFrame, data: Path) -> None:
    """Thresholds fitted on what was learnt from are too bold; on what is tested on, the test is none."""
    other = set(rows.loc[rows["split"] != "val", "sha256"]) - {""}
    seen = chosen[chosen["sha256"].isin(other)]
    if len(seen):
        names = few([Path(path).name for path in seen["path"]], 3)
        raise TrainingError(
            f"{len(seen)} of {len(chosen)} pictures are in the run's training or test split: {names}",
            where=data,
            hint="give only its validation pictures, or new ones",
        )
