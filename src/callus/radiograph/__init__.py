"""From a file or its bytes to the grey picture that a reader would see."""

from callus.radiograph.reading import Identity, Radiograph, read

__all__ = ["Identity", "Radiograph", "read"]
