"""Bundles damaged on purpose: the zip's structures, names, ``bundle.json`` by value, and networks whose hash is right.

The networks are damaged in both formats, ONNX and OpenVINO's own; so is what tells pictures that are unlike the
training data, and the list of what was trained on.

Not a test: ``tests/support`` is on the tests' path (pyproject.toml), and ``bench/fuzz.py`` puts it on its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import warnings
import zipfile
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

from mutate import damage, number_bytes
from mutate_network import changed_ir, changed_onnx
from sound_bundles import IR, IR_WEIGHTS, LIKENESS
from tiny_bundle import tiny_likeness

from callus.bundle import PICTURES
from callus.bundle.contents import LARGEST_PICTURES
from callus.bundle.likeness import Likeness
from callus.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAMES: Final = (
    *("../outside.md", "/etc/outside.md", "a/../../outside.md", "C:\\outside.md", "..\\outside.md", "a//b.md", ""),
    *(".", "a/./b.md", "x\0.md", "x\n.md", " x.md", "x" * 300 + ".md", "\u202e.md", "model.onnx", "MODEL_CARD.md"),
    *("weights.pkl", "weights.pt", "MODEL.ONNX", "bundle.json", "model.onnx/", "BUNDLE.JSON", "a/b/c/d/e/f/g.md"),
)
_DEEP: Final = "@deep@"
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -(10**400), 0.5, -0.0, 1e308, 5e-324, float("nan")),
    *(float("inf"), "", " ", "x", "x" * 1_000_000, "a\nb", "\0", "\ud800", "\u202e", [], {}, [[]], {"": None}, _DEEP),
    *("model.onnx", "MODEL_CARD.md", "bundle.json", "../x", "onnx-float32", "0" * 64, [0] * 100_000),
    *(["x"], 224, "letterbox"),
)
_TURNS: Final = ("tiny", "golden", "tiny", "shipped")
"""Whose turn it is; one of four, because the model that ships takes a hundred times as long as the tiny ones."""
_FLOAT_ENGINES: Final = ("openvino-float32", "onnx-float32")
_INT8_ENGINE: Final = ("openvino-int8",)
_FLOATS: Final = (
    *(float("nan"), float("inf"), float("-inf"), 0.0, -0.0, -1.0, 1e-45, 1e-30),
    *(1e-9, 1.0, 1e9, 1e10, 3e38, -1e9, -3e38),
)
_COUNTS: Final = (0, 1, 2, 3, 4, 7, 512, 513, 8192, 8193, 2**31, 2**63, -1, True, 1.5, None)
_STRUCTURES: Final = ((b"PK\x01\x02", 46), (b"PK\x03\x04", 30), (b"PK\x05\x06", 22), (b"PK\x06\x06", 56))


@dataclass(frozen=True)
class BundleMutant:
    """A damaged bundle.

    Attributes:
        seed: what it was.
        what: what was done to it.
        files: a folder's files by name; empty for a zip.
        links: a folder's links: name and what they point to.
        data: a zip's bytes.
        engines: those to be tried; the last one's error is told.
    """

    seed: str
    what: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    data: bytes = b""
    engines: tuple[str, ...] = (*_INT8_ENGINE, *_FLOAT_ENGINES)

    def write(self, path: Path) -> None:
        """Put it there: a folder or a file."""
        if self.data:
            path.write_bytes(self.data)
            return
        path.mkdir()
        for name, content in self.files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        for name, target in self.links.items():
            (path / name).unlink(missing_ok=True)
            (path / name).symlink_to(target)


def mutant(bundles: Mapping[str, Mapping[str, bytes]], seed: int, number: int) -> BundleMutant:
    """Damage a bundle in one of ten ways, which take turns by its number; the bundles take turns in each.

    Args:
        bundles: of :func:`sound_bundles.sound`.
        seed: of the whole series.
        number: of this bundle.
    """
    random = Random(f"{seed}/{number}")  # noqa: S311 - chance that can be repeated is what is wanted
    turn, way = divmod(number, 10)
    name = _TURNS[turn % len(_TURNS)]
    changed = dict(bundles[name])
    if way < len(_WHOLE):
        made = _WHOLE[way](random, changed)
        return replace(made, seed=f"{name} {made.seed}")
    change, engines = _PARTS[way - len(_WHOLE)]
    what = tuple(change(random, changed) for _ in range(random.choice((1, 1, 2, 3))))
    if random.random() < 0.5:
        return BundleMutant(f"{name} folder", what, changed, engines=engines)
    packed = _zipped(list(changed.items()), random.choice((0, 8)))
    return BundleMutant(f"{name} zip", what, data=packed, engines=engines)


def _zipped(entries: list[tuple[str, bytes]], method: int, only: str = "") -> bytes:
    """A zip of all entries, packed by a method, or of which only one is."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # that a name stands in it twice
        for name, content in entries:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, content, method if only in ("", name) else zipfile.ZIP_STORED)
    return buffer.getvalue()


def _zip_bytes(random: Random, files: dict[str, bytes]) -> BundleMutant:
    """Numbers in the zip's own structures, and any bytes."""
    data = bytearray(_zipped(list(files.items()), random.choice((0, 8))))
    what = []
    for _ in range(random.choice((1, 1, 2, 3))):
        mark, length = random.choice(_STRUCTURES)
        places = [found.start() for found in re.finditer(re.escape(mark), data)]
        if places and random.random() < 0.7:
            place, size = random.choice(places) + random.randrange(4, length), random.choice((1, 2, 4))
            data[place : place + size] = number_bytes(random, size, little=True)
            what.append(f"wrote {size} bytes at {place}")
        else:
            what.append(damage(random, data))
    return BundleMutant("zip", tuple(what), data=bytes(data) or b"\0")


def _zip_entries(random: Random, files: dict[str, bytes]) -> BundleMutant:
    """A zip that is sound, of entries that are not."""
    way = random.choice(("name", "listed name", "twice", "link", "locked", "size", "bomb", "many", "method"))
    entries = list(files.items())
    what = [way]
    if way in ("name", "listed name"):
        name = random.choice(NAMES)
        what.append(repr(name)[:80])
        entries.append((name or "?", b"x"))
        if way == "listed name":
            entries[0] = (entries[0][0], _listed(dict(files), name, b"x")["bundle.json"])
    elif way == "twice":
        entries.append(random.choice(entries))
    elif way == "bomb":
        name = random.choice(("bundle.json", "MODEL_CARD.md", "bomb.bin"))
        entries = [entry for entry in entries if entry[0] != name] + [(name, bytes(64 << 20))]
        return BundleMutant("zip", (*what, name), data=_zipped(entries, random.choice((8, 14)), name))
    elif way == "many":
        entries += [(f"{number}.md", b"") for number in range(random.choice((255, 300, 5_000)))]
    data = bytearray(_zipped(entries, random.choice((0, 8))))
    central = [found.start() for found in re.finditer(rb"PK\x01\x02", data)]
    # Where each stands in a central entry: flags, method, compressed and plain size, attributes.
    fields = {
        "locked": (8, b"\1\0"),
        "link": (38, struct.pack("<I", 0o120777 << 16)),
        "method": (10, b"%c\0" % random.choice((99, 14, 12))),
    }
    if way in fields:
        offset, value = fields[way]
        place = random.choice(central) + offset
        data[place : place + len(value)] = value
    elif way == "size":
        for place in random.sample(central, random.randint(1, len(central))):
            data[place + 20 : place + 28] = number_bytes(random, 4, little=True) + number_bytes(random, 4, little=True)
    return BundleMutant("zip", tuple(what), data=bytes(data))


def _folder(random: Random, files: dict[str, bytes]) -> BundleMutant:
    """A folder with files too many, too few, or of a kind that it may not hold."""
    way = random.choice(("name", "listed name", "missing", "link", "pickle", "bytes", "listed bytes"))
    name = random.choice(
        [name for name in NAMES if name and "\0" not in name and not name.startswith((".", "/", "a/.."))]
    )
    name = name[:200].rstrip("/")
    links: dict[str, str] = {}
    if way == "name":
        files.setdefault(name, b"x")
    elif way == "listed name":
        files = _listed(files, name, b"x") if name not in files else files
    elif way == "missing":
        del files[random.choice(list(files))]
    elif way == "link":
        links[random.choice((*files, "link.md"))] = random.choice(
            ("/etc/passwd", "..", "model.onnx", "/dev/zero", "link.md")
        )
    elif way == "pickle":
        files = _listed(files, "weights.bin", b"\x80\x04\x95\x05\0\0\0\0\0\0\0N.")
    else:
        name = random.choice(list(files))
        content = bytearray(files[name])
        damage(random, content)
        files[name] = bytes(content)
        if way == "listed bytes" and name != "bundle.json":
            _seal(files)
    return BundleMutant("folder", (way, repr(name)[:80]), files, links)


def _listed(files: dict[str, bytes], name: str, content: bytes) -> dict[str, bytes]:
    """Add a file that ``bundle.json`` lists with its right hash."""
    info = json.loads(files["bundle.json"])
    info["files"][name] = hashlib.sha256(content).hexdigest()
    return files | {name: content, "bundle.json": json.dumps(info).encode()}


def _seal(files: dict[str, bytes]) -> None:
    """Make the hashes right again, as one does who means harm."""
    try:
        info = json.loads(files["bundle.json"])
        info["files"] = {name: hashlib.sha256(files.get(name, b"")).hexdigest() for name in info["files"]}
    except (ValueError, TypeError, LookupError, RecursionError):
        return  # what was done to bundle.json before is damage enough
    files["bundle.json"] = json.dumps(info).encode()


def _info(random: Random, files: dict[str, bytes]) -> str:
    """One value of ``bundle.json``: another, gone, doubled under another key, or the text itself."""
    try:
        info = json.loads(files["bundle.json"])
        places = _places(info)
    except (ValueError, RecursionError):
        places = []
    if not places or random.random() < 0.1:
        text = bytearray(files["bundle.json"])
        done = damage(random, text)
        files["bundle.json"] = bytes(text)
        return f"bundle.json: {done}"
    holder, key = random.choice(places)
    way = random.random()
    if way < 0.15:
        del holder[key]
        done = "removed"
    elif way < 0.25:
        other_holder, other_key = random.choice(places)
        holder[key] = json.loads(json.dumps(other_holder[other_key]))
        done = f"became what {other_key} is"
    else:
        holder[key] = random.choice(VALUES)
        done = repr(holder[key])[:60]
    depth = random.choice((100, 900, 100_000))
    files["bundle.json"] = json.dumps(info).replace(f'"{_DEEP}"', "[" * depth + "]" * depth).encode()
    return f"bundle.json: {key!r} {done}"


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in nested lists and objects."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in list(keys)[:50] for place in [(value, key), *_places(value[key])]]


def _graph_bytes(random: Random, files: dict[str, bytes]) -> str:
    graph = bytearray(files["model.onnx"])
    done = damage(random, graph)
    files["model.onnx"] = bytes(graph)
    _seal(files)
    return f"model.onnx: {done}"


def _graph(random: Random, files: dict[str, bytes]) -> str:
    files["model.onnx"], done = changed_onnx(random, files["model.onnx"])
    _seal(files)
    return f"graph: {done}"


def _likeness(random: Random, files: dict[str, bytes]) -> str:
    """Numbers that no Gaussian has, a wrong length, axes that are none, or an entry that lies."""
    change = random.choice((_likeness_bytes, _likeness_number, _likeness_length, _likeness_axes, _likeness_entry))
    done = change(random, files)
    _seal(files)
    return f"likeness: {done}"


def _likeness_bytes(random: Random, files: dict[str, bytes]) -> str:
    data = bytearray(files[LIKENESS])
    done = damage(random, data)
    files[LIKENESS] = bytes(data)
    return done


def _likeness_number(random: Random, files: dict[str, bytes]) -> str:
    data = bytearray(files[LIKENESS])
    if len(data) < 4:
        return "nothing"
    place, value = random.randrange(len(data) // 4), random.choice(_FLOATS)
    struct.pack_into("<f", data, 4 * place, value)
    files[LIKENESS] = bytes(data)
    return f"number {place} became {value:g}"


def _likeness_length(random: Random, files: dict[str, bytes]) -> str:
    data = files[LIKENESS]
    length = random.choice(
        (0, 1, 3, len(data) - 4, len(data) - 1, len(data) + 1, len(data) + 4, 2 * len(data), 1 << 20)
    )
    files[LIKENESS] = (data * (length // max(1, len(data)) + 1))[:length]
    return f"{length} bytes"


def _likeness_axes(random: Random, files: dict[str, bytes]) -> str:
    """The Gaussian is then not positive definite, or none."""
    way = random.choice(("twice the same", "nothing", "long", "short"))
    try:
        info = json.loads(files["bundle.json"])
        sizes = info["outputs"]["features"]["channels"], info["likeness"]["components"]
        made = Likeness.from_bytes(files[LIKENESS], *sizes, "seed")
    except (BundleError, ValueError, TypeError, LookupError, RecursionError):
        return "nothing"  # what was done before is damage enough
    axes = made.axes.copy()
    if way == "twice the same":
        axes[1:2] = axes[:1]
    else:
        axes *= {"nothing": 0.0, "long": 1e6, "short": 1e-6}[way]
    files[LIKENESS] = replace(made, axes=axes).to_bytes()
    return f"axes: {way}"


def _likeness_entry(random: Random, files: dict[str, bytes]) -> str:
    """Dimensions that lie, with the file or against it, and values of other kinds."""
    try:
        info = json.loads(files["bundle.json"])
        entry, features = info["likeness"], info["outputs"]["features"]
        way = random.choice(("components", "channels", "both", "first", "value", "threshold", "network"))
        if way == "value":
            entry[random.choice(list(entry))] = random.choice(VALUES[:-10])
        elif way == "threshold":
            entry["thresholds"][random.choice(list(entry["thresholds"]))] = random.choice(
                (*_FLOATS, 5e-324, 1e308, "1")
            )
        elif way == "network":  # a right file, but of other features than the network's
            features["channels"] = random.choice((1, 2, 4, 8192))
            entry["components"] = min(2, features["channels"])
            files[LIKENESS] = tiny_likeness(features["channels"], entry["components"]).to_bytes()
        elif way == "first":  # of fewer features than the network has, or of more
            entry["channels"] = random.choice((1, 2, 3, 4, *_COUNTS))
            entry["components"] = min(1, entry["components"])
            if entry["channels"] in range(1, 5):
                files[LIKENESS] = tiny_likeness(entry["channels"], entry["components"]).to_bytes()
        else:
            entry["components"] = random.choice(_COUNTS) if way != "channels" else entry["components"]
            features["channels"] = random.choice(_COUNTS) if way != "components" else features["channels"]
        files["bundle.json"] = json.dumps(info).encode()
    except (ValueError, TypeError, LookupError, RecursionError):
        return "nothing"  # what was done before is damage enough
    return f"entry: {way}"


def _ir(random: Random, files: dict[str, bytes]) -> str:
    """A value in OpenVINO's .xml, or any bytes of the .xml or the .bin."""
    name = IR if random.random() < 0.8 else IR_WEIGHTS
    if name == IR_WEIGHTS or random.random() < 0.2:
        data = bytearray(files[name])
        done = damage(random, data)
        files[name] = bytes(data)
    else:
        files[name], done = changed_ir(random, files[name])
    _seal(files)
    return f"{name}: {done}"


def _pictures(random: Random, files: dict[str, bytes]) -> str:
    """The list of what was trained on: any bytes, lines without end, or as many as a bundle may hold."""
    way = random.choice(("bytes", "bytes", "line", "lines", "commas", "many"))
    data = bytearray(files[PICTURES])
    size = LARGEST_PICTURES + random.choice((-1, 0, 1))
    if way == "bytes":
        way = damage(random, data)
    elif way == "many":
        data[:] = b"".join(b"%016x,\n" % number for number in range(size // 72))
    else:
        data[:] = {"line": b"x", "lines": b"\n", "commas": b","}[way] * size
    files[PICTURES] = bytes(data)
    _seal(files)
    return f"{PICTURES}: {way}"


_WHOLE: Final = (_zip_bytes, _zip_entries, _folder)
_PARTS: Final = (
    (_info, BundleMutant.engines),
    (_graph_bytes, _FLOAT_ENGINES),
    *((_graph, _FLOAT_ENGINES),) * 2,
    (_ir, _INT8_ENGINE),
    (_likeness, BundleMutant.engines),
    (_pictures, _INT8_ENGINE),
)
