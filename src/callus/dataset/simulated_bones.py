"""Simulated bones: how much cortex and how much marrow a ray crosses.

A long bone is a hollow elliptic cylinder (cortex around marrow) whose radius and cortex change along it: a thick
cortex in the shaft, a flared metaphysis with a thin one, filled with spongy bone. The path of a ray through a hollow
cylinder is a chord, 2·sqrt(r² - s²), less the chord of the hollow; that is what makes the bright edges of a shaft.
A broken bone is the same solid cut by surfaces; the parts of each chord on either side are exact, not painted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from callus.dataset.simulated_fractures import Fracture, Fragment, fragments

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP: Final = 0.5
"""Spacing of a bone's profile, mm."""
REACH: Final = 200.0
"""A bone's profile runs from -REACH to REACH mm."""
TABLE: Final = np.arange(-REACH, REACH + STEP, STEP, dtype=np.float32)
CAP: Final = 11.0
"""Length of the rounded end of a bone whose end is 40 mm wide, mm."""


@dataclass(frozen=True)
class Bone:
    """A long bone as one view shows it.

    Attributes:
        x: where its axis runs, mm from the limb's.
        tilt: slope of its axis against the limb's.
        bow: curvature of its axis, 1/mm.
        half_width: float32 (n,), over ``TABLE``; half of what it spans across the picture, mm; 0 beyond its end.
        cortex: float32 (n,), thickness of its cortex, mm.
        sponge: float32 (n,), share of spongy bone in its marrow, 0 to 1.
        roundness: its thickness along the beam as a share of the width.
        texture: float32 (h, w), about 0 with standard deviation 1; trabeculae, 0.4 mm a pixel.
        plate: where a growth plate lies, mm; NaN where there is none (any more).
        canal: (t, s, slope, depth of the nutrient canal's groove as a share); depth 0 where none shows.
    """

    x: float
    tilt: float
    bow: float
    half_width: NDArray[np.float32]
    cortex: NDArray[np.float32]
    sponge: NDArray[np.float32]
    roundness: float
    texture: NDArray[np.float32]
    plate: float
    canal: tuple[float, float, float, float]

    def radius_at(self, t: float) -> float:
        """Half of its width at ``t``, mm."""
        return float(np.interp(t, TABLE, self.half_width))

    def axis_x(self, t: NDArray[np.float32] | float) -> NDArray[np.float32]:
        """Where its axis runs, mm from the limb's."""
        t = np.asarray(t, dtype=np.float32)
        return np.asarray(np.float32(self.x) + np.float32(self.tilt) * t + np.float32(self.bow) * t * t)

    def pieces(self, fracture: Fracture | None) -> tuple[Fragment, ...]:
        """Its fragments; one where it is whole."""
        at = 0.0 if fracture is None else fracture.at
        return fragments(fracture, float(self.axis_x(at)), self.radius_at(at))


@dataclass(frozen=True)
class Ossicle:
    """A short bone near the joint, an ellipsoid: carpals, the talus, the elbow's parts. Millimetres in the limb."""

    x: float
    t: float
    half_width: float
    half_length: float
    half_depth: float
    cortex: float
    turn: float


def bone_paths(
    bone: Bone, fragment: Fragment, x: NDArray[np.float32], t: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """How much of a fragment each ray crosses.

    Args:
        bone: the bone.
        fragment: which of its pieces.
        x: float32 (h, w), mm across the limb, of each pixel.
        t: float32 (h, w), mm along the limb.

    Returns:
        Millimetres of cortex, of spongy bone and of the rest of the marrow, each float32 (h, w).
    """
    x, t = fragment.home(x, t)
    s = x - bone.axis_x(t)
    a, cortex, sponge = (_lookup(table, t) for table in (bone.half_width, bone.cortex, bone.sponge))
    inner = np.maximum(a - cortex, 0)
    outer_z = bone.roundness * np.sqrt(np.maximum(a * a - s * s, 0))
    inner_z = bone.roundness * np.sqrt(np.maximum(inner * inner - s * s, 0))
    shell, hollow = _between(fragment, s, t, outer_z, inner_z)
    grain = cv2.remap(
        bone.texture,
        np.asarray(s / 0.4 + bone.texture.shape[1] / 2, dtype=np.float32),
        np.asarray(t / 0.4, dtype=np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    shell = np.asarray(shell * (1 + (0.03 + 0.05 * sponge) * grain) * (1 - _canal(bone, s, t)), dtype=np.float32)
    spongy = hollow * sponge * np.maximum(1 + 0.32 * grain, 0)
    if not np.isnan(bone.plate):
        wave = bone.plate + 1.2 * np.sin(s * np.float32(0.35)) + 0.02 * s * s
        cartilage = np.exp(-(((t - wave) / np.float32(1.1)) ** 2))
        rim = np.exp(-(((t - wave + 2.4) / np.float32(0.8)) ** 2))  # the denser zone of calcification beside it
        shell = shell * (1 - 0.75 * cartilage)
        spongy = spongy * (1 - 0.75 * cartilage + 0.5 * rim)
    return shell, spongy, np.maximum(hollow - hollow * sponge, 0)


def ossicle_paths(
    ossicle: Ossicle, x: NDArray[np.float32], t: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Millimetres of cortex and of spongy bone that each ray crosses in an ellipsoid, each float32 (h, w)."""
    c, s = np.float32(np.cos(ossicle.turn)), np.float32(np.sin(ossicle.turn))
    dx, dt = x - np.float32(ossicle.x), t - np.float32(ossicle.t)
    u, v = (c * dx + s * dt), (c * dt - s * dx)
    # Carpals are pebbles, not eggs: bend the ellipsoid a little.
    phase = np.float32(40 * ossicle.turn + ossicle.x)
    u, v = (
        u + np.float32(0.13 * ossicle.half_width) * np.sin(np.float32(2.4 / ossicle.half_length) * v + phase),
        v + np.float32(0.11 * ossicle.half_length) * np.sin(np.float32(2.4 / ossicle.half_width) * u + 2 * phase),
    )
    thin = ossicle.cortex

    def chord(less: float) -> NDArray[np.float32]:
        inside = 1 - (u / (ossicle.half_width - less)) ** 2 - (v / (ossicle.half_length - less)) ** 2
        return np.asarray(2 * (ossicle.half_depth - less) * np.sqrt(np.maximum(inside, 0)), dtype=np.float32)

    hollow = chord(thin)
    return chord(0.0) - hollow, hollow


def outline(bone: Bone, fracture: Fracture, margin: float) -> NDArray[np.float32]:
    """What a reader would draw around a fracture, in the limb's millimetres.

    The convex hull of both edges of each surface, on the near and on the far side of the bone, where the fragments
    now are.

    Args:
        bone: the bone as the view shows it.
        fracture: as the view shows it.
        margin: how far around, mm.

    Returns:
        float32 (n, 2): (x, t).
    """
    points = []
    for piece in bone.pieces(fracture):
        for surface in (piece.above, piece.below):
            if surface is None:
                continue
            u = np.linspace(-1, 1, 25, dtype=np.float32)
            a = np.full_like(u, bone.radius_at(surface.at))
            for _ in range(3):  # where a slanted surface ends, the bone is wider or narrower than at its middle
                a = np.maximum(_lookup(bone.half_width, surface.middle(u * a)), 1) + np.float32(0.3)
            s = u * a
            z = bone.roundness * np.sqrt(np.maximum(a * a - s * s, 0))
            for side in (-1, 1):
                t = surface.middle(s) + side * (surface.steepness(s) * z + np.float32(piece.half_gap + margin))
                x = s + np.sign(s) * np.float32(margin) + bone.axis_x(t)
                points.append(np.stack(piece.moved(x, t), axis=1))
    hull = cv2.convexHull(np.concatenate(points).astype(np.float32))
    return np.asarray(hull[:, 0], dtype=np.float32)


def _lookup(table: NDArray[np.float32], t: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.interp(t, TABLE, table).astype(np.float32)


def _between(
    fragment: Fragment,
    s: NDArray[np.float32],
    t: NDArray[np.float32],
    outer_z: NDArray[np.float32],
    inner_z: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Shell and hollow that each ray crosses between the fragment's surfaces, mm."""
    if fragment.below is None:
        outer, inner = 2 * outer_z, 2 * inner_z
    else:
        outer, inner = _before(fragment.below.depth_at(s, t, -fragment.half_gap), outer_z, inner_z)
    if fragment.above is not None:
        cut_outer, cut_inner = _before(fragment.above.depth_at(s, t, fragment.half_gap), outer_z, inner_z)
        outer, inner = np.maximum(outer - cut_outer, 0), np.maximum(inner - cut_inner, 0)
    return np.maximum(outer - inner, 0), inner


def _before(
    z: NDArray[np.float32], outer_z: NDArray[np.float32], inner_z: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How much of each chord lies on the trunk's side of a surface, which a ray meets at ``z``: all above it."""
    return np.clip(outer_z - z, 0, 2 * outer_z), np.clip(inner_z - z, 0, 2 * inner_z)


def _canal(bone: Bone, s: NDArray[np.float32], t: NDArray[np.float32]) -> NDArray[np.float32] | float:
    """The groove of the nutrient artery: a thin oblique dark line that is no fracture."""
    at, where, slope, depth = bone.canal
    if not depth:
        return 0.0
    along = t - np.float32(at)
    line = np.exp(-(((s - np.float32(where) - np.float32(slope) * along) / np.float32(0.6)) ** 2))
    return np.asarray(np.float32(depth) * line * np.exp(-((along / np.float32(8)) ** 4)))
