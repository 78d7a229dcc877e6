"""What a bundle knows of its training data: the fit, and how far is too far."""

from __future__ import annotations

import numpy as np
import pytest

from callus.bundle.likeness import Likeness
from callus.metrics.calibration import Calibration
from callus.metrics.operating_points import OperatingPoints
from callus.training.likeness import (
    COMPONENTS,
    EXPLAINED,
    WITHIN,
    Known,
    _by_other_groups,
    farthest,
    fit,
    known,
    varying,
)
from callus.training.measured import Measured


def drawn(count: int, channels: int = 200, *, seed: int = 0, strange: bool = False) -> np.ndarray:
    """Features as networks give them: not negative, some of them nearly always 0, and most vary together."""
    mixed = np.random.default_rng(9).normal(size=(12, channels)) * np.linspace(2, 0.3, 12)[:, None]
    rng = np.random.default_rng(seed)
    inner = rng.normal(size=(count, 12)) @ mixed + rng.normal(size=(count, channels)) * 0.5
    level = np.linspace(-4, 4, channels)
    return np.maximum(inner + (level[::-1] if strange else level), 0).astype(np.float32)


def exceeds(count: int, held_out: int, *, strange: bool = False) -> float:
    """Share of 2,000 others that lie beyond the threshold."""
    likeness = fit(drawn(count))
    limit = farthest(likeness.distance(drawn(held_out, seed=1)))
    return float((likeness.distance(drawn(2000, seed=2, strange=strange)) > limit).mean())


@pytest.mark.parametrize(("count", "found"), [(20, 0.8), (60, 0.99), (300, 0.99), (1000, 0.99)])
@pytest.mark.parametrize("held_out", [30, 200])
def test_what_is_alike_is_seldom_called_strange_and_the_strange_always(count: int, found: float, held_out: int) -> None:
    assert exceeds(count, held_out) < 0.06
    assert exceeds(count, held_out, strange=True) > found


def test_the_fit_is_the_features_own_gaussian_where_there_are_plenty() -> None:
    features = drawn(4000, 10) + 5  # never 0, so that it is one
    likeness = fit(features)
    covariance = np.cov(features.T)
    off = features[:50] - features.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off) / 10)
    assert likeness.distance(features[:50]) == pytest.approx(expected, rel=0.02)
    assert np.sqrt((likeness.distance(features) ** 2).mean()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("count", "kept"), [(20, 20 // EXPLAINED), (100, 25), (1000, COMPONENTS)])
def test_few_pictures_get_few_components(count: int, kept: int) -> None:
    assert len(fit(drawn(count)).axes) == kept


@pytest.mark.parametrize(
    "features", [np.zeros((30, 5)), np.ones((30, 1)), np.repeat(np.arange(30.0)[:, None], 9, axis=1)]
)
def test_features_that_do_not_vary_give_a_gaussian_that_loads(features: np.ndarray) -> None:
    made = fit(features.astype(np.float32))
    read = Likeness.from_bytes(made.to_bytes(), features.shape[1], len(made.axes), "x")
    assert read.distance(features.astype(np.float32)) == pytest.approx(0, abs=2)


def test_features_that_seldom_vary_do_not_blow_up_the_others() -> None:
    """Half of the units and more are silent in some networks: the others go on telling what is strange."""
    silent = np.full((300, 300), 6.0, dtype=np.float32)
    features, others = (np.hstack([drawn(300, seed=seed), silent]) for seed in (0, 1))
    assert varying(features).mean() < 0.5
    likeness = fit(features)
    assert 0.5 < np.median(likeness.distance(others)) < 1.5
    strange = np.hstack([drawn(300, seed=2, strange=True), silent])
    assert (likeness.distance(strange) > farthest(likeness.distance(others))).mean() > 0.99


def test_features_that_are_all_silent_are_not_described() -> None:
    rounding = np.random.default_rng(0).normal(size=(40, 100)).astype(np.float32) * 1e-6
    spoilt = np.full((40, 100), 6.0, dtype=np.float32) + rounding
    spoilt[:, :4] += np.arange(40, dtype=np.float32)[:, None]
    assert varying(spoilt).sum() == 4
    way = Measured("onnx-float32", *np.zeros((2, 40)), Calibration(), OperatingPoints(), 0.5, spoilt)
    told = known([], None, [way], np.arange(40), 100)
    assert isinstance(told, str)
    assert "only 4 of 100 features vary" in told


def test_what_int8_rounds_does_not_hide_the_strange() -> None:
    """It shifts the features a little, in directions in which radiographs never differ."""
    rounded = np.random.default_rng(4).normal(size=200) * 0.3

    def way(engine: str, features: np.ndarray) -> Measured:
        return Measured(engine, *np.zeros((2, 300)), Calibration(), OperatingPoints(), 0.5, features)

    def int8(features: np.ndarray) -> np.ndarray:
        return np.asarray(features + rounded, dtype=np.float32)

    ways = [way("onnx-float32", drawn(300)), way("openvino-int8", int8(drawn(300)))]
    found = known([], None, ways, np.arange(300), ways[0].features.shape[1])
    assert isinstance(found, Known)
    limits = found.entry["thresholds"]
    assert limits["openvino-int8"] < 1.2 * limits["onnx-float32"]
    strange = int8(drawn(300, seed=2, strange=True))
    assert (found.likeness.distance(strange) > limits["openvino-int8"]).mean() > 0.99


def test_the_threshold_of_many_is_the_conformal_one() -> None:
    assert farthest(np.arange(1.0, 100.0)) == 99  # of 99 the largest
    assert farthest(np.arange(1.0, 400.0)) == 396
    rng = np.random.default_rng(0)
    beyond = [(rng.exponential(size=1000) > farthest(rng.exponential(size=199))).mean() for _ in range(300)]
    assert np.mean(beyond) == pytest.approx(1 - WITHIN, abs=0.003)


def test_the_threshold_of_few_is_held_on_average() -> None:
    rng = np.random.default_rng(0)
    for count in (8, 20, 60):
        beyond = [(rng.lognormal(0, 0.3, 1000) > farthest(rng.lognormal(0, 0.3, count))).mean() for _ in range(500)]
        assert 0.004 < np.mean(beyond) < 0.013
    assert farthest(np.ones(8)) == 1


def test_a_picture_is_not_judged_by_its_own_group() -> None:
    """Forty pictures of one patient: fitted among themselves, a strange one would be one of many."""
    features = np.concatenate([drawn(120), drawn(40, strange=True)])
    group = np.array([f"g{number}" for number in range(120)] + ["strange"] * 40)
    apart, among = _by_other_groups(features, group, features, group), fit(features).distance(features)
    assert np.median(apart[120:]) > 2 * np.median(apart[:120])
    assert np.median(among[120:]) < 1.5 * np.median(among[:120])
