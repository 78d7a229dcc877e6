"""The caution of what is unlike the training data, by the bundle's own Gaussian."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_bundle

from callus.bundle import write_bundle
from callus.errors import BundleError
from callus.identify import Finding, Identifier
from callus.identify.cautions import unlike
from callus.radiograph import Radiograph


@pytest.fixture(scope="module")
def identifier(tmp_path_factory: pytest.TempPathFactory) -> Identifier:
    folder = tmp_path_factory.mktemp("bundle") / "knowing"
    return Identifier(tiny_bundle.write_knowing_bundle(folder, mean=-0.5, spread=0.1), threads=1)


def ramp(mean: float) -> Radiograph:
    """A picture with no other caution, whose mean is ``mean`` in [-1, 1]."""
    grey = np.tile(np.linspace(-25, 25, 256), (256, 1)) + 127.5 * (mean + 1)
    return Radiograph(np.round(grey).astype(np.uint8), None, "PNG", "")


@pytest.mark.parametrize(("mean", "distance"), [(-0.5, 0.0), (-0.4, 0.5), (-0.65, 0.75)])
def test_what_is_alike_gets_no_caution(identifier: Identifier, mean: float, distance: float) -> None:
    finding = identifier.identify(ramp(mean))
    assert finding.distance == pytest.approx(distance, abs=0.02)
    assert finding.cautions == ()


@pytest.mark.parametrize(("mean", "distance"), [(-0.2, 1.5), (0.1, 3.0), (-0.75, 1.25)])
def test_what_is_unlike_is_told_with_its_distance(identifier: Identifier, mean: float, distance: float) -> None:
    finding = identifier.identify(ramp(mean))
    assert finding.distance == pytest.approx(distance, abs=0.02)
    (caution,) = finding.cautions
    assert caution == (
        f"unlike the training data: {finding.distance:.1f} times the distance within which 99 % of radiographs like "
        "them lie"
    )


def test_it_comes_before_other_cautions(identifier: Identifier) -> None:
    small = Radiograph(np.ascontiguousarray(ramp(0.1).pixels[::3, ::3]), None, "PNG", "")
    assert [caution.partition(":")[0] for caution in identifier.identify(small).cautions] == [
        "unlike the training data",
        "too small",
    ]


def test_each_of_many_gets_its_own(identifier: Identifier) -> None:
    means = [-0.5, 0.1, -0.4, -0.2]
    found = [answer for _, _, answer in identifier.identify_many([ramp(mean) for mean in means], batch=3)]
    assert [bool(answer.cautions) for answer in found if isinstance(answer, Finding)] == [False, True, False, True]


def test_views_do_not_change_it(identifier: Identifier, tmp_path: Path) -> None:
    where = tiny_bundle.write_knowing_bundle(tmp_path / "knowing", mean=-0.5)
    averaged = Identifier(where, threads=1, views=("mirror", "rotate")).identify(ramp(-0.2))
    assert averaged.distance == pytest.approx(identifier.identify(ramp(-0.2)).distance)


def test_it_may_know_only_the_first_of_the_features(identifier: Identifier, tmp_path: Path) -> None:
    """One deviation is then as far as it is of all three, whose mean square it is divided by."""
    entry = tiny_bundle.likeness_entry(1, "onnx-float32") | {"channels": 2}
    files = {"model.onnx": tiny_bundle.tiny_graph().SerializeToString(), "MODEL_CARD.md": b"# x\n"}
    files["likeness.bin"] = tiny_bundle.tiny_likeness(2, mean=-0.5).to_bytes()
    where = write_bundle(tmp_path / "two", tiny_bundle.tiny_info(likeness=entry), files)
    of_three, of_two = (one.identify(ramp(-0.2)).distance for one in (identifier, Identifier(where, threads=1)))
    assert of_two == pytest.approx((of_three or 0) * (3 / 2) ** 0.5)


def test_bundles_that_cannot_tell_say_nothing(tmp_path: Path) -> None:
    finding = Identifier(tiny_bundle.write_tiny_bundle(tmp_path / "older"), threads=1).identify(ramp(0.5))
    assert (finding.distance, finding.cautions) == (None, ())


def test_a_distance_beyond_all_measure_is_not_spelt_out() -> None:
    assert unlike(None) == unlike(1.0) == ()
    assert unlike(1e139)[0].startswith("unlike the training data: more than 100 times the distance")
    assert unlike(1.04)[0].startswith("unlike the training data: 1.04 times the distance")
    assert unlike(1.06)[0].startswith("unlike the training data: 1.1 times the distance")


def test_a_network_with_other_features_costs_an_answer_not_the_batch(tmp_path: Path) -> None:
    where = tiny_bundle.write_knowing_bundle(tmp_path / "bundle")
    model = tiny_bundle.tiny_graph()
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Flatten", ["radiograph"], ["features"]))
    model.graph.output[2].type.tensor_type.shape.dim[1].dim_param = "any"
    info = tiny_bundle.tiny_info(likeness=Identifier(where, threads=1).bundle.info["likeness"])
    files = {"MODEL_CARD.md": b"# x\n", "likeness.bin": (where / "likeness.bin").read_bytes()}
    write_bundle(where, info, files | {"model.onnx": model.SerializeToString()})
    identifier = Identifier(where, threads=1)
    answers = [answer for _, _, answer in identifier.identify_many([ramp(0.0), ramp(-0.5)], batch=2)]
    assert [type(answer) for answer in answers] == [BundleError, BundleError]
    assert "gives 12288 features, its bundle says 3" in str(answers[0])
