"""What a request is refused with: an error for people and the status for their programs."""

from __future__ import annotations

from typing import ClassVar

from callus.errors import CallusError


class RefusedError(CallusError):
    """A request that is not carried out.

    Attributes:
        status: HTTP's.
        retry_after: seconds after which it may be tried again; None where trying again does not help.
    """

    status: ClassVar[int] = 400

    def __init__(self, what: str, *, hint: str = "", retry_after: int | None = None) -> None:
        """Compose it.

        Args:
            what: what is wrong; nothing that names a patient or repeats what was sent.
            hint: what to do about it.
            retry_after: seconds after which it may be tried again.
        """
        super().__init__(what, hint=hint)
        self.retry_after = retry_after


class UnknownCallerError(RefusedError):
    """Nobody is logged in, or the name and the password do not belong together."""

    status = 401


class ForbiddenError(RefusedError):
    """Whoever asks may not do that."""

    status = 403


class MissingError(RefusedError):
    """There is no such thing."""

    status = 404


class ClashError(RefusedError):
    """It stands against what is there already."""

    status = 409


class TooLargeError(RefusedError):
    """More than is taken at once."""

    status = 413


class WrongKindError(RefusedError):
    """The body is of another kind than the one that is taken."""

    status = 415


class UnfitError(RefusedError):
    """What was sent cannot be used."""

    status = 422


class TooManyError(RefusedError):
    """Too much at once, or too often."""

    status = 429


class ElsewhereError(RefusedError):
    """A part of the service, or another one that it asks, does not answer."""

    status = 503
