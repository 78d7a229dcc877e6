"""From a radiograph to an answer: the one path that the command line, the evaluation and the service all take."""

from callus.identify.cautions import cautions
from callus.identify.finding import Finding
from callus.identify.identifier import Identifier, Prepared, prepare_one

__all__ = ["Finding", "Identifier", "Prepared", "cautions", "prepare_one"]
