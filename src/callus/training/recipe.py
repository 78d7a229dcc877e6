"""A recipe: every choice of a training, in one TOML file, each with its reason beside it.

An unknown key or a value of the wrong kind is an error, so that a typo never trains for an hour.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from callus.errors import CallusError, RecipeError
from callus.preprocess import InputSpec

_SMALLEST_CROP = 64
"""Two cells of the trunks' coarsest stride: batch norm over single cells has nothing to go by."""


@dataclass(frozen=True)
class TrunkChoice:
    """Which ImageNet trunk, and where its weights come from."""

    name: Literal["resnet50v2", "resnet101v2", "resnet152v2", "mobilenet_v2", "small"] = "resnet152v2"
    weights: str = "imagenet"  # "imagenet" (fetched once from Keras' address), "none", or a file in Keras' layout
    batch_norm: Literal["kept", "learnt"] = "kept"  # of stages that learn: ImageNet's statistics, or each batch's


@dataclass(frozen=True)
class HeadChoice:
    """What stands on the trunk."""

    kind: Literal["pooled", "hierarchical"] = "hierarchical"  # "pooled": average pool and dense layers, nothing else
    width: int = 64  # channels of the fused maps and of the residual blocks; "pooled" has none
    dense: tuple[int, ...] = (256, 128)  # units of the dense layers
    dropout: float = 0.5  # behind each dense layer
    location_gain: float = 0.0  # how loudly the location's highest cells speak in the image's logit at first
    location_stride: int = 16  # input pixels that such a place has on a side: 16, or 8
    location: bool = True  # a logit for each place, supervised by masks or boxes where there are any


@dataclass(frozen=True)
class Augmentation:
    """How training pictures are varied. Geometry is uniform in plus or minus the value."""

    rotation: float = 0.0  # degrees
    shift: float = 0.0  # share of the input's height and width
    shear: float = 0.0  # degrees
    zoom: float = 0.0  # 0.1: each axis between 0.9 and 1.1 times
    enlarge: float = 0.0  # 1.0: on top of zoom, every second picture between 1 and 2 times
    keep_aspect: bool = True  # zoom both axes alike; false draws one factor for each, as Keras' generator does
    flip: bool = False  # mirror left and right, every second time
    fill: Literal["black", "nearest"] = "black"  # what stands where the turned picture does not reach
    contrast: float = 0.0  # factor between 1 - c and 1 + c about mid grey
    brightness: float = 0.0  # added, as a share of the grey range
    gamma: float = 0.0  # exponent between 1 / (1 + g) and 1 + g
    noise: float = 0.0  # largest standard deviation of added noise, as a share of the grey range
    tone: float = 0.0  # bends the grey scale: four parts of it grow or shrink by up to e to the t
    sharpness: float = 0.0  # every second picture is blurred by up to so many pixels, or sharpened as much
    marks: float = 0.0  # how often letters and arrows as radiographers and readers set them are drawn in
    border: float = 0.0  # how often the sides are cut off, as by a collimator or a crop
    inversion: float = 0.0  # how often black and white change places


@dataclass(frozen=True)
class FrozenPhase:
    """The first phase: only the head learns; the trunk is what ImageNet made it."""

    epochs: int = 8  # 0 leaves this phase out
    rate: float = 1e-3  # the highest learning rate
    cache_views: int = 4  # K views of each picture whose trunk features are computed once; 0: fresh in every epoch


@dataclass(frozen=True)
class TuningPhase:
    """The second phase: the trunk's last stages learn too, from fresh views."""

    epochs: int = 0  # 0 leaves this phase out
    rate: float = 3e-4  # of the head
    trunk_rate: float = 3e-5  # of the unfrozen stages
    stages: int = 1  # how many of the trunk's last stages are unfrozen
    crop: int = 0  # side in pixels of crops to learn from; 0, or more than the input: whole pictures


@dataclass(frozen=True)
class WholePhase:
    """The last phase: whole pictures as identification sees them, after crops have taught what a fracture looks like.

    A crop's pooled features are of a fifth of the picture, and its highest cells are the highest of fewer.
    """

    epochs: int = 0  # 0 leaves this phase out
    rate: float = 1e-4  # of the head
    trunk_rate: float = 3e-5  # of the unfrozen stages
    stages: int = 2  # how many of the trunk's last stages learn


@dataclass(frozen=True)
class Optimisation:
    """How the weights are moved."""

    batch: int = 32  # pictures a step, over all processes together
    weight_decay: float = 0.0  # decoupled (AdamW); 0 is plain Adam
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"  # cosine falls to 0 over each phase
    warmup: float = 0.05  # share of a phase in which cosine climbs from 0
    plateau_epochs: int = 3  # plateau: halve the rate after so many epochs without better validation accuracy
    balance: Literal["none", "sample"] = "none"  # "sample": an epoch is every fractured picture and as many others
    others: float = 1.0  # with "sample": how many unfractured pictures for each fractured one in an epoch
    ema: float = 0.0  # decay of the averaged weights that are validated and kept; 0 keeps the weights themselves
    label_smoothing: float = 0.0  # the label is moved so far towards 1/2
    location_weight: float = 1.0  # weight of the location loss beside the image's
    location_positive: float = 10.0  # weight of a cell on a fracture beside one that is not
    location_target: Literal["touched", "covered"] = "touched"  # a cell counts whole, or as far as a fracture covers it
    pointing_weight: float = 0.0  # weight of how far fractured cells stand out among all others of the batch
    int8_weights: bool = False  # the last phase learns with weights rounded as the int8 network rounds them
    patience: int = 0  # stop a phase after so many epochs without better validation AUROC; 0 never stops early
    validate_every: int = 1  # epochs from one validation to the next; each phase's last is always validated
    keep: Literal["best", "last"] = "best"  # which epoch's weights go into the bundle; best by validation AUROC


@dataclass(frozen=True)
class CalibrationChoice:
    """How logits become probabilities, fitted on the validation split."""

    method: Literal["platt", "temperature", "isotonic"] = "platt"  # isotonic wants some 1,000 validation pictures


@dataclass(frozen=True)
class ExportChoice:
    """What the bundle holds beside the network in float32."""

    mirror: bool = False  # answers are averaged with those to the mirrored picture, which doubles their time
    int8: bool = True  # the network in int8 for OpenVINO too, where that costs hardly any AUROC on validation


@dataclass(frozen=True)
class Splitting:
    """How a manifest without a split is split, by group."""

    test: float = 0.2  # share of the files
    validation: float = 0.1  # share of the files


@dataclass(frozen=True)
class Recipe:
    """A whole recipe. See ``recipes/*.toml`` for the ones that ship."""

    about: str = ""  # one line for people
    seed: int = 0  # of everything that is drawn
    input: InputSpec = field(default_factory=InputSpec)
    trunk: TrunkChoice = field(default_factory=TrunkChoice)
    head: HeadChoice = field(default_factory=HeadChoice)
    augmentation: Augmentation = field(default_factory=Augmentation)
    frozen: FrozenPhase = field(default_factory=FrozenPhase)
    tuning: TuningPhase = field(default_factory=TuningPhase)
    whole: WholePhase = field(default_factory=WholePhase)
    optimisation: Optimisation = field(default_factory=Optimisation)
    calibration: CalibrationChoice = field(default_factory=CalibrationChoice)
    export: ExportChoice = field(default_factory=ExportChoice)
    splitting: Splitting = field(default_factory=Splitting)

    def to_toml(self) -> str:
        """The recipe as TOML that :func:`parse` reads back to an equal recipe."""
        values = dataclasses.asdict(self)
        lines = [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, dict)]
        for section, entries in values.items():
            if isinstance(entries, dict):
                lines += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in entries.items())]
        return "\n".join(lines) + "\n"


def load(name: str | Path) -> Recipe:
    """Read a recipe by its file, or by its name among those that ship ("callus", "seed", "demo").

    Raises:
        RecipeError: no such recipe, no TOML, an unknown key, or a value out of its range.
    """
    path = Path(name)
    if not path.is_file():
        path = shipped_folder() / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in shipped_folder().glob("*.toml")))
        raise RecipeError("no such recipe", where=name, hint=f"name a TOML file, or one of: {known}")
    return parse(path.read_text(encoding="utf-8"), where=path)


def parse(text: str, *, where: object = "recipe") -> Recipe:
    """Read a recipe from TOML; every problem in it is named at once.

    Raises:
        RecipeError: no TOML, an unknown key, or a value out of its range.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"is not TOML: {error}", where=where) from error
    problems: list[str] = []
    recipe: Recipe = _build(Recipe, values, "", problems)
    if not problems:
        problems = _out_of_range(recipe)
    if problems:
        raise RecipeError("; ".join(problems), where=where)
    return recipe


def override(recipe: Recipe, changes: dict[str, object]) -> Recipe:
    """A recipe with some values changed, named as ``section.key`` (or ``seed``).

    Raises:
        RecipeError: an unknown name, or a value out of its range.
    """
    values = dataclasses.asdict(recipe)
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        place = values.get(section) if section else values
        if not isinstance(place, dict) or key not in place:
            raise RecipeError(f"a recipe has no {name}", hint="see the recipe's file for the names")
        place[key] = value
    problems: list[str] = []
    changed: Recipe = _build(Recipe, values, "", problems)
    problems = problems or _out_of_range(changed)
    if problems:
        raise RecipeError("; ".join(problems))
    return changed


def shipped_folder() -> Path:
    """Where the recipes that ship lie: in the installed package, or in the checkout that it is installed from."""
    installed = Path(str(resources.files("callus"))) / "recipes"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "recipes"


def _build(kind: type[Any], values: dict[str, Any], prefix: str, problems: list[str]) -> Any:
    """Make the dataclass ``kind`` of ``values``; what does not fit goes to ``problems``."""
    hints = get_type_hints(kind)
    names = [entry.name for entry in dataclasses.fields(kind)]
    accepted: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in names:
            problems.append(f"unknown key {name} (expected one of {', '.join(names)})")
        elif dataclasses.is_dataclass(hints[key]):
            if isinstance(value, dict):
                accepted[key] = _build(hints[key], value, f"{name}.", problems)
            else:
                problems.append(f"{name} is {value!r}; expected a section [{name}]")
        else:
            checked = _checked(hints[key], value)
            if checked is None:
                problems.append(f"{name} is {value!r}; expected {_describe(hints[key])}")
            else:
                accepted[key] = checked
    try:
        return kind(**accepted)
    except CallusError as error:  # InputSpec checks itself
        problems.append(f"{prefix.rstrip('.')}: {error}")
        return kind()


def _checked(hint: Any, value: Any) -> Any:
    """The value as the hint has it, or None where it does not fit."""
    if get_origin(hint) is Literal:
        return value if value in get_args(hint) else None
    if get_origin(hint) is tuple:
        whole = isinstance(value, (list, tuple)) and all(type(item) is int for item in value)
        return tuple(value) if whole else None
    if get_origin(hint) in (Union, types.UnionType):  # pragma: no cover - no field has one
        return value
    if hint is float and type(value) in (int, float):
        return float(value)
    return value if type(value) is hint else None


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(json.dumps(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return "a list of whole numbers"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(hint, str(hint))


def _out_of_range(recipe: Recipe) -> list[str]:
    """What has the right kind and still makes no sense."""
    rules = [
        (recipe.head.width >= 1, "head.width has to be at least 1"),
        (all(units >= 1 for units in recipe.head.dense), "head.dense takes units of at least 1"),
        (recipe.head.location_stride in (8, 16), "head.location_stride is 8 or 16"),
        (0 <= recipe.head.dropout < 1, "head.dropout has to lie in [0, 1)"),
        (0 <= recipe.augmentation.zoom < 1, "augmentation.zoom has to lie in [0, 1)"),
        (min(recipe.frozen.epochs, recipe.tuning.epochs, recipe.whole.epochs) >= 0, "epochs cannot be negative"),
        (
            recipe.frozen.epochs + recipe.tuning.epochs + recipe.whole.epochs >= 1,
            "frozen.epochs, tuning.epochs and whole.epochs are all 0",
        ),
        (recipe.frozen.cache_views >= 0, "frozen.cache_views cannot be negative"),
        (
            min(recipe.augmentation.enlarge, recipe.augmentation.tone, recipe.augmentation.sharpness) >= 0,
            "augmentation.enlarge, tone and sharpness cannot be negative",
        ),
        (min(recipe.tuning.stages, recipe.whole.stages) >= 1, "tuning.stages and whole.stages are at least 1"),
        (recipe.optimisation.validate_every >= 1, "optimisation.validate_every has to be at least 1"),
        (
            recipe.tuning.crop == 0 or (recipe.tuning.crop % 32 == 0 and recipe.tuning.crop >= _SMALLEST_CROP),
            f"tuning.crop has to be 0 or a multiple of 32 and at least {_SMALLEST_CROP}",
        ),
        (recipe.optimisation.batch >= 1, "optimisation.batch has to be at least 1"),
        (0 <= recipe.optimisation.ema < 1, "optimisation.ema has to lie in [0, 1)"),
        (recipe.optimisation.others > 0, "optimisation.others has to be above 0"),
        (recipe.optimisation.pointing_weight >= 0, "optimisation.pointing_weight cannot be negative"),
        (
            not recipe.optimisation.int8_weights or recipe.optimisation.keep == "last",
            'optimisation.int8_weights wants optimisation.keep = "last": the epochs before are not rounded',
        ),
        (0 <= recipe.optimisation.warmup < 1, "optimisation.warmup has to lie in [0, 1)"),
        (0 <= recipe.optimisation.label_smoothing < 1, "optimisation.label_smoothing has to lie in [0, 1)"),
        (
            recipe.splitting.validation > 0 and recipe.splitting.test >= 0,
            "splitting.validation has to be above 0 and splitting.test not below it",
        ),
        (recipe.splitting.validation + recipe.splitting.test < 1, "splitting leaves nothing to train on"),
        (
            recipe.input.height % 32 == 0 and recipe.input.width % 32 == 0,
            "input.height and input.width have to be multiples of 32, the trunks' coarsest stride",
        ),
    ]
    return [text for holds, text in rules if not holds]


def _toml(value: Any) -> str:
    """A scalar or a list as TOML; JSON writes these kinds the same way."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)
