from __future__ import annotations

import numpy as np
import pytest

from callus.dataset.grey_levels import histogram, percentiles


@pytest.mark.parametrize("seed", range(20))
def test_percentiles_are_numpys(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 60, 2))
    shares = (0, *generator.uniform(0, 100, 3), 50, 100)
    for dtype, top in ((np.uint8, 256), (np.uint8, 3), (np.uint16, 65536), (np.float32, 10)):
        picture = generator.integers(0, top, shape).astype(dtype)
        np.testing.assert_allclose(percentiles(picture, shares), np.percentile(picture, shares))
        np.testing.assert_allclose(percentiles(picture[::2, ::2], shares), np.percentile(picture[::2, ::2], shares))


def test_a_histogram_counts_where_it_is_told() -> None:
    picture = np.array([[0, 1, 1], [255, 1, 0]], np.uint8)
    assert histogram(picture)[[0, 1, 255]].tolist() == [2, 3, 1]
    assert histogram(picture, picture > 0)[[0, 1, 255]].tolist() == [0, 3, 1]
