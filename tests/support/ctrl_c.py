"""A process that heeds Ctrl-C, however the tests were started. Not a test."""

from __future__ import annotations

import signal


def heed_ctrl_c() -> None:
    """Undo what a shell does to what it starts behind ``&``: there SIGINT is ignored, and children inherit that.

    For ``subprocess.Popen(preexec_fn=...)``.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
