"""The model that comes with callus: it answers where none is named, and is as good as it is said to be."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
import tiny_bundle
from pydicom.data import get_testdata_file
from sklearn.datasets import load_sample_image

from callus.bundle import DEFAULT_MODEL, PICTURE_DIGITS, Bundle, shipped_models, write_bundle
from callus.dataset.simulated import simulate
from callus.errors import BundleError
from callus.identify import Finding, Identifier
from callus.labels import RESEARCH_ONLY
from callus.metrics.scores import auroc

LARGEST = 30_000_000
"""Bytes that the file may have."""
LEAST_AUROC = 0.90
"""On its validation split, which it never learnt from. docs/results.md has what was measured."""
LEAST_SENSITIVITY = 0.85
"""At specificity 0.80."""
MOST_STRANGE = 0.05
"""Share of its own source's radiographs that may be called unlike the training data; 1 % is meant."""


def callus(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "callus", *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Bundle.load(DEFAULT_MODEL)


def test_the_default_is_small_fast_and_says_where_it_comes_from(shipped: Bundle) -> None:
    assert shipped.name == DEFAULT_MODEL == next(iter(shipped_models()))
    assert shipped.where.stat().st_size <= LARGEST
    assert {"onnx-float32", "openvino-int8"} <= set(shipped.engines)
    for words in (RESEARCH_ONLY, "FracAtlas", "CC BY 4.0", "doi 10.1038/s41597-023-02432-4", "Apache-2.0", "children"):
        assert words in shipped.card, words
    assert shipped.info["training"]["leaks"] is None


def test_a_radiograph_is_answered_without_naming_a_model(tmp_path: Path) -> None:
    picture = simulate(tmp_path / "set", 6, seed=2)["path"].iloc[0]
    done = callus("identify", picture, "--json", tmp_path / "f.json", "--out", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    (finding,) = json.loads((tmp_path / "f.json").read_text())["findings"]
    assert finding["model"] == DEFAULT_MODEL
    assert 0 <= finding["probability"] <= 1
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    assert Identifier().bundle.digest == Bundle.load(DEFAULT_MODEL).digest


def test_the_list_and_the_card(shipped: Bundle) -> None:
    listed = callus("model", "list")
    assert listed.returncode == 0
    assert listed.stdout.startswith("radiograph (taken where none is named): mobilenet_v2, 448 x 448 pixels\n")
    assert RESEARCH_ONLY in listed.stdout
    (entry,) = json.loads(callus("model", "list", "--json").stdout)
    assert entry["default"] is True
    assert entry["files"] == shipped.info["training"]["files"]
    assert callus("model", "show", "radiograph").stdout.strip() == shipped.card.strip()


def test_a_card_is_shown_without_what_a_terminal_would_obey(tmp_path: Path) -> None:
    files = {"model.onnx": tiny_bundle.tiny_graph().SerializeToString(), "MODEL_CARD.md": b"# x\n\x1b]0;y\x07\n"}
    where = write_bundle(tmp_path / "b", tiny_bundle.tiny_info(), files)
    assert callus("model", "show", str(where)).stdout == "# x\n\\x1b]0;y\\x07\n"


def test_a_name_of_the_list_goes_before_a_file_and_a_path_means_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / DEFAULT_MODEL).mkdir()
    monkeypatch.chdir(tmp_path)
    assert Bundle.load(DEFAULT_MODEL).name == DEFAULT_MODEL
    with pytest.raises(BundleError, match=r"holds neither bundle\.json"):
        Bundle.load(tmp_path / DEFAULT_MODEL)
    missing = callus("identify", "x.png", "--model", "nothing")
    assert missing.returncode == 2


def as_grey(values: np.ndarray) -> np.ndarray:
    """Some pictures' values as a viewer shows them, all but the outermost hundredth between black and white."""
    low, high = np.percentile(values, [0.5, 99.5])
    return np.clip((values - low) / (high - low) * 255, 0, 255)


@pytest.mark.parametrize("engine", ["onnx-float32", "openvino-int8"])
def test_pictures_of_another_kind_are_cautioned(engine: str) -> None:
    identifier = Identifier(engine=engine)
    generator = np.random.default_rng(0)
    across = np.arange(600)
    drawing = np.full((600, 500), 255, np.uint8)
    for _ in range(40):
        (x, y), radius = generator.integers(0, 500, 2).tolist(), int(generator.integers(10, 80))
        cv2.circle(drawing, (x, y), radius, (0,), 2)
    photograph = cv2.cvtColor(load_sample_image("china.jpg"), cv2.COLOR_RGB2GRAY)
    strange = {
        "a CT slice": as_grey(pydicom.dcmread(get_testdata_file("CT_small.dcm")).pixel_array),
        "an MR slice": as_grey(pydicom.dcmread(get_testdata_file("MR_small.dcm")).pixel_array),
        "a photograph": photograph,
        "a part of one": photograph[100:400, 200:500],
        "noise": generator.integers(0, 256, (600, 500)),
        "white": np.full((600, 500), 255),
        "a checkerboard": np.add.outer(across // 40, across[:500] // 40) % 2 * 255,
        "a drawing": drawing,
    }
    for name, pixels in strange.items():
        finding = identifier.identify(cv2.imencode(".png", pixels.astype(np.uint8))[1].tobytes())
        assert any(line.startswith("unlike") for line in finding.cautions), (name, finding.distance)


def test_it_is_as_good_as_it_is_said_to_be(shipped: Bundle, fracatlas: Path) -> None:
    """The radiographs that it did not learn from, whole groups, told by their bytes; its calibration is fitted on them.

    What it is worth was measured on the folds of its recipe. This is to notice another model, or another runtime.
    """
    pictures = shipped.pictures
    assert pictures is not None
    files = sorted((fracatlas / "images").rglob("*.jpg"))
    split = [pictures.get(hashlib.sha256(file.read_bytes()).hexdigest()[:PICTURE_DIGITS], "") for file in files]
    tested = pd.DataFrame({"path": files, "split": split}).query("split == 'val'")
    assert len(tested) > 300
    label = np.array([path.parent.name == "Fractured" for path in tested["path"]], dtype=np.int64)
    answers = [answer for _, _, answer in Identifier(hint="throughput").identify_many(tested["path"])]
    probability = np.array([answer.probability for answer in answers if isinstance(answer, Finding)])
    assert len(probability) == len(label)
    assert (auroc(label, probability) or 0) >= LEAST_AUROC
    strange = [any(line.startswith("unlike") for line in one.cautions) for one in answers if isinstance(one, Finding)]
    assert np.mean(strange) <= MOST_STRANGE
    threshold = np.quantile(probability[label == 0], 0.80, method="higher")
    assert (probability[label == 1] > threshold).mean() >= LEAST_SENSITIVITY


def test_int8_answers_alike_on_processors_without_its_instructions(tmp_path: Path) -> None:
    """AVX2 adds products in 16 bits: weights of seven bits do not overflow there, those of eight would.

    AMX is left out: it rounds the first convolution's sums otherwise in their last bit, which now and then takes a
    value that lies between two steps to the other one.
    """
    pictures = [str(path) for path in simulate(tmp_path / "set", 8, seed=4)["path"]]
    told = []
    for limit in ("AVX512_CORE_VNNI", "AVX2"):
        file = tmp_path / f"{len(told)}.json"
        words = ["identify", *pictures, "--engine", "openvino-int8", "--json", str(file)]
        command = [sys.executable, "-m", "callus", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"ONEDNN_MAX_CPU_ISA": limit}
        )
        assert done.returncode == 0, done.stderr
        told.append([finding["probability"] for finding in json.loads(file.read_text())["findings"]])
    assert len(told[0]) == 8
    assert told[0] == pytest.approx(told[1], abs=1e-4)
