"""The command line: one file a verb; heavy imports stand inside the verb, so that ``--help`` is instant."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from callus.cli.app import app
from callus.errors import CallusError, FetchError, TrainingError, printable
from callus.workers import ProcessEndedError

__all__ = ["app", "main"]

WRONG_USE = 2
FAILED = 1
STOPPED = 130
TRAINING_PARTS = ("h5py", "lightning_fabric", "onnx", "onnxscript", "safetensors", "tensorboard", "torch")
"""Modules of the extra ``train``: only ``train`` and ``demo`` use them."""


def main() -> NoReturn:
    """Run a verb; every error that a person can do something about becomes one line and an exit code.

    Exit codes: 0 all well, 1 something failed, 2 wrong use, 130 stopped by Ctrl-C.
    """
    try:
        app()
    except CallusError as error:
        # The base class is what files that cannot be written raise; the rest tells of input that does not fit.
        failed = type(error) in (CallusError, FetchError, ProcessEndedError, TrainingError)
        _leave(f"callus: {printable(str(error))}", FAILED if failed else WRONG_USE)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAINING_PARTS:
            raise
        _leave(f"callus: this verb needs {error.name}, which is not installed: pip install 'callus[train]'", WRONG_USE)
    except SystemExit as left:
        # typer turns Ctrl-C into an exit of its own, without a word.
        if isinstance(getattr(left.__context__, "__cause__", None), KeyboardInterrupt):
            if os.environ.get("LOCAL_RANK", "0") != "0":  # one of several processes that the same Ctrl-C stopped
                sys.exit(STOPPED)
            _leave("callus: stopped; what was finished is kept, nothing half-written stays", STOPPED)
        raise
    except BrokenPipeError:
        # The reader of our output has gone (callus … | head): not an error of ours.
        sys.stderr.close()
        sys.exit(FAILED)
    sys.exit(0)


def _leave(line: str, code: int) -> NoReturn:
    print(line, file=sys.stderr)  # noqa: T201
    sys.exit(code)
