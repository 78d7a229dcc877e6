"""From a manifest and a recipe to a run folder that ends with a bundle."""

from callus.training.run import Options, train

__all__ = ["Options", "train"]
