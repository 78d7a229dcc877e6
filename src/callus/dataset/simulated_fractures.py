"""Simulated fractures: surfaces through a bone, how the fragments have moved, and the outline that a reader would draw.

The kinds are those of any textbook of fracture care (transverse, oblique, spiral, comminuted with a butterfly
fragment; see the AO/OTA compendium, J Orthop Trauma 2018;32 Suppl 1); the numbers are ours.

Lengths are millimetres. A bone's coordinates are s (across, 0 on its axis), z (along the beam) and t (along the bone,
growing towards the hand or the foot).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Kind = Literal["transverse", "oblique", "spiral", "comminuted"]

STEEPEST: Final = 0.06
"""A surface never stands exactly along the beam: bone is not cut by a knife, so its line is never a step."""


@dataclass(frozen=True)
class Surface:
    """Where a bone is broken: t = at + across·s + (depth + twist·s)·z + ragged(s).

    Attributes:
        at: where it crosses the bone's axis, mm.
        across: slope across the picture.
        depth: slope along the beam; it draws one fracture as two lines, on the near and the far cortex.
        twist: how the slope along the beam changes across the bone, 1/mm; makes the crossing lines of a spiral.
        ragged: float32 (n,), mm; the teeth of the edge over ``reach``.
        reach: half of the width over which ``ragged`` is laid, mm.
    """

    at: float
    across: float
    depth: float
    twist: float
    ragged: NDArray[np.float32]
    reach: float

    def middle(self, s: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where the surface lies at z = 0: t, mm."""
        where = np.linspace(-self.reach, self.reach, self.ragged.size, dtype=np.float32)
        teeth = np.interp(s, where, self.ragged).astype(np.float32)
        return np.asarray(np.float32(self.at) + np.float32(self.across) * s + teeth)

    def steepness(self, s: NDArray[np.float32]) -> NDArray[np.float32]:
        """|dt/dz|; the cross-section is symmetric in z, so the sign does not show."""
        return np.asarray(np.maximum(np.abs(np.float32(self.depth) + np.float32(self.twist) * s), np.float32(STEEPEST)))

    def depth_at(self, s: NDArray[np.float32], t: NDArray[np.float32], shift: float) -> NDArray[np.float32]:
        """Where a ray at (s, t) meets the surface, moved along the bone by ``shift``: z, mm."""
        return np.asarray((t - self.middle(s) - np.float32(shift)) / self.steepness(s))

    def seen_at(self, angle: float) -> Surface:
        """The same surface when the limb is turned by ``angle`` (radians) about its axis."""
        c, s = float(np.cos(angle)), float(np.sin(angle))
        return Surface(
            self.at,
            self.across * c + self.depth * s,
            self.depth * c - self.across * s,
            self.twist * float(np.cos(2 * angle)),  # s·z turns as the cosine of twice the angle
            self.ragged,
            self.reach,
        )


@dataclass(frozen=True)
class Fracture:
    """One broken bone, in three dimensions.

    Attributes:
        kind: its name.
        surfaces: one, or two with a wedge between them; the first is the nearer to the trunk.
        gap: how far the fragments stand apart, mm.
        step: how far the far fragment has slid, mm: across the picture and along the beam at view angle 0.
        bend: how far it is angulated, radians, about the two axes likewise.
        shortened: how far it has slid up along the bone, mm.
    """

    kind: Kind
    surfaces: tuple[Surface, ...]
    gap: float
    step: tuple[float, float] = (0.0, 0.0)
    bend: tuple[float, float] = (0.0, 0.0)
    shortened: float = 0.0

    def seen_at(self, angle: float) -> Fracture:
        """Project it: step and bend keep their first number as what shows in the picture."""
        c, s = float(np.cos(angle)), float(np.sin(angle))
        return Fracture(
            self.kind,
            tuple(surface.seen_at(angle) for surface in self.surfaces),
            self.gap,
            (self.step[0] * c + self.step[1] * s, 0.0),
            (self.bend[0] * c + self.bend[1] * s, 0.0),
            self.shortened,
        )

    @property
    def at(self) -> float:
        """The middle of the fracture along the bone, mm."""
        return float(np.mean([surface.at for surface in self.surfaces]))


def draw_fracture(
    rng: np.random.Generator, at: float, radius: float, *, splinted: bool, plain: bool = False
) -> Fracture:
    """Draw a fracture.

    Args:
        rng: the stream that nothing but the fracture takes from.
        at: where along the bone, mm.
        radius: of the bone there, mm.
        splinted: a whole bone beside this one holds the fragments, so that they hardly move.
        plain: as anyone would see it: a wide gap, always displaced.
    """
    kind = KINDS[int(rng.choice(len(KINDS), p=(0.3, 0.3, 0.2, 0.2)))]
    surfaces = _MAKERS[kind](rng, at, radius)
    gap = float(rng.uniform(0.5, 1.1) if rng.random() < 0.15 else rng.uniform(1.0, 2.8))  # noqa: PLR2004
    if plain:
        gap = max(2 * gap, 3.0)
    elif kind != "comminuted" and rng.random() < 0.3:  # noqa: PLR2004 - not displaced: only a line is seen
        return Fracture(kind, surfaces, gap)
    most = 0.35 if splinted else 0.8
    step = rng.uniform(0.3 if plain else 0.1, most) * radius
    way = rng.uniform(0, 2 * np.pi)
    bend = np.deg2rad(rng.uniform(1, 4 if splinted else 14))
    bend_way = rng.uniform(0, 2 * np.pi)
    return Fracture(
        kind,
        surfaces,
        gap,
        (float(step * np.cos(way)), float(step * np.sin(way))),
        (float(bend * np.cos(bend_way)), float(bend * np.sin(bend_way))),
        0.0 if splinted else float(rng.uniform(0, 0.35) * radius),
    )


def _ragged(rng: np.random.Generator, height: float) -> NDArray[np.float32]:
    """Teeth of an edge: a random walk held at its ends' line, scaled to ``height`` mm (standard deviation)."""
    walk = np.cumsum(rng.standard_normal(32))
    walk -= np.linspace(walk[0], walk[-1], walk.size)
    return np.asarray(walk * (height / max(float(walk.std()), 1e-6)), dtype=np.float32)


def _transverse(rng: np.random.Generator, at: float, radius: float) -> tuple[Surface, ...]:
    across, depth = rng.uniform(-0.22, 0.22, 2)
    return (Surface(at, float(across), float(depth), 0.0, _ragged(rng, rng.uniform(0.2, 0.8)), 1.5 * radius),)


def _oblique(rng: np.random.Generator, at: float, radius: float) -> tuple[Surface, ...]:
    slope, way = rng.uniform(0.6, 1.5), rng.uniform(0, 2 * np.pi)
    teeth = _ragged(rng, rng.uniform(0.2, 0.6))
    return (Surface(at, float(slope * np.cos(way)), float(slope * np.sin(way)), 0.0, teeth, 1.5 * radius),)


def _spiral(rng: np.random.Generator, at: float, radius: float) -> tuple[Surface, ...]:
    slope, way = rng.uniform(0.5, 1.2), rng.uniform(0, 2 * np.pi)
    twist = rng.choice((-1.0, 1.0)) * rng.uniform(0.8, 1.7) / radius
    teeth = _ragged(rng, rng.uniform(0.1, 0.4))
    return (Surface(at, float(slope * np.cos(way)), float(slope * np.sin(way)), float(twist), teeth, 1.5 * radius),)


def _comminuted(rng: np.random.Generator, at: float, radius: float) -> tuple[Surface, ...]:
    """A butterfly: two surfaces that meet at one side of the bone and stand apart at the other."""
    side = rng.choice((-1.0, 1.0))
    half = rng.uniform(0.5, 1.1) * radius  # of the wedge's height at the axis
    depth = rng.uniform(-0.3, 0.3)
    first, second = (
        Surface(
            float(at + sign * half),
            float(sign * side * half / radius),
            float(depth),
            0.0,
            _ragged(rng, rng.uniform(0.2, 0.5)),
            1.5 * radius,
        )
        for sign in (-1.0, 1.0)
    )
    return first, second


_MAKERS: Final[dict[Kind, Callable[[np.random.Generator, float, float], tuple[Surface, ...]]]] = {
    "transverse": _transverse,
    "oblique": _oblique,
    "spiral": _spiral,
    "comminuted": _comminuted,
}
KINDS: Final[tuple[Kind, ...]] = tuple(_MAKERS)


@dataclass(frozen=True)
class Fragment:
    """A piece of a bone: what lies between two surfaces, and the rigid motion that took it where it is.

    Attributes:
        above: the surface that bounds it towards the trunk, None at the bone's end.
        below: the surface that bounds it away from the trunk.
        half_gap: how much is missing at each surface, mm.
        pivot: (x, t) in the limb about which it has turned, mm.
        turn: radians.
        shift: (x, t), mm.
    """

    above: Surface | None
    below: Surface | None
    half_gap: float = 0.0
    pivot: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)

    def home(self, x: NDArray[np.float32], t: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """From where things are seen to where they were before the bone broke."""
        if not self.turn and self.shift == (0.0, 0.0):
            return x, t
        c, s = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        dx = x - np.float32(self.pivot[0] + self.shift[0])
        dt = t - np.float32(self.pivot[1] + self.shift[1])
        return c * dx + s * dt + np.float32(self.pivot[0]), c * dt - s * dx + np.float32(self.pivot[1])

    def moved(self, x: NDArray[np.float32], t: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The inverse of :meth:`home`."""
        c, s = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        dx, dt = x - np.float32(self.pivot[0]), t - np.float32(self.pivot[1])
        return (
            c * dx - s * dt + np.float32(self.pivot[0] + self.shift[0]),
            c * dt + s * dx + np.float32(self.pivot[1] + self.shift[1]),
        )


def fragments(fracture: Fracture | None, axis_x: float, radius: float) -> tuple[Fragment, ...]:
    """The pieces of a bone, from the trunk outwards.

    Args:
        fracture: already projected (:meth:`Fracture.seen_at`); None for a whole bone.
        axis_x: where the bone's axis runs at the fracture, mm in the limb.
        radius: of the bone there; how far a wedge slides out, mm.
    """
    if fracture is None:
        return (Fragment(None, None),)
    half = fracture.gap / 2
    pivot = (axis_x, fracture.at)
    # Along the bone a fragment slides no further than where its teeth would catch, unless it stands beside the other.
    free = min(1.0, abs(fracture.step[0]) / radius)
    shift = (fracture.step[0], -fracture.shortened * free)
    first, last = fracture.surfaces[0], fracture.surfaces[-1]
    near = Fragment(None, first, half)
    far = Fragment(last, None, half, pivot, fracture.bend[0], shift)
    if first is last:
        return near, far
    out = float(np.sign(last.across - first.across)) * min(0.18 * radius, 0.5 + fracture.gap)
    wedge = Fragment(first, last, half, pivot, fracture.bend[0] * 0.8, (shift[0] * 0.5 + out, shift[1] * 0.5))
    return near, wedge, far
