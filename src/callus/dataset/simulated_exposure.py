"""Simulated exposures: from millimetres of tissue to the grey values of a computed radiograph.

Beer-Lambert: of N photons, N·exp(-Σ μ·l) arrive. The coefficients are those of a narrow beam at 50 keV, about the mean
energy behind a limb at 60 to 70 kVp: mass attenuation from Hubbell & Seltzer, NISTIR 5632 (ICRU-44 tissues: cortical
bone 0.4242, soft tissue 0.2262, adipose tissue 0.2123 cm²/g) times density (1.92, 1.06, 0.95 g/cm³). Then scatter,
the focal spot's and the detector's blur, quantum and electronic noise, the logarithm, the display curve of a
viewing station, and the shutter's black border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MU_CORTEX: Final = 0.0814
"""Attenuation of cortical bone, 1/mm."""
MU_SOFT: Final = 0.0240
MU_FAT: Final = 0.0202
MU_SPONGE: Final = 0.0390
"""Spongy bone near a joint: a fifth of its volume is bone, the rest marrow between fat and soft tissue."""
LEAD: Final = 4.0
"""Attenuation of a marker's letter, as Σ μ·l: no more than scatter comes through."""


@dataclass(frozen=True)
class Exposure:
    """How one picture is taken and shown; drawn apart from whether anything is broken.

    Attributes:
        quanta: photons a pixel without anything in the beam.
        electronic: standard deviation of the read-out, photons.
        scatter: what is scattered for each primary photon behind soft tissue.
        blur: standard deviation of focal spot and detector together, pixels.
        enhance: share of unsharp masking that the console adds.
        black: Σ μ·l that is shown black, as a share of soft tissue's.
        white: Σ μ·l that is shown white, in shares of the cortex's edge above soft tissue.
        contrast: steepness of the display curve.
        shutter: left, top, right, bottom of what is not blanked, as shares of the picture.
        shutter_turn: degrees.
        marker: (x, y) of the side letter as shares of the picture, and its height in pixels; None where there is none.
        mirrored: the letter is seen from behind.
    """

    quanta: float
    electronic: float
    scatter: float
    blur: float
    enhance: float
    black: float
    white: float
    contrast: float
    shutter: tuple[float, float, float, float]
    shutter_turn: float
    marker: tuple[float, float, float] | None
    mirrored: bool


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Draw how a picture is taken."""
    margins = np.where(rng.random(4) < 0.6, rng.uniform(0.0, 0.07, 4), -0.1)  # noqa: PLR2004
    corner = (float(rng.choice((0.08, 0.84))), float(rng.choice((0.1, 0.2, 0.8))))
    return Exposure(
        quanta=float(rng.uniform(2500, 9000)),
        electronic=float(rng.uniform(3, 9)),
        scatter=float(rng.uniform(0.15, 0.6)),
        blur=float(rng.uniform(0.5, 0.9)),
        enhance=float(rng.choice((0.0, 0.4, 0.8)) * rng.uniform(0.6, 1.0)),
        black=float(rng.uniform(0.0, 0.45)),
        white=float(rng.uniform(0.9, 1.3)),
        contrast=float(rng.uniform(2.0, 4.5)),
        shutter=(float(margins[0]), float(margins[1]), float(1 - margins[2]), float(1 - margins[3])),
        shutter_turn=float(rng.normal(0, 0.8)),
        marker=(*corner, float(rng.uniform(14, 24))) if rng.random() < 0.8 else None,  # noqa: PLR2004
        mirrored=bool(rng.random() < 0.05),  # noqa: PLR2004
    )


def soft_tissue(
    x: NDArray[np.float32],
    t: NDArray[np.float32],
    tissue: float,
    fat: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the limb would attenuate without its bones.

    Args:
        x: float32 (h, w), mm across the limb.
        t: float32 (h, w), mm along the limb.
        tissue: half of the limb's width at its thickest, mm.
        fat: how thick the layer under the skin is, mm.
        rng: a stream of its own.

    Returns:
        Σ μ·l and millimetres of all tissue, each float32 (h, w).
    """
    swell, taper, waist = rng.uniform(-0.08, 0.08, 2), rng.uniform(0.0005, 0.0022), rng.uniform(60, 110)
    half = tissue * (1 - taper * t + swell[0] * np.sin(t / waist + 6 * swell[1]))
    half = np.maximum(half, 0.45 * tissue).astype(np.float32)
    lean = np.float32(swell[1] * 12) * np.sin(t / 45)
    u = x - lean

    def chord(inset: float) -> NDArray[np.float32]:
        radius = np.maximum(half - np.float32(inset), 1)
        return np.asarray(1.7 * np.sqrt(np.maximum(radius * radius - u * u, 0)), dtype=np.float32)

    whole, muscle = chord(0.0), chord(fat)
    # Muscles and the fat between them, along the limb.
    h, w = x.shape
    coarse = rng.standard_normal((h // 8 + 3, w // 8 + 3)).astype(np.float32)
    bellies = cv2.GaussianBlur(coarse, (0, 0), sigmaX=0.8, sigmaY=3.0)
    bellies = cv2.resize(bellies / bellies.std(), (w, h), interpolation=cv2.INTER_CUBIC)
    attenuation = MU_FAT * whole + (MU_SOFT - MU_FAT) * muscle + np.minimum(whole, 25) * np.float32(0.0011) * bellies
    if rng.random() < 0.3:  # noqa: PLR2004 - a fold of skin crosses the limb, as a fracture line might
        across, at, bend = rng.uniform(-0.5, 0.5), rng.uniform(-50, 50), rng.uniform(-0.008, 0.008)
        away = t - np.float32(at) - np.float32(across) * u - np.float32(bend) * u * u
        fold = 0.5 * (1 + np.tanh(away)) * np.exp(-np.maximum(away, 0) / np.float32(9))
        attenuation = attenuation + np.float32(rng.choice((-1, 1)) * rng.uniform(0.04, 0.09)) * fold * (whole > 0)
    return np.asarray(attenuation, dtype=np.float32), whole


def marker(shape: tuple[int, int], letter: str, exposure: Exposure) -> NDArray[np.float32]:
    """Σ μ·l of the side letter: float32 ``shape``."""
    drawn = np.zeros(shape, np.uint8)
    if exposure.marker is None:
        return drawn.astype(np.float32)
    x, y, height = exposure.marker
    place = (int(x * shape[1]), int(y * shape[0] + height))
    cv2.putText(drawn, letter, place, cv2.FONT_HERSHEY_DUPLEX, height / 22, 255, 2, cv2.LINE_AA)
    if exposure.mirrored:
        left, right = max(place[0] - 2, 0), min(place[0] + int(height) + 4, shape[1])
        drawn[:, left:right] = drawn[:, left:right][:, ::-1].copy()
    return np.asarray(drawn, dtype=np.float32) * np.float32(LEAD / 255)


def expose(
    attenuation: NDArray[np.float32],
    soft: float,
    edge: float,
    exposure: Exposure,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """Take the picture.

    Args:
        attenuation: float32 (h, w), Σ μ·l.
        soft: Σ μ·l of the limb's soft tissue in its middle; with ``edge`` it sets the display window, as the console
            does by body part. Both are the limb's, never the picture's: a broken bone is shown no other way.
        edge: what the cortex's edge adds to it.
        exposure: how it is taken and shown.
        rng: the noise's stream.

    Returns:
        uint8 (h, w); 0 is black.
    """
    primary = np.exp(-attenuation) * np.float32(exposure.quanta)
    sigma = max(attenuation.shape) / 14
    small = cv2.resize(primary, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)
    veil = cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 8), primary.shape[::-1], interpolation=cv2.INTER_LINEAR)
    # Scatter is made by tissue: where the beam meets none there is none to add.
    arriving = primary + np.float32(exposure.scatter) * np.minimum(veil, np.float32(exposure.quanta * np.exp(-soft)))
    arriving = np.asarray(cv2.GaussianBlur(arriving, (0, 0), exposure.blur), dtype=np.float32)
    # Poisson at hundreds of photons is normal to a percent, and ten times as quick to draw.
    spread = np.sqrt(arriving + np.float32(exposure.electronic**2))
    counted = arriving + spread * rng.standard_normal(arriving.shape, dtype=np.float32)
    # The phosphor's light spreads after the quanta are absorbed, so noise is a little blurred too.
    counted = np.asarray(cv2.GaussianBlur(counted, (0, 0), 0.45), dtype=np.float32)
    seen = -np.log(np.maximum(counted, 1) / np.float32(exposure.quanta))
    if exposure.enhance:
        seen = seen + np.float32(exposure.enhance) * (seen - cv2.GaussianBlur(seen, (0, 0), 3.0))
    level = (seen - np.float32(exposure.black * soft)) / np.float32(soft * (1 - exposure.black) + exposure.white * edge)
    return _shutter(np.rint(255 * _display(level, exposure.contrast)).astype(np.uint8), exposure)


def _display(level: NDArray[np.float32], contrast: float) -> NDArray[np.float32]:
    """A sigmoid from 0 to 1, as viewing stations' standard curves are."""
    middle = 0.62
    low, high = (1 / (1 + np.exp(-contrast * (end - middle))) for end in (0.0, 1.05))
    curve = 1 / (1 + np.exp(np.float32(-contrast) * (np.clip(level, 0, 1.05) - np.float32(middle))))
    return np.asarray((curve - low) / (high - low), dtype=np.float32)


def _shutter(picture: NDArray[np.uint8], exposure: Exposure) -> NDArray[np.uint8]:
    """Blank what lies outside the collimated field."""
    h, w = picture.shape
    left, top, right, bottom = exposure.shutter
    centre = ((left + right) / 2 * w, (top + bottom) / 2 * h)
    size = ((right - left) * w, (bottom - top) * h)
    corners = cv2.boxPoints((centre, size, exposure.shutter_turn))
    field = np.zeros((h, w), np.uint8)
    cv2.fillConvexPoly(field, np.rint(corners).astype(np.int32), 255, cv2.LINE_AA)
    return np.asarray(cv2.multiply(picture, field, scale=1 / 255), dtype=np.uint8)
