"""Every error that a person can read.

Each message is one line that says what is wrong, with which value, what was expected, and what to do about it.
The library raises these; only the command line turns them into a line on stderr and an exit code.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Give text as one line that is safe to print: line breaks, what terminals obey and what is no UTF-8 as escapes.

    Names of files may hold all of them.
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


class CallusError(Exception):
    """The base of every error that callus raises on purpose."""

    def __init__(self, what: str, *, where: object = None, hint: str = "") -> None:
        """Compose the one line ``where: what; hint``.

        Args:
            what: what is wrong, with the value and what was expected.
            where: the file, folder, row or option that it is about; None where there is no such thing.
            hint: what to do about it.
        """
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint
        line = what if self.where is None else f"{self.where}: {what}"
        super().__init__(f"{line}; {hint}" if hint else line)


class RadiographError(CallusError):
    """A file cannot be read as a radiograph: missing, truncated, too large, not an image, no pixels."""


class PassingError(RadiographError):
    """A radiograph cannot be read just now, for a reason that may not be the file's: trying again may help."""


class DatasetError(CallusError):
    """A data set, a manifest or a split is not what it has to be."""


class FetchError(CallusError):
    """A download failed, has the wrong checksum, or its licence was not accepted."""


class WeightsError(CallusError):
    """A weights file does not fit: wrong hash, wrong trunk, a missing layer."""


class RecipeError(CallusError):
    """A recipe has an unknown key or a value that is out of its range."""


class TrainingError(CallusError):
    """Training cannot start or go on."""


class BundleError(CallusError):
    """A bundle cannot be loaded: wrong hash, unknown version, missing file, unsafe path."""
