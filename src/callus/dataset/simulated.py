"""Simulated radiographs, for demonstrations and tests: broken and whole long bones with their boxes.

They are physics, not photographs: attenuation of rays through hollow bones in soft tissue, then a detector
(``simulated_exposure``). A picture of a broken bone and the picture of the same bone whole differ by the fracture and
by nothing else: window, noise, size, marker and names are drawn from streams that do not know of it. A network that
does well on them has seen fractures; how well it would do on people they cannot tell.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count as counting
from itertools import islice
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from callus.atomic import whole_folder
from callus.dataset.simulated_bones import bone_paths, ossicle_paths, outline
from callus.dataset.simulated_exposure import (
    MU_CORTEX,
    MU_FAT,
    MU_SOFT,
    MU_SPONGE,
    Exposure,
    draw_exposure,
    expose,
    marker,
    soft_tissue,
)
from callus.dataset.simulated_fractures import Fracture, Fragment, draw_fracture
from callus.dataset.simulated_limbs import VIEWS, Limb, bones_seen_at, draw_limb, ossicles_seen_at
from callus.errors import DatasetError
from callus.labels import FRACTURED, NOT_FRACTURED
from callus.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from callus.dataset.simulated_bones import Bone

SIZE: Final = (320, 256)
"""Height and width that pictures vary about, pixels."""
LIMB_STREAM, FRACTURE_STREAM, VIEW_STREAM = range(3)
CLOSE_UP: Final = 0.72
"""How much smaller the field of a plain picture is."""
BOX_MARGIN: Final = 2.5
"""How far around a fracture its outline is drawn, mm."""


@dataclass(frozen=True)
class Patient:
    """Who is simulated: a limb and what is broken in it, one entry a bone."""

    seed: int
    number: int
    limb: Limb
    fractures: tuple[Fracture | None, ...]
    views: tuple[str, ...]

    @property
    def label(self) -> int:
        """1 where any bone is broken."""
        return FRACTURED if any(self.fractures) else NOT_FRACTURED

    def whole(self) -> Patient:
        """The same patient before the accident."""
        return replace(self, fractures=(None,) * len(self.fractures))


@dataclass(frozen=True, eq=False)
class SimulatedRadiograph:
    """A picture and what is known of it.

    Attributes:
        pixels: uint8 (h, w).
        boxes: (x, y, width, height) of each fracture in pixels, from the top left corner.
        polygons: (x0, y0, x1, y1, ...) of each fracture, pixels.
        view: "frontal", "lateral" or "oblique".
    """

    pixels: NDArray[np.uint8]
    boxes: tuple[tuple[float, float, float, float], ...]
    polygons: tuple[tuple[float, ...], ...]
    view: str


def simulate(
    out: Path, count: int, *, seed: int = 0, size: tuple[int, int] = SIZE, plain: bool = False
) -> pd.DataFrame:
    """Write simulated radiographs with their manifest.

    ``out`` gets ``images/*.png`` (8 bit, grey; names tell nothing) and ``manifest.parquet``. One or more views of a
    patient share a group. Picture k is the same for every ``count`` above k.

    Args:
        out: folder to make; may exist where it is empty or was written by this function.
        count: how many pictures.
        seed: of everything drawn.
        size: height and width that the pictures' sizes vary about, pixels.
        plain: close-ups of fractures that anyone would see (wide, displaced), for a network that has a minute to learn.

    Returns:
        The manifest, with absolute paths.

    Raises:
        DatasetError: the count or size makes no sense, or something else lies in ``out``.
    """
    from callus.dataset.manifest import read_manifest, write_manifest  # noqa: PLC0415 - pandas, only here

    if count < 1:
        raise DatasetError(f"{count} simulated radiographs were asked for; expected 1 or more")
    if min(size) < 64:  # noqa: PLR2004
        raise DatasetError(f"simulated radiographs of {size[0]}x{size[1]} are too small; at least 64x64 is needed")
    _check_ours(out)
    with whole_folder(out) as folder:
        (folder / "images").mkdir()
        work = list(islice(_all_views(seed, plain=plain), count))
        with ThreadPoolExecutor(2) as pool:  # OpenCV and numpy leave the interpreter's lock for most of it
            jobs = pool.map(lambda one: _write(folder, one[0], one[1], size), work)
            rows = list(track(jobs, "simulating radiographs", total=count))
        table = _table(rows)
        table.attrs["audited"] = True  # whoever draws them knows that there are no copies
        write_manifest(table, folder / "manifest.parquet")
    return read_manifest(out / "manifest.parquet")


def draw_patient(seed: int, number: int, *, plain: bool = False) -> Patient:
    """Draw a patient; of two neighbours (2k, 2k + 1) one has a fracture, so that classes are even.

    Args:
        seed: of everything drawn.
        number: whom to draw.
        plain: see :func:`simulate`.
    """
    limb = draw_limb(_stream(seed, number, LIMB_STREAM))
    if plain:
        limb = replace(limb, field=CLOSE_UP * limb.field)
    rng = _stream(seed, number, FRACTURE_STREAM)
    coin = int(_stream(seed, number // 2, FRACTURE_STREAM, 1).integers(2))
    fractures: list[Fracture | None] = [None] * len(limb.shafts)
    if (number + coin) % 2:
        broken = [int(rng.integers(len(limb.shafts)))]
        if len(limb.shafts) > 1 and rng.random() < 0.3:  # noqa: PLR2004
            broken = list(range(len(limb.shafts)))
        at = rng.uniform(-0.33, 0.33) * limb.field
        for bone in broken:
            shaft = limb.shafts[bone]
            # Not in the joint itself, where the model of a bone is too plain to break.
            where = min(at + rng.normal(0, 6), shaft.end - 14)
            splinted = len(broken) < len(limb.shafts)
            fractures[bone] = draw_fracture(rng, float(where), shaft.radius, splinted=splinted, plain=plain)
        if len(broken) > 1:  # the far parts hang together
            first = fractures[broken[0]]
            fractures = [f and first and replace(f, step=first.step, bend=first.bend, shortened=0.0) for f in fractures]
    views = _stream(seed, number, VIEW_STREAM).permutation(list(VIEWS))
    wanted = int(_stream(seed, number, VIEW_STREAM, 1).choice((1, 2, 3), p=(0.4, 0.4, 0.2)))
    return Patient(seed, number, limb, tuple(fractures), tuple(str(view) for view in views[:wanted]))


def take(patient: Patient, view: int, size: tuple[int, int] = SIZE) -> SimulatedRadiograph:
    """Take one of a patient's views.

    Args:
        patient: from :func:`draw_patient`.
        view: index into ``patient.views``.
        size: height and width that the picture's size varies about, pixels.
    """
    rng = _stream(patient.seed, patient.number, VIEW_STREAM, 2 + view)
    limb, name = patient.limb, patient.views[view]
    shape = (round(size[0] * rng.uniform(0.85, 1.15)), round(size[1] * rng.uniform(0.85, 1.15)))
    angle = float(np.deg2rad(VIEWS[name] + rng.normal(0, 5)))
    frame = _Frame.draw(rng, limb, shape)
    exposure = draw_exposure(rng)
    tissue_rng, noise_rng = rng.spawn(2)
    x, t = frame.limb_grid()
    bones = bones_seen_at(limb, angle)
    seen = tuple(None if f is None else f.seen_at(angle) for f in patient.fractures)

    attenuation, _ = soft_tissue(x, t, limb.tissue, limb.fat, tissue_rng)
    for bone, fracture in zip(bones, seen, strict=True):
        for piece in bone.pieces(fracture):
            _add_bone(attenuation, frame, bone, piece)
    _add_ossicles(attenuation, (x, t), limb, angle, bones[0].pieces(seen[0])[-1])
    attenuation += marker(shape, limb.side, exposure)
    soft, edge = _window(limb)
    pixels = expose(attenuation, soft, edge, exposure, noise_rng)
    polygons = [
        _inside(frame.to_picture(outline(bone, fracture, BOX_MARGIN)), shape)
        for bone, fracture in zip(bones, seen, strict=True)
        if fracture is not None
    ]
    drawn = [polygon for polygon in polygons if len(polygon) > 2]  # noqa: PLR2004
    return SimulatedRadiograph(pixels, tuple(map(_box, drawn)), tuple(map(_flat, drawn)), name)


@dataclass(frozen=True)
class _Frame:
    """Where the limb lies in a picture: a turn, a shift and a scale between millimetres and pixels."""

    shape: tuple[int, int]
    mm: float  # of a pixel
    turn: float  # radians
    centre: tuple[float, float]  # the limb's origin in pixels, (x, y)

    @classmethod
    def draw(cls, rng: np.random.Generator, limb: Limb, shape: tuple[int, int]) -> _Frame:
        middle = (shape[1] / 2 + rng.normal(0, 0.04) * shape[1], shape[0] / 2 + rng.normal(0, 0.03) * shape[0])
        return cls(shape, limb.field * float(rng.uniform(0.95, 1.1)) / shape[0], float(rng.normal(0, 0.11)), middle)

    def limb_grid(self, window: tuple[slice, slice] | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(x, t) in the limb of each pixel's centre, mm: float32 (h, w) each."""
        rows, columns = window or (slice(0, self.shape[0]), slice(0, self.shape[1]))
        py = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(self.centre[1])) * np.float32(self.mm)
        px = (np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(self.centre[0])) * np.float32(
            self.mm
        )
        c, s = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        return c * px[None] + s * py[:, None], c * py[:, None] - s * px[None]

    def to_picture(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(x, t) mm to (x, y) pixels, float32 (n, 2)."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        turned = points @ np.array([[c, s], [-s, c]], dtype=np.float32)
        return np.asarray(turned / self.mm + np.array(self.centre), dtype=np.float32)


def _add_bone(attenuation: NDArray[np.float32], frame: _Frame, bone: Bone, piece: Fragment) -> None:
    """Add a fragment to Σ μ·l: bone takes the place of soft tissue."""
    window = _window_of(frame, bone, piece)
    if window is None:
        return
    x, t = frame.limb_grid(window)
    shell, sponge, marrow = bone_paths(bone, piece, x, t)
    extra = (MU_CORTEX - MU_SOFT) * shell + (MU_SPONGE - MU_SOFT) * sponge + (MU_FAT - MU_SOFT) * marrow
    attenuation[window] += extra.astype(np.float32)


def _window_of(frame: _Frame, bone: Bone, piece: Fragment) -> tuple[slice, slice] | None:
    """The part of the picture that a fragment can reach; the rest need not be computed."""
    reach = float(np.hypot(*frame.shape)) * frame.mm
    t = np.linspace(-reach, reach, 41, dtype=np.float32)
    half = float(bone.half_width.max()) + 2
    edges = [np.stack(piece.moved(bone.axis_x(t) + np.float32(side), t), axis=1) for side in (-half, half)]
    points = frame.to_picture(np.concatenate(edges))
    within = (points[:, 1] > -0.2 * frame.shape[0]) & (points[:, 1] < 1.2 * frame.shape[0])
    if not within.any():
        return None
    left, right = points[within, 0].min(), points[within, 0].max()
    start, stop = max(0, int(left) - 8), min(frame.shape[1], int(right) + 9)
    return (slice(0, frame.shape[0]), slice(start, stop)) if stop > start else None


def _add_ossicles(
    attenuation: NDArray[np.float32],
    grid: tuple[NDArray[np.float32], NDArray[np.float32]],
    limb: Limb,
    angle: float,
    carrier: Fragment,
) -> None:
    """Add the bones beyond the joint; they go where the far fragment of the first bone went."""
    if not limb.ossicles:
        return
    x, t = grid
    # Only the rows that they can reach.
    nearest = min(row[1] - row[4] for row in limb.ossicles) - 12
    rows = np.flatnonzero((t > nearest).any(axis=1))
    if rows.size == 0:
        return
    x, t = carrier.home(x[rows[0] :], t[rows[0] :])
    for ossicle in ossicles_seen_at(limb, angle):
        shell, hollow = ossicle_paths(ossicle, x, t)
        grain = limb.shafts[0].texture
        rough = cv2.remap(grain, x / np.float32(0.4), t / np.float32(0.4), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        spongy = (MU_SPONGE - MU_SOFT) * hollow * np.maximum(0.8 + 0.25 * rough, 0)
        attenuation[rows[0] :] += (MU_CORTEX - MU_SOFT) * shell + spongy


def _window(limb: Limb) -> tuple[float, float]:
    """Σ μ·l of the limb's soft tissue, and what its thickest cortex's edge adds: the display window's two ends."""
    shaft = max(limb.shafts, key=lambda one: one.radius)
    inner = shaft.radius * (1 - shaft.cortex)
    return MU_SOFT * 1.7 * limb.tissue, (MU_CORTEX - MU_SOFT) * 2 * float(np.sqrt(shaft.radius**2 - inner**2))


def _inside(points: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Cut a convex polygon to the picture."""
    frame = np.array([[0, 0], [shape[1], 0], [shape[1], shape[0]], [0, shape[0]]], dtype=np.float32)
    area, cut = cv2.intersectConvexConvex(cv2.convexHull(points), frame)
    return np.asarray(cut[:, 0], dtype=np.float32) if area > 1 else np.zeros((0, 2), np.float32)


def _box(points: NDArray[np.float32]) -> tuple[float, float, float, float]:
    (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return round(x0, 1), round(y0, 1), round(x1 - x0, 1), round(y1 - y0, 1)


def _flat(points: NDArray[np.float32]) -> tuple[float, ...]:
    return tuple(round(value, 1) for value in points.ravel().tolist())


def _stream(*key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(key))


def _all_views(seed: int, *, plain: bool) -> Iterator[tuple[Patient, int]]:
    for number in counting():
        patient = draw_patient(seed, number, plain=plain)
        for view in range(len(patient.views)):
            yield patient, view


def _write(folder: Path, patient: Patient, view: int, size: tuple[int, int]) -> dict[str, object]:
    """Write one picture and give its row of the manifest."""
    taken = take(patient, view, size)
    _, encoded = cv2.imencode(".png", taken.pixels)
    data = encoded.tobytes()
    path = folder / "images" / f"{patient.number:05d}-{view + 1}.png"
    path.write_bytes(data)
    who = f"simulated-{patient.seed}-{patient.number:05d}"
    return {
        "path": str(path),
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": taken.pixels.shape[1],
        "height": taken.pixels.shape[0],
        "label": patient.label,
        "radiograph": f"{who}-{view + 1}",
        "study": who,
        "patient": who,
        "group": who,
        "split": "",
        "source": "simulated",
        "region": patient.limb.region,
        "view": taken.view,
        "hardware": False,
        "boxes": [list(box) for box in taken.boxes],
        "polygons": [list(polygon) for polygon in taken.polygons],
        "note": "",
    }


def _table(rows: list[dict[str, object]]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    table = pd.DataFrame(rows)
    return table.astype({"width": "Int32", "height": "Int32", "label": "Int8", "hardware": "boolean"})


def _check_ours(out: Path) -> None:
    """A folder is replaced only where nothing else than a former simulation lies in it."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DatasetError("is a file; simulated radiographs are written to a folder", where=out)
    strange = sorted(child.name for child in out.iterdir() if child.name not in ("images", "manifest.parquet"))
    if strange:
        raise DatasetError(
            f"holds {strange[0]!r}, which is no simulation's", where=out, hint="give an empty or a new folder"
        )


__all__ = ["Exposure", "Patient", "SimulatedRadiograph", "draw_patient", "simulate", "take"]
