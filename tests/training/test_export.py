"""From a network to its bundle: float32 in both runtimes, int8 with thresholds of its own, and why there is none."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from callus import dataset
from callus.bundle import Bundle, Engine, openvino_engine, write_bundle
from callus.bundle.engine import ONNX_FLOAT32, OPENVINO_FLOAT32, OPENVINO_INT8
from callus.dataset.manifest import read_manifest
from callus.dataset.simulated import simulate
from callus.errors import BundleError
from callus.identify import Finding, Identifier
from callus.metrics.detection import Detections
from callus.metrics.operating_points import TARGET
from callus.model.network import FractureNet, build_network
from callus.preprocess import InputSpec
from callus.radiograph import Radiograph
from callus.training import export, quantise
from callus.training import recipe as recipes
from callus.training.batches import Pictures
from callus.training.examples import PLAIN, Examples
from callus.training.likeness import farthest
from callus.training.measured import map_threshold, measure
from callus.training.recipe import Recipe
from callus.training.rounding import rounded
from callus.training.weights import settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TRAINING = {
    **dict.fromkeys(("trunk", "weights", "recipe", "splits"), "x"),
    **dict.fromkeys(("files", "radiographs", "groups"), 1),
    "manifest_sha256": "0" * 64,
}
SEED = 2
"""Of a network that int8 hardly changes; for others AUROC on so few pictures falls by more than is accepted."""
ENOUGH = 15
"""Pictures of each class: 225 pairs."""


@pytest.fixture(scope="module")
def tiny() -> Recipe:
    changes = {"input.height": 64, "input.width": 64, "head.width": 8, "head.dense": [8], "export.int8": True}
    return recipes.override(recipes.load("demo"), changes)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder, 60, seed=3)
    return dataset.usable(read_manifest(folder / "manifest.parquet"))


def draw(network: FractureNet, seed: int) -> None:
    """Draw convolutions and dense layers anew, as torch does, with NumPy: torch's draws differ between processors."""
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
                bound = layer.weight[0].numel() ** -0.5
                for value in layer.parameters(recurse=False):
                    value.copy_(torch.from_numpy(generator.uniform(-bound, bound, value.shape)))


@pytest.fixture(scope="module")
def network(tiny: Recipe, rows: pd.DataFrame) -> FractureNet:
    """Random weights, with the statistics of real pictures, so that its answers differ from picture to picture."""
    made = build_network(
        "small", head="hierarchical", width=8, dense=[8], dropout=0.0, location=True, location_gain=1.0
    )
    draw(made, SEED)
    examples = Examples(rows, tiny)
    settle(made, (examples.pictures(range(start, start + 20), [PLAIN] * 20) for start in (0, 20, 40)))
    return made.eval()


@pytest.fixture(scope="module")
def judged(network: FractureNet, tiny: Recipe, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with labels that the network knows nearly all of: fractured is what it finds above the middle."""
    with torch.inference_mode():
        logit = network(Examples(rows, tiny).pictures(range(60), [PLAIN] * 60))[0].numpy()
    return rows.assign(label=(logit > np.median(logit)).astype(int), logit=logit).sort_values("logit")


def split_of(rows: pd.DataFrame, recipe: Recipe) -> Pictures:
    return Pictures(Examples(rows, recipe), 8, 1)


def clear(judged: pd.DataFrame) -> pd.DataFrame:
    """The pictures that the network finds easiest: int8 cannot cost AUROC here."""
    return pd.concat([judged.head(ENOUGH), judged.tail(ENOUGH)])


def written(
    network: FractureNet,
    judged: pd.DataFrame,
    recipe: Recipe,
    out: Path,
    *,
    int8: bool | None = None,
    seen: Pictures | None = None,
) -> Bundle:
    pictures = split_of(judged, recipe)
    return export.export_bundle(network, pictures, recipe, dict(TRAINING), out, "made", int8=int8, seen=seen)


@pytest.fixture(scope="module")
def bundle(
    network: FractureNet, judged: pd.DataFrame, tiny: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """Made with the pictures in the middle as those that were trained on."""
    seen = split_of(judged.iloc[ENOUGH:-ENOUGH], tiny)
    return written(network, clear(judged), tiny, tmp_path_factory.mktemp("export") / "bundle", seen=seen)


def test_int8_is_in_the_bundle_and_says_how_far_it_is_from_float32(bundle: Bundle) -> None:
    assert set(bundle.engines) == {ONNX_FLOAT32, OPENVINO_FLOAT32, OPENVINO_INT8}
    assert set(bundle.info["files"]) == {
        "model.onnx",
        "MODEL_CARD.md",
        "model-int8/model.xml",
        "model-int8/model.bin",
        "likeness.bin",
    }
    told = bundle.engine_info(OPENVINO_INT8).parity
    assert (told["against"], told["pictures"], told["kept_in_float"]) == (ONNX_FLOAT32, 2 * ENOUGH, "nothing")
    assert told["auroc"]["lost"] == told["auroc"]["float32"] - told["auroc"]["int8"] <= quantise.MOST_LOST
    for name in ("probability", "map"):  # random weights: far above what trained ones come to
        assert 0 < told["mean_difference"][name] < told["max_difference"][name] < 1
    assert [figures["engine"] for figures in bundle.info["figures"]] == [ONNX_FLOAT32, OPENVINO_INT8]
    assert "engines_left_out" not in bundle.info
    assert "| openvino-int8, high sensitivity | from probability" in bundle.card
    assert b'element_type="i8"' in bundle.read("model-int8/model.xml")


def test_the_graph_takes_a_batch_of_any_size(bundle: Bundle, judged: pd.DataFrame, tiny: Recipe) -> None:
    pictures = Examples(judged, tiny).pictures(range(11), [PLAIN] * 11).contiguous().numpy()
    engine = Engine(bundle, name=ONNX_FLOAT32)
    alone = [engine.run(picture[None]) for picture in pictures]
    for count in (1, 2, 3, 11):
        together = engine.run(pictures[:count])
        for name in ("logit", "map", "features"):
            one_by_one = np.concatenate([getattr(answer, name) for answer in alone[:count]])
            np.testing.assert_allclose(getattr(together, name), one_by_one, rtol=1e-4, atol=1e-5)


def test_boxes_are_shown_from_the_lowest_height_that_is_nearly_the_best() -> None:
    one_each = {"box_image": np.arange(4), "box_matched": np.zeros(4, np.bool_), "fracture_image": np.arange(2)}
    score, hits = np.array([0.9, 0.5, 0.31, 0.1]), np.array([True, True, False, False])
    found = Detections(images=4, box_score=score, box_hits=hits, fracture_score=np.array([0.9, 0.5]), **one_each)
    assert map_threshold(found) == 0.32  # the false box at 0.31 stays hidden, both fractures are shown
    missed = replace(found, box_hits=~hits, fracture_score=np.array([-np.inf, -np.inf]))
    assert map_threshold(missed) == 0.5


def test_int8_has_a_calibration_and_thresholds_of_its_own(bundle: Bundle, judged: pd.DataFrame, tiny: Recipe) -> None:
    pictures = split_of(clear(judged), tiny)
    for name in (ONNX_FLOAT32, OPENVINO_INT8):
        fitted = measure(Engine(bundle, name=name), pictures, tiny.calibration)
        held = bundle.engine_info(name)
        assert held.calibration.slope == pytest.approx(fitted.calibration.slope, rel=1e-3)
        assert held.operating_points.high_specificity == pytest.approx(
            fitted.operating_points.high_specificity, abs=1e-3
        )
        assert held.map_threshold == fitted.map_threshold
    assert bundle.engine_info(OPENVINO_INT8).calibration != bundle.engine_info(ONNX_FLOAT32).calibration
    assert bundle.engine_info(OPENVINO_FLOAT32).calibration == bundle.engine_info(ONNX_FLOAT32).calibration


def test_int8_finds_as_many_fractures_at_its_own_operating_point(
    bundle: Bundle, judged: pd.DataFrame, tiny: Recipe
) -> None:
    """The sensitivity that was asked for holds at int8's own thresholds: the bundle's, and with labels that overlap."""
    noisy = clear(judged)
    noisy.iloc[[2, 5, 20, 24], noisy.columns.get_loc("label")] = [1, 1, 0, 0]
    for name in (ONNX_FLOAT32, OPENVINO_INT8):
        engine = Engine(bundle, name=name)
        for rows in (clear(judged), noisy):
            found = measure(engine, split_of(rows, tiny), tiny.calibration)
            probability, points = found.probability, found.operating_points
            if rows is not noisy:
                probability, points = engine.info.calibration.probability(found.logit), engine.info.operating_points
            assert (probability[found.label == 1] >= points.high_sensitivity).mean() >= TARGET
            assert (probability[found.label == 0] < points.high_specificity).mean() >= TARGET


def test_an_identifier_takes_int8_by_itself_and_answers_with_it(bundle: Bundle, judged: pd.DataFrame) -> None:
    paths = list(judged["path"])
    answers: dict[str, list[Finding]] = {}
    for engine in ("auto", ONNX_FLOAT32, OPENVINO_FLOAT32):
        found = [answer for _, _, answer in Identifier(bundle.where, engine=engine).identify_many(paths)]
        answers[engine] = [answer for answer in found if isinstance(answer, Finding)]
        assert len(answers[engine]) == len(paths)
    assert {finding.engine for finding in answers["auto"]} == {OPENVINO_INT8}
    probability = {engine: np.array([finding.probability for finding in found]) for engine, found in answers.items()}
    assert 0.9 < np.corrcoef(probability["auto"], probability[ONNX_FLOAT32])[0, 1] < 1
    assert probability[OPENVINO_FLOAT32] == pytest.approx(probability[ONNX_FLOAT32], abs=1e-4)


def test_many_at_once_are_answered_as_one_by_one(bundle: Bundle, judged: pd.DataFrame) -> None:
    paths = list(judged["path"])[:21]
    many = Identifier(bundle.where, threads=2, hint="throughput")
    alone = Identifier(bundle.where)
    assert many.engine.batch > alone.engine.batch == 1
    for path, _, answer in many.identify_many(paths):
        assert isinstance(answer, Finding)
        assert answer.logit == pytest.approx(alone.identify(path).logit, abs=1e-4)


@pytest.mark.parametrize("count", [1, 5])
def test_both_runtimes_give_the_same_in_float32(bundle: Bundle, count: int) -> None:
    batch = np.random.default_rng(0).uniform(-1, 1, (count, 3, 64, 64)).astype(np.float32)
    batch[0, :, :, 32:] = -1  # a half that is black, as beside a letterbox
    first, second = (Engine(bundle, name=name).run(batch) for name in (ONNX_FLOAT32, OPENVINO_FLOAT32))
    assert second.logit == pytest.approx(first.logit, abs=1e-4)
    assert second.map == pytest.approx(first.map, abs=1e-4)
    assert second.features == pytest.approx(first.features, abs=1e-4)


def test_a_changed_weight_in_int8_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(bundle.where, tmp_path / "copy"))
    weights = bytearray((copy / "model-int8" / "model.bin").read_bytes())
    weights[1000] ^= 1
    (copy / "model-int8" / "model.bin").write_bytes(weights)
    with pytest.raises(BundleError, match=r"model-int8/model\.bin has SHA-256"):
        Identifier(copy)


def test_the_bundle_knows_its_training_pictures(bundle: Bundle, judged: pd.DataFrame, tiny: Recipe) -> None:
    told = bundle.info["likeness"]
    assert (told["split"], told["pictures"], told["held_out"]) == ("train", 60 - 2 * ENOUGH, 2 * ENOUGH)
    likeness = bundle.likeness()
    assert likeness is not None
    assert len(likeness.mean) == told["channels"] < bundle.info["outputs"]["features"]["channels"]
    for name in (ONNX_FLOAT32, OPENVINO_INT8):
        engine = Engine(bundle, name=name)
        (features,) = (
            engine.run(batch.numpy()).features for _, (batch,) in split_of(clear(judged), tiny).plain([np.arange(30)])
        )
        limit = farthest(likeness.distance(features[:, : told["channels"]]))
        assert engine.info.farthest == pytest.approx(limit, rel=1e-3)
    thresholds = told["thresholds"]
    assert thresholds[OPENVINO_INT8] != thresholds[ONNX_FLOAT32]
    assert thresholds[OPENVINO_INT8] == pytest.approx(thresholds[ONNX_FLOAT32], rel=0.3)


def test_radiographs_like_them_get_no_caution_and_other_pictures_do(bundle: Bundle, judged: pd.DataFrame) -> None:
    drawing = np.full((400, 300), 255, np.uint8)
    for number in range(8):
        cv2.circle(drawing, (30 + 35 * number, 40 + 45 * number), 30 + 10 * number, 0, 4)
    strange = [drawing, 255 - drawing, np.full((400, 300), 255, np.uint8)]
    for name in (ONNX_FLOAT32, OPENVINO_INT8):
        identifier = Identifier(bundle.where, engine=name)
        found = [identifier.identify(path) for path in judged["path"]]
        distances = [finding.distance for finding in found if finding.distance is not None]
        assert len(distances) == 60
        assert max(distances) <= 1  # with 30 to judge by, the threshold is at least their largest
        for pixels in strange:
            other = identifier.identify(Radiograph(pixels, None, "PNG", ""))
            assert any(caution.startswith("unlike the training data: ") for caution in other.cautions)
            assert other.distance is not None
            assert other.distance > 1


@pytest.fixture
def same_graph(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same network gives the same graph: torch's exporter need not write it for every test."""

    def write_again(_network: FractureNet, _spec: InputSpec, path: Path) -> None:
        path.write_bytes(bundle.read("model.onnx"))

    monkeypatch.setattr(export, "write_graph", write_again)


@pytest.mark.parametrize(("fractured", "others", "enough"), [(0, 0, 0), (1, 1, 0), (3, 12, 0), (0, 99, 0), (10, 20, 1)])
def test_int8_is_tried_where_validation_can_judge_it(fractured: int, others: int, *, enough: int) -> None:
    reason = quantise.why_not(np.repeat([1, 0], [fractured, others]))
    assert (reason == "") is bool(enough)
    assert reason.startswith(f"{fractured} fractured and {others} other validation pictures cannot tell") is not enough


@pytest.mark.usefixtures("same_graph")
@pytest.mark.parametrize(("fractured", "others"), [(1, 1), (14, 14)])
def test_too_few_validation_pictures_to_judge_int8_are_said(
    network: FractureNet, judged: pd.DataFrame, tiny: Recipe, tmp_path: Path, fractured: int, others: int
) -> None:
    few = pd.concat([judged.head(others), judged.tail(fractured)])
    made = written(network, few, tiny, tmp_path / "bundle")
    reason = made.info["engines_left_out"][OPENVINO_INT8]
    assert reason.startswith(f"{fractured} fractured and {others} other validation pictures cannot tell")
    assert reason in made.card
    assert f"no openvino-int8: {reason}" in export.summary(made.info)
    assert Identifier(made.where).engine.name == OPENVINO_FLOAT32


@pytest.mark.usefixtures("same_graph")
def test_without_nncf_there_is_a_bundle_in_float32(
    network: FractureNet, judged: pd.DataFrame, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    made = written(network, clear(judged), tiny, tmp_path / "bundle")
    assert "nncf, which cannot be imported" in made.info["engines_left_out"][OPENVINO_INT8]
    assert Identifier(made.where).engine.name == OPENVINO_FLOAT32


@pytest.mark.usefixtures("same_graph")
def test_a_name_that_no_bundle_may_have_costs_no_bundle(
    network: FractureNet, judged: pd.DataFrame, tiny: Recipe, tmp_path: Path
) -> None:
    """It is the run folder's, and the training is over."""
    for name, called in (("wrist\n\x1b[1m2\t", "wrist [1m2"), ("\u202e", "run"), ("x" * 2000, "x" * 999 + "…")):
        pictures = split_of(clear(judged), tiny)
        made = export.export_bundle(network, pictures, tiny, dict(TRAINING), tmp_path / "b", name, int8=False)
        assert made.name == called


@pytest.mark.usefixtures("same_graph")
def test_what_the_caller_wants_goes_before_the_recipe(
    network: FractureNet, judged: pd.DataFrame, tiny: Recipe, tmp_path: Path
) -> None:
    made = written(network, clear(judged), tiny, tmp_path / "without", int8=False)
    assert made.info["engines_left_out"] == {OPENVINO_INT8: "it was not wanted"}
    never = recipes.override(tiny, {"export.int8": False})
    assert OPENVINO_INT8 in written(network, clear(judged), never, tmp_path / "with", int8=True).engines


@pytest.mark.usefixtures("same_graph")
def test_int8_that_loses_too_much_is_left_out_with_its_reason(
    network: FractureNet, judged: pd.DataFrame, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MOST_LOST", -1.0)  # nothing is good enough
    deep = recipes.override(tiny, {"trunk.name": "resnet50v2"})  # so that the second way is the named layers
    made = written(network, clear(judged), deep, tmp_path / "bundle")
    assert made.info["engines_left_out"] == {
        OPENVINO_INT8: "AUROC on validation falls by 0.0000, at most -1.0 is accepted"
    }
    assert set(made.info["files"]) == {"model.onnx", "MODEL_CARD.md", "likeness.bin"}
    assert [figures["engine"] for figures in made.info["figures"]] == [ONNX_FLOAT32]


@pytest.mark.usefixtures("same_graph")
def test_the_second_way_to_int8_is_taken_where_the_first_loses_too_much(
    network: FractureNet, judged: pd.DataFrame, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = export.int8_parity

    def parity(*given: Any) -> dict[str, Any]:
        told = measured(*given)
        lost = quantise.MOST_LOST + 1e-6 if told["kept_in_float"] == "nothing" else told["auroc"]["lost"]
        return told | {"auroc": told["auroc"] | {"lost": lost}}

    monkeypatch.setattr(export, "int8_parity", parity)
    deep = recipes.override(tiny, {"trunk.name": "resnet50v2"})  # so that the second way is the named layers
    made = written(network, clear(judged), deep, tmp_path / "bundle")
    assert "engines_left_out" not in made.info
    told = made.info["engines"][OPENVINO_INT8]["parity"]
    assert told["kept_in_float"] == "the first convolution and the head"
    files = (made.read("model-int8/model.xml"), made.read("model-int8/model.bin"))
    kept = in_int8(quantise.Quantised(*files, ""))
    assert 0 < sum(kept.values()) < len(kept)


@pytest.mark.usefixtures("same_graph")
def test_a_failure_of_int8_costs_int8_alone(
    network: FractureNet, judged: pd.DataFrame, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "MOST_CALIBRATION", 0)  # nncf cannot do without
    made = written(network, clear(judged), tiny, tmp_path / "bundle")
    assert made.info["engines_left_out"][OPENVINO_INT8].startswith("it failed: ")
    assert Identifier(made.where).engine.name == OPENVINO_FLOAT32


@pytest.mark.usefixtures("same_graph")
def test_without_training_pictures_the_validation_pictures_are_fitted(
    network: FractureNet, judged: pd.DataFrame, tiny: Recipe, tmp_path: Path
) -> None:
    made = written(network, judged, tiny, tmp_path / "bundle", int8=False)
    told = made.info["likeness"]
    assert (told["split"], told["pictures"], told["held_out"]) == ("val", 60, 60)
    few = written(network, clear(judged).iloc[::2], tiny, tmp_path / "few", int8=False)
    assert few.likeness() is None
    assert few.info["likeness_left_out"].startswith("15 pictures to learn from and 15 others cannot tell")
    assert export.summary(few.info)[-1].startswith("no distance from the training data: 15 pictures")


@pytest.mark.usefixtures("same_graph")
def test_a_training_picture_that_is_gone_costs_the_distance_alone(
    network: FractureNet, judged: pd.DataFrame, tiny: Recipe, tmp_path: Path
) -> None:
    gone = split_of(judged.assign(path="/nowhere.png"), tiny)
    made = written(network, judged, tiny, tmp_path / "bundle", int8=False, seen=gone)
    assert made.info["likeness_left_out"].startswith("it failed: /nowhere.png")
    assert Identifier(made.where).identify(judged["path"].iloc[0]).distance is None


def in_int8(made: quantise.Quantised) -> dict[str, bool]:
    """Whether each convolution's weights are kept in int8, and so have to be widened first."""
    model = openvino_engine.import_openvino().Core().read_model(model=made.graph, weights=made.weights)
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    return {node.get_friendly_name(): weights_of(node).get_type_name() != "Constant" for node in nodes}


def weights_of(node: Any) -> Any:
    return node.input(1).get_source_output().get_node()


def test_training_rounds_weights_as_nncf_does(bundle: Bundle) -> None:
    """Each weight to the step, but for the largest of each channel: what a training with rounded weights stands on."""
    core = openvino_engine.import_openvino().Core()
    given = core.read_model(model=bundle.read("model.onnx"))
    files = (bundle.read("model-int8/model.xml"), bundle.read("model-int8/model.bin"))
    made = {node.get_friendly_name(): node for node in core.read_model(*files).get_ordered_ops()}
    seen = 0
    for node in given.get_ordered_ops():
        if node.get_type_name() != "Convolution":
            continue
        weight = torch.from_numpy(np.array(weights_of(node).data))
        widened = weights_of(made[node.get_friendly_name()])  # steps times their size
        steps = widened.input(0).get_source_output().get_node().input(0).get_source_output().get_node().data
        size = widened.input(1).get_source_output().get_node().data
        largest = weight.abs().amax((1, 2, 3), keepdim=True)
        compared = ((weight.abs() < largest) & (largest > 0)).numpy()
        ours = np.round(rounded(weight).numpy() / size)
        np.testing.assert_array_equal(ours[compared], steps.astype(int)[compared])
        seen += 1
    assert seen > 8


def test_of_averaged_networks_each_first_convolution_is_touchy() -> None:
    nodes = []
    for member in (0, 1):
        trunk = f"members.{member}.trunk"
        for layer, scope in (("first", trunk), ("second", f"{trunk}"), ("head", f"members.{member}.head")):
            node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name=f"{layer}{member}")
            node.metadata_props.add(
                key="pkg.torch.onnx.name_scopes", value=str(["", f"members.{member}", scope, layer])
            )
            nodes.append(node)
    graph = onnx.helper.make_model(onnx.helper.make_graph(nodes, "made", [], [])).SerializeToString()
    touchy = re.compile("|".join(quantise.touchy_layers(graph)))
    assert [node.name for node in nodes if touchy.match(node.name)] == ["first0", "head0", "first1", "head1"]


def test_deep_networks_keep_their_head_and_first_convolution_in_float(
    bundle: Bundle, judged: pd.DataFrame, tiny: Recipe
) -> None:
    graph = bundle.read("model.onnx")
    whole, kept = list(quantise.attempts(graph, Examples(clear(judged), tiny), "resnet152v2"))
    assert (whole.kept, kept.kept) == ("nothing", "the first convolution and the head")
    touchy = re.compile("|".join(quantise.touchy_layers(graph)))
    assert all(in_int8(whole).values())
    assert in_int8(kept) == {name: not touchy.match(name) for name in in_int8(whole)}
    assert sum(in_int8(kept).values()) == 8  # nine convolutions in the trunk, of which the first stays


class Counted(Examples):
    """Counts the pictures that are read."""

    read = 0

    def pictures(self, indices: Sequence[int] | NDArray[np.int64], views: Sequence[int]) -> torch.Tensor:
        self.read += len(indices)
        return super().pictures(indices, views)


@pytest.mark.parametrize("remembered", [False, True])
def test_accuracy_control_that_takes_too_long_gives_way_to_the_named_layers(
    bundle: Bundle, judged: pd.DataFrame, tiny: Recipe, monkeypatch: pytest.MonkeyPatch, *, remembered: bool
) -> None:
    monkeypatch.setattr(quantise, "MOST_LOST", 0.0)
    monkeypatch.setattr(quantise, "_MOST_ANSWERS", 7)
    monkeypatch.setattr(quantise, "_MOST_ROUNDS", 2)  # before and after: what layers cost is not known by then
    if not remembered:
        monkeypatch.setattr(quantise, "_KEPT_BYTES", 0)
    examples = Counted(judged, tiny)
    ways = quantise.attempts(bundle.read("model.onnx"), examples, "small")
    assert next(ways).kept == "nothing"
    before = examples.read
    assert next(ways).kept == "the first convolution and the head"
    asked = len(judged) if remembered else 2 * len(judged) + 7
    assert examples.read - before == 2 * len(judged) + asked, "both are calibrated on all pictures"
    assert next(ways, None) is None


@pytest.mark.slow
def test_accuracy_control_gives_layers_back_until_auroc_holds(
    bundle: Bundle, judged: pd.DataFrame, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = Examples(judged, tiny)
    ways = quantise.attempts(bundle.read("model.onnx"), examples, "small")
    lost = {}
    for way in ("whole", "controlled"):
        made = next(ways)
        files = {"model.onnx": bundle.read("model.onnx"), "MODEL_CARD.md": b"# x\n"}
        files |= {"model-int8/model.xml": made.graph, "model-int8/model.bin": made.weights}
        info = {key: value for key, value in bundle.info.items() if key not in ("files", "likeness")}
        engine = Engine(Bundle.load(write_bundle(tmp_path / way, info, files)), name=OPENVINO_INT8)
        lost[way] = 1 - (measure(engine, split_of(judged, tiny), tiny.calibration).auroc or 0)
        monkeypatch.setattr(quantise, "MOST_LOST", 0.9 * lost["whole"])
    assert lost["whole"] > 0, "nothing was lost; this test shows nothing"
    assert lost["controlled"] <= 0.9 * lost["whole"]
    assert made.kept == "what accuracy control left there"
