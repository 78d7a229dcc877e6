from __future__ import annotations

import numpy as np
import pytest

from callus.errors import CallusError
from callus.metrics.bands import SAME, drawn_intervals
from callus.metrics.resampling import Resampling, ratio_interval


@pytest.fixture
def resampling() -> Resampling:
    return Resampling(np.arange(200) % 40, draws=400)


def test_a_ratios_interval_is_that_of_ratio_interval(resampling: Resampling) -> None:
    generator = np.random.default_rng(1)
    above, below = generator.integers(0, 3, 200), generator.integers(1, 4, 200)
    sums = resampling.sums(np.stack([above, below], axis=1).astype(float))

    def both(times: np.ndarray) -> np.ndarray:
        drawn = times @ sums
        share = drawn[:, 0] / drawn[:, 1]
        return np.stack([share, 3 * share + 1], axis=1)

    first, second = drawn_intervals(resampling, both, np.ones(40, bool), width=2, undefined="never")
    other = ratio_interval(above, below, resampling.index, resampling=resampling)
    assert (first.value, first.low, first.high) == pytest.approx((other.value, other.low, other.high))
    assert first.method == other.method
    # BCa follows where the figure is moved and stretched.
    assert (second.low, second.high) == pytest.approx((3 * (first.low or 0) + 1, 3 * (first.high or 0) + 1))


def test_what_is_not_defined_has_its_reason(resampling: Resampling) -> None:
    def figures(times: np.ndarray) -> np.ndarray:
        mean = (times[:, :20].sum(axis=1) / times.sum(axis=1)).astype(float)
        return np.stack([np.full(len(times), np.nan), np.full(len(times), 0.25), mean], axis=1)

    counts = np.ones(40, bool)
    missing, same, mean = drawn_intervals(resampling, figures, counts, width=1, undefined="no case")
    assert (missing.value, missing.reason) == (None, "no case")
    assert (same.value, same.low, same.reason) == (0.25, None, SAME)
    assert mean.low is not None
    only = drawn_intervals(resampling, figures, counts & (np.arange(40) == 3), width=1, undefined="no case")[2]
    assert (only.value, only.low) == (mean.value, None)
    assert "too few groups" in only.reason


def test_the_width_bounds_what_is_held_and_changes_nothing(resampling: Resampling) -> None:
    sizes = []

    def figures(times: np.ndarray) -> np.ndarray:
        sizes.append(len(times))
        return np.asarray(times[:, :5].sum(axis=1, dtype=float)[:, None])

    counts = np.ones(40, bool)
    narrow = drawn_intervals(resampling, figures, counts, width=1, undefined="")
    assert max(sizes) == 400
    sizes.clear()
    assert drawn_intervals(resampling, figures, counts, width=500_000, undefined="") == narrow
    assert max(sizes) == 4


def test_a_level_that_is_none(resampling: Resampling) -> None:
    with pytest.raises(CallusError, match="the level is 95"):
        drawn_intervals(
            resampling, lambda times: times[:, :1] * 1.0, np.ones(40, bool), width=1, undefined="", level=95
        )
