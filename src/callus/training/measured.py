"""What a bundle says of an engine: how far it is from torch, its calibration, operating points and map threshold.

All of it is measured with the engine as it will be run, on the validation split only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from callus.bundle.views import answered
from callus.errors import TrainingError
from callus.metrics.boxes import boxes_from_map
from callus.metrics.calibration import Calibration, fit
from callus.metrics.localisation import Located, detections
from callus.metrics.operating_points import OperatingPoints, choose
from callus.metrics.scores import auroc, score_table
from callus.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from callus.bundle import Engine, Outputs
    from callus.metrics.detection import Detections
    from callus.model.averaged import AveragedNet
    from callus.model.network import FractureNet
    from callus.training.batches import Pictures
    from callus.training.examples import Examples
    from callus.training.recipe import CalibrationChoice

PARITY = {"probability": 1e-4, "map": 1e-3, "logit": 1e-3}
"""How far the graph's outputs may be from torch's, in float32; the logit relative to the largest one (from 1 up).

The logit's bound finds what saturated probabilities would hide. It is not narrower because float32 is not: on a random
trunk torch's own logits are 5e-5 from those in float64, and ONNX Runtime's 6e-5 on the other side.
"""
PARITY_PICTURES = 16
_BATCH = 8
_THRESHOLDS = np.arange(0.02, 1.0, 0.02)
_NEARLY = 0.97
"""Of the best F1: thresholds from there on are told apart by chance, and the lowest of them finds most."""


@dataclass(frozen=True, eq=False)
class Measured:
    """An engine on the validation split.

    Attributes:
        engine: its name.
        logit: float64 (n,), of each validation picture.
        label: int64 (n,), 1 fractured, 0 not.
        calibration: fitted on ``logit``.
        operating_points: chosen on the calibrated probabilities.
        map_threshold: where boxes are cut.
        features: float32 (n, C), of each validation picture.
    """

    engine: str
    logit: NDArray[np.float64]
    label: NDArray[np.int64]
    calibration: Calibration
    operating_points: OperatingPoints
    map_threshold: float
    features: NDArray[np.float32]

    @property
    def probability(self) -> NDArray[np.float64]:
        """Calibrated, (n,)."""
        return self.calibration.probability(self.logit)

    @property
    def auroc(self) -> float | None:
        """Of the logits; None where there is only one class."""
        return auroc(self.label, self.logit)

    def entry(self, files: Mapping[str, str], agreement: Mapping[str, Any]) -> dict[str, Any]:
        """The engine as it stands in ``bundle.json``.

        Args:
            files: ``file``, and ``weights`` where they lie apart.
            agreement: its ``parity``.
        """
        return entry(files, self.calibration, self.operating_points, self.map_threshold, agreement)

    def figures(self, note: str) -> dict[str, Any]:
        """One of the bundle's ``figures``: how good it was on validation."""
        table = score_table(self.label, self.probability, self.operating_points.high_sensitivity)
        return {"split": "validation", "engine": self.engine, "note": note, **table}


def entry(
    files: Mapping[str, str],
    calibration: Calibration,
    points: OperatingPoints,
    threshold: float,
    agreement: Mapping[str, Any],
) -> dict[str, Any]:
    """An engine as it stands in ``bundle.json``."""
    return {
        **files,
        "calibration": calibration.as_dict(),
        "operating_points": points.as_dict(),
        "map_threshold": threshold,
        "parity": dict(agreement),
    }


def unmeasured(files: Mapping[str, str]) -> dict[str, Any]:
    """An engine of which nothing is known yet, so that it can be run out of a bundle and measured."""
    return entry(files, Calibration(), OperatingPoints(), 0.5, {})


def measure(engine: Engine, pictures: Pictures, choice: CalibrationChoice) -> Measured:
    """Run the engine over the whole validation split, with its bundle's views, and fit what belongs to it.

    A map of places shows the boxes from a height on at which they find most for the fewest false ones (F1 over
    fractures; a box finds one as in FROC, by its centre); of nearly equal ones it is the lowest. Grad-CAM,
    whose height means nothing from picture to picture, shows them from half.

    Args:
        engine: out of a bundle.
        pictures: the validation split.
        choice: how logits become probabilities.
    """
    examples, bundle = pictures.examples, engine.bundle
    logit = np.zeros(len(examples))
    features: dict[int, NDArray[np.float32]] = {}
    places: list[Located] = []
    parts = _parts(np.arange(len(logit)), max(_BATCH, engine.batch))
    for chosen, (batch,) in track(pictures.plain(parts), f"{engine.name} on validation", len(parts)):
        answer = answered(engine.run, batch.numpy(), bundle.views, bundle.spec.low, bundle.map_to_input)
        logit[chosen] = answer.logit
        features |= zip(chosen.tolist(), answer.features, strict=True)
        if bundle.map_kind == "location":
            places += _places(answer, chosen, examples, bundle.map_to_input)
    threshold = map_threshold(detections(places)) if places else 0.5
    calibration = fit(logit, examples.label, choice.method)
    points = choose(examples.label, calibration.probability(logit))
    in_order = np.stack([features[index] for index in range(len(logit))])
    return Measured(engine.name, logit, examples.label, calibration, points, threshold, in_order)


def pooled(engine: Engine, pictures: Pictures, most: int) -> NDArray[np.float32]:
    """The pooled features, float32 (n, C), of at most ``most`` pictures, evenly spread."""
    count = min(most, len(pictures.examples))
    chosen = np.linspace(0, len(pictures.examples) - 1, count).astype(np.int64)
    parts = _parts(chosen, max(_BATCH, engine.batch))
    told = f"{engine.name} on training pictures"
    return np.concatenate(
        [engine.run(batch.numpy()).features for _, (batch,) in track(pictures.plain(parts), told, len(parts))]
    )


def parity(network: FractureNet | AveragedNet, engine: Engine, pictures: Pictures) -> dict[str, Any]:
    """How far the engine's outputs are from torch's, on real radiographs.

    Raises:
        TrainingError: further than PARITY.
    """
    worst = dict.fromkeys(PARITY, 0.0)
    for batch in _some(pictures):
        with torch.inference_mode():
            logit, where, _ = (value.numpy() for value in network(torch.from_numpy(batch)))
        answer = engine.run(batch)
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
            f"the exported graph differs from torch with {engine.name}: {told}",
            hint="please report this with the recipe",
        )
    count = min(PARITY_PICTURES, len(pictures.examples))
    return {"against": f"torch {torch.__version__}", "pictures": count, "max_difference": worst}


def int8_parity(
    float32: tuple[Engine, Measured], int8: tuple[Engine, Measured], pictures: Pictures, kept: str
) -> dict[str, Any]:
    """How far int8 is from float32: calibrated probabilities and AUROC on all of validation, the map on some.

    Args:
        float32: the engine and what was measured with it.
        int8: the same of the other.
        pictures: the validation split.
        kept: what stays in float, in words.
    """
    probability = np.abs(int8[1].probability - float32[1].probability)
    heat = np.concatenate([np.abs(int8[0].run(batch).map - float32[0].run(batch).map) for batch in _some(pictures)])
    before, after = float32[1].auroc, int8[1].auroc
    return {
        "against": float32[1].engine,
        "pictures": len(probability),
        "map_pictures": len(heat),
        "max_difference": {"probability": float(probability.max()), "map": float(heat.max())},
        "mean_difference": {"probability": float(probability.mean()), "map": float(heat.mean())},
        "auroc": {
            "float32": before,
            "int8": after,
            "lost": None if before is None or after is None else before - after,
        },
        "kept_in_float": kept,
    }


def _some(pictures: Pictures) -> Iterator[NDArray[np.float32]]:
    """Batches of the pictures that parity is measured on, spread over the split."""
    count = min(PARITY_PICTURES, len(pictures.examples))
    chosen = np.linspace(0, len(pictures.examples) - 1, count).astype(np.int64)
    for _, (batch,) in pictures.plain(_parts(chosen, _BATCH)):
        yield batch.contiguous().numpy()


def _parts(chosen: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [chosen[start : start + size] for start in range(0, len(chosen), size)]


def map_threshold(found: Detections) -> float:
    """The height of the map from which boxes are shown, see :func:`measure`; half where no box finds a fracture."""
    shown = _THRESHOLDS[:, None]
    right = (found.fracture_score >= shown).sum(axis=1)
    false = ((found.box_score >= shown) & ~found.box_hits).sum(axis=1)
    f1 = 2 * right / np.maximum(right + false + found.fracture_score.size, 1)
    return round(float(_THRESHOLDS[f1 >= _NEARLY * f1.max()][0]), 2) if f1.any() else 0.5


def _places(
    answer: Outputs, chosen: NDArray[np.int64], examples: Examples, to_input: NDArray[np.float64]
) -> list[Located]:
    """Where some pictures' fractures and the map's boxes are, in the input's pixels; not of those without a place."""
    size = (examples.recipe.input.height, examples.recipe.input.width)
    return [
        Located(
            group=str(examples.group[index]),
            label=int(examples.label[index]),
            boxes=boxes_from_map(answer.map[place], to_input, float(_THRESHOLDS[0]), size),
            reference=examples.fractures(index).tolist(),
        )
        for place, index in enumerate(chosen.tolist())
        if examples.located[index]
    ]


def _sigmoid(logit: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logit.astype(np.float64)))
