"""From a manifest and a recipe to a run folder that ends with a bundle."""
