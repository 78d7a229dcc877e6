"""The run folder: what a training was asked, what it saw, how it went, and where it goes on after a stop.

``recipe.toml`` (resolved), ``manifest.parquet`` (with the split it used), ``epochs.csv``, ``curves.png``, ``events/``
(TensorBoard), ``last/`` and ``best/`` (safetensors, no pickle), ``environment.json``, and at the end ``bundle/``.
``leaks.json`` where groups cross the splits, which has to be allowed.
"""

from __future__ import annotations

import csv
import importlib.metadata
import itertools
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from callus import __version__
from callus.atomic import whole_file
from callus.dataset.split import leak_summary
from callus.errors import TrainingError
from callus.labels import RESEARCH_ONLY

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from torch import Tensor

_CURVES_EVERY_S = 20.0


@dataclass
class State:
    """Everything that a resumed training needs beside the recipe, the manifest and the trunk's first weights.

    Attributes:
        phase: index of the phase that is going on.
        epoch: epochs finished, over all phases.
        phase_epoch: epochs finished in this phase.
        best: the best validation AUROC so far; -1 before there is one.
        best_epoch: the epoch that had it.
        plateau: the factor of the learning rate that the plateau schedule has come to.
        best_accuracy: the best validation accuracy, which the plateau schedule goes by.
        since_better: epochs without better validation accuracy (plateau).
        history: one row an epoch, as in ``epochs.csv``.
        finished: whether all phases are done.
    """

    phase: int = 0
    epoch: int = 0
    phase_epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    plateau: float = 1.0
    best_accuracy: float = -1.0
    since_better: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.toml"
        self.manifest = path / "manifest.parquet"
        self.environment = path / "environment.json"
        self.leaks = path / "leaks.json"
        self.curves = path / "curves.png"
        self.bundle = path / "bundle"
        self.last = path / "last" / "state.safetensors"
        self.best = path / "best" / "network.safetensors"
        self._curves_drawn = 0.0

    def check_free(self, *, resume: bool) -> None:
        """Make sure that nothing is overwritten.

        Args:
            resume: a run of ours that was killed before it had its manifest begins anew in its folder.

        Raises:
            TrainingError: something is there already.
        """
        if resume and self.environment.exists():
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise TrainingError(
                "is not empty", where=self.path, hint="name a new --out, or continue that run with --resume"
            )

    def begin(self, settings: dict[str, Any]) -> None:
        """Make the folder for a new run.

        Raises:
            CallusError: it cannot be written.
        """
        with whole_file(self.environment, "w") as file:
            json.dump(_environment(settings), file, indent=2)

    def write_leaks(self, crossing: pd.DataFrame) -> None:
        """Keep which groups cross the splits, where any do; ``crossing`` is what ``crossing_groups`` gave."""
        if crossing.empty:
            return
        with whole_file(self.leaks, "w") as file:
            json.dump({**(leak_summary(crossing) or {}), "crossing": crossing.to_dict("records")}, file, indent=2)

    def write_state(self, state: State, tensors: dict[str, Tensor]) -> None:
        """Keep where the training is, in one file that appears whole; then the tables for people."""
        _save(self.last, tensors, {"state": json.dumps(vars(state))})
        self._write_epochs(state.history)

    def read_state(self) -> tuple[State, dict[str, Tensor]]:
        """What :meth:`write_state` kept; a fresh state where there is none."""
        if not self.last.exists():
            return State(), {}
        tensors, metadata = _open(self.last)
        return State(**json.loads(metadata["state"])), tensors

    def write_best(self, tensors: dict[str, Tensor], epoch: int) -> None:
        """Keep the best weights so far."""
        _save(self.best, tensors, {"epoch": str(epoch), "research_only": RESEARCH_ONLY})

    def read_best(self) -> dict[str, Tensor]:
        """What :meth:`write_best` kept."""
        return _open(self.best)[0]

    def open_events(self, epoch: int) -> Any:
        """A TensorBoard writer that goes on behind ``epoch``; what a stopped run wrote of later ones is dropped."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - a second, and only one process needs it

        return SummaryWriter(str(self.path / "events"), purge_step=epoch + 1)

    def draw_curves(self, history: list[dict[str, Any]], *, now: bool = False) -> None:
        """Draw ``curves.png``; not more often than every 20 seconds, unless ``now``."""
        if not history or (not now and time.monotonic() - self._curves_drawn < _CURVES_EVERY_S):
            return
        self._curves_drawn = time.monotonic()
        figure = curves(history)
        with whole_file(self.curves) as file:
            figure.savefig(file, format="png", dpi=120)

    def _write_epochs(self, history: list[dict[str, Any]]) -> None:
        with whole_file(self.path / "epochs.csv", "w") as file:
            writer = csv.DictWriter(file, fieldnames=list(history[-1]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)


def curves(history: list[dict[str, Any]]) -> Any:
    """Accuracy, AUROC and loss by epoch, training and validation, as a matplotlib figure; where the map points too."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second, and only drawing needs it

    names = [("accuracy", "accuracy"), ("AUROC", "auroc"), ("loss", "loss")]
    if any(row.get("validation_pointing") is not None for row in history):
        names.insert(2, ("map's highest place on a fracture", "pointing"))
    figure = Figure(figsize=(10 / 3 * len(names), 3.6), layout="constrained")
    panels = figure.subplots(1, len(names))
    epochs = [row["epoch"] for row in history]
    colours = {"training": "#4477aa", "validation": "#ee6677"}  # Tol's bright scheme: told apart by everyone
    for panel, (title, key) in zip(panels, names, strict=True):
        for split, colour in colours.items():
            values = [row.get(f"{split}_{key}") for row in history]
            if any(value is not None for value in values):
                panel.plot(epochs, values, color=colour, label=split, marker="o", markersize=3)
        panel.set_title(title)
        panel.set_xlabel("epoch")
        panel.grid(visible=True, alpha=0.3)
        if key != "loss":
            panel.set_ylim(0.0 if key == "pointing" else 0.4, 1.01)
        for row, following in itertools.pairwise(history):
            if row["phase"] != following["phase"]:
                panel.axvline(row["epoch"] + 0.5, color="#888888", linestyle=":", linewidth=1)
    panels[0].legend(frameon=False)
    figure.supxlabel(RESEARCH_ONLY, fontsize=7, color="#777777")
    return figure


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except Exception as error:  # safetensors raises its own kinds for a full disk
        temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"the state cannot be written: {error}", where=path, hint="make room, then go on with --resume"
        ) from error


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except Exception as error:
        raise TrainingError(f"cannot be read: {error}", where=path, hint="start the run anew") from error


def _environment(settings: dict[str, Any]) -> dict[str, Any]:
    """What a reader needs to run it again: versions, machine, command."""
    names = (
        "callus",
        "torch",
        "numpy",
        "lightning-fabric",
        "onnx",
        "onnxruntime",
        "openvino",
        "nncf",
        "pydicom",
        "opencv-python-headless",
    )
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "callus": __version__,
        "research_only": RESEARCH_ONLY,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "settings": settings,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions,
    }
