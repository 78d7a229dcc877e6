"""From a trained network to its bundle: the graph, its parity with torch, calibration and operating points.

Everything that the bundle says of itself is measured with the engine that ships, on the validation split only.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from callus.bundle import Bundle, Engine, write_bundle
from callus.errors import TrainingError
from callus.labels import RESEARCH_ONLY
from callus.metrics.calibration import Calibration, fit
from callus.metrics.operating_points import OperatingPoints, choose
from callus.metrics.scores import score_table
from callus.progress import track
from callus.training.weights import set_layout, set_modes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from callus.model.network import FractureNet
    from callus.preprocess import InputSpec
    from callus.training.batches import Pictures
    from callus.training.recipe import Recipe

ENGINE = "onnx-float32"
PARITY = {"probability": 1e-4, "map": 1e-3, "logit": 1e-3}
"""How far the graph's outputs may be from torch's, in float32; the logit relative to the largest one (from 1 up).

The logit's bound finds what saturated probabilities would hide. It is not narrower because float32 is not: on a random
trunk torch's own logits are 5e-5 from those in float64, and ONNX Runtime's 6e-5 on the other side.
"""
PARITY_PICTURES = 16
_BATCH = 8
_OPSET = 18
_THRESHOLDS = np.arange(0.05, 1.0, 0.05)


def export_bundle(
    network: FractureNet, validation: Pictures, recipe: Recipe, training: dict[str, Any], folder: Path, name: str
) -> Bundle:
    """Write the bundle of a trained network.

    Args:
        network: with the weights that are to be kept.
        validation: the validation split's pictures, for calibration, operating points and parity.
        recipe: gives the input and the head.
        training: what ``bundle.json`` says of the training (see ``docs/bundle.md``).
        folder: where the bundle is to stand.
        name: of the model.

    Raises:
        TrainingError: the graph's outputs differ from torch's by more than PARITY.
    """
    spec = recipe.input
    network.cpu().float()
    set_modes(network, training=False)
    with tempfile.TemporaryDirectory(prefix="callus-export-") as scratch:
        graph = Path(scratch) / "model.onnx"
        write_graph(network, spec, graph)
        info: dict[str, Any] = {
            "name": name,
            "input": spec.as_dict(),
            "outputs": {
                "logit": "of the image being fractured, before calibration",
                "map": {"kind": network.head.map_kind, "stride": network.head.map_stride},
                "features": {"channels": network.trunk.channels[-1]},
            },
            "training": training,
            "figures": [],
            "licence": "Apache-2.0",
        }
        files: dict[str, Path | bytes] = {"model.onnx": graph, "MODEL_CARD.md": b"# provisional\n"}
        # The engine is measured as it will be run: out of a bundle.
        provisional = Path(scratch) / "bundle"
        write_bundle(
            provisional, {**info, "engines": {ENGINE: _engine(Calibration(), OperatingPoints(), 0.5, {})}}, files
        )
        engine = Engine(Bundle.load(provisional))
        agreement = parity(network, engine, validation)
        logit, threshold = _measure(engine, network.head.map_kind, validation)
        label = validation.examples.label
        calibration = fit(logit, label, recipe.calibration.method)
        probability = calibration.probability(logit)
        points = choose(label, probability)
        info["engines"] = {ENGINE: _engine(calibration, points, threshold, agreement)}
        table = score_table(label, probability, points.high_sensitivity)
        note = "; ".join(["thresholds were chosen here", *_leaks(training)])
        info["figures"] = [{"split": "validation", "engine": ENGINE, "note": note, **table}]
        files["MODEL_CARD.md"] = _card(info, recipe, len(np.unique(validation.examples.group))).encode()
        write_bundle(folder, info, files)
    return Bundle.load(folder)


def write_graph(network: FractureNet, spec: InputSpec, path: Path) -> None:
    """Write the network as one self-contained ONNX file: batch dynamic, height and width fixed.

    Args:
        network: in evaluation mode, on the CPU.
        spec: gives the input's size.
        path: of the file.
    """
    example = torch.zeros(2, 3, spec.height, spec.width)
    set_layout(network, torch.contiguous_format)
    with _quiet(), torch.inference_mode():
        torch.onnx.export(
            network,
            (example,),
            str(path),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["radiograph"],
            output_names=["logit", "map", "features"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            external_data=False,
            verbose=False,
        )
    onnx.checker.check_model(str(path))


def parity(network: FractureNet, engine: Engine, pictures: Pictures) -> dict[str, Any]:
    """How far the engine's outputs are from torch's, on real radiographs.

    Raises:
        TrainingError: further than PARITY.
    """
    count = min(PARITY_PICTURES, len(pictures.examples))
    chosen = np.unique(np.linspace(0, len(pictures.examples) - 1, count).astype(np.int64))
    worst = dict.fromkeys(PARITY, 0.0)
    for _, (batch,) in pictures.plain([chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]):
        with torch.inference_mode():
            logit, where, _ = (value.numpy() for value in network(batch.contiguous()))
        answer = engine.run(batch.numpy())
        scale = max(1.0, float(np.abs(logit).max()))
        differences = {
            "logit": np.abs(answer.logit - logit).max() / scale,
            "probability": np.abs(_sigmoid(answer.logit) - _sigmoid(logit)).max(),
            "map": np.abs(answer.map - where).max(),
        }
        worst = {key: float(np.maximum(worst[key], value)) for key, value in differences.items()}  # NaN stays
    if too_far := [name for name, most in PARITY.items() if not worst[name] <= most]:
        told = ", ".join(f"{name} by {worst[name]:.2g}, at most {PARITY[name]:g} is right" for name in too_far)
        raise TrainingError(
            f"the exported graph differs from torch: {told}",
            hint="please report this with the recipe",
        )
    return {"against": f"torch {torch.__version__}", "pictures": len(chosen), "max_difference": worst}


def _measure(engine: Engine, kind: str, pictures: Pictures) -> tuple[NDArray[np.float64], float]:
    """The engine's logits on all of the validation split, and the threshold of the map.

    A map of places is cut where its cells agree best (F1) with the masks; Grad-CAM, whose height means nothing from
    picture to picture, at half.
    """
    logit = np.zeros(len(pictures.examples))
    hits = np.zeros((3, len(_THRESHOLDS)))  # true, false and missed cells at each threshold
    parts = [np.arange(start, min(start + _BATCH, len(logit))) for start in range(0, len(logit), _BATCH)]
    for chosen, (batch,) in track(pictures.plain(parts), "calibration on validation", len(parts)):
        answer = engine.run(batch.numpy())
        logit[chosen] = answer.logit
        if kind != "location":
            continue
        for place, index in enumerate(chosen):
            if pictures.examples.located[index]:
                mask = pictures.examples.mask(int(index), -1) > 0
                called = answer.map[place][None] >= _THRESHOLDS[:, None, None]
                hits += np.array([(called & mask), (called & ~mask), (~called & mask)]).sum((2, 3))
    if kind != "location" or not (hits[0] + hits[2]).any():
        return logit, 0.5
    f1 = 2 * hits[0] / np.maximum(2 * hits[0] + hits[1] + hits[2], 1)
    return logit, round(float(_THRESHOLDS[f1.argmax()]), 2)


def _engine(
    calibration: Calibration, points: OperatingPoints, threshold: float, agreement: dict[str, Any]
) -> dict[str, Any]:
    return {
        "file": "model.onnx",
        "calibration": calibration.as_dict(),
        "operating_points": points.as_dict(),
        "map_threshold": threshold,
        "parity": agreement,
    }


def _leaks(training: dict[str, Any]) -> list[str]:
    """What is to be said of leaks that were allowed."""
    return [training["leaks"]["sentence"]] if training.get("leaks") else []


def _card(info: dict[str, Any], recipe: Recipe, groups: int) -> str:
    """The model card: what it is, what it saw, how good it was on validation, what it is not for."""
    training, figures = info["training"], info["figures"][0]
    points = info["engines"][ENGINE]["operating_points"]

    def show(value: float | None) -> str:
        return "not defined" if value is None else f"{value:.3f}"

    leaks = "".join(
        f"\n**Warning: {line}.** Training was allowed to go on all the same.\n" for line in _leaks(training)
    )
    return f"""# {info["name"]}

**For {RESEARCH_ONLY}.** It must not be used to decide on a person's care.
{leaks}
| | |
| --- | --- |
| answers | whether a radiograph shows a fracture: calibrated probability, level, heat map ({info["outputs"]["map"]["kind"]}) |
| network | {training["trunk"]} trunk with the {recipe.head.kind} head; input {recipe.input.width} x {recipe.input.height}, {recipe.input.fit} |
| began from | {training["weights"]} |
| trained on | {training["files"]} files, {training["radiographs"]} radiographs, {training["groups"]} groups; manifest {training["manifest_sha256"][:12]} |
| recipe | {recipe.about or "no description"} |
| validation | {figures["n"]} files of {groups} groups, {figures["positives"]} fractured: AUROC {show(figures["auroc"])} |
| high sensitivity | from probability {points["high_sensitivity"]:.4f}: sensitivity {show(figures["sensitivity"])}, specificity {show(figures["specificity"])} |
| high specificity | from probability {points["high_specificity"]:.4f} |

Calibration, thresholds and these figures come from the validation split: they flatter. Judge the model with
`callus evaluate` on radiographs that training never saw. On other hospitals' pictures it will be worse.
"""  # noqa: E501 - a table's row is one line


def _sigmoid(logit: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logit.astype(np.float64)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's talk (progress on stdout, deprecations inside torch) from the reader."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
