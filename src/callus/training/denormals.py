"""Numbers too small for a normal float count as 0 while a network is trained."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Flush denormals to 0 for as long as this lasts, in this thread; also a decorator.

    A frozen trunk from random weights lets activations fade into denormals, which are many times slower. Whoever called
    gets the arithmetic back that they had: others in the process may count on IEEE 754.
    """
    before = sys.float_info.min / 2 == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
