"""Guessing passwords is made slow: by account and address, by account, and by address."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from callus.service.refusals import TooManyError

if TYPE_CHECKING:
    from collections.abc import Callable

_MINUTE: Final = 60.0
FREE: Final = {"pair": 5, "account": 50, "address": 30}
"""Failures before one has to wait. An account's own bound is loose, so that nobody can lock another one out easily."""
_FIRST_WAIT: Final = 5.0
_LONGEST_WAIT: Final = 15 * _MINUTE
_FORGOTTEN: Final = 60 * _MINUTE
_MOST: Final = 20_000  # keys that are remembered; the oldest go first


class Throttle:
    """Counts failures in memory. Threads may share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with none.

        Args:
            clock: seconds.
        """
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, account: str, address: str) -> None:
        """Refuse an attempt that comes too soon after too many failures.

        Raises:
            TooManyError: with the seconds to wait.
        """
        at, longest = self._clock(), 0.0
        with self._lock:
            for key in _keys(account, address):
                count, last = self._failures.get(key, (0, 0.0))
                over = count - FREE[key[0]]
                if over >= 0 and at - last < _FORGOTTEN:
                    longest = max(longest, last + min(_FIRST_WAIT * 2 ** min(over, 20), _LONGEST_WAIT) - at)
        if longest > 0:
            raise TooManyError(
                "too many attempts to log in failed", hint="wait a little", retry_after=max(1, round(longest))
            )

    def failed(self, account: str, address: str) -> None:
        """Count a failure."""
        at = self._clock()
        with self._lock:
            for key in _keys(account, address):
                count, last = self._failures.pop(key, (0, at))
                self._failures[key] = (1 if at - last > _FORGOTTEN else count + 1, at)
            while len(self._failures) > _MOST:
                self._failures.popitem(last=False)

    def succeeded(self, account: str, address: str) -> None:
        """Forget an account's failures from an address; not the address's, which one good account would hide."""
        with self._lock:
            self._failures.pop(_keys(account, address)[0], None)


def _keys(account: str, address: str) -> list[tuple[str, str]]:
    name = account.casefold()[:64]
    return [("pair", f"{name}\0{address}"), ("account", name), ("address", address)]
