from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special

from callus.errors import CallusError
from callus.metrics.calibration import Calibration, fit_platt


def simulated(slope: float, intercept: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    logit = generator.normal(0.5, 2.0, count)
    return logit, (generator.random(count) < special.expit(slope * logit + intercept)).astype(int)


@pytest.mark.parametrize(("slope", "intercept"), [(0.4, -1.0), (1.0, 0.0), (2.5, 1.5)])
def test_known_miscalibration_is_recovered(slope: float, intercept: float) -> None:
    found = fit_platt(*simulated(slope, intercept))
    assert found.slope == pytest.approx(slope, rel=0.06)
    assert found.intercept == pytest.approx(intercept, abs=0.08)
    assert found.method == "platt"
    assert not found.reason


def test_it_is_the_maximum_of_the_likelihood_to_smoothed_targets() -> None:
    logit, label = simulated(0.7, -0.3, 60)
    positives, negatives = label.sum(), (1 - label).sum()
    target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(parameters: np.ndarray) -> float:
        z = parameters[0] * logit + parameters[1]
        return float(-(target * special.log_expit(z) + (1 - target) * special.log_expit(-z)).sum())

    other = optimize.minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}).x
    found = fit_platt(logit, label)
    assert (found.slope, found.intercept) == pytest.approx(tuple(other), abs=1e-5)


def test_classes_that_do_not_overlap_keep_a_finite_slope() -> None:
    found = fit_platt([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], [0, 0, 0, 1, 1, 1])
    probability = found.probability(np.array([-3.0, 3.0]))
    # The smoothed targets of three cases each are 1/5 and 4/5.
    assert 0.05 < probability[0] < 0.2
    assert 0.8 < probability[1] < 0.95


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_large_and_small_logits_are_fitted_alike(scale: float) -> None:
    logit, label = simulated(1.0, 0.0, 500)
    assert fit_platt(logit * scale, label).slope * scale == pytest.approx(fit_platt(logit, label).slope, rel=1e-5)


def test_a_model_worse_than_chance_keeps_its_order_and_says_little() -> None:
    logit, label = simulated(-1.0, 0.0, 2000)
    found = fit_platt(logit, label)
    assert found.slope > 0
    assert "no better than chance" in found.reason
    assert np.ptp(found.probability(logit)) < 0.05
    assert found.probability(float(logit.mean())) == pytest.approx(label.mean(), abs=0.01)


@pytest.mark.parametrize(
    ("label", "reason"), [([1, 1], "no not fractured case"), ([0, 0], "no fractured case"), ([], "no fractured case")]
)
def test_one_class_gives_the_identity_with_a_reason(label: list[int], reason: str) -> None:
    found = fit_platt(np.arange(len(label)), label)
    assert (found.slope, found.intercept, found.method) == (1.0, 0.0, "identity")
    assert reason in found.reason


def test_equal_logits_give_the_identity() -> None:
    assert fit_platt([2.0, 2.0, 2.0], [0, 1, 1]).reason == "all logits are equal"


def test_a_round_trip_through_the_bundles_form() -> None:
    for calibration in (Calibration(1.5, -0.25), Calibration(method="identity", reason="none to fit on")):
        assert Calibration.from_dict(calibration.as_dict()) == calibration
    assert Calibration(2.0, 1.0).as_dict() == {"method": "platt", "slope": 2.0, "intercept": 1.0}


def test_probabilities_of_one_and_of_many() -> None:
    calibration = Calibration(2.0, -1.0)
    assert calibration.probability(0.5) == 0.5
    assert isinstance(calibration.probability(0.5), float)
    many = calibration.probability(np.array([-1000.0, 0.5, 1000.0], dtype=np.float32))
    assert many.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("logit", "label", "message"),
    [
        ([1.0], [0, 1], "1 logits do not go with 2 labels"),
        ([1.0, 2.0], [0, 2], "neither 0 nor 1"),
        ([1.0, np.nan], [0, 1], "1 of 2 logits are not numbers"),
    ],
)
def test_wrong_input(logit: list[float], label: list[int], message: str) -> None:
    with pytest.raises(CallusError, match=message):
        fit_platt(logit, label)


@pytest.mark.parametrize("values", [(0.0, 0.0), (-1.0, 0.0), (np.nan, 0.0), (1.0, np.inf)])
def test_a_calibration_that_does_not_rise_is_refused(values: tuple[float, float]) -> None:
    with pytest.raises(CallusError, match="expected a number"):
        Calibration(*values)
