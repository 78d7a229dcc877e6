"""A process that heeds Ctrl-C, however the tests were started. Not a test."""

HEED_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
"""For the beginning of ``python -c``: what a shell starts behind ``&`` ignores SIGINT, and so does what that starts.

``Popen(preexec_fn=...)`` could undo that too, but runs in a fork of the tests' process, which has many threads: it can
wait for a lock of one of them for ever, and ``Popen`` with it.
"""
