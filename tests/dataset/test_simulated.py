from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from callus.dataset.manifest import read_manifest
from callus.dataset.simulated import draw_patient, simulate, take
from callus.dataset.simulated_bones import TABLE, Bone, bone_paths
from callus.dataset.simulated_exposure import MU_CORTEX, MU_FAT, MU_SOFT, draw_exposure, expose
from callus.dataset.simulated_fractures import KINDS, Fragment, Surface, draw_fracture
from callus.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from callus.dataset.simulated import Patient

SMALL = (160, 128)


def broken(seed: int, kind: str | None = None, start: int = 0) -> Patient:
    """The first patient with a fracture (of a kind)."""
    for number in range(start, start + 200):
        patient = draw_patient(seed, number)
        if any(f is not None and kind in (None, f.kind) for f in patient.fractures):
            return patient
    raise AssertionError


def flat_bone(radius: float = 10.0, cortex: float = 3.0) -> Bone:
    """A plain tube along the limb's axis."""
    same = np.ones_like(TABLE)
    texture = np.zeros((8, 8), np.float32)
    return Bone(0, 0, 0, radius * same, cortex * same, 0 * same, 1.0, texture, float("nan"), (0, 0, 0, 0))


def surface(at: float = 0.0, across: float = 0.0, depth: float = 0.0) -> Surface:
    return Surface(at, across, depth, 0.0, np.zeros(4, np.float32), 15.0)


def test_a_ray_crosses_the_chords_of_a_hollow_cylinder() -> None:
    x = np.array([[0.0, 6.0, 8.0, 9.9, 11.0]], np.float32)
    shell, sponge, marrow = bone_paths(flat_bone(), Fragment(None, None), x, np.zeros_like(x))
    outer = 2 * np.sqrt(np.maximum(100 - x**2, 0))
    inner = 2 * np.sqrt(np.maximum(49 - x**2, 0))
    np.testing.assert_allclose(shell, outer - inner, atol=2e-3)
    np.testing.assert_allclose(marrow, inner, atol=2e-3)
    assert not sponge.any()


def test_the_coefficients_are_the_published_ones_times_density() -> None:
    # NISTIR 5632, 50 keV, ICRU-44: cm2/g times g/cm3, in 1/mm.
    published = (0.4242 * 1.92 / 10, 0.2262 * 1.06 / 10, 0.2123 * 0.95 / 10)
    np.testing.assert_allclose((MU_CORTEX, MU_SOFT, MU_FAT), published, rtol=3e-3)


@pytest.mark.parametrize(("across", "depth"), [(0.0, 0.0), (1.2, 0.0), (0.3, 1.1), (-0.8, -0.9)])
def test_the_two_parts_of_a_cut_bone_and_its_gap_make_the_whole(across: float, depth: float) -> None:
    bone, cut = flat_bone(), surface(across=across, depth=depth)
    x, t = (grid.astype(np.float32) for grid in np.meshgrid(np.linspace(-11, 11, 45), np.linspace(-40, 40, 161)))
    whole = np.stack(bone_paths(bone, Fragment(None, None), x, t))
    near, far = (np.stack(bone_paths(bone, piece, x, t)) for piece in (Fragment(None, cut), Fragment(cut, None)))
    np.testing.assert_allclose(near + far, whole, atol=1e-3)
    near, far = (
        np.stack(bone_paths(bone, piece, x, t)) for piece in (Fragment(None, cut, 1.0), Fragment(cut, None, 1.0))
    )
    missing = (whole - near - far).sum(axis=0)
    assert missing.min() > -1e-3
    # Whatever its slope, a gap of 2 mm along the bone takes 2 mm of each line along it: 0.5 mm between rows.
    np.testing.assert_allclose(missing.sum(axis=0) * 0.5, 2 * whole.sum(axis=0)[0], rtol=0.03, atol=1.5)


def test_a_fragments_way_home_undoes_its_motion() -> None:
    piece = Fragment(surface(), None, 0.5, (3.0, -7.0), 0.2, (4.0, -2.0))
    x, t = np.array([0.0, 5.0], np.float32), np.array([10.0, 60.0], np.float32)
    np.testing.assert_allclose(piece.home(*piece.moved(x, t)), (x, t), atol=1e-4)


def test_all_kinds_are_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_fracture(rng, 0.0, 10.0, splinted=False) for _ in range(60)]
    assert {fracture.kind for fracture in drawn} == set(KINDS)
    assert any(fracture.step != (0.0, 0.0) for fracture in drawn)
    assert any(fracture.bend != (0.0, 0.0) for fracture in drawn)
    assert all(0.4 < fracture.gap < 3 for fracture in drawn)


def test_brighter_is_denser() -> None:
    exposure = replace(draw_exposure(np.random.default_rng(1)), shutter=(-0.1, -0.1, 1.1, 1.1), enhance=0.0)
    steps = np.repeat(np.linspace(0, 2.6, 8, dtype=np.float32), 24)[None].repeat(64, axis=0)
    picture = expose(steps, 1.4, 1.0, exposure, np.random.default_rng(2))
    means = picture.reshape(64, 8, 24).mean(axis=(0, 2))
    assert (np.diff(means) >= 0).all()
    assert means[0] < 20
    assert means[-1] > 200


def test_same_seed_same_bytes_whatever_the_count(tmp_path: Path) -> None:
    few = simulate(tmp_path / "few", 4, seed=3, size=SMALL)
    many = simulate(tmp_path / "many", 9, seed=3, size=SMALL)
    other = simulate(tmp_path / "other", 4, seed=4, size=SMALL)
    assert few["sha256"].tolist() == many["sha256"].tolist()[:4]
    assert not set(few["sha256"]) & set(other["sha256"])
    assert many["sha256"].is_unique
    again = simulate(tmp_path / "few", 4, seed=3, size=SMALL)  # its own folder may be written again
    assert again["sha256"].tolist() == few["sha256"].tolist()


def test_the_manifest_tells_what_is_in_the_files(tmp_path: Path) -> None:
    frame = simulate(tmp_path / "out", 12, seed=0, size=SMALL)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["images", "manifest.parquet"]
    assert read_manifest(tmp_path / "out" / "manifest.parquet")["path"].tolist() == frame["path"].tolist()
    assert set(frame["label"]) == {0, 1}
    assert frame["radiograph"].is_unique
    assert (frame.groupby("patient")["group"].nunique() == 1).all()
    assert (frame.groupby("patient")["label"].nunique() == 1).all()
    assert frame["group"].nunique() < len(frame)
    for row in frame.itertuples():
        picture = cv2.imread(row.path, cv2.IMREAD_UNCHANGED)
        assert picture.shape == (row.height, row.width)
        assert picture.dtype == np.uint8
        assert not row.label or len(row.boxes) >= 1
        assert row.label or len(row.boxes) == len(row.polygons) == 0
        for x, y, width, height in row.boxes:
            assert x >= 0
            assert y >= 0
            assert x + width <= row.width + 0.2
            assert y + height <= row.height + 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_hold_all_that_the_fracture_changes(kind: str) -> None:
    start = 0
    for _ in range(3):
        patient = broken(1, kind, start)
        start = patient.number + 1
        # Fragments that stay where they are: what moved away as a whole is no part of a fracture's outline.
        # A gap that shows at every slope; a hairline that slants along the beam changes no pixel by much.
        still = tuple(
            f and replace(f, gap=2.4, step=(0.0, 0.0), bend=(0.0, 0.0), shortened=0.0) for f in patient.fractures
        )
        patient = replace(patient, fractures=still)
        with_it, without = take(patient, 0), take(patient.whole(), 0)
        assert without.boxes == ()
        assert len(with_it.boxes) >= 1
        change = np.abs(with_it.pixels.astype(int) - without.pixels)
        boxes, inside = np.zeros(change.shape, bool), np.zeros(change.shape, np.uint8)
        for (x, y, width, height), polygon in zip(with_it.boxes, with_it.polygons, strict=True):
            boxes[int(y) : int(y + height) + 1, int(x) : int(x + width) + 1] = True
            cv2.fillPoly(inside, [np.rint(np.reshape(polygon, (-1, 2))).astype(np.int32)], 1)
        # Scatter reaches everywhere and noise rides on it: a change that can be seen is one of more than 12 of 255.
        seen = change > 12
        assert seen[boxes].sum() > 5
        assert seen[~boxes].sum() <= 0.03 * seen.sum()
        assert seen[inside == 0].sum() <= 0.06 * seen.sum()


def test_a_fracture_can_be_seen_but_changes_little() -> None:
    lines = []
    for number in range(0, 40, 2):
        patient = broken(2, start=number)
        with_it, without = take(patient, 0, SMALL), take(patient.whole(), 0, SMALL)
        assert with_it.pixels.shape == without.pixels.shape
        change = np.abs(with_it.pixels.astype(float) - without.pixels)
        assert change.max() > 10, f"the fracture of patient {patient.number} does not show"
        lines.append(float(with_it.pixels.mean()) - float(without.pixels.mean()))
    assert abs(np.mean(lines)) < 1.0


def test_nothing_but_the_fracture_tells_the_classes_apart(tmp_path: Path) -> None:
    frame = simulate(tmp_path / "out", 420, seed=11, size=(96, 80))
    rows = []
    for row in frame.itertuples():
        with open(row.path, "rb") as file:  # noqa: PTH123
            size = len(file.read())
        picture = cv2.imread(row.path, cv2.IMREAD_UNCHANGED)
        rows.append((size, size / picture.size, picture.mean(), picture.std(), picture.max(), *picture.shape))
    label = frame["label"].to_numpy(dtype=int)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    probability = cross_val_predict(model, np.array(rows), label, cv=5, method="predict_proba")[:, 1]
    # 420 pictures of about 230 patients: the standard error under no difference is about 0.035.
    assert abs(roc_auc_score(label, probability) - 0.5) < 0.1
    assert abs(label.mean() - 0.5) < 0.06
    names = np.array([float(path[-11:-6]) for path in frame["path"]])
    assert abs(roc_auc_score(label, names) - 0.5) < 0.1


def test_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="0 simulated radiographs were asked for"):
        simulate(tmp_path / "out", 0)
    with pytest.raises(DatasetError, match="too small"):
        simulate(tmp_path / "out", 1, size=(32, 32))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DatasetError, match=r"thesis\.txt"):
        simulate(tmp_path / "mine", 1)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_plain_fractures_are_wide_displaced_and_close_up() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_fracture(rng, 0.0, 10.0, splinted=True, plain=True) for _ in range(60)]
    assert min(fracture.gap for fracture in drawn) >= 3
    assert min(np.hypot(*fracture.step) for fracture in drawn) >= 3
    usual, plain = draw_patient(4, 0), draw_patient(4, 0, plain=True)
    assert plain.limb.field < usual.limb.field
    assert plain.label == usual.label
