from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from callus import radiograph
from callus.dataset import file_features as measuring
from callus.dataset import shortcuts
from callus.dataset.columns import COLUMNS, conform
from callus.dataset.file_features import FEATURES, file_features
from callus.dataset.shortcuts import Carrier, Shortcuts, probe
from callus.errors import DatasetError
from callus.radiograph import Radiograph


def limb(width: int = 96, height: int = 64, depth: int = 8) -> np.ndarray:
    """A bright bar on a dark slope, with noise."""
    random = np.random.default_rng(0)
    picture = np.linspace(30, 60, width)[None] + random.normal(0, 4, (height, width))
    picture[height // 3 : height // 2] += 120
    return (picture.clip(0, 255) * (257 if depth == 16 else 1)).astype(np.uint16 if depth == 16 else np.uint8)


def measure(path: Path) -> dict[str, float]:
    return file_features(path, radiograph.read(path))


def save(path: Path, pixels: np.ndarray, mode: str = "L", **options: object) -> Path:
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [1, 2, 5, 10, 25, 49, 50, 51, 75, 80, 89, 90, 95, 99, 100])
def test_the_quality_that_pillow_wrote_is_found(tmp_path: Path, quality: int, mode: str) -> None:
    found = measure(save(tmp_path / "a.jpg", limb(), mode, quality=quality))
    assert found["jpeg_quality"] == quality
    assert found["jpeg_deviation"] == 0
    assert found["jpeg_tables"] == (1 if mode == "L" else 2)
    if mode == "RGB":
        assert found["jpeg_chroma_quality"] == (1 if quality == 2 else quality)  # both are 255 throughout
    else:
        assert math.isnan(found["jpeg_chroma_quality"])


def test_every_quality_has_a_table_of_its_own() -> None:
    assert len({table.tobytes() for table in measuring._STANDARD[0]}) == 100


def test_a_table_of_another_encoder_is_near_a_quality_and_not_it(tmp_path: Path) -> None:
    table = [12 + number // 4 for number in range(64)]
    found = measure(save(tmp_path / "a.jpg", limb(), qtables=[table]))
    assert 50 < found["jpeg_quality"] < 90
    assert found["jpeg_deviation"] > 0.1


def test_how_a_jpeg_is_coded(tmp_path: Path) -> None:
    plain = measure(save(tmp_path / "a.jpg", limb(), "RGB", subsampling="4:4:4"))
    assert (plain["jpeg_subsampling"], plain["jpeg_progressive"], plain["exif"]) == (1, 0, 0)
    assert (plain["channels"], plain["bit_depth"], plain["jpeg_huffman_bytes"]) == (3, 8, 416)
    exif = Image.Exif()
    exif[0x010F] = "a maker of machines"
    other = measure(save(tmp_path / "b.jpg", limb(), "RGB", subsampling="4:2:0", progressive=True, exif=exif.tobytes()))
    assert (other["jpeg_subsampling"], other["jpeg_progressive"], other["exif"]) == (4, 1, 1)
    assert other["header_bytes"] != plain["header_bytes"]
    assert measure(save(tmp_path / "c.jpg", limb()))["channels"] == 1


def test_each_file_has_every_feature_finite_or_nan(tmp_path: Path) -> None:
    colour = np.stack([limb(), limb()[::-1], limb()], axis=-1)
    files = [
        save(tmp_path / "IMG0000012 (3).png", limb()),
        tmp_path / "deep.png",
        save(tmp_path / "a.tiff", limb()),
        save(tmp_path / "a.webp", limb()),
        save(tmp_path / "colour.png", colour, "RGB"),
        save(tmp_path / "one.png", np.zeros((1, 1), np.uint8)),
        save(tmp_path / "thin.jpg", limb()[:1]),
    ]
    Image.fromarray(limb(depth=16)).save(files[1])
    found = {path.name: measure(path) for path in files}
    for one in found.values():
        assert list(one) == list(FEATURES)
        assert all(isinstance(value, float) and (math.isnan(value) or value >= 0) for value in one.values())
        assert sum(value for name, value in one.items() if name.startswith("format_")) == 1
        assert math.isnan(one["jpeg_quality"]) or one["format_jpeg"] == 1
    png, deep, tiff = found["IMG0000012 (3).png"], found["deep.png"], found["a.tiff"]
    assert (png["first_number"], png["number"]) == (12, 3)
    assert math.isnan(deep["number"])
    assert math.isnan(tiff["channels"])
    assert (png["bit_depth"], png["channels"], png["format_png"]) == (8, 1, 1)
    assert (deep["bit_depth"], deep["channels"]) == (16, 1)
    assert deep["brightness_mean"] == pytest.approx(png["brightness_mean"], abs=0.01)
    assert deep["brightness_p99"] == pytest.approx(png["brightness_p99"], abs=0.01)
    assert (found["colour.png"]["colour"], found["colour.png"]["channels"], png["colour"]) == (1, 3, 0)
    assert (png["width"], png["height"], png["aspect"], png["longer_side"]) == (96, 64, 1.5, 96)
    assert png["bytes"] == files[0].stat().st_size
    assert png["bytes_per_pixel"] == files[0].stat().st_size / (96 * 64)


def test_a_dicom_file_and_one_that_is_gone(tmp_path: Path) -> None:
    """Ten bits in sixteen, and a path where nothing lies any more."""
    seen = Radiograph(limb(depth=16), "1.2.3", "DICOM", "0" * 64)
    found = file_features(tmp_path / "1.2.840.77", seen)
    assert (found["format_dicom"], found["bit_depth"], found["number"]) == (1, 16, 840)  # .77 is the ending
    assert math.isnan(found["bytes"])
    assert math.isnan(found["jpeg_quality"])
    assert found["width"] == 96


def test_border_and_brightness(tmp_path: Path) -> None:
    framed = np.full((100, 200), 255, np.uint8)
    framed[10:90, 20:180] = limb(160, 80)
    found = measure(save(tmp_path / "a.png", framed))
    assert (found["border_mean"], found["border_spread"], found["border_white"]) == (1, 0, 1)
    assert found["border_constant"] == pytest.approx(1 - 0.8 * 0.8)
    assert found["white"] == pytest.approx(1 - 0.8 * 0.8, abs=0.01)
    black = measure(save(tmp_path / "b.png", np.zeros((40, 40), np.uint8)))
    assert (black["border_black"], black["border_constant"], black["black"]) == (1, 1, 1)
    assert black["brightness_p50"] == black["brightness_spread"] == 0
    assert black["levels"] == 1 / 256
    assert measure(save(tmp_path / "c.png", limb()))["border_constant"] == 0


def test_a_file_that_ends_early_is_told_by_its_note(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", limb())
    assert measure(path)["truncated"] == 0
    path.write_bytes(path.read_bytes()[:-200])
    assert measure(path)["truncated"] == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xdb\x00\x00",
        b"\xff\xd8\xff\xdb\x00\x04\x15\x01",
        b"\xff\xd8\xff\xc0\x00\x02\xff\xda\x00\x02",
        b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x10\x00\x10\x03\x01\x00",
        b"\xff\xd8" + b"\xff" * 5000,
        b"\xff\xd8" + b"\xff\xfe\x00\x02" * 5000,
        bytes(range(256)),
        b"\xff\xd8\xff\xc0" + struct.pack(">H", 17) + b"\x08\0\x10\0\x10\x03\x01\0\x07\x02\0\x07\x03\0\x07",
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_odd_headers_never_raise(tmp_path: Path, data: bytes, kind: str) -> None:
    """The file may have changed since it was read."""
    path = tmp_path / ("9" * 200 + ".jpg")
    path.write_bytes(data)
    found = file_features(path, Radiograph(limb(), None, kind, ""))  # type: ignore[arg-type]
    assert list(found) == list(FEATURES)
    assert not any(math.isinf(value) for value in found.values())
    folder = file_features(tmp_path, Radiograph(limb(), None, kind, ""))  # type: ignore[arg-type]
    assert math.isnan(folder["bytes"])


def test_every_prefix_of_a_jpeg_is_measured(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.jpg", limb(), "RGB").read_bytes()
    path = tmp_path / "cut.jpg"
    for length in range(0, 700, 7):
        path.write_bytes(whole[:length])
        assert list(file_features(path, Radiograph(limb(), None, "JPEG", ""))) == list(FEATURES)


def data_set(
    groups: int = 60, *, mixed: bool = False, seed: int = 0, size: int = 6
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Groups whose files are alike in every feature; the label is the group's, or of each file where mixed."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), random.integers(2, size + 1, groups))
    label = random.random(len(group)) < 0.4 if mixed else random.permutation(groups)[group] % 2
    frame = pd.DataFrame("", index=range(len(group)), columns=list(COLUMNS), dtype="object")
    frame["path"] = [f"/{number:05}.jpg" for number in range(len(group))]
    frame["group"] = [f"g{number}" for number in group]
    frame["label"] = label.astype(int)
    common = random.random((groups, len(FEATURES)))
    values = 100 * (common[group] + 0.2 * random.random((len(group), len(FEATURES))))
    features = pd.DataFrame(values, columns=list(FEATURES)).round(2)
    for name, family in FEATURES.items():
        if family in ("format", "JPEG tables"):
            features[name] = 1.0
    features["jpeg_chroma_quality"] = np.nan
    return conform(frame), features


def only(features: pd.DataFrame, name: str) -> pd.DataFrame:
    """Nothing else varies."""
    return features[[name]].reindex(columns=list(FEATURES))


def labels(frame: pd.DataFrame) -> np.ndarray:
    return frame["label"].to_numpy(np.int64)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_planted_shortcut_is_found_and_named(*, mixed: bool) -> None:
    frame, features = data_set(mixed=mixed)
    features["jpeg_quality"] = 75.0 + 15 * labels(frame)
    swapped = np.random.default_rng(1).random(len(frame)) < 0.15
    features.loc[swapped, "jpeg_quality"] = 165 - features.loc[swapped, "jpeg_quality"]
    found = probe(frame, features, draws=100)
    assert found is not None
    assert found.found
    assert 0.75 < found.auroc < 0.95
    assert found.low < found.auroc < found.high
    assert found.features[0].name == "JPEG quality"
    assert found.features[0].drop > 0.15
    assert all(abs(part.drop) < 0.1 for part in found.features[1:])
    assert "can be told from the file alone" in found.sentence()
    assert found.sentence().endswith("most by JPEG quality")
    assert (found.files, found.groups) == (len(frame), 60)
    assert {part.name for part in found.features} == set(FEATURES.values())
    for part in found.features:
        if part.name in ("format", "JPEG tables"):
            assert (part.auroc, part.low, part.high, part.drop) == (0.5, 0.5, 0.5, 0)


def test_what_is_absent_tells_as_well() -> None:
    """NaN in one class only, as where one class was exported without numbers."""
    frame, features = data_set()
    features["number"] = features["number"].where(labels(frame) == 1)
    found = probe(frame, features, draws=100)
    assert found is not None
    assert found.features[0].name == "file-name number"
    assert found.auroc > 0.95


@pytest.mark.parametrize("mixed", [False, True])
def test_shuffled_labels_are_not_told(*, mixed: bool) -> None:
    """Whole groups change labels: over many shufflings the mean is 0.5, and 0.5 is in nearly every interval."""
    found = []
    for seed in range(12):
        frame, features = data_set(40, mixed=mixed, seed=seed)
        one = shortcuts.probe(frame, only(features, "width"), draws=100, seed=seed)
        assert one is not None
        found.append(one)
    aurocs = np.array([one.auroc for one in found])
    assert abs(aurocs.mean() - 0.5) < 3 * aurocs.std() / math.sqrt(len(aurocs))
    assert sum(one.low <= 0.5 <= one.high for one in found) >= 10
    told = next(one for one in found if not one.found)
    assert "cannot be told from the file alone: AUROC 0." in told.sentence()


def test_pooled_scores_would_be_biased_and_these_are_not() -> None:
    """Models that know nothing but their own base rate: pooled, the AUROC falls below 0.5; within folds it is 0.5."""
    frame, _ = data_set(12)
    fold = np.arange(len(frame)) % 5
    wrong = np.array([-labels(frame)[fold == number].mean() for number in range(5)])[fold]
    groups = pd.factorize(frame["group"])[0]
    judge = shortcuts._Judge(labels(frame), groups, fold, np.ones((groups.max() + 1, 3), np.float32))
    assert judge.interval(wrong)[0] == 0.5


def test_no_group_is_in_training_and_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that names the group would tell everything if a group crossed."""
    frame, features = data_set(80)
    features = features * np.nan
    names = {name: number for number, name in enumerate(np.random.default_rng(5).permutation(frame["group"].unique()))}
    features["number"] = frame["group"].map(names).astype(float)
    seen = []
    fit = shortcuts._cross_validate

    def spy(values: np.ndarray, label: np.ndarray, fold: np.ndarray) -> object:
        seen.append(pd.Series(fold).groupby(frame["group"].to_numpy()).nunique().max())
        return fit(values, label, fold)

    monkeypatch.setattr(shortcuts, "_cross_validate", spy)
    found = probe(frame, features, draws=100)
    assert found is not None
    assert seen
    assert set(seen) == {1}
    assert not found.found


def test_the_auroc_agrees_with_counting_pairs() -> None:
    random = np.random.default_rng(3)
    label, fold = random.integers(0, 2, 80), random.integers(0, 3, 80)
    group, scores = random.integers(0, 20, 80), random.integers(0, 9, 80).astype(float)
    times = shortcuts._resampled(label, group, 5, random)
    assert (times[:, 0] == 1).all()
    assert (times.sum(axis=0) == 20).all()
    judge = shortcuts._Judge(label, group, fold, times)
    right = pairs = 0.0
    for one in np.flatnonzero(label):
        for other in np.flatnonzero((label == 0) & (fold == fold[one])):
            right += 0.5 * (scores[one] == scores[other]) + (scores[one] > scores[other])
            pairs += 1
    auroc, low, high = judge.interval(scores)
    assert auroc == pytest.approx(right / pairs)
    assert low <= auroc <= high


def test_one_seed_one_answer_whatever_the_order() -> None:
    frame, features = data_set(30)
    features = only(features, "border_mean").assign(width=features["width"])
    first = probe(frame, features, draws=100)
    order = np.random.default_rng(0).permutation(len(frame))
    assert probe(frame.iloc[order], features.iloc[order], draws=100) == first
    assert probe(frame, features, draws=100, seed=1) != first


def test_what_is_not_usable_is_left_out() -> None:
    frame, features = data_set(30)
    frame.loc[0, "label"] = pd.NA
    frame.loc[1, "note"] = "unreadable: it is text"
    features = only(features, "width")
    features.loc[2] = np.nan
    found = probe(frame, features, draws=50)
    assert found is not None
    assert found.files == len(frame) - 3


@pytest.mark.parametrize("groups", [0, 1, 2, 3])
def test_few_groups(groups: int) -> None:
    """One class from few groups: None, or fewer folds; with chances above one in forty nothing is said to be found."""
    frame, features = data_set(10)
    frame["group"] = [f"{label}-{number % max(groups, 1)}" for number, label in enumerate(labels(frame))]
    if groups == 0:
        frame["label"] = pd.array([1] * len(frame), dtype="Int8")
    features = only(features, "width").assign(jpeg_quality=labels(frame) * 10.0)
    found = probe(frame, features, draws=50)
    if groups < 2:
        assert found is None
        return
    assert found is not None
    assert f"in {groups} folds" in found.method
    assert (found.auroc, found.low, found.high) == (1, 0, 1)
    assert "cannot be told" in found.sentence()


def test_what_does_not_fit_together_is_an_error() -> None:
    frame, features = data_set(10)
    with pytest.raises(DatasetError, match="features are missing: bytes, truncated"):
        probe(frame, features.drop(columns=["bytes", "truncated"]))
    with pytest.raises(DatasetError, match="rows of features do not go with"):
        probe(frame, features.iloc[1:])


def test_what_stands_in_the_report() -> None:
    parts = (
        Carrier("JPEG quality", 0.701234, 0.65, 0.75, 0.1),
        Carrier("dimensions", 0.62, 0.55, 0.7, 0.0),
        Carrier("border", 0.5, 0.4, 0.6, 0.0),
    )
    found = Shortcuts(0.712345, 0.66, 0.76, 1000, 80, parts, "trees")
    assert found.sentence() == (
        "the label can be told from the file alone: AUROC 0.71 (0.66 to 0.76), most by JPEG quality and dimensions"
    )
    told = found.as_dict()
    assert list(told) == ["auroc", "low", "high", "method", "files", "groups", "features"]
    assert told["auroc"] == 0.7123
    assert told["features"][0] == {"name": "JPEG quality", "auroc": 0.7012, "low": 0.65, "high": 0.75, "drop": 0.1}
    assert json.loads(json.dumps(told)) == told
    none = dataclasses.replace(found, auroc=0.52, low=0.45)
    assert none.sentence() == "the label cannot be told from the file alone: AUROC 0.52 (0.45 to 0.76)"
