"""A process that heeds Ctrl-C, however the tests were started. Not a test."""

from __future__ import annotations

import signal

HEED_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
"""The same for the beginning of ``python -c``. Nothing of ours runs between fork and exec then, where it could wait for
ever for a lock of one of the many threads that the tests' process has: ``Popen`` would wait with it."""


def heed_ctrl_c() -> None:
    """Undo what a shell does to what it starts behind ``&``: there SIGINT is ignored, and children inherit that.

    For ``subprocess.Popen(preexec_fn=...)``, where the process is not given its code.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
