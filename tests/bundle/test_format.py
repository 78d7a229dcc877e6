from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import shutil
import stat
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny_bundle

from callus.bundle import Bundle, pack, write_bundle
from callus.errors import BundleError
from callus.labels import RESEARCH_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.write_tiny_bundle(tmp_path / "bundle")


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Edit bundle.json, as a hand that knows no hashes would."""
    file = bundle / "bundle.json"
    info = json.loads(file.read_text())
    edit(info)
    file.write_text(json.dumps(info))
    return bundle


def add(bundle: Path, name: str, content: bytes) -> Path:
    """Add a file that bundle.json lists with its right hash."""
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_bytes(content)
    return change(bundle, lambda info: info["files"].update({name: hashlib.sha256(content).hexdigest()}))


def test_what_was_written_is_read(bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    assert loaded.name == "tiny"
    assert (loaded.spec.height, loaded.spec.width, loaded.spec.fit) == (64, 64, "letterbox")
    assert (loaded.map_kind, loaded.map_stride) == ("location", 8)
    assert loaded.info["research_only"] == RESEARCH_ONLY
    assert loaded.card.startswith("# tiny")
    engine = loaded.engine_info("onnx-float32")
    assert engine.operating_points.high_specificity == 0.7
    assert (engine.calibration.slope, engine.map_threshold) == (1.0, 0.5)
    assert set(loaded.info["files"]) == {"model.onnx", "MODEL_CARD.md"}
    with pytest.raises(BundleError, match="no engine 'openvino-int8'; expected one of onnx-float32"):
        loaded.engine_info("openvino-int8")
    with pytest.raises(BundleError, match=r"holds no other\.onnx"):
        loaded.read("other.onnx")


def test_every_kind_of_calibration_is_read(bundle: Path) -> None:
    def calibrated(**values: object) -> Callable[[dict[str, Any]], object]:
        return lambda info: info["engines"]["onnx-float32"].update(calibration=values)

    def read() -> Any:
        return Bundle.load(bundle).engine_info("onnx-float32").calibration

    change(bundle, calibrated(method="temperature", slope=0.5, intercept=0))
    assert read().probability(0.0) == 0.5
    change(bundle, calibrated(method="isotonic", logits=[-1, 1.5], probabilities=[0.25, 0.75]))
    assert read().probability(-1.0) == 0.25
    for values, message in [
        ({"logits": [1, 0], "probabilities": [0.2, 0.3]}, "do not rise"),
        ({"logits": [0, 1], "probabilities": [0.2, 1]}, "between 0 and 1"),
        ({"logits": [0, 1], "probabilities": [0.2]}, "2 logits do not go with 1"),
        ({"logits": [], "probabilities": []}, "has no knots"),
        ({"logits": "01", "probabilities": [0.2, 0.3]}, "logits is '01', expected a list of numbers"),
        ({"logits": [0, True], "probabilities": [0.2, 0.3]}, "expected a list of numbers"),
        ({"logits": [0, 10**400], "probabilities": [0.2, 0.3]}, "expected a list of numbers"),
        ({"slope": 1.0, "intercept": 0.0}, "probabilities is missing, expected a list of numbers"),
    ]:
        change(bundle, calibrated(method="isotonic", **values))
        with pytest.raises(BundleError, match=message):
            read()


def test_a_run_folder_gives_its_bundle(tmp_path: Path) -> None:
    tiny_bundle.write_tiny_bundle(tmp_path / "run" / "bundle")
    assert Bundle.load(tmp_path / "run").where == tmp_path / "run" / "bundle"


def test_packed_it_is_the_same_and_packs_to_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    first = pack(bundle, tmp_path / "one.callus")
    os.utime(bundle / "model.onnx", (1, 1))
    second = pack(bundle, tmp_path / "two.callus")
    assert first.read_bytes() == second.read_bytes()
    loaded = Bundle.load(first)
    assert loaded.info == Bundle.load(bundle).info
    assert loaded.read("model.onnx") == (bundle / "model.onnx").read_bytes()


def test_a_deflated_archive_is_read_too(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "deflated.callus"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in bundle.iterdir():
            archive.write(file, file.name)
    assert Bundle.load(out).name == "tiny"


def test_writing_replaces_and_leaves_nothing_behind(bundle: Path) -> None:
    tiny_bundle.write_tiny_bundle(bundle, name="newer")
    assert Bundle.load(bundle).name == "newer"
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_bundle_that_would_not_load_is_not_written(bundle: Path) -> None:
    before = (bundle / "bundle.json").read_bytes()
    with pytest.raises(BundleError, match=r"name is '', expected a line of printable text"):
        tiny_bundle.write_tiny_bundle(bundle, name="")
    with pytest.raises(BundleError, match="cannot hold what it was given"):
        tiny_bundle.write_tiny_bundle(bundle, figures=[float("nan")])
    with pytest.raises(BundleError, match="may not stand in a bundle"):
        write_bundle(bundle, tiny_bundle.tiny_info(), {"weights.pt": b"x"})
    with pytest.raises(BundleError, match="leaves the bundle"):
        write_bundle(bundle, tiny_bundle.tiny_info(), {"../x.md": b"x"})
    with pytest.raises(BundleError, match=r"file is 'model\.onnx', expected one of files"):
        write_bundle(bundle, tiny_bundle.tiny_info(), {"MODEL_CARD.md": b"x"})
    assert (bundle / "bundle.json").read_bytes() == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("key", ["name", "licence"])
@pytest.mark.parametrize("text", ["a\x1b[31mb", "\u202egpj.exe", "a\tb", "a\u2028b", "a\0b", " ", "x" * 1001])
def test_text_that_a_terminal_would_obey_is_refused(bundle: Path, key: str, text: str) -> None:
    change(bundle, lambda info: info.update({key: text}))
    with pytest.raises(BundleError, match=f"{key} is .*, expected a line of printable text, of 1000 letters at most"):
        Bundle.load(bundle)


@pytest.mark.parametrize("name", ["骨折 — Röntgen", "a\u00a0b", "x" * 1000])
def test_a_name_may_be_of_any_script(bundle: Path, name: str) -> None:
    change(bundle, lambda info: info.update(name=name))
    assert Bundle.load(bundle).name == name


def test_files_are_taken_from_paths(bundle: Path, tmp_path: Path) -> None:
    out = write_bundle(
        tmp_path / "copy",
        tiny_bundle.tiny_info(),
        {"model.onnx": bundle / "model.onnx", "MODEL_CARD.md": b"# c\n", "model-int8/model.bin": b"\0" * 9},
    )
    assert Bundle.load(out).read("model-int8/model.bin") == b"\0" * 9
    assert Bundle.load(pack(out, tmp_path / "copy.callus")).read("model-int8/model.bin") == b"\0" * 9


def test_a_changed_file_does_not_load(bundle: Path) -> None:
    with (bundle / "MODEL_CARD.md").open("ab") as file:
        file.write(b"better than it is\n")
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md has SHA-256 .*damaged or was changed"):
        Bundle.load(bundle)


def test_a_file_changed_after_loading_is_not_used(bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    graph = bytearray((bundle / "model.onnx").read_bytes())
    graph[-1] ^= 1
    (bundle / "model.onnx").write_bytes(graph)
    with pytest.raises(BundleError, match="damaged or was changed"):
        loaded.read("model.onnx")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: (b / "model.onnx").unlink(), r"model\.onnx is missing"),
        (lambda b: (b / "extra.txt").write_text("x"), r"extra\.txt is not listed"),
        (lambda b: change(b, lambda i: i.update(schema_version=2)), "schema_version 2; this callus reads 1"),
        (lambda b: change(b, lambda i: i.pop("schema_version")), "schema_version None"),
        (lambda b: (b / "bundle.json").write_text("{"), "is not readable JSON"),
        (lambda b: (b / "bundle.json").write_text("[" * 200_000), "is not readable JSON"),
        (lambda b: (b / "bundle.json").write_text('{"schema_version": NaN}'), "NaN is not a number"),
        (lambda b: (b / "bundle.json").write_bytes(b"\xff\xfe"), "is not readable JSON"),
        (lambda b: (b / "bundle.json").write_text("[]"), "holds list; expected an object"),
        (lambda b: (b / "bundle.json").write_text(" " * (9 << 20)), "is longer than"),
        (lambda b: (b / "bundle.json").unlink(), r"neither bundle\.json nor"),
        (lambda b: change(b, lambda i: i["files"].update({"../../etc/passwd": "0" * 64})), "leaves the bundle"),
        (lambda b: change(b, lambda i: i["files"].update({"/etc/passwd": "0" * 64})), "not a path relative"),
        (lambda b: change(b, lambda i: i["files"].update({"a\\b": "0" * 64})), "not a path relative"),
        (lambda b: change(b, lambda i: i["files"].update({"bundle.json": "0" * 64})), "lists itself"),
        (lambda b: add(b, "weights.pkl", b"x"), "may not stand in a bundle"),
        (lambda b: add(b, "weights.bin", pickle.dumps({"a": 1})), "is a pickle"),
        (lambda b: add(b, "weights.bin", b"PK\x03\x04" + bytes(50)), "is a zip"),
        (lambda b: add(b, "other.onnx", b"no protocol buffer"), "not a readable ONNX graph"),
        (lambda b: (b / "model.onnx").rename(b / "x") and (b / "model.onnx").symlink_to("x"), "is a link"),
    ],
)
def test_what_is_refused(bundle: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(bundle)
    with pytest.raises(BundleError, match=message) as refused:
        Bundle.load(bundle)
    assert "\n" not in str(refused.value)
    assert str(bundle) in str(refused.value)


def test_a_link_to_a_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bundle / "model-int8").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="is a link"):
        Bundle.load(bundle)


def test_all_problems_are_told_at_once(bundle: Path) -> None:
    def spoil(info: dict[str, Any]) -> None:
        info["name"] = 3
        info["input"]["height"] = 8
        info["input"]["channels"] = 1
        info["outputs"]["map"]["kind"] = "saliency"
        engine = info["engines"]["onnx-float32"]
        engine["calibration"]["slope"] = -1
        engine["operating_points"] = {"high_sensitivity": 0.9, "high_specificity": 0.1}
        engine["map_threshold"] = "half"
        del info["training"]["groups"]
        info["training"]["leaks"] = {"groups": 0, "files": 3, "sentence": ""}
        info["figures"] = {}
        info["files"]["MODEL_CARD.md"] = "abc"

    with pytest.raises(BundleError) as refused:
        Bundle.load(change(bundle, spoil))
    for part in (
        "name is 3",
        "input.height is 8",
        "input.channels is 1",
        "outputs.map.kind is 'saliency'",
        "slope is -1",
        "0.9 (high sensitivity) and 0.1 (high specificity)",
        "map_threshold is 'half'",
        "training.groups is missing",
        "training.leaks.sentence is ''",
        "training.leaks.groups is 0, expected a whole number from 1",
        "figures is {}",
        "files['MODEL_CARD.md'] is 'abc'",
    ):
        assert part in str(refused.value)


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [{}], True])
@pytest.mark.parametrize("key", sorted(tiny_bundle.tiny_info()))
def test_any_wrong_type_is_an_error_of_ours(bundle: Path, key: str, value: object) -> None:
    change(bundle, lambda info: info.update({key: value}))
    if (key, value) in [("name", "text"), ("licence", "text"), ("figures", []), ("figures", [{}])]:
        Bundle.load(bundle)
    else:
        with pytest.raises(BundleError, match="not as it has to be"):
            Bundle.load(bundle)


HUGE = {"large": 10**4200, "low": -(10**4200), "no float": 10**400, "float": 1e308, "below": -1, "long": "x" * 10**6}


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
def test_what_is_huge_is_told_in_a_line_wherever_it_stands(tmp_path: Path, value: object) -> None:
    path = tiny_bundle.write_knowing_bundle(tmp_path / "b", views=["mirror"]) / "bundle.json"
    text = path.read_text()
    told = []
    for holder, key in _places(json.loads(text)):
        info = inner = json.loads(text)
        for step in holder:
            inner = inner[step]
        inner[key] = value
        path.write_text(json.dumps(info))
        try:
            Bundle.load(path.parent)
        except BundleError as error:
            told.append(str(error))
    assert len(told) > 20
    assert max(map(len, told)) < 1500


def _places(value: Any, *way: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place in nested lists and objects: the way to what holds it, and its key there."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield way, key
        yield from _places(value[key], *way, key)


def test_keys_that_later_versions_add_do_not_hurt(bundle: Path) -> None:
    assert Bundle.load(change(bundle, lambda info: info.update(unlike_training={"threshold": 3}))).name == "tiny"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such model"):
        Bundle.load(tmp_path / "missing")
    with pytest.raises(BundleError, match="training run that has ended"):
        Bundle.load(tmp_path)
    (tmp_path / "text.callus").write_text("no zip")
    with pytest.raises(BundleError, match="is not a readable bundle"):
        Bundle.load(tmp_path / "text.callus")


@pytest.fixture
def archive(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A zip of the bundle with more entries."""

    def make(*entries: tuple[zipfile.ZipInfo | str, bytes], drop: str = "") -> Path:
        out = tmp_path / "made.callus"
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
            for file in bundle.iterdir():
                if file.name != drop:
                    made.write(file, file.name)
            for name, content in entries:
                made.writestr(name, content, zipfile.ZIP_DEFLATED)
        return out

    return make


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("../evil.md", b"x")], "leaves the bundle"),
        ([("/etc/evil.md", b"x")], "not a path relative"),
        ([("C:\\evil.md", b"x")], "not a path relative"),
        ([("a/../../evil.md", b"x")], "leaves the bundle"),
        ([(link("evil.md"), b"/etc/passwd")], "is a link"),
        ([("extra.md", b"x")], "is not listed"),
        ([("bomb.bin", bytes(30 << 20))], "unpacks to 31,457,280 bytes"),
        ([(f"{number}.md", b"") for number in range(300)], "at most 256 are read"),
    ],
)
def test_archives_that_are_refused(archive: Callable[..., Path], entries: list[Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Bundle.load(archive(*entries))


def test_an_archive_with_a_file_twice_is_refused(archive: Callable[..., Path]) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = archive(("MODEL_CARD.md", b"another"))
    with pytest.raises(BundleError, match="stands in it twice"):
        Bundle.load(twice)


def test_an_archive_that_claims_to_be_huge_is_refused(archive: Callable[..., Path]) -> None:
    out = archive(("big.bin", os.urandom(100)))
    data = out.read_bytes()
    at = data.rindex(b"PK\x01\x02")  # the last entry of the zip's directory
    huge = struct.pack("<II", 0xF0000000, 0xFFFFFFF0)
    out.write_bytes(data[: at + 20] + huge + data[at + 28 :])
    with pytest.raises(BundleError, match=r"GiB|not a readable bundle"):
        Bundle.load(out)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive_is_refused(archive: Callable[..., Path], share: float) -> None:
    out = archive()
    data = out.read_bytes()
    out.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BundleError):
        Bundle.load(out)


def test_flipped_bytes_never_get_through(bundle: Path, tmp_path: Path) -> None:
    """A stored bundle with one byte changed: refused by name, or the same bundle (a byte that nobody reads)."""
    packed = pack(bundle, tmp_path / "good.callus")
    good, generator = packed.read_bytes(), random.Random(0)  # noqa: S311 - bytes to flip
    wanted = Bundle.load(packed).read("model.onnx")
    refused = 0
    for _ in range(150):
        data = bytearray(good)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        packed.write_bytes(data)
        try:
            loaded = Bundle.load(packed)
        except BundleError:
            refused += 1
        else:
            assert loaded.read("model.onnx") == wanted
    assert refused > 100


def test_a_file_is_no_place_for_a_bundle(bundle: Path) -> None:
    shutil.rmtree(bundle)
    bundle.mkdir()
    (bundle / "bundle.json").mkdir()
    with pytest.raises(BundleError, match=r"holds no bundle\.json"):
        Bundle.load(bundle)


def test_the_digest_tells_bundles_apart_and_not_how_they_are_packed(tmp_path: Path) -> None:
    one = tiny_bundle.write_tiny_bundle(tmp_path / "one")
    other = tiny_bundle.write_tiny_bundle(tmp_path / "other", name="other")
    pack(one, tmp_path / "one.callus")
    assert Bundle.load(one).digest == Bundle.load(tmp_path / "one.callus").digest
    assert Bundle.load(one).digest != Bundle.load(other).digest
