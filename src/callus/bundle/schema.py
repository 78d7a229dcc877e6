"""What ``bundle.json`` has to say, checked as a whole: all problems are collected and raised once."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from callus.bundle.likeness import MOST_CHANNELS, MOST_COMPONENTS, SMALLEST
from callus.errors import BundleError, CallusError
from callus.metrics.calibration import Calibration
from callus.metrics.operating_points import OperatingPoints
from callus.preprocess import CHANNELS, InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SCHEMA_VERSION: Final = 1
ONNX_FLOAT32: Final = "onnx-float32"
OPENVINO_FLOAT32: Final = "openvino-float32"
OPENVINO_INT8: Final = "openvino-int8"
SAME_NUMBERS: Final = {OPENVINO_FLOAT32: ONNX_FLOAT32}
"""Engines that run another's graph at its precision and have its thresholds: they differ by rounding alone."""
MORE_PASSES: Final = {"mirror": 1, "rotate": 2}
"""How often a view asks the network once more: for left and right changed; for the picture turned both ways."""
VIEWS: Final = tuple(MORE_PASSES)
"""What an answer may be averaged with."""
MAP_KINDS: Final = ("gradcam", "location")
TRAINING_KEYS: Final = (
    "trunk",
    "weights",
    "recipe",
    "manifest_sha256",
    "files",
    "radiographs",
    "groups",
    "splits",
)
"""What the bundle tells of its training; a value is null where it is not known."""
LARGEST_INPUT: Final = 8192
LARGEST_MAP: Final = 1 << 18
"""Cells: an input of 4096 by 4096 at stride 8. Boxes and pictures are made of every one of them."""
LONGEST_PROBLEMS: Final = 1000
LONGEST_LINE: Final = 1000
"""Letters of a name, a licence and the like."""
"""Letters of what is wrong that are told: a hostile bundle has a megabyte of it."""
LARGEST_NUMBER: Final = 1e308
"""JSON's whole numbers have no end; a float has."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MISSING: Final = object()


def passes(views: Iterable[str]) -> int:
    """How often an answer that is averaged with views asks the network."""
    return 1 + sum(MORE_PASSES[view] for view in views)


def check_info(info: Any, where: object) -> None:
    """Check everything in ``bundle.json``.

    Args:
        info: the parsed JSON.
        where: the bundle, for the error.

    Raises:
        BundleError: an unknown schema version, or any number of other problems, all in one line.
    """
    if not isinstance(info, dict):
        raise BundleError(f"bundle.json holds {type(info).__name__}; expected an object", where=where)
    version = info.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise BundleError(
            f"bundle.json has schema_version {repr(version)[:60]}; this callus reads {SCHEMA_VERSION}",
            where=where,
            hint="a newer callus may read it",
        )
    problems = _Problems(info).found()
    if problems:
        raise BundleError(f"bundle.json is not as it has to be: {'; '.join(problems)[:LONGEST_PROBLEMS]}", where=where)


class _Problems:
    """Collects what is wrong with one ``bundle.json``."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        self._info = info
        self._list: list[str] = []

    def found(self) -> list[str]:
        for key in ("name", "created", "callus", "research_only", "licence"):
            self._shown(self._info.get(key, _MISSING), key)
        self._input()
        self._outputs()
        self._views()
        self._files()
        self._engines()
        self._left_out()
        self._likeness()
        self._training()
        if not isinstance(self._info.get("figures"), list):
            self._expected("figures", self._info.get("figures", _MISSING), "a list")
        return self._list

    def _expected(self, name: str, value: object, expected: str) -> None:
        actual = "missing" if value is _MISSING else repr(value)[:60]
        self._list.append(f"{name} is {actual}, expected {expected}")

    def _text(self, values: Mapping[str, Any], key: str, name: str) -> None:
        value = values.get(key, _MISSING)
        if not isinstance(value, str) or not value.strip() or "\n" in value:
            self._expected(name, value, "a line of text")

    def _shown(self, value: object, name: str) -> None:
        """What terminals and pages show: nothing that they would obey."""
        sound = (
            isinstance(value, str) and value.replace("\N{NO-BREAK SPACE}", " ").isprintable() and bool(value.strip())
        )
        if not sound or len(str(value)) > LONGEST_LINE:
            self._expected(name, value, f"a line of printable text, of {LONGEST_LINE} letters at most")

    def _object(self, values: Mapping[str, Any], key: str, name: str) -> Mapping[str, Any] | None:
        value = values.get(key, _MISSING)
        if isinstance(value, dict) and value:
            return value
        self._expected(name, value, "an object with entries")
        return None

    def _number(self, values: Mapping[str, Any], key: str, name: str, low: float, high: float) -> bool:
        value = values.get(key, _MISSING)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
            return True
        self._expected(name, value, f"a number from {low:g} to {high:g}")
        return False

    def _whole(self, values: Mapping[str, Any], key: str, name: str, low: int, high: int) -> bool:
        value = values.get(key, _MISSING)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return True
        self._expected(name, value, f"a whole number from {low} to {high}")
        return False

    def _numbers(self, values: Mapping[str, Any], key: str, name: str) -> bool:
        value = values.get(key, _MISSING)
        if isinstance(value, list) and all(type(one) in (int, float) and abs(one) <= LARGEST_NUMBER for one in value):
            return True
        self._expected(name, value, "a list of numbers")
        return False

    def _made(self, make: Callable[[], object], name: str) -> None:
        """Let a class of ours judge values that have the right type."""
        try:
            make()
        except CallusError as error:
            self._list.append(f"{name}: {error.what}")

    def _input(self) -> None:
        values = self._object(self._info, "input", "input")
        if values is None:
            return
        well = [
            self._whole(values, "height", "input.height", 32, LARGEST_INPUT),
            self._whole(values, "width", "input.width", 32, LARGEST_INPUT),
            self._whole(values, "channels", "input.channels", CHANNELS, CHANNELS),
            self._number(values, "low", "input.low", -1e6, 1e6),
            self._number(values, "high", "input.high", -1e6, 1e6),
        ]
        if not isinstance(values.get("fit"), str):
            self._expected("input.fit", values.get("fit", _MISSING), "text")
        elif all(well):
            self._made(lambda: InputSpec.from_dict(values), "input")

    def _outputs(self) -> None:
        outputs = self._object(self._info, "outputs", "outputs")
        if outputs is None:
            return
        for key in ("logit", "features"):
            if key not in outputs:
                self._expected(f"outputs.{key}", _MISSING, "what it is")
        heat = self._object(outputs, "map", "outputs.map")
        if heat is None:
            return
        if heat.get("kind") not in MAP_KINDS:
            self._expected("outputs.map.kind", heat.get("kind", _MISSING), " or ".join(MAP_KINDS))
        if self._whole(heat, "stride", "outputs.map.stride", 1, 1024):
            self._map_size(heat["stride"])
        if "first_centre" in heat:  # missing where cells cover the input evenly, and in bundles of before
            self._number(heat, "first_centre", "outputs.map.first_centre", 0, 1024)

    def _map_size(self, stride: int) -> None:
        sides = self._info.get("input")
        sides = [sides.get(name) for name in ("height", "width")] if isinstance(sides, dict) else []
        if all(type(side) is int and 0 < side <= LARGEST_INPUT for side in sides):  # what else it may be is told there
            cells = math.prod(math.ceil(side / stride) for side in sides)
            if cells > LARGEST_MAP:
                self._list.append(f"the map has {cells:,} cells, at most {LARGEST_MAP:,} are read")

    def _views(self) -> None:
        views = self._info.get("views", [])  # missing in bundles of before they could have some
        known = isinstance(views, list) and all(isinstance(view, str) and view in VIEWS for view in views)
        if not known or len(set(views)) < len(views):
            self._expected("views", views, f"a list of some of {', '.join(VIEWS)}")

    def _files(self) -> None:
        files = self._object(self._info, "files", "files")
        for name, digest in (files or {}).items():
            if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
                self._expected(f"files[{name[:60]!r}]", digest, "a SHA-256 in 64 small hexadecimal digits")
        if files and "MODEL_CARD.md" not in files:
            self._expected("files['MODEL_CARD.md']", _MISSING, "the model card's SHA-256")

    def _engines(self) -> None:
        for engine in self._object(self._info, "engines", "engines") or {}:
            name = f"engines[{engine[:40]!r}]"
            values = self._object(self._info["engines"], engine, name)
            if values is not None:
                self._engine(engine, values, name)

    def _left_out(self) -> None:
        if "engines_left_out" not in self._info:  # as in bundles of before int8
            return
        reasons = self._info["engines_left_out"]
        if not isinstance(reasons, dict):
            self._expected("engines_left_out", reasons, "an object")
            return
        for engine in reasons:
            self._text(reasons, engine, f"engines_left_out[{engine[:40]!r}]")

    def _likeness(self) -> None:
        if "likeness_left_out" in self._info:
            self._text(self._info, "likeness_left_out", "likeness_left_out")
        if "likeness" not in self._info:  # as in bundles of before it was measured
            return
        values = self._object(self._info, "likeness", "likeness")
        if values is None:
            return
        self._text(values, "file", "likeness.file")
        files = self._info.get("files")
        if isinstance(values.get("file"), str) and isinstance(files, dict) and values["file"] not in files:
            self._expected("likeness.file", values["file"], "one of files")
        self._whole(values, "components", "likeness.components", 0, MOST_COMPONENTS)
        outputs = self._info.get("outputs")
        features = outputs.get("features") if isinstance(outputs, dict) else None
        if isinstance(features, dict):
            known = self._whole(features, "channels", "outputs.features.channels", 1, MOST_CHANNELS)
            if known and "channels" in values:  # bundles of before took all of them
                self._whole(values, "channels", "likeness.channels", 1, features["channels"])
        else:
            self._expected("outputs.features", features, "an object with channels, because there is a likeness")
        thresholds = self._object(values, "thresholds", "likeness.thresholds")
        engines = self._info.get("engines")
        for engine in engines if thresholds is not None and isinstance(engines, dict) else ():
            self._number(thresholds or {}, engine, f"likeness.thresholds[{engine[:40]!r}]", SMALLEST, LARGEST_NUMBER)

    def _engine(self, engine: str, values: Mapping[str, Any], name: str) -> None:
        self._text(values, "file", f"{name}.file")
        files = self._info.get("files")
        if isinstance(values.get("file"), str) and isinstance(files, dict) and values["file"] not in files:
            self._expected(f"{name}.file", values["file"], "one of files")
        layered = str(values.get("file")).endswith(".xml")
        if "weights" in values and not layered:  # else nobody would look at the graph before a runtime does
            self._expected(f"{name}.weights", values["weights"], "none but with a .xml: an ONNX graph holds its own")
        elif layered:
            if engine == ONNX_FLOAT32:
                self._expected(f"{name}.file", values["file"], "an ONNX graph")
            self._text(values, "weights", f"{name}.weights")
            if isinstance(values.get("weights"), str) and isinstance(files, dict) and values["weights"] not in files:
                self._expected(f"{name}.weights", values["weights"], "one of files")
        self._number(values, "map_threshold", f"{name}.map_threshold", 0, 1)
        fitted = self._object(values, "calibration", f"{name}.calibration")
        if fitted is not None:
            self._calibration(fitted, f"{name}.calibration")
        points = self._object(values, "operating_points", f"{name}.operating_points")
        if points is not None:
            keys = ("high_sensitivity", "high_specificity")
            well = [self._number(points, key, f"{name}.operating_points.{key}", 0, 1) for key in keys]
            if all(well):
                self._made(lambda: OperatingPoints.from_dict(points), f"{name}.operating_points")
        if not isinstance(values.get("parity"), dict):
            self._expected(f"{name}.parity", values.get("parity", _MISSING), "an object")

    def _calibration(self, fitted: Mapping[str, Any], name: str) -> None:
        self._text(fitted, "method", f"{name}.method")
        if fitted.get("method") == "isotonic":
            well = [self._numbers(fitted, key, f"{name}.{key}") for key in ("logits", "probabilities")]
        else:
            keys = ("slope", "intercept")
            well = [self._number(fitted, key, f"{name}.{key}", -LARGEST_NUMBER, LARGEST_NUMBER) for key in keys]
        if all(well) and isinstance(fitted.get("method"), str):
            self._made(lambda: Calibration.from_dict(fitted), name)

    def _training(self) -> None:
        training = self._object(self._info, "training", "training")
        for key in TRAINING_KEYS if training is not None else ():
            if key not in (training or {}):
                self._expected(f"training.{key}", _MISSING, "it, or null where it is not known")
        if training is not None and training.get("leaks") is not None:  # missing in bundles of before it was told
            self._leaks(training)

    def _leaks(self, training: Mapping[str, Any]) -> None:
        leaks = self._object(training, "leaks", "training.leaks")
        if leaks is not None:
            self._text(leaks, "sentence", "training.leaks.sentence")
            for key in ("groups", "files"):
                self._whole(leaks, key, f"training.leaks.{key}", 1, 2**53)
