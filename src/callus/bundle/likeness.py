"""How far a radiograph's pooled features are from those of the training data: a Gaussian that stands in the bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from callus.errors import BundleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_CHANNELS: Final = 8192
"""Pooled features of the widest trunk have 2,048."""
MOST_COMPONENTS: Final = 512
"""With MOST_CHANNELS a file of 17 MB."""
SMALLEST: Final = 1e-9
"""Least scale or deviation, and 1 / SMALLEST the largest number: no distance of finite features then overflows."""
_RIGHT_ANGLE: Final = 1e-3
"""What rounding in 32 bits may make of 0 and 1 between axes (measured: 1e-6)."""
_FLOAT: Final = np.dtype("<f4")


@dataclass(frozen=True, eq=False)
class Likeness:
    """A Gaussian of pooled features: a few principal components, and one variance for all that lies beside them.

    That is probabilistic principal component analysis (Tipping and Bishop 1999), whose covariance can be inverted
    however few pictures it comes from. The distance is Mahalanobis' under it.

    Attributes:
        mean: float32 (C,), of each feature; no number above 1 / SMALLEST here or below.
        scale: float32 (C,), from SMALLEST; what each feature is divided by first.
        axes: float32 (k, C), orthonormal: the principal components of the scaled features.
        deviation: float32 (k,), from SMALLEST; standard deviation along each axis.
        residual: from SMALLEST; standard deviation along every direction beside the axes.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    axes: NDArray[np.float32]
    deviation: NDArray[np.float32]
    residual: float

    def distance(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Measure how far features are from the training data's.

        Args:
            features: float32 (n, C), finite.

        Returns:
            float64 (n,), 0 or more: Mahalanobis' distance divided by the square root of C, so that a radiograph of
            the kind that was fitted has about 1 whatever the network.
        """
        # In 64 bits, because a hostile bundle's network may give any finite numbers in 32.
        off = (features.astype(np.float64) - self.mean) / self.scale
        axes = self.axes.astype(np.float64)
        # Row by row: a product of two matrices would wake the threads of another library beside the network's.
        along = np.array([axes @ row for row in off])
        beside = np.maximum((off * off).sum(axis=1) - (along * along).sum(axis=1), 0)
        squared = ((along / self.deviation) ** 2).sum(axis=1) + beside / self.residual**2
        return np.asarray(np.sqrt(squared / len(self.mean)))

    def to_bytes(self) -> bytes:
        """Give the file: little-endian float32, ``residual``, ``mean``, ``scale``, ``deviation``, ``axes`` by rows."""
        parts = (np.array([self.residual]), self.mean, self.scale, self.deviation, self.axes)
        return b"".join(np.ascontiguousarray(part, dtype=_FLOAT).tobytes() for part in parts)

    @classmethod
    def from_bytes(cls, data: bytes, channels: int, components: int, where: object) -> Likeness:
        """Read what :meth:`to_bytes` gave.

        Args:
            data: the file.
            channels: C, what the network's features have.
            components: k.
            where: the file, for the error.

        Raises:
            BundleError: the file has another size, or numbers or axes that no Gaussian has.
        """
        check_size(len(data), channels, components, where)
        values = np.frombuffer(data, dtype=_FLOAT).astype(np.float32)
        residual, mean, scale, deviation, axes = np.split(values, np.cumsum([1, channels, channels, components]))
        least = min(residual.min(), scale.min(), deviation.min(initial=1))
        if not (np.abs(values).max() <= 1 / SMALLEST and least >= SMALLEST):  # so that NaN is refused too
            raise BundleError("holds numbers that no Gaussian has", where=where, hint="get the bundle again")
        axes = axes.reshape(components, channels)
        if not _orthonormal(axes):
            raise BundleError("holds axes that are no principal components", where=where, hint="get the bundle again")
        return cls(mean, scale, axes, deviation, float(residual[0]))


def _orthonormal(axes: NDArray[np.float32]) -> bool:
    """Whether axes are at right angles and 1 long; otherwise the covariance that they stand for has no inverse."""
    products = np.array([axes @ row for row in axes]).reshape(len(axes), len(axes))
    return bool((np.abs(products - np.eye(len(axes))) <= _RIGHT_ANGLE).all())


def check_size(size: int, channels: int, components: int, where: object) -> None:
    """Refuse a file that is no Gaussian's of ``components`` axes among ``channels`` features.

    Raises:
        BundleError: it has another size.
    """
    expected = _FLOAT.itemsize * (1 + 2 * channels + components + channels * components)
    if size != expected:
        raise BundleError(
            f"has {size:,} bytes; {channels} features and {components} components take {expected:,}",
            where=where,
            hint="get the bundle again",
        )
