"""The network in int8, made by nncf from the exported graph and calibrated on validation radiographs.

Weights are kept to seven of their eight bits: processors without VNNI add pairs of products in 16 bits, which overflow
with eight, and a model's answers must not depend on who runs it.
"""

from __future__ import annotations

import ast
import importlib
import logging
import re
import sys
import tempfile
import warnings
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx

from callus.bundle import openvino_engine
from callus.errors import TrainingError
from callus.metrics.scores import auroc
from callus.preprocess import CHANNELS
from callus.progress import progress
from callus.training.examples import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from callus.training.examples import Examples

MOST_LOST: Final = 0.005
"""AUROC that int8 may lose on the validation split."""
FEWEST_PAIRS: Final = round(1 / MOST_LOST)
"""One pair of a fractured and an unfractured picture is 1 / pairs of AUROC: with fewer, one pair alone is too much."""
MOST_CALIBRATION: Final = 300
_RANKED_ON: Final = 64
"""Pictures on which accuracy control finds out what each layer costs: it runs them once for every layer."""
_MOST_ANSWERS: Final = 8_000
_MOST_ROUNDS: Final = 12
"""What accuracy control may ask the network for: so many answers, and so many rounds over the validation split.

That is the order of layers (54 groups in MobileNetV2, 64 pictures each) once or twice, and ten layers given back. It is
counted and not timed, so that a busy machine makes the same bundle.
"""
_KEPT_BYTES: Final = 1 << 29
"""Memory for pictures that accuracy control asks for again and again."""
_COMPACT: Final = ("mobilenet_v2", "small")
_SCOPES: Final = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class Quantised:
    """A network in int8, in OpenVINO's format.

    Attributes:
        graph: the .xml.
        weights: the .bin.
        kept: what of it stays in float, in words.
    """

    graph: bytes
    weights: bytes
    kept: str


class GaveUpError(TrainingError):
    """Accuracy control has asked for as many answers as it may, and AUROC does not hold yet."""


def why_not(label: NDArray[np.int64]) -> str:
    """Say why int8 is not worth trying with this validation split; empty where it is.

    Args:
        label: (n,), 1 fractured, 0 not.
    """
    fractured = int((label == 1).sum())
    others = len(label) - fractured
    if fractured * others < FEWEST_PAIRS:
        return (
            f"{fractured} fractured and {others} other validation pictures cannot tell whether AUROC falls by "
            f"{MOST_LOST}: {FEWEST_PAIRS} pairs are needed"
        )
    try:
        openvino_engine.import_openvino()
        importlib.import_module("nncf")
    except (ImportError, OSError) as error:
        return f"it needs openvino and nncf, which cannot be imported: {' '.join(str(error).split())[:200]}"
    return ""


def attempts(graph: bytes, examples: Examples, trunk: str) -> Iterator[Quantised]:
    """Make the network in int8, the fastest way first; take the first that is good enough.

    First all of it. Then, for the compact trunks, nncf's accuracy control: layers go back to float, the costliest
    first, until AUROC holds, or until it has taken long enough. The deep ones have too many layers for that. Last, what
    is known to be touchy and cheap stays in float: the first convolution, which sees the radiograph itself, and the
    head.

    Args:
        graph: the .onnx file.
        examples: the validation split.
        trunk: the recipe's.
    """
    with _quiet():
        nncf = importlib.import_module("nncf")
    model = openvino_engine.core().read_model(model=graph)
    yield _saved(_quantise(nncf, model, examples), "nothing")
    if trunk in _COMPACT:
        controlled = None
        with suppress(GaveUpError):
            controlled = _controlled(nncf, model, examples)
        if controlled is not None:
            yield _saved(controlled, "what accuracy control left there")
    made = _quantise(nncf, model, examples, touchy_layers(graph))
    yield _saved(made, "the first convolution and the head")


def touchy_layers(graph: bytes) -> list[str]:
    """Patterns of the names, in OpenVINO, of each trunk's first convolution and of all that is in no trunk.

    Args:
        graph: an .onnx file as torch's exporter writes it, which notes the module that each node comes from.
    """
    nodes = onnx.load_model_from_string(graph).graph.node
    first = _first_convolutions(nodes)
    names = [node.name for node in nodes if node.name in first or not _in_trunk(node)]
    # OpenVINO splits some nodes, and names the parts with a slash behind the name.
    return [f"{re.escape(name)}(/.*)?$" for name in names]


def _first_convolutions(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """The names of each trunk's first convolution."""
    first: dict[str, str] = {}
    for node in nodes:
        if node.op_type == "Conv":
            trunk = next((scope for scope in _scopes(node) if scope.rpartition(".")[-1] == "trunk"), "")
            first.setdefault(trunk, node.name)
    return {name for trunk, name in first.items() if trunk} or set(list(first.values())[:1])


def _in_trunk(node: onnx.NodeProto) -> bool:
    """Whether a node is of a trunk: the network's, or that of one of several networks (``members.0.trunk``)."""
    return any(scope.rpartition(".")[-1] == "trunk" for scope in _scopes(node))


def _scopes(node: onnx.NodeProto) -> list[str]:
    """The modules that a node stands in, from the outermost."""
    noted = {entry.key: entry.value for entry in node.metadata_props}.get(_SCOPES, "[]")
    return [str(name) for name in ast.literal_eval(noted)]


def _options(nncf: Any, kept: Sequence[str] = ()) -> dict[str, Any]:
    """What both ways of quantising are given.

    Args:
        nncf: the library.
        kept: patterns of the names of layers that stay in float.
    """
    # OpenVINO calculates depthwise convolutions in float, whatever their weights are rounded to: that would cost
    # accuracy and bring nothing.
    return {
        "ignored_scope": nncf.IgnoredScope(patterns=list(kept), types=["GroupConvolution"], validate=False),
        # Weights about zero, activations between their own ends: what leaves MobileNetV2's blocks has both signs.
        "preset": nncf.QuantizationPreset.MIXED,
        "target_device": nncf.TargetDevice.CPU,
    }


def _advanced(nncf: Any) -> Any:
    return nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)


def _quantise(nncf: Any, model: Any, examples: Examples, kept: Sequence[str] = ()) -> Any:
    chosen = _calibration(examples)
    # On a terminal nncf draws its own progress, with the time left, of this and of what follows.
    ours = nullcontext(lambda: None) if sys.stderr.isatty() else progress("int8: calibration", len(chosen))
    with ours as advance, _quiet(bars=True):
        return nncf.quantize(
            model,
            _asked_for(nncf, examples, chosen, advance),
            subset_size=len(chosen),
            advanced_parameters=_advanced(nncf),
            **_options(nncf, kept),
        )


def _controlled(nncf: Any, model: Any, examples: Examples) -> Any:
    """Give layers back to float until AUROC holds.

    Raises:
        GaveUpError: it does not, after as many answers as may be asked for.
    """
    chosen = _calibration(examples)
    most = _MOST_ANSWERS + _MOST_ROUNDS * len(examples)
    again = _Again(examples, most)
    with progress("int8: accuracy control, at most", len(chosen) + most) as advance, _quiet():

        def picture(index: int) -> NDArray[np.float32]:
            advance()
            return again.picture(index)

        def judged(compiled: Any, indices: Iterable[int]) -> tuple[float, list[list[NDArray[np.float32]]]]:
            """AUROC, and each picture's outputs, by which nncf ranks the layers."""
            chosen = list(indices)
            answers = [compiled(picture(index)) for index in chosen]
            logit = np.array([float(answer["logit"][0]) for answer in answers])
            # nncf lists an output once for each of its names.
            told = [[value for port, value in answer.items() for _ in port.get_names()] for answer in answers]
            return auroc(examples.label[chosen], logit) or 0.0, told

        return nncf.quantize_with_accuracy_control(
            model,
            _asked_for(nncf, examples, chosen, advance),
            nncf.Dataset(range(len(examples)), picture),
            judged,
            max_drop=MOST_LOST,
            subset_size=len(chosen),
            advanced_quantization_parameters=_advanced(nncf),
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                ranking_subset_size=min(_RANKED_ON, len(examples)), num_ranking_workers=1
            ),
            **_options(nncf),
        )


def _calibration(examples: Examples) -> list[int]:
    """Which pictures set the layers' ranges: at most 300, spread over the split."""
    count = min(MOST_CALIBRATION, len(examples))
    return [int(index) for index in np.linspace(0, len(examples) - 1, count)]


def _asked_for(nncf: Any, examples: Examples, chosen: list[int], advance: Callable[..., None]) -> Any:
    """Pictures as nncf takes them; each that it asks for is a step of the progress."""

    def picture(index: int) -> NDArray[np.float32]:
        advance()
        return _picture(examples, index)

    return nncf.Dataset(chosen, picture)


class _Again:
    """Pictures that are asked for many times: kept in memory as far as it goes, and counted.

    Args:
        examples: what they are of.
        most: how often one may be asked for.
    """

    def __init__(self, examples: Examples, most: int) -> None:
        self._examples = examples
        self._left = self._most = most
        self._kept: dict[int, NDArray[np.float32]] = {}
        self._room = _KEPT_BYTES

    def picture(self, index: int) -> NDArray[np.float32]:
        """See :func:`_picture`.

        Raises:
            GaveUpError: too many have been asked for.
        """
        if not self._left:
            raise GaveUpError(f"accuracy control has not found in {self._most:,} answers which layers cost AUROC")
        self._left -= 1
        kept = self._kept.get(index)
        if kept is not None:
            return np.repeat(kept, CHANNELS, axis=1)
        made = _picture(self._examples, index)
        grey = made[:, :1].copy()  # the three are equal
        if grey.nbytes <= self._room:
            self._room -= grey.nbytes
            self._kept[index] = grey
        return made


def _picture(examples: Examples, index: int) -> NDArray[np.float32]:
    """One plain picture: float32 (1, 3, H, W)."""
    return np.ascontiguousarray(examples.pictures([index], [PLAIN]).numpy())


def _saved(model: Any, kept: str) -> Quantised:
    """The model as the two files that OpenVINO reads."""
    with tempfile.TemporaryDirectory(prefix="callus-int8-") as folder:
        path = Path(folder) / "model.xml"
        openvino_engine.import_openvino().save_model(model, path, compress_to_fp16=False)
        return Quantised(path.read_bytes(), path.with_suffix(".bin").read_bytes(), kept)


@contextmanager
def _quiet(*, bars: bool = False) -> Iterator[None]:
    """Keep nncf's talk from stdout and stderr.

    Args:
        bars: let what it draws of its progress go where ours goes, on a terminal.
    """
    logging.getLogger("nncf").setLevel(logging.ERROR)
    drawn = sys.stderr if bars and sys.stderr.isatty() else StringIO()
    with redirect_stdout(drawn), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
