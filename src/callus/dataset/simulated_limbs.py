"""Simulated limbs: which bones lie where, how thick the soft tissue is, and how a view shows them.

Sizes are those of adults and school children to a few millimetres (shaft diameters: tibia 22 to 28 mm, humerus 20 to
25 mm, radius and ulna 11 to 15 mm, fibula 9 to 13 mm; cortex a fifth to a third of the diameter on each side in the
shaft and about 1 mm near the joints).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from callus.dataset.simulated_bones import CAP, TABLE, Bone, Ossicle

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Kind:
    """What is typical of a bone: radius of its shaft, how much wider its end is, how far the flare goes (mm)."""

    radius: tuple[float, float]
    flare: tuple[float, float]
    flare_length: float
    x: float
    z: float
    longer: float = 0.0


RADIUS: Final = Kind((5.6, 7.2), (1.8, 2.2), 38, -8.5, 0)
ULNA: Final = Kind((5.2, 6.4), (1.0, 1.2), 25, 8.5, -3, -3.0)
TIBIA: Final = Kind((11.0, 13.5), (1.7, 2.0), 55, 8, 0)
FIBULA: Final = Kind((4.6, 6.2), (1.5, 1.9), 35, -18, -7, 8.0)
HUMERUS: Final = Kind((10.0, 12.5), (1.9, 2.4), 60, 0, 0)

BONES: Final[dict[str, tuple[Kind, ...]]] = {"forearm": (RADIUS, ULNA), "leg": (TIBIA, FIBULA), "humerus": (HUMERUS,)}
TISSUE: Final[dict[str, tuple[float, float]]] = {"forearm": (28, 38), "leg": (42, 56), "humerus": (38, 52)}
"""Half of the limb's width at its thickest, mm."""
VIEWS: Final[dict[str, float]] = {"frontal": 0.0, "lateral": 90.0, "oblique": 45.0}
"""Degrees by which a view turns the limb about its axis."""


@dataclass(frozen=True)
class Shaft:
    """A long bone in three dimensions, before a view is taken of it."""

    kind: Kind
    radius: float
    roundness: float  # thickness in z as a share of that in x
    cortex: float  # share of the radius
    flare: float
    end: float  # where it ends at the joint, mm; inf where the joint is not in the picture
    bow: tuple[float, float]  # curvature in x and in z, 1/mm
    tilt: float
    uneven: NDArray[np.float32]  # (n,) relative, over TABLE
    texture: NDArray[np.float32]
    plate: bool
    canal: tuple[float, float, float, float]


@dataclass(frozen=True)
class Limb:
    """What a patient's pictures have in common."""

    region: str
    side: str  # "L" or "R"
    shafts: tuple[Shaft, ...]
    ossicles: tuple[tuple[float, float, float, float, float, float, float], ...]  # x, t, z, three half axes, turn
    tissue: float  # half width, mm
    fat: float  # mm
    field: float  # height of the picture, mm


def draw_limb(rng: np.random.Generator) -> Limb:
    """Draw a patient's limb; what is broken is drawn elsewhere, from another stream."""
    region = str(rng.choice(list(BONES)))
    field = rng.uniform(120, 185)
    # The joint lies in the picture, near its lower edge, or the picture shows the shaft only.
    end = rng.uniform(0.12, 0.36) * field if rng.random() < 0.6 else np.inf  # noqa: PLR2004
    child = bool(rng.random() < 0.25)  # noqa: PLR2004
    size = rng.uniform(0.78, 0.95) if child else 1.0
    shafts = tuple(_draw_shaft(rng, kind, end, child=child, size=size) for kind in BONES[region])
    return Limb(
        region,
        "L" if rng.random() < 0.5 else "R",  # noqa: PLR2004
        shafts,
        _draw_ossicles(rng, region, float(end), size) if np.isfinite(end) else (),
        float(rng.uniform(*TISSUE[region]) * size),
        float(rng.uniform(2.5, 8)),
        float(field),
    )


def _draw_shaft(rng: np.random.Generator, kind: Kind, end: float, *, child: bool, size: float) -> Shaft:
    radius = rng.uniform(*kind.radius) * size
    smooth = cv2.GaussianBlur(rng.standard_normal((1, TABLE.size)).astype(np.float32), (0, 0), 14)[0]
    return Shaft(
        kind,
        float(radius),
        float(rng.uniform(0.85, 1.1)),
        float(rng.uniform(0.26, 0.42)),
        float(rng.uniform(*kind.flare)),
        float(end + kind.longer * size + rng.uniform(-2, 2)),
        (float(rng.normal(0, 1.5e-4)), float(rng.normal(0, 2.5e-4))),
        float(rng.normal(0, 0.015)),
        np.asarray(smooth / smooth.std() * 0.02, dtype=np.float32),
        _draw_texture(rng),
        child and bool(rng.random() < 0.8),  # noqa: PLR2004
        (
            float(rng.uniform(-40, 30)),
            float(rng.uniform(-0.5, 0.5) * radius),
            float(rng.choice((-1, 1)) * rng.uniform(0.15, 0.4)),
            float(rng.uniform(0.25, 0.5)) if rng.random() < 0.4 else 0.0,  # noqa: PLR2004
        ),
    )


def _draw_texture(rng: np.random.Generator) -> NDArray[np.float32]:
    """Trabeculae, mostly along the bone: (256, 160), standard deviation 1."""
    noise = rng.standard_normal((256, 160)).astype(np.float32)
    along = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.9, sigmaY=4.0)
    across = cv2.GaussianBlur(noise[::-1], (0, 0), sigmaX=2.2, sigmaY=0.9)
    patches = cv2.GaussianBlur(noise[:, ::-1], (0, 0), 9)
    mixed = along / along.std() + 0.6 * across / across.std() + 0.5 * patches / patches.std()
    return np.asarray(mixed / mixed.std(), dtype=np.float32)


Row = tuple[float, float, float, float, float, float, float]


def _draw_ossicles(rng: np.random.Generator, region: str, end: float, size: float) -> tuple[Row, ...]:
    """The bones beyond the joint: ellipsoids as rows of x, t, z, half axes in x, t, z, and turn."""
    rows: list[tuple[float, float, float, float, float, float]]
    if region == "forearm":  # two rows of carpals, then the bases of the metacarpals
        rows = [(x, 8.5, z, w, 6.8, 6.5) for x, z, w in ((-13, 0, 8), (-1, 1, 7.5), (9, 0, 6), (14, -4, 4.5))]
        rows += [
            (x, 20, z, w, h, 6.5) for x, z, w, h in ((-18, 2, 6, 6), (-10, 0, 5, 6.5), (-1, 0, 6.5, 9), (9, 0, 7, 8))
        ]
        rows += [(x, 46, 0, 4.2, 20, 4.2) for x in (-15, -6, 4, 13)] + [(-25, 36, 8, 4.5, 15, 4.5)]
    elif region == "leg":  # the talus, the calcaneus behind and below, the midfoot in front
        rows = [(5, 16, 6, 17, 13, 24), (4, 38, -16, 14, 15, 30), (6, 34, 36, 18, 12, 18)]
    else:  # the olecranon behind the humerus, then radius and ulna
        rows = [(5, -2, -10, 9, 15, 9), (6, 38, -3, 8, 34, 8), (-11, 33, 3, 7, 27, 7)]
    jitter = rng.normal(0, 0.7, (len(rows), 2)) * size
    grow = rng.uniform(0.9, 1.1, len(rows)) * size
    turns = rng.normal(0, 0.25, len(rows))
    return tuple(
        (x * size + j[0], end + t * size + j[1], z * size, a * g, b * g, c * g, float(turn if b / a < 2 else turn / 5))  # noqa: PLR2004
        for (x, t, z, a, b, c), j, g, turn in zip(rows, jitter, grow, turns, strict=True)
    )


def bones_seen_at(limb: Limb, angle: float) -> tuple[Bone, ...]:
    """Project the long bones of a limb that is turned by ``angle`` (radians)."""
    return tuple(_project(shaft, angle) for shaft in limb.shafts)


def _project(shaft: Shaft, angle: float) -> Bone:
    c, s = float(np.cos(angle)), float(np.sin(angle))
    width = float(np.hypot(c, shaft.roundness * s))
    depth = float(np.hypot(s, shaft.roundness * c))
    # The flare is mostly in the frontal plane.
    flare = 1 + (shaft.flare - 1) * (0.55 + 0.45 * c * c)
    to_joint = np.clip(1 - (shaft.end - TABLE) / shaft.kind.flare_length, 0, 1)
    widening = to_joint * to_joint * (3 - 2 * to_joint)
    cap_length = CAP * shaft.radius * flare / 20
    cap = np.clip(1 - (np.maximum(TABLE - (shaft.end - cap_length), 0) / cap_length) ** 2.5, 0, 1) ** 0.45
    half_width = shaft.radius * width * (1 + (flare - 1) * widening) * (1 + shaft.uneven) * (0.08 + 0.92 * cap)
    half_width[shaft.end < TABLE] = 0
    thick, thin = shaft.cortex * shaft.radius, min(1.1, 0.3 * shaft.radius)
    cortex = thick + (thin - thick) * np.clip(1.6 * to_joint, 0, 1) + 3 * shaft.radius * np.abs(shaft.uneven) * 0.2
    sponge = np.clip(0.08 + 1.25 * widening, 0, 1)
    return Bone(
        shaft.kind.x * c + shaft.kind.z * s,
        shaft.tilt * c,
        shaft.bow[0] * c + shaft.bow[1] * s,
        half_width.astype(np.float32),
        cortex.astype(np.float32),
        sponge.astype(np.float32),
        depth / width,
        shaft.texture if c >= 0.5 else shaft.texture[:, ::-1].copy(),  # noqa: PLR2004 - another side, other trabeculae
        shaft.end - 9.0 if shaft.plate and np.isfinite(shaft.end) else float("nan"),
        shaft.canal,
    )


def ossicles_seen_at(limb: Limb, angle: float) -> tuple[Ossicle, ...]:
    """Project the short bones of a limb that is turned by ``angle`` (radians)."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return tuple(
        Ossicle(x * c + z * s, t, float(np.hypot(a * c, d * s)), b, float(np.hypot(a * s, d * c)), 1.0, turn * c)
        for x, t, z, a, b, d, turn in limb.ossicles
    )
