from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn.isotonic import IsotonicRegression

from callus.errors import CallusError
from callus.metrics.calibration import Calibration, Fitted, fit


def simulated(slope: float, intercept: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    logit = generator.normal(0.5, 2.0, count)
    return logit, (generator.random(count) < special.expit(slope * logit + intercept)).astype(int)


@pytest.mark.parametrize(("slope", "intercept"), [(0.4, -1.0), (1.0, 0.0), (2.5, 1.5)])
def test_known_miscalibration_is_recovered(slope: float, intercept: float) -> None:
    found = fit(*simulated(slope, intercept))
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
    found = fit(logit, label)
    assert (found.slope, found.intercept) == pytest.approx(tuple(other), abs=1e-5)


def test_classes_that_do_not_overlap_keep_a_finite_slope() -> None:
    found = fit([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], [0, 0, 0, 1, 1, 1])
    probability = found.probability(np.array([-3.0, 3.0]))
    # The smoothed targets of three cases each are 1/5 and 4/5.
    assert 0.05 < probability[0] < 0.2
    assert 0.8 < probability[1] < 0.95


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_large_and_small_logits_are_fitted_alike(scale: float) -> None:
    logit, label = simulated(1.0, 0.0, 500)
    assert fit(logit * scale, label).slope * scale == pytest.approx(fit(logit, label).slope, rel=1e-5)


def test_a_model_worse_than_chance_keeps_its_order_and_says_little() -> None:
    logit, label = simulated(-1.0, 0.0, 2000)
    found = fit(logit, label)
    assert found.slope > 0
    assert "no better than chance" in found.reason
    assert np.ptp(found.probability(logit)) < 0.05
    assert found.probability(float(logit.mean())) == pytest.approx(label.mean(), abs=0.01)


@pytest.mark.parametrize(
    ("label", "reason"), [([1, 1], "no not fractured case"), ([0, 0], "no fractured case"), ([], "no fractured case")]
)
def test_one_class_gives_the_identity_with_a_reason(label: list[int], reason: str) -> None:
    found = fit(np.arange(len(label)), label)
    assert (found.slope, found.intercept, found.method) == (1.0, 0.0, "identity")
    assert reason in found.reason


def test_equal_logits_give_the_identity() -> None:
    assert fit([2.0, 2.0, 2.0], [0, 1, 1]).reason == "all logits are equal"


def test_a_round_trip_through_the_bundles_form() -> None:
    for calibration in (
        Calibration(1.5, -0.25),
        Calibration(0.1, 0.0, "temperature"),
        Calibration(method="identity", reason="none to fit on"),
        Calibration(method="isotonic", knots=((-1.0, 0.1), (0.1, 1 / 3), (7.0, 1 / 3))),
        *(fit(*simulated(0.7, 0.3, 500), method) for method in ("platt", "temperature", "isotonic")),
    ):
        assert Calibration.from_dict(json.loads(json.dumps(calibration.as_dict()))) == calibration
    assert Calibration(2.0, 1.0).as_dict() == {"method": "platt", "slope": 2.0, "intercept": 1.0}


def test_what_bundles_of_before_hold_is_read() -> None:
    assert Calibration.from_dict({"method": "platt", "slope": 2, "intercept": -1}) == Calibration(2.0, -1.0)
    old = {"method": "identity", "slope": 1.0, "intercept": 0.0, "reason": "no fractured case to calibrate on"}
    assert Calibration.from_dict(old).reason == old["reason"]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    found = fit(*simulated(1 / temperature, 0.0), "temperature")
    assert 1 / found.slope == pytest.approx(temperature, rel=0.06)
    assert (found.intercept, found.method, found.reason) == (0.0, "temperature", "")


def test_the_temperature_is_the_maximum_of_the_likelihood_to_smoothed_targets() -> None:
    logit, label = simulated(0.7, -0.3, 60)
    positives, negatives = label.sum(), (1 - label).sum()
    target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(slope: float) -> float:
        return float(
            -(target * special.log_expit(slope * logit) + (1 - target) * special.log_expit(-slope * logit)).sum()
        )

    other = optimize.minimize_scalar(loss, bounds=(0.01, 10), options={"xatol": 1e-9}).x
    assert fit(logit, label, "temperature").slope == pytest.approx(other, abs=1e-5)


def test_logits_of_the_wrong_sign_have_no_temperature() -> None:
    logit, label = simulated(-1.0, 0.0, 2000)
    found = fit(logit, label, "temperature")
    assert found.slope > 0
    assert "no temperature fits" in found.reason
    assert np.abs(found.probability(logit) - 0.5).max() < 0.05
    # All of one sign with the right order: a temperature fits, whatever it is worth.
    assert not fit(np.array([100.0, 101.0, 102.0, 103.0]), [0, 1, 1, 1], "temperature").reason


def test_isotonic_recovers_a_rise_that_no_slope_and_intercept_describe() -> None:
    generator = np.random.default_rng(2)
    logit = generator.normal(0.0, 2.0, 40_000)

    def truth(at: np.ndarray) -> np.ndarray:
        return np.where(at < 0, 0.1, np.where(at < 1, 0.1 + 0.6 * at, 0.7))

    label = (generator.random(logit.size) < truth(logit)).astype(int)
    at = np.array([-3.0, -1.0, 0.25, 0.5, 0.75, 2.0, 4.0])
    assert fit(logit, label, "isotonic").probability(at) == pytest.approx(truth(at), abs=0.04)
    assert np.abs(fit(logit, label, "platt").probability(at) - truth(at)).max() > 0.08


def test_isotonic_is_scikit_learns_on_smoothed_labels() -> None:
    logit, label = simulated(0.7, -0.3, 300)
    logit = logit.round(1)  # ties
    positives, negatives = label.sum(), (1 - label).sum()
    target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    other = IsotonicRegression(out_of_bounds="clip").fit(logit, target)
    at = np.linspace(-9, 9, 500)
    assert fit(logit, label, "isotonic").probability(at) == pytest.approx(other.predict(at), abs=1e-12)


def test_isotonic_by_hand() -> None:
    # Two of each class: the labels are smoothed to 1/4 and 3/4. The pair at 1 and 2 falls (3/4, 1/4) and is pooled.
    found = fit([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1], "isotonic")
    assert found.knots == ((0.0, 0.25), (1.0, 0.5), (2.0, 0.5), (3.0, 0.75))
    assert found.probability(np.array([-9.0, 0.5, 1.5, 2.5, 9.0])).tolist() == [0.25, 0.375, 0.5, 0.625, 0.75]
    assert found.probability(0.5) == 0.375
    assert isinstance(found.probability(0.5), float)
    falling = fit([0.0, 1.0, 2.0, 3.0], [1, 1, 0, 0], "isotonic")
    assert falling.knots == ((0.0, 0.5), (3.0, 0.5))
    assert "no better than chance" in falling.reason


@given(
    st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=1, max_size=40),
    st.sampled_from(["platt", "temperature", "isotonic"]),
)
def test_every_fit_rises_and_stays_off_zero_and_one(cases: list[tuple[int, bool]], method: Fitted) -> None:
    logit = np.array([value / 4 for value, _ in cases])
    label = np.array([fractured for _, fractured in cases], dtype=int)
    found = fit(logit, label, method)
    probability = found.probability(np.linspace(-8, 8, 200))
    assert (np.diff(probability) >= -1e-12).all()
    assert Calibration.from_dict(json.loads(json.dumps(found.as_dict()))) == found
    if found.method == "isotonic":
        count = label.sum()
        # No probability is beyond what the smoothed labels are.
        assert probability.min() >= 1 / (label.size - count + 2) - 1e-12
        assert probability.max() <= (count + 1) / (count + 2) + 1e-12
        assert len(found.knots) <= len(set(logit))


@pytest.mark.parametrize("method", ["platt", "temperature", "isotonic"])
@pytest.mark.parametrize(("logit", "label"), [([1.0, 2.0], [1, 1]), ([], []), ([2.0, 2.0], [0, 1])])
def test_where_nothing_can_be_fitted_all_give_the_identity(
    logit: list[float], label: list[int], method: Fitted
) -> None:
    found = fit(logit, label, method)
    assert (found.slope, found.intercept, found.method) == (1.0, 0.0, "identity")
    assert found.reason


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(CallusError, match="'beta'; expected platt or temperature or isotonic"):
        fit([0.0, 1.0], [0, 1], "beta")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "isotonic"}, "has no knots"),
        ({"method": "platt", "knots": ((0.0, 0.5),)}, "only isotonic has them"),
        ({"method": "isotonic", "knots": ((0.0, 0.5),), "slope": 2.0}, "has a slope"),
        ({"method": "isotonic", "knots": ((0.0, 0.5), (0.0, 0.6))}, "do not rise"),
        ({"method": "isotonic", "knots": ((0.0, 0.5), (1.0, 0.4))}, "do not rise"),
        ({"method": "isotonic", "knots": ((0.0, 0.0), (1.0, 0.4))}, "between 0 and 1"),
        ({"method": "isotonic", "knots": ((0.0, 0.5), (1.0, 1.0))}, "between 0 and 1"),
        ({"method": "isotonic", "knots": ((np.inf, 0.5),)}, "finite logit"),
        ({"method": "temperature", "intercept": 0.5}, "temperature scaling has 0"),
        ({"method": "beta"}, "method is 'beta'"),
    ],
)
def test_a_calibration_that_is_none_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(CallusError, match=message):
        Calibration(**values)  # type: ignore[arg-type]


def test_knots_that_do_not_pair_are_refused() -> None:
    with pytest.raises(CallusError, match="2 logits do not go with 1 probabilities"):
        Calibration.from_dict({"method": "isotonic", "logits": [0.0, 1.0], "probabilities": [0.5]})


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
        fit(logit, label)


@pytest.mark.parametrize("values", [(0.0, 0.0), (-1.0, 0.0), (np.nan, 0.0), (1.0, np.inf)])
def test_a_calibration_that_does_not_rise_is_refused(values: tuple[float, float]) -> None:
    with pytest.raises(CallusError, match="expected a number"):
        Calibration(*values)
