"""From a trained network to its bundle: the graph in float32 and in int8, measured, with the model card.

Everything that the bundle says of itself is measured with the engines that ship, on the validation split only.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import torch

from callus.bundle import PICTURES, Bundle, Engine, openvino_engine, write_bundle
from callus.bundle.contents import LARGEST_PICTURES
from callus.bundle.schema import LONGEST_LINE, ONNX_FLOAT32, OPENVINO_FLOAT32, OPENVINO_INT8
from callus.errors import CallusError
from callus.labels import RESEARCH_ONLY
from callus.radiograph.limits import one_line
from callus.training.likeness import FILE, known
from callus.training.measured import int8_parity, measure, parity, unmeasured
from callus.training.quantise import MOST_LOST, attempts, why_not
from callus.training.weights import set_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from callus.model.averaged import AveragedNet
    from callus.model.network import FractureNet
    from callus.preprocess import InputSpec
    from callus.training.batches import Pictures
    from callus.training.measured import Measured
    from callus.training.recipe import Recipe

FLOAT32_FILES: Final = {"file": "model.onnx"}
INT8_FILES: Final = {"file": "model-int8/model.xml", "weights": "model-int8/model.bin"}
_OPSET = 18


def export_bundle(
    network: FractureNet | AveragedNet,
    validation: Pictures,
    recipe: Recipe,
    training: dict[str, Any],
    folder: Path,
    name: str,
    *,
    int8: bool | None = None,
    seen: Pictures | None = None,
    about: str = "",
    pictures: bytes = b"",
    others: Sequence[Recipe] = (),
) -> Bundle:
    """Write the bundle of a trained network.

    Args:
        network: with the weights that are to be kept.
        validation: the validation split's pictures, for calibration, operating points and parity.
        recipe: gives the input and the head; of several networks, that of the first.
        training: what ``bundle.json`` says of the training (see ``docs/bundle.md``).
        folder: where the bundle is to stand.
        name: of the model; what cannot be printed is left out.
        int8: whether int8 is wanted too; None for what the recipe says. Where it costs too much AUROC, or cannot be
            judged, the bundle says so instead of holding it.
        seen: the training pictures, whose features tell what is unlike them; None where they are not at hand, which
            leaves the validation pictures: fewer, and each kept out of what judges it.
        about: Markdown that the model card ends with: what only people know of the model and its data.
        pictures: the bundle's ``pictures.csv``: which files were trained on; empty for none. One that is longer than
            readers take is left out.
        others: the recipes of the other networks, where ``network`` is the average of several.

    Raises:
        TrainingError: the graph's outputs differ from torch's by more than they may.
    """
    network.cpu().float()
    network.eval()
    with tempfile.TemporaryDirectory(prefix="callus-export-") as scratch:
        draft = _Draft(network, validation, recipe, training, name, Path(scratch))
        draft.add_float32(network)
        if recipe.export.int8 if int8 is None else int8:
            draft.add_int8()
        else:
            draft.leave_out_int8("it was not wanted")
        draft.add_likeness(seen)
        draft.write(folder, about, pictures, others)
    return Bundle.load(folder)


class _Draft:
    """A bundle in the making: each engine is measured as it will be run, out of a provisional bundle."""

    def __init__(
        self,
        network: FractureNet | AveragedNet,
        validation: Pictures,
        recipe: Recipe,
        training: dict[str, Any],
        name: str,
        scratch: Path,
    ) -> None:
        self._validation = validation
        self._recipe = recipe
        self._provisional = scratch / "bundle"
        self._graph = scratch / "model.onnx"
        write_graph(network, recipe.input, self._graph)
        self._files: dict[str, Path | bytes] = {"model.onnx": self._graph, "MODEL_CARD.md": b"# provisional\n"}
        self._plain_channels = network.plain_channels
        self._note = "; ".join(["thresholds were chosen here", *_leaks(training)])
        self._info: dict[str, Any] = {
            "name": one_line(name, LONGEST_LINE) or "run",
            "input": recipe.input.as_dict(),
            "outputs": {
                "logit": "of the image being fractured, before calibration",
                "map": _map_told(network),
                "features": {"channels": network.feature_channels},
            },
            "views": ["mirror"] if recipe.export.mirror else [],
            "engines": {},
            "training": training,
            "figures": [],
            "licence": "Apache-2.0",
        }

    def add_float32(self, network: FractureNet | AveragedNet) -> None:
        """Measure the graph in float32; with OpenVINO, which shares its thresholds, only how far it is from torch."""
        engines = {ONNX_FLOAT32: unmeasured(FLOAT32_FILES)}
        self._float32 = self._engine(engines, {}, ONNX_FLOAT32)
        agreement = parity(network, self._float32, self._validation)
        if openvino_engine.available():
            other = self._engine(engines, {}, OPENVINO_FLOAT32)
            agreement[OPENVINO_FLOAT32] = parity(network, other, self._validation)["max_difference"]
        self._measured = self._measure(self._float32)
        self._engines, self._ways = [self._float32], [self._measured]
        self._info["engines"][ONNX_FLOAT32] = self._measured.entry(FLOAT32_FILES, agreement)
        self._info["figures"].append(self._measured.figures(self._note))

    def add_int8(self) -> None:
        """Add int8 where it is good enough; else the reason why not."""
        reason = why_not(self._measured.label)
        if not reason:
            try:
                reason = self._try_int8()
            except Exception as error:  # noqa: BLE001 - after hours of training a bundle in float32 is better than none
                reason = f"it failed: {' '.join(str(error).split())[:300] or type(error).__name__}"
        if reason:
            self.leave_out_int8(reason)

    def leave_out_int8(self, reason: str) -> None:
        """Say why there is no int8."""
        self._info["engines_left_out"] = {OPENVINO_INT8: reason}

    def add_likeness(self, seen: Pictures | None) -> None:
        """Add what tells pictures that are unlike the training data; the reason where there are too few for that."""
        try:
            found = known(self._engines, seen, self._ways, self._validation.examples.group, self._plain_channels)
        except (CallusError, np.linalg.LinAlgError) as error:  # a training picture is gone: no reason to have no bundle
            found = f"it failed: {' '.join(str(error).split())[:300]}"
        if isinstance(found, str):
            self._info["likeness_left_out"] = found
        else:
            self._files[FILE] = found.likeness.to_bytes()
            self._info["likeness"] = found.entry

    def write(self, folder: Path, about: str, pictures: bytes, others: Sequence[Recipe]) -> None:
        """Write the bundle where it is to stand; the card ends with ``about``."""
        groups = len(np.unique(self._validation.examples.group))
        self._files["MODEL_CARD.md"] = _card(self._info, (self._recipe, *others), groups, about).encode()
        if 0 < len(pictures) <= LARGEST_PICTURES:  # a longer one no reader would take, and the model is worth more
            self._files[PICTURES] = pictures
        write_bundle(folder, self._info, self._files)

    def _try_int8(self) -> str:
        """Add the first way to int8 that is good enough; the reason where none is."""
        least = np.inf
        for made in attempts(self._graph.read_bytes(), self._validation.examples, self._recipe.trunk.name):
            files = {INT8_FILES["file"]: made.graph, INT8_FILES["weights"]: made.weights}
            engine = self._engine({OPENVINO_INT8: unmeasured(INT8_FILES)}, files, OPENVINO_INT8)
            measured = self._measure(engine)
            agreement = int8_parity((self._float32, self._measured), (engine, measured), self._validation, made.kept)
            least = min(least, agreement["auroc"]["lost"])
            if least <= MOST_LOST:
                self._files |= files
                self._info["engines"][OPENVINO_INT8] = measured.entry(INT8_FILES, agreement)
                self._info["figures"].append(measured.figures(self._note))
                self._engines.append(engine)
                self._ways.append(measured)
                return ""
        return f"AUROC on validation falls by {least:.4f}, at most {MOST_LOST} is accepted"

    def _engine(self, engines: Mapping[str, Any], files: Mapping[str, bytes], name: str) -> Engine:
        """An engine out of a provisional bundle."""
        write_bundle(self._provisional, {**self._info, "engines": engines}, {**self._files, **files})
        return Engine(Bundle.load(self._provisional), name=name, hint="throughput")

    def _measure(self, engine: Engine) -> Measured:
        return measure(engine, self._validation, self._recipe.calibration)


def summary(info: Mapping[str, Any]) -> list[str]:
    """What a bundle came to on validation, as lines for people.

    Args:
        info: its ``bundle.json``.
    """
    lines = [
        f"validation AUROC {_shown(figures['auroc'])} ({figures['n']} files, {figures['engine']})"
        for figures in info["figures"]
    ]
    lines += [f"no {name}: {reason}" for name, reason in info.get("engines_left_out", {}).items()]
    if "likeness_left_out" in info:
        lines.append(f"no distance from the training data: {info['likeness_left_out']}")
    return lines


def _map_told(network: FractureNet | AveragedNet) -> dict[str, Any]:
    """What the map is, and where its cells lie if they do not cover the input evenly."""
    told: dict[str, Any] = {"kind": network.map_kind, "stride": network.map_stride}
    if network.first_centre != (network.map_stride - 1) / 2:
        told["first_centre"] = network.first_centre
    return told


def write_graph(network: FractureNet | AveragedNet, spec: InputSpec, path: Path) -> None:
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


def _leaks(training: dict[str, Any]) -> list[str]:
    """What is to be said of leaks that were allowed."""
    return [training["leaks"]["sentence"]] if training.get("leaks") else []


def _card(info: dict[str, Any], recipes: Sequence[Recipe], groups: int, about: str) -> str:
    """The model card: what it is, what it saw, how good it was on validation, what it is not for; then ``about``."""
    more = f"\n{about.strip()}\n" if about.strip() else ""
    training, figures = info["training"], info["figures"][0]
    leaks = "".join(
        f"\n**Warning: {line}.** Training was allowed to go on all the same.\n" for line in _leaks(training)
    )
    rows = "\n".join(f"| {name} | {text} |" for name, text in _engine_rows(info))
    networks = "; ".join(
        f"{one.trunk.name} trunk with the {one.head.kind} head; "
        f"input {one.input.width} x {one.input.height}, {one.input.fit}"
        for one in recipes
    )
    averaged = f"the average of {len(recipes)}: " if len(recipes) > 1 else ""
    followed = "; ".join(one.about or "no description" for one in recipes)
    return f"""# {info["name"]}

**For {RESEARCH_ONLY}.** It must not be used to decide on a person's care.
{leaks}
| | |
| --- | --- |
| answers | whether a radiograph shows a fracture: calibrated probability, level, heat map ({info["outputs"]["map"]["kind"]}) |
| network | {averaged}{networks} |
| began from | {training["weights"]} |
| trained on | {training["files"]} files, {training["radiographs"]} radiographs, {training["groups"]} groups; manifest {training["manifest_sha256"][:12]} |
| recipe | {followed} |
| validation | {figures["n"]} files of {groups} groups, {figures["positives"]} fractured |
{rows}

Calibration, thresholds and these figures come from the validation split: they flatter. Judge the model with
`callus evaluate` on radiographs that training never saw. On other hospitals' pictures it will be worse.
{more}"""  # noqa: E501 - a table's row is one line


def _engine_rows(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The card's rows of each engine: how good it was on validation, and from where it calls."""
    for figures in info["figures"]:
        name = figures["engine"]
        points = info["engines"][name]["operating_points"]
        reached = f"sensitivity {_shown(figures['sensitivity'])}, specificity {_shown(figures['specificity'])}"
        yield name, f"AUROC {_shown(figures['auroc'])}"
        yield f"{name}, high sensitivity", f"from probability {points['high_sensitivity']:.4f}: {reached}"
        yield f"{name}, high specificity", f"from probability {points['high_specificity']:.4f}"
    for name, reason in info.get("engines_left_out", {}).items():
        yield name, f"not in this bundle: {reason}"


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


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
