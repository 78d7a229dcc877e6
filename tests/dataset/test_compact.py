from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from callus.dataset import read_manifest
from callus.dataset.compact import compact
from callus.dataset.simulated import simulate
from callus.errors import DatasetError
from callus.radiograph import read


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Simulated radiographs of about 640 by 512 pixels."""
    return simulate(tmp_path_factory.mktemp("set"), 60, seed=1, size=(640, 512))


def test_pictures_and_outlines_shrink_together_and_the_rest_stays(tmp_path: Path, frame: pd.DataFrame) -> None:
    made = compact(frame, tmp_path / "small", side=256)
    back = read_manifest(tmp_path / "small/manifest.parquet")
    pd.testing.assert_frame_equal(back, made.manifest, check_dtype=False)
    assert len(back) == len(frame)
    for column in ("label", "group", "radiograph", "patient", "region", "split"):
        assert list(back[column]) == list(frame[column]), column
    for (_, small), (_, whole) in zip(back.iterrows(), frame.iterrows(), strict=True):
        radiograph, original = read(small["path"]), read(whole["path"])
        assert max(radiograph.pixels.shape) == 256
        assert radiograph.pixels.dtype == np.uint8
        assert (radiograph.width, radiograph.height) == (small["width"], small["height"])
        assert hashlib.sha256(Path(small["path"]).read_bytes()).hexdigest() == small["sha256"]
        scale = np.array([radiograph.width / original.width, radiograph.height / original.height])
        for box, before in zip(small["boxes"], whole["boxes"], strict=True):
            assert np.asarray(box) == pytest.approx(np.asarray(before) * np.tile(scale, 2))


def test_the_folder_can_be_moved(tmp_path: Path, frame: pd.DataFrame) -> None:
    compact(frame.head(6), tmp_path / "small")
    (tmp_path / "small").rename(tmp_path / "moved")
    assert all(Path(path).is_file() for path in read_manifest(tmp_path / "moved/manifest.parquet")["path"])


def test_quality_falls_until_it_fits(tmp_path: Path, frame: pd.DataFrame) -> None:
    good, small = compact(frame, tmp_path / "good"), compact(frame, tmp_path / "small", most=600_000)
    assert good.quality == 95
    assert small.quality < 95
    assert small.size <= 600_000 < good.size
    assert small.size == sum(Path(path).stat().st_size for path in small.manifest["path"])
    with pytest.raises(DatasetError, match="more than 0; give a smaller side"):
        compact(frame, tmp_path / "none", most=10_000)
    assert not (tmp_path / "none").exists()


def test_files_of_one_name_stay_apart_and_small_ones_keep_their_size(tmp_path: Path, frame: pd.DataFrame) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    rows = frame.head(2).copy()
    for place, name in ((0, "a/1.png"), (1, "b/1.PNG")):
        source = Path(rows["path"].iloc[place])
        (tmp_path / name).write_bytes(source.read_bytes())
    rows["path"] = [str(tmp_path / "a/1.png"), str(tmp_path / "b/1.PNG")]
    made = compact(rows, tmp_path / "small", side=4096)
    assert made.manifest["path"].nunique() == 2
    assert list(made.manifest["width"]) == list(rows["width"])


def test_what_cannot_be_copied_is_told(tmp_path: Path, frame: pd.DataFrame) -> None:
    rows = frame.head(4).copy()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    rows.loc[rows.index[0], "path"] = str(broken)
    rows.loc[rows.index[1], "label"] = pd.NA
    made = compact(rows, tmp_path / "small")
    assert len(made.manifest) == 2
    assert made.left_out == sorted([str(broken), rows["path"].iloc[1]])
    with pytest.raises(DatasetError, match="no file can be read"):
        compact(rows.head(1), tmp_path / "none")
    with pytest.raises(DatasetError, match="is not empty"):
        compact(rows, tmp_path / "small")
    with pytest.raises(DatasetError, match="32 pixels shows no fracture"):
        compact(rows, tmp_path / "other", side=32)
