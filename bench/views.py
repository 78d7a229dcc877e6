r"""What the views that an answer can be averaged with are worth, on the split that choices are made on.

Prints one JSON line for each way to look, with how often the network is asked: AUROC, the sensitivity at specificity
0.80, how often the map's highest place lies inside an outline, or within 5 or 30 pixels of one, and FROC.

    python bench/views.py runs/folds/fold1 --split val
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from cross_validate import SPECIFICITY, sensitivity_at
from places import JUDGES, highest

from callus import dataset
from callus.dataset.manifest import read_manifest
from callus.identify import Identifier
from callus.metrics.localisation import localisation
from callus.metrics.scores import auroc
from callus.report.answers import Answers, answer, located

LOOKS = {(): 1, ("mirror",): 2, ("rotate",): 3, ("mirror", "rotate"): 4}
"""Ways to look, and how often the network is asked for each."""
DRAWS = 100  # of intervals that are not printed


def main() -> None:
    """Answer the split's files in each way, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, whose manifest and bundle are taken")
    parser.add_argument("--split", default="val")
    parser.add_argument("--engine", default="auto")
    choice = parser.parse_args()
    rows = dataset.usable(read_manifest(choice.run / "manifest.parquet"))
    rows = rows[rows["split"] == choice.split]
    for views, looks in LOOKS.items():
        identifier = Identifier(choice.run / "bundle", engine=choice.engine, views=views)
        answers = answer(identifier, rows, f"split {choice.split!r} with {' and '.join(views) or 'no view'}")
        told = {"bench": "views", "split": choice.split, "views": views, "looks": looks}
        print(json.dumps(told | figures(identifier, answers)), flush=True)


def figures(identifier: Identifier, answers: Answers) -> dict[str, float]:
    """By the logit, which the calibration of the bundle's own views does not touch; and by place."""
    judged = answers.judged
    label = judged["label"].to_numpy(np.int64)
    odds = np.array([answers.findings[path].logit for path in judged["path"]])
    images = located(identifier, answers)
    found = localisation(images, identifier.info.map_threshold, draws=DRAWS)
    shown = {"auroc": auroc(label, 1 / (1 + np.exp(-odds)))}
    shown[f"sensitivity_at_specificity_{SPECIFICITY}"] = sensitivity_at(label, odds)
    shown |= {name: highest(images, JUDGES[name]) for name in ("in_outline", "within_5", "within_30")}
    shown |= {"froc_0.5": found.froc[0.5].value, "ap50": found.ap50.value}
    return {name: round(float(value), 4) for name, value in shown.items()}


if __name__ == "__main__":
    main()
