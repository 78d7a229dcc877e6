"""The bundle's format: a folder, or the same zipped as ``.callus``, that says what it is and proves it with hashes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import callus
from callus.atomic import whole_file, whole_folder
from callus.bundle.container import Container, container, not_a_name, read_whole, unsafe
from callus.bundle.contents import CARD, INFO, PICTURES, check_contents, check_length
from callus.bundle.likeness import Likeness, check_size
from callus.bundle.onnx_check import check_onnx
from callus.bundle.schema import SAME_NUMBERS, SCHEMA_VERSION, check_info, passes
from callus.bundle.shipped import shipped_models
from callus.errors import BundleError
from callus.labels import RESEARCH_ONLY
from callus.metrics.boxes import map_to_input
from callus.metrics.calibration import Calibration
from callus.metrics.operating_points import OperatingPoints
from callus.preprocess import InputSpec

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

PICTURE_DIGITS: Final = 16
"""Hexadecimal digits of a picture's SHA-256 that the bundle keeps: enough to know one by among billions."""
_PICTURE: Final = re.compile(rb"^([0-9a-f]{%d}),([^,\r\n]*)\r*$" % PICTURE_DIGITS, re.MULTILINE)
ENDING: Final = ".callus"
_CHUNK: Final = 1 << 20
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""One date for all, so that the same bundle packs to the same bytes."""


@dataclass(frozen=True)
class EngineInfo:
    """What belongs to one engine at one precision: thresholds and calibration hold only for the numbers it gives.

    Attributes:
        name: "onnx-float32", "openvino-float32" or "openvino-int8".
        file: the graph, by its name in the bundle.
        weights: the file that the graph's weights lie in, by its name in the bundle; None where the graph holds them.
        calibration: from its logit to the probability.
        operating_points: on that probability.
        map_threshold: in [0, 1]; where the map is at or above it, a box is drawn.
        parity: how far its outputs are from the network's that was trained, as measured.
        farthest: the distance from the training data up to which pictures are like them; None where the bundle cannot
            tell (see :meth:`Bundle.likeness`).
    """

    name: str
    file: str
    weights: str | None
    calibration: Calibration
    operating_points: OperatingPoints
    map_threshold: float
    parity: Mapping[str, Any]
    farthest: float | None = None


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle whose every file has the hash that ``bundle.json`` gives. Make it with :meth:`load`.

    Attributes:
        where: the bundle's folder or ``.callus`` file.
        info: ``bundle.json``, checked.
    """

    where: Path
    info: Mapping[str, Any]
    _files: Container

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Bundle:
        """Open a bundle and verify it.

        Args:
            path: a bundle's folder, a ``.callus`` file, a run folder (its ``bundle/`` is taken), or the name of a model
                that comes with callus, see :func:`callus.bundle.shipped_models`.

        Raises:
            BundleError: nothing is there, a hash is wrong, a file is missing or not listed, the version is unknown, or
                something in it is not safe to read.
        """
        where = _find(Path(path))
        files = container(where)
        if INFO not in files.sizes:
            raise BundleError(f"holds no {INFO}", where=where, hint="expected a bundle or a run folder")
        for name, size in files.sizes.items():
            check_length(name, size, where)
        try:
            info = _parse(read_whole(files, INFO), where)
            check_info(info, where)
            _check_names(info["files"], files)
            for name, digest in info["files"].items():
                _verify(files, name, digest)
            for name in _onnx(info):
                _check_graph(read_whole(files, name), info, where / name)
        except OSError as error:
            raise BundleError(f"cannot be read: {error.strerror or error}", where=where) from error
        bundle = cls(where, info, files)
        bundle.likeness()
        return bundle

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.info["name"])

    @property
    def spec(self) -> InputSpec:
        """What the network takes."""
        return InputSpec.from_dict(self.info["input"])

    @property
    def views(self) -> tuple[str, ...]:
        """What its answers are averaged with, of :data:`callus.bundle.schema.VIEWS`; its thresholds hold for that."""
        return tuple(self.info.get("views", ()))

    @property
    def map_kind(self) -> str:
        """How the map is made: "gradcam" or "location"."""
        return str(self.info["outputs"]["map"]["kind"])

    @property
    def map_stride(self) -> int:
        """Input pixels that one cell of the map covers, in each direction."""
        return int(self.info["outputs"]["map"]["stride"])

    @property
    def map_to_input(self) -> NDArray[np.float64]:
        """float64 (2, 3): (x, y, 1) of a cell's centre to (x, y) of the input's pixels, centres at whole numbers."""
        return map_to_input(self.map_stride, self.info["outputs"]["map"].get("first_centre"))

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that it can be run with, by their names."""
        entries = self.info["engines"]
        shared = (name for name, other in SAME_NUMBERS.items() if other in entries and name not in entries)
        return (*entries, *shared)

    @property
    def digest(self) -> str:
        """SHA-256 of ``bundle.json``'s content (keys sorted), the same for a folder and a ``.callus`` file.

        It holds the SHA-256 of every other file, so it stands for the whole bundle.
        """
        text = json.dumps(self.info, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def pictures(self) -> dict[str, str] | None:
        """The files of its training by the beginning of their SHA-256 (``PICTURE_DIGITS``), with their split each.

        None where the bundle does not tell. Lines that are not as they should be are passed over.
        """
        if PICTURES not in self.info["files"]:
            return None
        # One expression looks for them: a hostile file has 33 million empty lines, for which a loop takes seconds.
        found = _PICTURE.finditer(self.read(PICTURES))
        return {line[1].decode("ascii"): line[2].decode("ascii", "replace") for line in found}

    @property
    def card(self) -> str:
        """The model card's text."""
        return self.read(CARD).decode("utf-8", errors="replace")

    def engine_info(self, engine: str) -> EngineInfo:
        """What belongs to one engine; ``openvino-float32`` runs the graph of ``onnx-float32`` and has its thresholds.

        Raises:
            BundleError: the bundle has no such engine.
        """
        if engine not in self.engines:
            raise BundleError(f"has no engine {engine!r}; expected one of {', '.join(self.engines)}", where=self.where)
        entries = self.info["engines"]
        entry = engine if engine in entries else SAME_NUMBERS[engine]
        values = entries[entry]
        known = self.info.get("likeness")
        return EngineInfo(
            engine,
            values["file"],
            values.get("weights"),
            Calibration.from_dict(values["calibration"]),
            OperatingPoints.from_dict(values["operating_points"]),
            float(values["map_threshold"]),
            values["parity"],
            None if known is None else float(known["thresholds"][entry]),
        )

    def likeness(self) -> Likeness | None:
        """How far features are from the training data's; None in bundles that were written without it.

        Raises:
            BundleError: its file is not as it has to be.
        """
        return _likeness(self.info, self._files, self.read)

    def read(self, name: str) -> bytes:
        """A file's bytes, held against its hash once more, so that what is used is what was verified.

        Raises:
            BundleError: no such file, or it has changed.
        """
        if name not in self.info["files"]:
            raise BundleError(f"holds no {name}", where=self.where)
        try:
            data = read_whole(self._files, name)
        except OSError as error:
            raise BundleError(f"{name} cannot be read: {error.strerror or error}", where=self.where) from error
        _compare(hashlib.sha256(data).hexdigest(), self.info["files"][name], name, self.where)
        return data


def write_bundle(folder: Path, info: Mapping[str, Any], files: Mapping[str, Path | bytes]) -> Path:
    """Write a bundle's folder, whole: it appears when everything in it is right.

    Args:
        folder: where; a bundle that stands there is replaced.
        info: ``bundle.json`` but for ``schema_version``, ``created``, ``callus``, ``research_only`` and ``files``,
            which are filled in here (the first four only where they are missing).
        files: every other file by its name in the bundle, as bytes or as the file to copy; ``MODEL_CARD.md`` and each
            engine's file must be among them.

    Returns:
        ``folder``.

    Raises:
        BundleError: the result would not load.
        CallusError: the folder cannot be written.
    """
    with whole_folder(folder) as temporary:
        digests = {name: _put(temporary, name, content, folder) for name, content in files.items()}
        full = {
            "schema_version": SCHEMA_VERSION,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "callus": callus.__version__,
            "research_only": RESEARCH_ONLY,
            **info,
            "files": digests,
        }
        check_info(full, folder)
        for name in _onnx(full):
            _check_graph((temporary / name).read_bytes(), full, folder / name)
        _likeness(full, container(temporary), lambda name: (temporary / name).read_bytes())
        try:
            text = json.dumps(full, indent=2, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise BundleError(f"bundle.json cannot hold what it was given: {error}", where=folder) from error
        (temporary / INFO).write_text(text + "\n", encoding="utf-8")
    return folder


def pack(folder: Path, out: Path) -> Path:
    """Zip a bundle's folder as one ``.callus`` file; the same bundle gives the same bytes.

    Raises:
        BundleError: ``folder`` is not a bundle that loads.
        CallusError: ``out`` cannot be written.
    """
    bundle = Bundle.load(folder)
    with whole_file(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in (INFO, *sorted(bundle.info["files"])):
            entry = zipfile.ZipInfo(name, _ZIP_DATE)
            entry.external_attr = 0o100644 << 16
            with archive.open(entry, "w", force_zip64=True) as packed, (bundle.where / name).open("rb") as source:
                shutil.copyfileobj(source, packed, _CHUNK)
    return out


def _find(path: Path) -> Path:
    """The bundle that a path or the name of a shipped model means; the name goes before a file called so."""
    shipped = shipped_models()
    if str(path) in shipped:
        return shipped[str(path)]
    try:
        if path.is_dir() and not (path / INFO).exists():
            if (path / "bundle" / INFO).exists():
                return path / "bundle"
            raise BundleError(
                f"holds neither {INFO} nor bundle/{INFO}",
                where=path,
                hint="give a bundle, or the folder of a training run that has ended",
            )
        if not path.exists():
            raise BundleError(
                "there is no such model",
                where=path,
                hint="give a bundle's folder, a .callus file or a run folder; or a name that callus model list shows",
            )
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot be read: {error}", where=str(path)[:200]) from error
    return path


def _parse(data: bytes, where: Path) -> Any:
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{INFO} is not readable JSON: {error}", where=where) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _check_names(listed: Mapping[str, str], files: Container) -> None:
    """Every listed file is there, and nothing else is."""
    for name in listed:
        if unsafe(name) or name == INFO:
            raise (
                not_a_name(name, files.where)
                if unsafe(name)
                else BundleError(f"{INFO} lists itself", where=files.where)
            )
    present = set(files.sizes) - {INFO}
    problems = [f"{name} is missing" for name in sorted(set(listed) - present)]
    problems += [f"{name} is not listed in {INFO}" for name in sorted(present - set(listed))]
    if problems:
        raise BundleError("; ".join(problems)[:1000], where=files.where, hint="copy the whole bundle, and nothing else")


def _verify(files: Container, name: str, expected: str) -> None:
    """Hash one file in chunks and look at what it is."""
    digest, first, last = hashlib.sha256(), b"", b""
    with files.open(name) as file:
        while chunk := file.read(_CHUNK):
            first, last = first or chunk[:8], chunk[-1:]
            digest.update(chunk)
    check_contents(name, first, last, files.where)
    _compare(digest.hexdigest(), expected, name, files.where)


def _onnx(info: Mapping[str, Any]) -> set[str]:
    """The files that a runtime takes for ONNX graphs: by what engines do with them, whatever their names end in."""
    run = {values["file"] for values in info["engines"].values() if values.get("weights") is None}
    return run | {name for name in info["files"] if name.lower().endswith(".onnx")}


def _check_graph(graph: bytes, info: Mapping[str, Any], where: Path) -> None:
    check_onnx(graph, InputSpec.from_dict(info["input"]), where, passes(info.get("views", ())))


def _likeness(info: Mapping[str, Any], files: Container, read: Callable[[str], bytes]) -> Likeness | None:
    """The Gaussian that ``bundle.json`` names; its size is looked at before it is read."""
    known = info.get("likeness")
    if known is None:
        return None
    name, components = known["file"], known["components"]
    channels = known.get("channels", info["outputs"]["features"]["channels"])  # bundles of before took all of them
    check_size(files.sizes[name], channels, components, files.where / name)
    return Likeness.from_bytes(read(name), channels, components, files.where / name)


def _compare(actual: str, expected: str, name: str, where: Path) -> None:
    if actual != expected:
        raise BundleError(
            f"{name} has SHA-256 {actual[:12]}…, expected {expected[:12]}…: it is damaged or was changed",
            where=where,
            hint="get the bundle again",
        )


def _put(folder: Path, name: str, content: Path | bytes, where: Path) -> str:
    """Write one file into the folder; its SHA-256."""
    if unsafe(name) or name == INFO:
        raise not_a_name(name, where) if unsafe(name) else BundleError(f"{INFO} is written by callus", where=where)
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
    else:
        shutil.copyfile(content, target)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        first = file.read(8)
        size = target.stat().st_size
        check_length(name, size, where)
        file.seek(max(0, size - 1))
        check_contents(name, first, file.read(1), where)
    return digest
