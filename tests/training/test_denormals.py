"""Training's arithmetic ends with the training."""

from __future__ import annotations

import sys
from contextlib import suppress

from callus.training.denormals import flushed_denormals


def test_denormals_are_flushed_while_it_lasts_and_come_back() -> None:
    def half() -> float:
        return sys.float_info.min / 2

    assert half() > 0
    with suppress(ValueError), flushed_denormals():
        assert half() == 0
        with flushed_denormals():
            assert half() == 0
        assert half() == 0
        raise ValueError("meanwhile")
    assert half() > 0
